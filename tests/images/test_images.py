import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tumorflow import __version__
from tumorflow.chain import STEPS

NAMES = ("light", "tensorflow", "serving", "mlflow")
LOCKED_DOWN = (
    "--rm",
    "--read-only",
    "--tmpfs",
    "/tmp",
    "--user",
    "12345:0",
    "--network",
    "none",
    "--cap-drop",
    "all",
)
KEY = "c3a1d07e5b9842f6a0de71c48b35f9206d7ae8142c9b50f3e6871a2d94bc05ef"
MODULES = Path(__file__).parent / "load_modules.py"


def inspect(engine: Any, name: str) -> dict[str, Any]:
    return dict(json.loads(engine.run("image", "inspect", name).stdout)[0])


def test_light_is_small(container_engine: Any, built_images: Mapping[str, str]) -> None:
    assert inspect(container_engine, built_images["light"])["Size"] <= 700e6


@pytest.mark.parametrize("image", NAMES)
def test_an_image_runs_what_it_is_given_as_nobody_special(
    container_engine: Any, built_images: Mapping[str, str], image: str
) -> None:
    config = inspect(container_engine, built_images[image])["Config"]
    assert config["User"] == "10001"
    assert bool(config.get("Entrypoint")) == (image == "serving"), "Kubeflow passes a step's whole command"
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert len(labels["org.opencontainers.image.revision"].removesuffix("-dirty")) in (0, 40)


def test_a_rebuilt_image_names_the_commit_it_was_built_from(
    container_engine: Any, build_images: Callable[..., Mapping[str, str]]
) -> None:
    for commit in ("a" * 40, "b" * 40):
        for image, name in build_images("localhost/rebuilt", GIT_COMMIT=commit).items():
            config = inspect(container_engine, name)["Config"]
            assert config["Labels"]["org.opencontainers.image.revision"] == commit
            assert f"TUMORFLOW_GIT_COMMIT={commit}" in config["Env"] or image == "mlflow"
            container_engine.run("rmi", name)


@pytest.mark.parametrize("image", ["light", "tensorflow"])
def test_every_module_that_a_step_can_come_to_import_is_there(
    container_engine: Any, built_images: Mapping[str, str], image: str
) -> None:
    loaded = container_engine.run(
        "run",
        *LOCKED_DOWN,
        "--volume",
        f"{MODULES}:/modules.py:ro",
        built_images[image],
        "python",
        "/modules.py",
        image,
    )
    assert (loaded.stdout, loaded.returncode) == ("", 0), loaded.stderr


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tumorflow.cli import main

    folder = tmp_path_factory.mktemp("source") / "data"
    code = main(["sample", "--output", str(folder), "--set", "sample.patients=12", "--params", "params.yaml"])
    assert code == 0
    return folder


@pytest.mark.parametrize("method", ["windows", "article"])
def test_the_light_steps_run_for_any_user_on_a_read_only_root(
    container_engine: Any, built_images: Mapping[str, str], sample: Path, tmp_path: Path, method: str
) -> None:
    tmp_path.chmod(0o777)
    shared = [
        *("--volume", f"{sample}:/source:ro", "--volume", f"{tmp_path}:/work"),
        *(
            "--env",
            "MLFLOW_TRACKING_URI=sqlite:////work/mlflow.db",
            "--env",
            f"TUMORFLOW_PSEUDONYM_KEY={KEY}",
        ),
    ]
    for step in (step for step in STEPS if step.image == "light"):
        arguments = ["--source", "/source"] if "source" in step.arguments else []
        arguments += [part for name in (*step.inputs, step.output) for part in (f"--{name}", f"/work/{name}")]
        if step.name == "preprocess":
            arguments += ["--set", f"preprocess.method={method}"]
        ran = container_engine.run(
            *("run", *LOCKED_DOWN, *shared, built_images["light"], "python", "-m", "tumorflow", step.name),
            *arguments,
        )
        assert ran.returncode == 0, f"{step.name}: {ran.stdout}{ran.stderr}"
    records = [json.loads((tmp_path / step.output / "record.json").read_text()) for step in STEPS[:3]]
    assert [record["step"] for record in records] == ["ingest", "validate", "preprocess"]
    assert list((tmp_path / "tensors" / "shards").iterdir())


def test_the_tracking_server_has_its_database_store_and_authentication(
    container_engine: Any, built_images: Mapping[str, str]
) -> None:
    code = "import boto3, flask_wtf, psycopg, mlflow.server.auth; print(psycopg.pq.__impl__)"
    loaded = container_engine.run(
        "run", *LOCKED_DOWN, built_images["mlflow"], "python", "-W", "ignore", "-c", code
    )
    assert (loaded.stdout.strip(), loaded.returncode) == ("binary", 0), loaded.stderr


@pytest.mark.parametrize("user", ["10001", "12345:0", "12345:12345"])
def test_the_tracking_server_makes_its_tables_as_any_user_and_with_secrets_alone(
    container_engine: Any, built_images: Mapping[str, str], user: str
) -> None:
    place = ("--env", "MLFLOW_BACKEND_STORE_URI=sqlite:////tmp/registry/mlflow.db")
    secrets = ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY")
    given = [part for name in secrets for part in ("--env", f"{name}={KEY}")]
    own = ("run", *LOCKED_DOWN, "--user", user, *place)
    prepare = (built_images["mlflow"], "tumorflow", "registry", "prepare")
    prepared = container_engine.run(*own, *given, *prepare)
    assert prepared.stdout.splitlines()[-1:] == ["The database is ready."], prepared.stderr
    refused = container_engine.run(*own, *prepare)
    # Docker's client misses the exit code of a podman container that ends at once
    assert "The database is ready." not in refused.stdout
    assert all(f"{name} is a secret" in refused.stderr for name in secrets)
    assert "Traceback" not in refused.stderr
