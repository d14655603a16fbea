#!/usr/bin/env bash
# images.sh [push]: builds the four images with docker, podman or buildah, whichever is there; `make images` calls it.
#   REGISTRY  what their names begin with (localhost); push sends them there and prints their digests
set -euo pipefail
cd "$(dirname "$0")/.."

registry=${REGISTRY:-localhost}
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' components/tumorflow/__init__.py)
commit=${GIT_COMMIT-$(git describe --always --dirty --exclude='*' --abbrev=40 2>/dev/null || true)}
base=docker.io/library/python:3.11-slim

# what is called docker may be a client of podman's
if [[ $(docker version 2>/dev/null) == *Podman* ]] && podman info >/dev/null 2>&1; then engine=podman
elif docker info >/dev/null 2>&1; then engine=docker
elif podman info >/dev/null 2>&1; then engine=podman
elif command -v buildah >/dev/null; then engine=buildah
else
  echo "make images: needs a container engine. Received: no answer from docker, podman or buildah. Install one." >&2
  exit 1
fi

describe_image() { # NAME: its ID, and its bytes but for buildah; fails where it is not here
  case $engine in
    buildah) buildah inspect --type image --format '{{.FromImageID}}' "$1" ;;
    *) $engine image inspect --format '{{.Id}} {{.Size}}' "$1" ;;
  esac 2>/dev/null
}

# a base image that is here is not asked of a registry
case $engine in
  docker) build=(docker build) ;; # does so by itself
  podman) build=(podman build --pull=never) ;;
  buildah) build=(buildah build --layers --pull-never) ;;
esac
if [ $engine != docker ]; then
  describe_image "$base" >/dev/null || $engine pull --quiet "$base"
  base_id=$(describe_image "$base")
fi

build_image() { # NAME CONTEXT DOCKERFILE FILE...: what the stage NAME-dependencies is made of
  local name=$1 context=$2 dockerfile=$3
  shift 3
  local tag=$registry/tumorflow-$name:$version from=$name-dependencies
  # To find a copied folder in their cache, podman and buildah hash it: a minute for what a change of the code leaves as
  # it is. So the dependencies are an image of their own, named by what they are made of.
  if [ $engine != docker ]; then
    local made_of
    made_of=$( (echo "$base_id"; sed "/^FROM $name-dependencies /,\$d" "$dockerfile"; cat "$@") | sha256sum | cut -c1-16)
    from=localhost/tumorflow-$name-dependencies:$made_of
    if ! describe_image "$from" >/dev/null; then
      "${build[@]}" --tag "$from" --file "$dockerfile" --target "$name-dependencies" "$context"
    fi
  fi
  sed "s#^FROM $name-dependencies #FROM $from #" "$dockerfile" |
    "${build[@]}" --build-arg "GIT_COMMIT=$commit" --build-arg "VERSION=$version" \
      --tag "$tag" --target "$name" --file - "$context"
  tags+=("$tag")
}

tags=()
build_image light . components/Dockerfile components/light.lock components/slim.sh
build_image tensorflow . components/Dockerfile components/tensorflow.lock components/slim.sh
build_image serving . components/Dockerfile components/serving.lock components/slim.sh
build_image mlflow . mlflow/Dockerfile mlflow/server.lock

if [ "${1:-}" = push ]; then
  echo "pushed; a cluster takes them by digest (params.yaml, cluster.images):"
  for tag in "${tags[@]}"; do
    if [ $engine = docker ]; then
      docker push --quiet "$tag" >/dev/null
      docker image inspect --format '{{index .RepoDigests 0}}' "$tag"
    else
      digest=$(mktemp)
      $engine push --digestfile "$digest" "$tag" >/dev/null
      echo "${tag%:*}@$(cat "$digest")"
      rm "$digest"
    fi
  done
else
  echo "built by $engine from ${commit:-no commit}:"
  for tag in "${tags[@]}"; do
    echo "  $tag  $(describe_image "$tag")"
  done
fi
