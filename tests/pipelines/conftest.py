"""What the tests of the pipelines share: a small Kubeflow to talk to."""

import functools
import importlib.util
import tempfile
from pathlib import Path

import pytest

from tumorflow.chain import find_step
from tumorflow.cluster import ClusterParams
from tumorflow.lineage import hash_code
from tumorflow_pipelines.compilation import compile_pipeline as COMPILE


@functools.cache
def hash_once(name: str) -> str:
    """Returns a step's code hash, which no test changes."""
    return hash_code(find_step(name))


@functools.cache
def compiled(cluster: str, parts: int, name: str) -> str:
    """Returns the definition for a cluster's settings (JSON); compiling takes seconds, and gives the same."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        COMPILE(path, ClusterParams.model_validate_json(cluster), parts, name=name)
        return path.read_text()


def compile_once(path: Path, cluster: ClusterParams, parts: int, *, name: str) -> None:
    """Writes what compiling gives, and compiles only what no test has compiled before."""
    path.write_text(compiled(cluster.model_dump_json(), parts, name))


@pytest.fixture
def kubeflow(request, monkeypatch, tmp_path):
    """A Kubeflow Pipelines on loopback that the environment names; commands work in an empty folder.

    With the parameter `https` it speaks TLS, by a certificate in that folder.
    """
    from tumorflow_pipelines import arguments, compilation, following

    spec = importlib.util.spec_from_file_location(
        "kubeflow_server", Path(__file__).with_name("kubeflow_server.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("TOKEN", "COOKIES", "NAMESPACE", "CA_CERT", "SA_TOKEN_PATH"):
        monkeypatch.delenv(f"KF_PIPELINES_{name}", raising=False)
    for name in ("MLFLOW_TRACKING_URI", "TUMORFLOW_PSEUDONYM_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compilation, "compile_pipeline", compile_once)
    monkeypatch.setattr(arguments, "hash_code", lambda step: hash_once(step.name))
    monkeypatch.setattr(following, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(following, "SETTLE_SECONDS", 0.01)
    secure = getattr(request, "param", "http") == "https"
    with module.serving(tmp_path if secure else None) as server:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
        yield server
