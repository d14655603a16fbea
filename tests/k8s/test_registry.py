"""The registry as the manifests deploy it: what its first container refuses, and what its server is told."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from tumorflow.champion.receiver import PATH

Manifest = dict[str, Any]
Rendered = Callable[[str], list[Manifest]]

K8S = Path(__file__).parents[2] / "k8s"
CLOUD = K8S / "overlays" / "cloud"
PLACEHOLDER = "replace-me"
SECRET = "0f5b8c6d-long-enough-for-the-tests-9a7e"


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def container_of(manifests: list[Manifest], name: str) -> Manifest:
    (deployment,) = of_kind(manifests, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (found,) = (one for one in [*pod["initContainers"], *pod["containers"]] if one["name"] == name)
    return dict(found)


def environment_of(container: Manifest, manifests: list[Manifest]) -> dict[str, str]:
    """Returns a container's variables, with a good secret for each that a Secret gives."""
    data = {manifest["metadata"]["name"]: manifest["data"] for manifest in of_kind(manifests, "ConfigMap")}
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            found |= data[source["configMapRef"]["name"]]
    for variable in container["env"]:
        given = variable.get("valueFrom", {})
        if "configMapKeyRef" in given:
            found[variable["name"]] = data[given["configMapKeyRef"]["name"]][given["configMapKeyRef"]["key"]]
        else:
            found[variable["name"]] = variable.get("value", SECRET)
    return found


def prepare(
    container: Manifest, manifests: list[Manifest], **others: str
) -> "subprocess.CompletedProcess[str]":
    """Returns the ended command of the first container, in its environment as rendered."""
    assert container["command"] == ["tumorflow", "registry", "prepare"]
    own = {**environment_of(container, manifests), **others}
    return subprocess.run(
        [sys.executable, "-m", *container["command"]],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **own},
        capture_output=True,
        text=True,
        check=False,
    )


def test_placeholders_are_in_one_place_and_stop_the_first_container(rendered: Rendered) -> None:
    for folder in ("base", "overlays/local"):
        assert PLACEHOLDER not in json.dumps(rendered(folder))
    files = {path.name for path in CLOUD.iterdir() if re.search(rf"{PLACEHOLDER}\b.*[^.]", path.read_text())}
    assert files == {"kustomization.yaml"}
    manifests = rendered("overlays/cloud")
    settings = {
        key
        for manifest in of_kind(manifests, "ConfigMap")
        for key, value in manifest["data"].items()
        if PLACEHOLDER in value
    }
    assert len(settings) >= 5
    done = prepare(container_of(manifests, "prepare-database"), manifests)
    assert done.returncode != 0
    # MLFLOW_SERVER_ALLOWED_HOSTS and the like are made of them
    assert settings == set(re.findall(r"Received: one in (\w+)\.", done.stderr)), done.stderr
    # nothing else stands for a value of the reader's
    for manifest in manifests:
        text = json.dumps(manifest)
        assert not re.search(r"example\.(com|org)|changeme|TODO|FIXME|<[a-z-]+>|from-kustomization", text)


@pytest.mark.parametrize("folder", ["overlays/local", "overlays/cloud"])
def test_the_server_that_judges_is_the_one_that_is_deployed(rendered: Rendered, folder: str) -> None:
    manifests = rendered(folder)
    server = container_of(manifests, "mlflow")
    assert server["command"][:4] == ["tumorflow", "registry", "serve", "--prepared"]
    # what is prepared is what is served, under the same rules
    first = container_of(manifests, "prepare-database")
    assert server["envFrom"] == first["envFrom"]
    names = {variable["name"] for variable in server["env"]}
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" in names
    assert not names & {"MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_TRACKING_PASSWORD"}, "it needs no account"
    assert environment_of(server, manifests)["TUMORFLOW_FOUR_EYES"] == "on"
    # a rollout waits for database and store; later a pod is not judged by what all pods share
    probes = [server[f"{probe}Probe"]["httpGet"] for probe in ("startup", "readiness", "liveness")]
    assert [probe["path"] for probe in probes] == ["/readyz", "/health", "/health"]
    # the kubelet calls by the pod's address, which MLflow answers for /health alone
    assert probes[0]["httpHeaders"] == [{"name": "Host", "value": "localhost:5000"}]


def test_a_webhook_without_its_secret_stops_the_first_container(rendered: Rendered) -> None:
    manifests = rendered("overlays/local")
    first = container_of(manifests, "prepare-database")
    (webhook,) = (
        source["secretRef"]
        for source in first["envFrom"]
        if source.get("secretRef", {}).get("name") == "tumorflow-webhook"
    )
    assert webhook["optional"] is True, "who sends none needs none"
    done = prepare(first, manifests, TUMORFLOW_WEBHOOK_URLS="https://receiver.test/champion")
    assert done.returncode != 0
    assert "TUMORFLOW_WEBHOOK_SECRET" in done.stderr


def test_the_site_of_the_guide_renders_and_opens_one_way_out(tmp_path: Path) -> None:
    guide = (K8S.parent / "docs" / "cluster.md").read_text()
    blocks = re.findall(r"```yaml\n# site/([\w.]+)[^\n]*\n(.*?)```", guide, re.DOTALL)
    files = {
        name: text for name, text in blocks if "TUMORFLOW_WEBHOOK_URLS" in text or name == "receiver.yaml"
    }
    assert set(files) == {"kustomization.yaml", "receiver.yaml"}
    shutil.copytree(K8S, tmp_path / "k8s")
    (tmp_path / "site").mkdir()
    for name, text in files.items():
        (tmp_path / "site" / name).write_text(text)
    command = ["kubectl", "kustomize", str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    manifests = list(yaml.safe_load_all(done.stdout))
    told = environment_of(container_of(manifests, "mlflow"), manifests)
    receiver = urlsplit(told["TUMORFLOW_WEBHOOK_URLS"])
    assert told["TUMORFLOW_FOUR_EYES"] == "on"
    (policy,) = (m for m in manifests if m["metadata"]["name"] == "tumorflow-mlflow-to-receiver")
    kubernetes_validate.validate(policy, "1.30", strict=True)
    (rule,) = policy["spec"]["egress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": receiver.port}]
    (peer,) = rule["to"]
    namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert receiver.hostname == f"champion.{namespace}"
    assert receiver.path == PATH
