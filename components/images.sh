#!/usr/bin/env bash
# images.sh [push]: builds the three images with docker, podman or buildah, whichever is there; `make images` calls it.
#   REGISTRY  what their names begin with (localhost); push sends them there and prints their digests
set -euo pipefail
cd "$(dirname "$0")/.."

registry=${REGISTRY:-localhost}
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' components/tumorflow/__init__.py)
commit=${GIT_COMMIT-$(git describe --always --dirty --exclude='*' --abbrev=40 2>/dev/null || true)}
base=docker.io/library/python:3.11-slim

if docker info >/dev/null 2>&1; then engine=docker
elif podman info >/dev/null 2>&1; then engine=podman
elif command -v buildah >/dev/null; then engine=buildah
else
  echo "make images: needs a container engine. Received: no answer from docker, podman or buildah. Install one." >&2
  exit 1
fi

# a base image that is here is not asked of a registry
case $engine in
  docker) build=(docker build) ;; # does so by itself
  podman) build=(podman build); if podman image exists "$base"; then build+=(--pull=never); fi ;;
  buildah) build=(buildah build --layers); if buildah inspect --type image "$base" >/dev/null 2>&1; then build+=(--pull-never); fi ;;
esac

build_image() { # NAME CONTEXT OPTION...
  local name=$registry/tumorflow-$1:$version context=$2
  shift 2
  "${build[@]}" --build-arg "GIT_COMMIT=$commit" --build-arg "VERSION=$version" --tag "$name" "$@" "$context"
  names+=("$name")
}

names=()
build_image light . --file components/Dockerfile --target light
build_image tensorflow . --file components/Dockerfile --target tensorflow
build_image mlflow mlflow --file mlflow/Dockerfile

if [ "${1:-}" = push ]; then
  echo "pushed; a cluster takes them by digest (params.yaml, cluster.images):"
  for name in "${names[@]}"; do
    if [ $engine = docker ]; then
      docker push --quiet "$name" >/dev/null
      docker image inspect --format '{{index .RepoDigests 0}}' "$name"
    else
      digest=$(mktemp)
      $engine push --digestfile "$digest" "$name" >/dev/null
      echo "${name%:*}@$(cat "$digest")"
      rm "$digest"
    fi
  done
else
  echo "built by $engine from ${commit:-no commit}:"
  for name in "${names[@]}"; do
    case $engine in
      buildah) buildah images --format '{{.ID}} {{.Size}}' "$name" | head -1 ;;
      *) $engine images --format '{{.ID}} {{.Size}}' "$name" | head -1 ;;
    esac | sed "s#^#  $name  #"
  done
fi
