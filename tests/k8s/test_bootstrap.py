"""The bootstrap makes what the pods read, once, and prints none of it. Its kubectl is a stand-in here."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Rendered = Callable[[str], list[dict[str, Any]]]

K8S = Path(__file__).parents[2] / "k8s"

KUBECTL = (
    f"#!{sys.executable}\n"
    + r"""
import base64, json, os, pathlib, re, sys
arguments, cluster = sys.argv[1:], pathlib.Path(os.environ["CLUSTER"])
namespace = arguments[arguments.index("--namespace") + 1] if "--namespace" in arguments else ""
valued = ("--namespace", "--output", "--selector", "--filename")
words = [w for i, w in enumerate(arguments) if not w.startswith("-") and arguments[i - 1] not in valued]
with (cluster / "calls").open("a") as calls:
    calls.write(" ".join(arguments) + "\n")
if words == ["get", "nodes"]:
    if "--selector" in arguments:
        print("node/one" if (cluster / "labelled").exists() else "")
    else:
        print(os.environ.get("NODES", "control-plane NoSchedule\none PreferNoSchedule\ntwo "))
elif words[0] == "label":
    (cluster / "labelled").touch()
elif words[0] == "get" and words[1] in ("secret", "configmap"):
    path = cluster / f"{namespace}.{words[1]}.{words[2]}"
    if not path.exists():
        sys.exit(1)
    wanted = re.search(r"jsonpath=\{\.data\.([\w\\.]+)\}", " ".join(arguments))
    if wanted:
        value = json.loads(path.read_text())[wanted[1].replace("\\.", ".")]
        print(base64.b64encode(value.encode()).decode(), end="")
elif words[0] == "create":
    (source,) = (a.partition("=")[2] for a in arguments if a.startswith("--from-"))
    kind = "secret" if words[1] == "secret" else "configmap"
    if kind == "secret":
        data = dict(line.split("=", 1) for line in open(source).read().splitlines())
    else:
        data = {"ca.crt": open(source.partition("=")[2]).read()}
    (cluster / f"{namespace}.{kind}.{words[-1]}").write_text(json.dumps(data))
"""
)


class Cluster:
    """A folder with a file an object."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tools = folder / "bin"
        tools.mkdir(parents=True)
        (tools / "kubectl").write_text(KUBECTL)
        (tools / "kubectl").chmod(0o755)
        self.path = f"{tools}:{os.environ['PATH']}"

    def bootstrap(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [K8S / "bootstrap.sh", *arguments],
            env={"PATH": self.path, "CLUSTER": str(self.folder), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def objects(self, kind: str = "secret") -> dict[str, dict[str, str]]:
        found = sorted(self.folder.glob(f"*.{kind}.*"))
        return {path.name.replace(f".{kind}.", "/"): json.loads(path.read_text()) for path in found}


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "cluster")


CLOUD = {
    "PGPASSWORD": "it's a $pass=word",
    "AWS_ACCESS_KEY_ID": "mlflows",
    "AWS_SECRET_ACCESS_KEY": "mlflows secret",
    "RUNS_AWS_ACCESS_KEY_ID": "runs",
    "RUNS_AWS_SECRET_ACCESS_KEY": "runs secret",
}


def read_by_pods(manifests: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Returns each Secret that a pod of ours names, and the keys of it that it names."""
    found: dict[str, set[str]] = {}
    text = json.dumps([manifest for manifest in manifests if manifest["kind"] != "ConfigMap"])
    for key, name in re.findall(r'"secretKeyRef": \{"key": "(\w+)", "name": "([\w-]+)"\}', text):
        found.setdefault(name, set()).add(key)
    for name in re.findall(r'"secret(?:Ref": \{"name|Name)": "([\w-]+)"', text):
        found.setdefault(name, set())
    found.pop("tumorflow-mlflow-tls", None)  # the certificate's issuer makes it
    return found


def test_every_secret_that_a_pod_reads_is_made(cluster: Cluster, rendered: Rendered) -> None:
    done = cluster.bootstrap("local")
    assert done.returncode == 0, done.stderr
    made = cluster.objects()
    wanted = read_by_pods(rendered("overlays/local"))
    assert set(wanted) == {
        "tumorflow-mlflow",
        "tumorflow-mlflow-db",
        "tumorflow-s3",
        "tumorflow-s3-identities",
        "tumorflow-webhook",
    }
    for name, keys in wanted.items():
        assert keys <= set(made[f"tumorflow/{name}"])
    assert set(made["tumorflow/tumorflow-s3"]) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert set(made["tumorflow/tumorflow-mlflow-db"]) == {"PGPASSWORD"}
    assert set(made["tumorflow/tumorflow-webhook"]) == {"TUMORFLOW_WEBHOOK_SECRET"}
    assert set(made["kubeflow/tumorflow-mlflow"]) == {"username", "password"}, (
        "runs never see the administrator"
    )
    assert len(bytes.fromhex(made["kubeflow/tumorflow-pseudonym-key"]["key"])) == 32


def test_both_sides_of_each_server_have_the_same_credentials(cluster: Cluster) -> None:
    cluster.bootstrap("local")
    made = cluster.objects()
    assert made["kubeflow/tumorflow-mlflow"]["password"] == made["tumorflow/tumorflow-mlflow"]["password"]
    identities = {
        identity["name"]: identity
        for identity in json.loads(made["tumorflow/tumorflow-s3-identities"]["s3.json"])["identities"]
    }
    for name, namespace in (("mlflow", "tumorflow"), ("runs", "kubeflow")):
        (credentials,) = identities[name]["credentials"]
        assert list(credentials.values()) == list(made[f"{namespace}/tumorflow-s3"].values())
    assert identities["runs"]["actions"] == ["Read:tumorflow-data", "List:tumorflow-data"]


def test_nothing_secret_is_printed_or_shown_in_a_process_list(cluster: Cluster) -> None:
    done = cluster.bootstrap("local", TUMORFLOW_PSEUDONYM_KEY="ab" * 32)
    calls = (cluster.folder / "calls").read_text()
    assert cluster.objects()["kubeflow/tumorflow-pseudonym-key"] == {"key": "ab" * 32}
    for name, data in cluster.objects().items():
        for key, value in data.items():
            if key != "username":
                assert value not in done.stdout + done.stderr + calls, (name, key)


def test_a_second_time_changes_nothing_and_mends_what_is_missing(cluster: Cluster) -> None:
    cluster.bootstrap("local")
    before = cluster.objects()
    (cluster.folder / "tumorflow.secret.tumorflow-s3-identities").unlink()
    (cluster.folder / "kubeflow.secret.tumorflow-mlflow").unlink()
    assert cluster.bootstrap("local").returncode == 0
    assert cluster.objects() == before
    assert (cluster.folder / "calls").read_text().count("label node one tumorflow/storage=true") == 1


def test_runs_of_a_second_namespace_are_known_to_the_store(cluster: Cluster) -> None:
    assert cluster.bootstrap("local").returncode == 0
    assert cluster.bootstrap("local", RUNS_NAMESPACE="team").returncode == 0
    made = cluster.objects()
    assert made["team/tumorflow-s3"] == made["kubeflow/tumorflow-s3"]
    assert made["team/tumorflow-mlflow"] == made["kubeflow/tumorflow-mlflow"]


def test_the_cloud_takes_what_it_is_given(cluster: Cluster, tmp_path: Path, rendered: Rendered) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("an authority\n")
    done = cluster.bootstrap("cloud", RUNS_NAMESPACE="team", DATABASE_CA=str(authority), **CLOUD)
    assert done.returncode == 0, done.stderr
    made = cluster.objects()
    assert made["tumorflow/tumorflow-mlflow-db"] == {"PGPASSWORD": CLOUD["PGPASSWORD"]}
    assert made["team/tumorflow-s3"]["AWS_SECRET_ACCESS_KEY"] == "runs secret"
    assert cluster.objects("configmap") == {"tumorflow/tumorflow-database-ca": {"ca.crt": "an authority\n"}}
    assert {f"tumorflow/{name}" for name in read_by_pods(rendered("overlays/cloud"))} <= set(made)


@pytest.mark.parametrize(
    "missing", ["PGPASSWORD", "DATABASE_CA", "AWS_ACCESS_KEY_ID", "RUNS_AWS_SECRET_ACCESS_KEY"]
)
def test_the_cloud_refuses_to_guess(cluster: Cluster, missing: str) -> None:
    environment = {
        key: value for key, value in {**CLOUD, "DATABASE_CA": "/dev/null"}.items() if key != missing
    }
    done = cluster.bootstrap("cloud", **environment)
    assert done.returncode != 0
    assert missing in done.stderr
    assert cluster.objects() == {}


def test_a_wrong_overlay_prints_the_usage(cluster: Cluster) -> None:
    done = cluster.bootstrap("elsewhere")
    assert done.returncode == 2
    assert done.stderr.startswith("bootstrap.sh local|cloud")


def test_where_every_node_is_tainted_the_user_chooses(cluster: Cluster) -> None:
    done = cluster.bootstrap("local", NODES="a NoSchedule\nb PreferNoSchedule NoExecute")
    assert done.returncode == 1
    assert "kubectl label node NAME tumorflow/storage=true" in done.stderr
    assert cluster.objects() == {}
