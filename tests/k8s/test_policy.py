"""The policy scan of what is applied: checkov's rules for Kubernetes, each exception with its reason."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Rendered = Callable[[str], list[dict[str, Any]]]

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "k8s" / "checkov.yaml"


def checkov() -> str:
    """Returns the command: of `make policy`, or of the path."""
    own = ROOT / ".venv" / "policy" / "bin" / "checkov"
    command = str(own) if own.exists() else shutil.which("checkov")
    return command or pytest.skip("no checkov: make policy installs it")


def scan(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [checkov(), "--config-file", str(CONFIGURATION), "--directory", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_rendered_manifests_pass(rendered: Rendered, tmp_path: Path) -> None:
    for folder in ("overlays/local", "overlays/cloud"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "manifests.yaml").write_text(yaml.safe_dump_all(rendered(folder)))
    done = scan(tmp_path)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    checked = re.search(r"Passed checks: (\d+), Failed checks: 0", done.stdout)
    assert checked, done.stdout
    assert int(checked[1]) > 500, "a scan of nothing passes, too"


def test_a_privileged_pod_does_not_pass(tmp_path: Path) -> None:
    container = {"name": "c", "image": "docker.io/library/a:1.0.0", "securityContext": {"privileged": True}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    done = scan(tmp_path)
    assert done.returncode == 1
    assert "CKV_K8S_16" in done.stdout


def test_every_exception_has_its_reason(rendered: Rendered) -> None:
    lines = CONFIGURATION.read_text().splitlines()
    general = [number for number, line in enumerate(lines) if re.match(r"\s+- CKV", line)]
    assert general
    assert all(lines[number - 1].strip().startswith("# ") for number in general)
    for folder in ("overlays/local", "overlays/cloud"):
        for manifest in rendered(folder):
            for key, value in (manifest["metadata"].get("annotations") or {}).items():
                if key.startswith("checkov.io/skip"):
                    assert re.fullmatch(r"CKV2?_K8S_\d+=.{15,}", value), value
