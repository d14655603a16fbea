"""What is committed is what the chain renders. `make render` writes it anew."""

import inspect
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tumorflow.chain import ALL_STEPS, STEPS
from tumorflow_pipelines import compilation, components
from tumorflow_pipelines.definition_check import check_definition

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=compilation.PIPELINES)
def compiled(tmp_path_factory, request):
    path = tmp_path_factory.mktemp("compiled") / f"{request.param}.yaml"
    compilation.compile_pipeline(path, name=request.param)
    return path


def test_the_committed_pipeline_is_the_compiled_one(compiled):
    assert (CHECKOUT / "pipelines" / compiled.name).read_text() == compiled.read_text()


def test_the_committed_stages_are_the_rendered_ones():
    assert (CHECKOUT / "dvc.yaml").read_text() == compilation.render_dvc()


@pytest.mark.parametrize("step", ALL_STEPS, ids=lambda step: step.name)
def test_a_component_takes_what_the_chain_says(step):
    component = getattr(components, step.name)
    spec = component.component_spec
    artifacts = {name for name, given in spec.inputs.items() if given.type.startswith("system.")}
    assert artifacts == set(step.inputs)
    assert set(spec.inputs) - artifacts == {"params", "code_hash", "image", *step.arguments}
    returned = {"decide": {"action", "champion"}}.get(step.name, {"Output"})
    handed_on = returned if step.returns else set()
    shown = {"metrics", "roc", "confusion", "report"} if step.name == "evaluate" else set()
    assert set(spec.outputs or {}) == {step.output} | handed_on | shown
    source = inspect.getsource(component.python_func)
    assert f'"{step.name}"' in source, "the component runs the step of its name"
    assert "image=image" in source, "the record keeps the image"
    image = {"light": components.LIGHT_IMAGE, "tensorflow": components.TENSORFLOW_IMAGE}[step.image]
    assert (
        component.pipeline_spec.deployment_spec["executors"][f"exec-{step.name}"]["container"]["image"]
        == image
    )


def test_no_argument_differs_from_run_to_run(compiled):
    # Kubeflow resolves its placeholders before it looks into its cache, and would find nothing there
    assert "{{$.pipeline" not in compiled.read_text()


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("name", compilation.PIPELINES)
def test_the_definition_has_no_fault_that_the_compiler_lets_through(tmp_path, parts, name):
    path = tmp_path / "pipeline.yaml"
    compilation.compile_pipeline(path, parts=parts, name=name)
    assert check_definition(path) == []


def test_the_run_is_ended_in_mlflow_whatever_becomes_of_it(compiled):
    spec = next(yaml.safe_load_all(compiled.read_text()))
    finish = spec["root"]["dag"]["tasks"]["finish"]
    assert finish["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert finish["dependentTasks"] == ["exit-handler-1"]
    assert "cachingOptions" not in finish or not finish["cachingOptions"]


def test_parts_are_prepared_side_by_side_and_joined(tmp_path):
    path = tmp_path / "train.yaml"
    compilation.compile_pipeline(path, parts=3)
    spec = next(yaml.safe_load_all(path.read_text()))
    tasks = {
        name: task
        for component in spec["components"].values()
        for name, task in component.get("dag", {}).get("tasks", {}).items()
    }
    loop = next(task for task in tasks.values() if "parameterIterator" in task)
    assert json.loads(loop["parameterIterator"]["items"]["raw"]) == ["0", "1", "2"]
    assert tasks["prepare"]["inputs"]["parameters"]["of"]["runtimeValue"]["constant"] == "3"
    assert "join" in tasks
    assert "preprocess" not in tasks


def test_only_the_branch_of_the_accepted_model_sets_an_alias(compiled):
    spec = next(yaml.safe_load_all(compiled.read_text()))
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


def test_every_stage_of_dvc_has_a_step_command():
    stages = yaml.safe_load(compilation.render_dvc())["stages"]
    assert list(stages) == [step.name for step in STEPS]
    for stage in stages.values():
        assert all((CHECKOUT / path).exists() for path in stage["deps"] if path.startswith("components/"))


def test_the_lock_of_dvc_is_of_the_code_alone():
    """What Python leaves beside the code differs from machine to machine."""
    stages = yaml.safe_load((CHECKOUT / "dvc.lock").read_text())["stages"]
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout to compare with")
    tracked = listed.stdout.splitlines()
    locked = {
        dependency["path"]: dependency["nfiles"]
        for stage in stages.values()
        for dependency in stage["deps"]
        if dependency["path"].startswith("components/") and "nfiles" in dependency
    }
    assert locked
    assert locked == {folder: sum(path.startswith(f"{folder}/") for path in tracked) for folder in locked}
