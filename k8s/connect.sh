#!/usr/bin/env bash
# eval "$(k8s/connect.sh)": forwards Kubeflow Pipelines, MLflow and, where it is there, the store of the overlay local to this
# machine, and prints the variables with which tumorflow finds them, the runs' credentials among them. `kill $TUMORFLOW_FORWARDS`
# ends it. RUNS_NAMESPACE (kubeflow) is where the pods of runs work.
set -euo pipefail
set -m # each forward in a process group of its own: Ctrl-C at the prompt is not for it
runs=${RUNS_NAMESPACE:-kubeflow}

secret() { kubectl get --namespace "$runs" secret "$1" --output "jsonpath={.data.$2}" | base64 -d; }

forwards=()
fail() {
  kill "${forwards[@]}" 2>/dev/null || true
  echo "Each service is forwarded to its own port of this machine. Received: $1." >&2
  exit 1
}
answers() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
forward() { # namespace service port
  if answers "$3"; then fail "port $3 is taken, perhaps by an earlier forwarding"; fi
  kubectl --namespace "$1" port-forward --address 127.0.0.1 "service/$2" "$3:$3" >/dev/null 2>&1 </dev/null &
  forwards+=($!)
  for _ in $(seq 150); do
    kill -0 $! 2>/dev/null || fail "no service $2 in $1"
    if answers "$3"; then return; fi
    sleep 0.2
  done
  fail "no answer of $2"
}

forward kubeflow ml-pipeline 8888
forward tumorflow tumorflow-mlflow 5000
store_variables=
if kubectl --namespace tumorflow get service tumorflow-s3 --output name >/dev/null 2>&1; then
  forward tumorflow tumorflow-s3 8333
  store_variables='export AWS_ENDPOINT_URL=http://localhost:8333 AWS_DEFAULT_REGION=us-east-1'
fi
mlflow_user=$(secret tumorflow-mlflow username) mlflow_password=$(secret tumorflow-mlflow password)
s3_key=$(secret tumorflow-s3 AWS_ACCESS_KEY_ID) s3_secret=$(secret tumorflow-s3 AWS_SECRET_ACCESS_KEY)
pseudonym_key=$(secret tumorflow-pseudonym-key key)
for value in "$mlflow_user" "$mlflow_password" "$s3_key" "$s3_secret" "$pseudonym_key"; do
  [[ -n $value ]] || fail "no Secrets of the runs in $runs; k8s/bootstrap.sh makes them"
done
cat <<EOF
export TUMORFLOW_FORWARDS='${forwards[*]}'
export KF_PIPELINES_ENDPOINT=http://localhost:8888
export MLFLOW_TRACKING_URI=http://localhost:5000
export MLFLOW_TRACKING_USERNAME='$mlflow_user'
export MLFLOW_TRACKING_PASSWORD='$mlflow_password'
$store_variables
export AWS_ACCESS_KEY_ID='$s3_key'
export AWS_SECRET_ACCESS_KEY='$s3_secret'
export TUMORFLOW_PSEUDONYM_KEY='$pseudonym_key'
EOF
