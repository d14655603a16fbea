"""What is committed is what the chain renders. `make render` writes it anew."""

import inspect
from pathlib import Path

import pytest
import yaml

from tumorflow.chain import STEPS
from tumorflow_pipelines import compilation, components

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "train.yaml"
    compilation.compile_pipeline(path)
    return path


def test_the_committed_pipeline_is_the_compiled_one(compiled):
    assert (CHECKOUT / "pipelines" / "train.yaml").read_text() == compiled.read_text()


def test_the_committed_stages_are_the_rendered_ones():
    assert (CHECKOUT / "dvc.yaml").read_text() == compilation.render_dvc()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_component_takes_what_the_chain_says(step):
    component = getattr(components, step.name)
    spec = component.component_spec
    artifacts = {name for name, given in spec.inputs.items() if given.type.startswith("system.")}
    assert artifacts == set(step.inputs)
    assert set(spec.inputs) - artifacts == {"params", "code_hash", "job", *step.arguments}
    handed_on = {"Output"} if step.returns else set()
    assert set(spec.outputs or {}) == {step.output} | handed_on
    source = inspect.getsource(component.python_func)
    assert f'"{step.name}"' in source, "the component runs the step of its name"
    image = {"light": components.LIGHT_IMAGE, "tensorflow": components.TENSORFLOW_IMAGE}[step.image]
    assert (
        component.pipeline_spec.deployment_spec["executors"][f"exec-{step.name}"]["container"]["image"]
        == image
    )


def test_nothing_is_installed_when_a_step_starts(compiled):
    assert "pip install" not in compiled.read_text()


def test_only_the_branch_of_the_accepted_model_sets_an_alias(compiled):
    spec = yaml.safe_load(compiled.read_text())
    aliases = {
        task["inputs"]["parameters"]["alias"]["runtimeValue"]["constant"]: name
        for name, component in spec["components"].items()
        for task in component.get("dag", {}).get("tasks", {}).values()
        if "alias" in task.get("inputs", {}).get("parameters", {})
    }
    assert set(aliases) == {"candidate", ""}
    root = spec["root"]["dag"]["tasks"]
    conditions = str(root) + str(spec["components"])
    assert "'accepted'" in conditions
    assert "champion" not in compiled.read_text()


def test_every_stage_of_dvc_has_a_step_command():
    stages = yaml.safe_load(compilation.render_dvc())["stages"]
    assert list(stages) == [step.name for step in STEPS]
    for stage in stages.values():
        assert all((CHECKOUT / path).exists() for path in stage["deps"] if path.startswith("components/"))
