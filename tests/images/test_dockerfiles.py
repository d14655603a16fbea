import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"


@pytest.mark.parametrize("dockerfile", ["components/Dockerfile", "mlflow/Dockerfile"])
def test_dockerfile_follows_the_linters_rules(dockerfile: str) -> None:
    found = subprocess.run([HADOLINT, ROOT / dockerfile], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def pins(lock: str) -> dict[str, str]:
    lines = (ROOT / lock).read_text().splitlines()
    return dict(
        line.removesuffix(" \\").split(" ;")[0].split("==")
        for line in lines
        if "==" in line and line[0].isalnum()
    )


@pytest.mark.parametrize(
    "lock",
    ["components/light.lock", "components/tensorflow.lock", "components/serving.lock", "mlflow/server.lock"],
)
def test_an_image_holds_the_versions_that_the_tests_run_with(lock: str) -> None:
    tested, held = pins("requirements.lock"), pins(lock)
    assert {name: version for name, version in held.items() if tested.get(name, version) != version} == {}
    assert {"boto3", "mlflow-skinny", "numpy"} <= held.keys()


@pytest.mark.parametrize("lock", ["components/light.lock", "components/tensorflow.lock"])
def test_a_step_lacks_nothing_but_what_is_listed_as_unneeded(lock: str) -> None:
    listed = (ROOT / "components/unneeded.txt").read_text().splitlines()
    unneeded = {line for line in listed if line and not line.startswith("#")}
    assert not unneeded & pins(lock).keys()
    assert unneeded <= pins("requirements.lock").keys()
