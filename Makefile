# The two commands of a newcomer: `make run` and `make test`. `make help` lists the others.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
export PYTHONDONTWRITEBYTECODE :=
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: page serve registry faults policy manifests help install sample run ui test check format lock images push render bench clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED)  ## install the locked packages and tumorflow into .venv

# the stamp is written last, so that an interrupted installation is done again
$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "installing the locked packages: some minutes the first time"
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)

sample: $(INSTALLED)  ## write the synthetic sample cohort to data/
	$(BIN)/tumorflow sample --output data

run: sample  ## run the whole pipeline on the sample cohort
	$(BIN)/tumorflow run --source data

ui: $(INSTALLED)  ## open the MLflow UI on http://127.0.0.1:5000
	$(BIN)/mlflow server --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///$(CURDIR)/runs/mlflow/mlflow.db

registry: $(INSTALLED)  ## serve MLflow with accounts and reviews on http://127.0.0.1:5000
	$(BIN)/tumorflow registry serve

check: $(INSTALLED)  ## lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# checkov's own packages conflict with ours, so that it has a place of its own; the lock is by `make lock`
POLICY := $(VENV)/policy/installed
policy: $(POLICY)  ## install checkov, which scans k8s/ in the tests

$(POLICY): .ci/policy.lock
	$(PYTHON) -m venv $(VENV)/policy
	$(VENV)/policy/bin/python -m pip install --quiet --require-hashes --requirement .ci/policy.lock
	touch $(POLICY)

page:  ## bundle what the service's pages take from npm (needs Node.js; the result is committed)
	components/page/build.sh

serve: $(INSTALLED)  ## serve the model of the last run on http://127.0.0.1:8080
	@model=$$(find -L runs/mlflow/artifacts -path '*/release/tflite/model_float32.tflite' -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -1 | cut -d' ' -f2-); \
	if [ -z "$$model" ]; then echo "make serve: needs a model. Received: none below runs/. Run make run first." >&2; exit 2; fi; \
	$(BIN)/tumorflow serve --model "$$model"

manifests: $(INSTALLED)  ## print what the overlay OVERLAY of k8s/ (local) applies
	@$(BIN)/kubectl kustomize k8s/overlays/$(or $(OVERLAY),local)

test: check  ## lint, types, import rules and the whole test suite
	$(MAKE) policy || echo "checkov cannot be installed: the policy scan skips"
	$(BIN)/python -m pytest

format: $(INSTALLED)  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

render: $(INSTALLED)  ## write the pipelines' YAML and dvc.yaml from the chain
	$(BIN)/tumorflow compile --pipeline train --dvc dvc.yaml
	$(BIN)/tumorflow compile --pipeline retrain

bench: $(INSTALLED)  ## print the performance ratios
	$(BIN)/python tests/bench/bench.py

COMPILE := $(VENV)/lock/bin/uv pip compile --quiet --generate-hashes --python-version 3.11 \
	--custom-compile-command "make lock"

faults: $(INSTALLED)  ## kill steps and stop servers in the middle of runs, and count what was lost: hours
	$(BIN)/python tests/bench/faults.py
	$(BIN)/python tests/bench/faults.py --containers
	$(BIN)/python tests/bench/outages.py

lock: $(INSTALLED)  ## compile the lock files from pyproject.toml
	$(BIN)/python -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet uv
	$(COMPILE) --all-extras --output-file requirements.lock pyproject.toml
	for group in light tensorflow; do \
		$(COMPILE) --constraint requirements.lock --excludes components/unneeded.txt --group $$group \
			--output-file components/$$group.lock; \
	done
	$(COMPILE) --constraint requirements.lock --group serving --output-file components/serving.lock
	$(COMPILE) --constraint requirements.lock --group server --output-file mlflow/server.lock
	echo checkov==3.3.30 | $(COMPILE) --output-file .ci/policy.lock -

images:  ## build the container images with docker, podman or buildah (REGISTRY=... to name them)
	components/images.sh

push:  ## build the images, push them to REGISTRY and print their digests
	components/images.sh push

clean:  ## remove the environment, results and the sample cohort
	rm -rf $(VENV) build runs data
