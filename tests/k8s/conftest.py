"""The overlays as kubectl renders them."""

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "k8s"


@cache
def render(folder: str) -> str:
    command = ["kubectl", "kustomize", str(K8S / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(done.stderr)
    return done.stdout


@pytest.fixture(scope="session")
def rendered() -> Callable[[str], list[dict[str, Any]]]:
    """Returns a folder's manifests, as `kubectl apply -k` would send them."""
    return lambda folder: [manifest for manifest in yaml.safe_load_all(render(folder)) if manifest]
