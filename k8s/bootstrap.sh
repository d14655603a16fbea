#!/usr/bin/env bash
# bootstrap.sh local|cloud: makes the Secrets that the overlay of this name refers to, and what else comes before it.
#
#   local   every password and key is drawn at random; the first node without a taint is labelled as the one that
#           keeps the data, unless a node has the label tumorflow/storage=true already
#   cloud   takes PGPASSWORD, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and DATABASE_CA (the file of the authority that
#           signed the database's certificate) from the environment; RUNS_AWS_ACCESS_KEY_ID and
#           RUNS_AWS_SECRET_ACCESS_KEY are the keys with which runs read sources
#
# RUNS_NAMESPACE (kubeflow) is where the pods of runs work. What exists is kept: run it as often as you like.
# TUMORFLOW_PSEUDONYM_KEY, if set, becomes the runs' key; pseudonyms stay the same only under the same key.
# TUMORFLOW_WEBHOOK_SECRET, if set, signs what is sent on a new champion.
set -euo pipefail

overlay=${1:-}
runs=${RUNS_NAMESPACE:-kubeflow}
[[ $overlay == local || $overlay == cloud ]] || { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }

draw() { openssl rand -hex "${1:-24}"; }

exists() { kubectl get --namespace "$1" "$2" "$3" --output name >/dev/null 2>&1; }

stored() { # namespace secret key: what the cluster has; empty without it
  exists "$1" secret "$2" || return 0
  kubectl get --namespace "$1" secret "$2" --output "jsonpath={.data.$3}" | base64 -d
}

make() { # namespace secret key=value...: through a pipe, since a process list shows arguments
  local namespace=$1 name=$2
  shift 2
  if exists "$namespace" secret "$name"; then
    echo "kept $namespace/$name"
  else
    kubectl create secret generic "$name" --namespace "$namespace" --from-env-file=<(printf '%s\n' "$@") >/dev/null
    echo "made $namespace/$name"
  fi
}

kubectl get namespace "$runs" --output name >/dev/null # Kubeflow Pipelines is there
kubectl apply --filename "$(dirname "$0")/base/namespace.yaml" >/dev/null

if [[ $overlay == local ]]; then
  if [[ -z $(kubectl get nodes --selector tumorflow/storage=true --output name) ]]; then
    # a tainted one, as a control plane is, would refuse the servers
    node=$(kubectl get nodes --output 'jsonpath={range .items[*]}{.metadata.name}{" "}{.spec.taints[*].effect}{"\n"}{end}' |
      awk '!/ (NoSchedule|NoExecute)( |$)/ { print $1; exit }')
    if [[ -z $node ]]; then
      echo "A node keeps the data. Received: none without a taint. Label one: kubectl label node NAME tumorflow/storage=true" >&2
      exit 1
    fi
    kubectl label node "$node" tumorflow/storage=true
  fi
  key=$(stored tumorflow tumorflow-s3 AWS_ACCESS_KEY_ID) secret=$(stored tumorflow tumorflow-s3 AWS_SECRET_ACCESS_KEY)
  runs_key=$(stored "$runs" tumorflow-s3 AWS_ACCESS_KEY_ID) runs_secret=$(stored "$runs" tumorflow-s3 AWS_SECRET_ACCESS_KEY)
  # what the store knows the runs by, where another namespace of runs was made before this one
  known=$(stored tumorflow tumorflow-s3-identities 's3\.json')
  known=$(sed -nE 's/.*"name": "runs", "credentials": \[\{"accessKey": "([^"]*)", "secretKey": "([^"]*)".*/\1 \2/p' <<<"$known")
  runs_key=${runs_key:-${known% *}} runs_secret=${runs_secret:-${known#* }}
  key=${key:-$(draw 10)} secret=${secret:-$(draw)} runs_key=${runs_key:-$(draw 10)} runs_secret=${runs_secret:-$(draw)}
  make tumorflow tumorflow-mlflow-db "PGPASSWORD=$(draw)"
else
  : "${PGPASSWORD:?the password of the user mlflow}" "${DATABASE_CA:?the file with the authority of the database}"
  key=${AWS_ACCESS_KEY_ID:?of MLflow} secret=${AWS_SECRET_ACCESS_KEY:?of MLflow}
  runs_key=${RUNS_AWS_ACCESS_KEY_ID:?of the runs, to read sources} runs_secret=${RUNS_AWS_SECRET_ACCESS_KEY:?of the runs}
  make tumorflow tumorflow-mlflow-db "PGPASSWORD=$PGPASSWORD"
  exists tumorflow configmap tumorflow-database-ca ||
    kubectl create configmap tumorflow-database-ca --namespace tumorflow --from-file=ca.crt="$DATABASE_CA"
fi

make tumorflow tumorflow-s3 "AWS_ACCESS_KEY_ID=$key" "AWS_SECRET_ACCESS_KEY=$secret"
make "$runs" tumorflow-s3 "AWS_ACCESS_KEY_ID=$runs_key" "AWS_SECRET_ACCESS_KEY=$runs_secret"

if [[ $overlay == local ]]; then # who may do what in the store: runs only read sources
  make tumorflow tumorflow-s3-identities "s3.json=$(printf '{"identities": [
    {"name": "mlflow", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": ["Admin"]},
    {"name": "runs", "credentials": [{"accessKey": "%s", "secretKey": "%s"}],
     "actions": ["Read:tumorflow-data", "List:tumorflow-data"]}]}' "$key" "$secret" "$runs_key" "$runs_secret" | tr -d '\n')"
fi

password=$(stored tumorflow tumorflow-mlflow password)
password=${password:-$(stored "$runs" tumorflow-mlflow password)}
password=${password:-$(draw)}
make tumorflow tumorflow-mlflow username=pipeline "password=$password" \
  "MLFLOW_AUTH_ADMIN_PASSWORD=$(draw)" "MLFLOW_FLASK_SERVER_SECRET_KEY=$(draw 32)"
make tumorflow tumorflow-webhook "TUMORFLOW_WEBHOOK_SECRET=${TUMORFLOW_WEBHOOK_SECRET:-$(draw 32)}"
make "$runs" tumorflow-mlflow username=pipeline "password=$password"
make "$runs" tumorflow-pseudonym-key "key=${TUMORFLOW_PSEUDONYM_KEY:-$(draw 32)}"
