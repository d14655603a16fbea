"""The check of compiled definitions: sound ones pass, each fault is found where it is."""

import copy
from pathlib import Path

import pytest
import yaml

from tumorflow.cluster import ClusterParams
from tumorflow.errors import UsageError
from tumorflow_pipelines.definition_check import (
    check_definition,
    explain_image,
    read_definition,
    require_sound,
)
from tumorflow_pipelines.placement import place

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> list[dict]:
    """The documents of a definition with a loop, what it gathers, a condition and an exit handler."""
    from kfp import compiler, dsl

    @dsl.component(base_image="localhost/placeholder:1", install_kfp_package=False)
    def split(source: str) -> list:
        return [source]

    @dsl.component(base_image="localhost/placeholder:1", install_kfp_package=False)
    def part(item: str, shard: dsl.Output[dsl.Dataset], size: int = 1) -> None:
        pass

    @dsl.component(base_image="localhost/placeholder:1", install_kfp_package=False)
    def merge(shards: dsl.Input[list[dsl.Dataset]], merged: dsl.Output[dsl.Dataset]) -> str:
        return "accepted"

    @dsl.component(base_image="localhost/placeholder:1", install_kfp_package=False)
    def release(merged: dsl.Input[dsl.Dataset]) -> str:
        return "released"

    @dsl.component(base_image="localhost/placeholder:1", install_kfp_package=False)
    def finish(status: dsl.PipelineTaskFinalStatus, source: str) -> None:
        pass

    @dsl.pipeline(name="sound")
    def pipeline(source: str) -> None:
        cluster = ClusterParams()
        last = place(finish(source=source), "finish", "light", cluster)
        with dsl.ExitHandler(last):
            parts = place(split(source=source), "split", "light", cluster)
            with dsl.ParallelFor(parts.output) as item:
                shard = place(part(item=item), "part", "light", cluster)
            merged = place(merge(shards=dsl.Collected(shard.outputs["shard"])), "merge", "light", cluster)
            with dsl.If(merged.outputs["Output"] == "accepted"):
                place(release(merged=merged.outputs["merged"]), "release", "light", cluster)
            with dsl.Else():
                place(split(source="none"), "split", "light", cluster)

    path = tmp_path_factory.mktemp("sound") / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    return list(yaml.safe_load_all(path.read_text()))


def faults(documents: list[dict], folder: Path, **settings: bool) -> list[tuple[str, str, str]]:
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return [(found.place, found.field, found.fault) for found in check_definition(path, **settings)]


def test_a_sound_definition_has_no_finding(sound, tmp_path):
    assert faults(sound, tmp_path) == []


@pytest.mark.parametrize("name", ["train", "retrain"])
def test_the_committed_definitions_are_sound(name):
    assert check_definition(Path(__file__).parents[2] / "pipelines" / f"{name}.yaml") == []


def handler(spec: dict) -> dict:
    """Returns the dag inside the exit handler."""
    return spec["components"]["comp-exit-handler-1"]["dag"]


def put(target: dict, *path_and_value: object) -> None:
    *path, last, value = path_and_value
    for key in path:
        target = target[key]
    if value is None:
        del target[last]
    else:
        target[last] = value


BROKEN = {
    "a producer that is not there": (
        lambda spec: put(
            handler(spec)["tasks"]["merge"]["inputs"]["artifacts"],
            *("shards", "taskOutputArtifact", "producerTask", "for-loop-9"),
        ),
        ("task 'merge' in 'comp-exit-handler-1'", "inputs.artifacts.shards"),
        "comes from 'for-loop-9', which is no task there",
    ),
    "an artifact that its producer does not have": (
        lambda spec: put(
            handler(spec)["tasks"]["merge"]["inputs"]["artifacts"],
            *("shards", "taskOutputArtifact", "outputArtifactKey", "other"),
        ),
        ("task 'merge' in 'comp-exit-handler-1'", "inputs.artifacts.shards"),
        "takes 'other' of 'for-loop-2', which has no such output",
    ),
    "a parameter that its producer does not have": (
        lambda spec: put(
            handler(spec)["tasks"]["for-loop-2"]["inputs"]["parameters"],
            *("pipelinechannel--split-Output", "taskOutputParameter", "outputParameterKey", "other"),
        ),
        ("task 'for-loop-2' in 'comp-exit-handler-1'", "inputs.parameters.pipelinechannel--split-Output"),
        "takes 'other' of 'split', which has no such output",
    ),
    "a parameter of the dag around that it does not declare": (
        lambda spec: put(
            handler(spec)["tasks"]["split"]["inputs"]["parameters"],
            *("source", "componentInputParameter", "pipelinechannel--sauce"),
        ),
        ("task 'split' in 'comp-exit-handler-1'", "inputs.parameters.source"),
        "takes 'pipelinechannel--sauce', which is no input of the dag around it",
    ),
    "an input that the component does not have": (
        lambda spec: put(
            handler(spec)["tasks"]["split"]["inputs"]["parameters"],
            *("sauce", {"runtimeValue": {"constant": "x"}}),
        ),
        ("task 'split' in 'comp-exit-handler-1'", "inputs.parameters.sauce"),
        "is no input of 'comp-split'",
    ),
    "an input that nobody hands in": (
        lambda spec: put(handler(spec)["tasks"]["split"], "inputs", "parameters", "source", None),
        ("task 'split' in 'comp-exit-handler-1'", "inputs.parameters.source"),
        "is not handed in",
    ),
    "a condition on what is not handed in": (
        lambda spec: put(
            spec["components"]["comp-condition-branches-3"]["dag"]["tasks"]["condition-4"]["triggerPolicy"],
            *("condition", "inputs.parameter_values['pipelinechannel--gate'] == 'accepted'"),
        ),
        ("task 'condition-4' in 'comp-condition-branches-3'", "triggerPolicy.condition"),
        "names 'pipelinechannel--gate', which is not handed in",
    ),
    "a dependency on what is not there": (
        lambda spec: handler(spec)["tasks"]["merge"]["dependentTasks"].append("nobody"),
        ("task 'merge' in 'comp-exit-handler-1'", "dependentTasks"),
        "names 'nobody', which is no task beside it",
    ),
    "an output selected from a task that is not there": (
        lambda spec: put(
            spec["components"]["comp-for-loop-2"]["dag"]["outputs"]["artifacts"],
            *("pipelinechannel--part-shard", "artifactSelectors", 0, "producerSubtask", "parts"),
        ),
        ("dag 'comp-for-loop-2'", "outputs.artifacts.pipelinechannel--part-shard"),
        "comes from 'parts', which is no task there",
    ),
    "an executor that is not there": (
        lambda spec: put(spec["components"]["comp-part"], "executorLabel", "exec-split"),
        ("executor 'exec-part'", "executors"),
        "is used by no component",
    ),
    "a loop over what is not handed in": (
        lambda spec: put(
            handler(spec)["tasks"]["for-loop-2"]["parameterIterator"], *("items", "inputParameter", "nothing")
        ),
        ("task 'for-loop-2' in 'comp-exit-handler-1'", "iterator.items"),
        "names 'nothing', which is not handed in",
    ),
    "an exit task that waits for nobody": (
        lambda spec: put(
            spec["root"]["dag"]["tasks"]["finish"]["inputs"]["parameters"],
            *("status", "taskFinalStatus", "producerTask", "exit-handler-9"),
        ),
        ("task 'finish' in 'root'", "inputs.parameters.status"),
        "waits for 'exit-handler-9', which is no task beside it",
    ),
    "an image without a tag": (
        lambda spec: put(spec["deploymentSpec"]["executors"]["exec-part"]["container"], "image", "light"),
        ("executor 'exec-part'", "container.image"),
        "'light' has no tag",
    ),
    "the latest image": (
        lambda spec: put(
            spec["deploymentSpec"]["executors"]["exec-part"]["container"], "image", "host:5000/light:latest"
        ),
        ("executor 'exec-part'", "container.image"),
        "'host:5000/light:latest' may change under its tag",
    ),
    "an installation as a step starts": (
        lambda spec: spec["deploymentSpec"]["executors"]["exec-part"]["container"]["command"].insert(
            2, "python3 -m pip install --quiet pandas && true"
        ),
        ("executor 'exec-part'", "container.command"),
        "installs packages when the step starts",
    ),
    "no limit of memory": (
        lambda spec: put(
            spec["deploymentSpec"]["executors"]["exec-part"]["container"]["resources"],
            *("resourceMemoryLimit", None),
        ),
        ("executor 'exec-part'", "container.resources.resourceMemoryLimit"),
        "is missing",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_fault_gives_its_one_finding(sound, tmp_path, name):
    breaking, (where, field), fault = BROKEN[name]
    broken = copy.deepcopy(sound)
    breaking(broken[0])
    assert faults(broken, tmp_path) == [(where, field, fault)]


def test_a_missing_component_and_what_it_leaves_unused_are_found(sound, tmp_path):
    broken = copy.deepcopy(sound)
    put(handler(broken[0])["tasks"]["split"], "componentRef", "name", "comp-slice")
    put(broken[0]["components"]["comp-part"], "executorLabel", "exec-nobody")
    found = faults(broken, tmp_path)
    assert ("task 'split' in 'comp-exit-handler-1'", "componentRef") in [entry[:2] for entry in found]
    fault = "names 'exec-nobody', which is no executor"
    assert ("component 'comp-part'", "executorLabel", fault) in found


def test_a_platforms_executor_must_exist(sound, tmp_path):
    broken = copy.deepcopy(sound)
    pods = broken[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    pods["exec-nobody"] = pods["exec-part"]
    assert faults(broken, tmp_path) == [
        ("platform 'kubernetes'", "executors.exec-nobody", "is no executor of the definition")
    ]


def test_digests_are_asked_for_where_a_cluster_wants_them(sound, tmp_path):
    found = faults(sound, tmp_path, require_digests=True)
    assert {entry[1] for entry in found} == {"container.image"}
    assert len(found) == len(sound[0]["deploymentSpec"]["executors"])
    assert explain_image(f"registry.example:5000/light@{DIGEST}", require_digest=True) == ""


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        ("localhost/light:0.1.0", ""),
        (f"light@{DIGEST}", ""),
        ("registry.example:5000/light", "has no tag"),
        ("light:", "has no tag"),
        ("light:latest", "may change under its tag"),
        (f"light@{DIGEST[:-1]}", "is no digest of SHA-256"),
    ],
)
def test_an_image_is_named_by_tag_or_digest(image, fault):
    assert explain_image(image, require_digest=False) == fault


def test_what_the_proto_does_not_know_is_refused(sound, tmp_path):
    broken = copy.deepcopy(sound)
    broken[0]["root"]["dag"]["tusks"] = {}
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump_all(broken))
    with pytest.raises(UsageError, match="tusks"):
        read_definition(path)


def test_a_refusal_names_the_first_faults_and_counts_the_others(sound, tmp_path):
    broken = copy.deepcopy(sound)
    for executor in broken[0]["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = "light"
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump_all(broken))
    with pytest.raises(UsageError) as refused:
        require_sound(path, require_digests=False)
    assert str(refused.value).count("has no tag") == 3
    assert "(and 3 more)" in str(refused.value)
