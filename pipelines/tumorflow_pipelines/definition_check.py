"""What Kubeflow's compiler and its server let through: references into nothing, unpinned images, installs."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tumorflow.errors import UsageError

CONDITION_INPUT = re.compile(r"inputs\.parameter_values\['([^']+)'\]")
INSTALL = re.compile(r"\b(pip3?|uv|conda|apt|apt-get|apk)\s+(-\S+\s+)*(install|add)\b")
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
RESOURCES = {
    "resourceCpuRequest": "resource_cpu_request",
    "resourceCpuLimit": "resource_cpu_limit",
    "resourceMemoryRequest": "resource_memory_request",
    "resourceMemoryLimit": "resource_memory_limit",
}


@dataclass(frozen=True)
class Finding:
    """One fault of a definition."""

    place: str
    """The task, component or executor that has it."""
    field: str
    fault: str

    def __str__(self) -> str:
        return f"{self.place}, {self.field}: {self.fault}"


def require_sound(definition: Path, require_digests: bool) -> None:
    """Returns where nothing is found.

    Raises:
        UsageError: the definition has faults; the message names the first ones.
    """
    findings = check_definition(definition, require_digests=require_digests)
    if findings:
        more = f" (and {len(findings) - 3} more)" if len(findings) > 3 else ""
        raise UsageError(
            "A pipeline's definition refers to what it holds, and pins its images and resources. Received: "
            f"{'; '.join(map(str, findings[:3]))}{more}. Mend the cluster section of the parameters, or the "
            "pipeline."
        )


def check_definition(definition: Path, require_digests: bool = False) -> list[Finding]:
    """Returns every fault of a compiled definition, in its order.

    Raises:
        UsageError: the file is no definition by the pipeline-spec proto.
    """
    from google.protobuf.json_format import MessageToDict, ParseDict
    from kfp.pipeline_spec import pipeline_spec_pb2

    spec, platforms = read_definition(definition)
    deployment = MessageToDict(spec.deployment_spec)
    executors = ParseDict(deployment, pipeline_spec_pb2.PipelineDeploymentConfig()).executors
    return [
        *_check_components(spec, set(executors)),
        *_check_executors(executors, require_digests),
        *(
            Finding(f"platform '{platform}'", f"executors.{label}", "is no executor of the definition")
            for platform, labels in platforms.items()
            for label in labels
            if label not in executors
        ),
    ]


def read_definition(definition: Path) -> tuple[Any, Mapping[str, list[str]]]:
    """Returns the pipeline spec of a compiled YAML, and each platform's executors.

    Raises:
        UsageError: the file is no definition by the pipeline-spec proto.
    """
    from google.protobuf.json_format import ParseDict, ParseError
    from kfp.pipeline_spec import pipeline_spec_pb2

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it is installed
        first, *others = yaml.load_all(definition.read_text(), Loader=loader)
        spec = ParseDict(first, pipeline_spec_pb2.PipelineSpec())
        platforms: dict[str, list[str]] = {}
        for document in others:
            platform_spec = ParseDict(document, pipeline_spec_pb2.PlatformSpec())
            for name, platform in platform_spec.platforms.items():
                platforms[name] = list(platform.deployment_spec.executors)
    except (OSError, ValueError, yaml.YAMLError, ParseError) as error:
        raise UsageError(
            f"A definition is the YAML that Kubeflow's compiler writes. Received: {definition.name} "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}). "
            "Write it anew: tumorflow compile"
        ) from error
    return spec, platforms


def _check_components(spec: Any, executors: set[str]) -> Iterator[Finding]:
    used: set[str] = set()
    for name, component in [("root", spec.root), *sorted(spec.components.items())]:
        match component.WhichOneof("implementation"):
            case "dag":
                used |= {task.component_ref.name for task in component.dag.tasks.values()}
                yield from _check_dag(name, component, spec.components)
            case "executor_label":
                used.add(component.executor_label)
                if component.executor_label not in executors:
                    fault = f"names '{component.executor_label}', which is no executor"
                    yield Finding(f"component '{name}'", "executorLabel", fault)
            case _:
                yield Finding(f"component '{name}'", "executorLabel", "is missing")
    for name in sorted(set(spec.components) - used):
        yield Finding(f"component '{name}'", "components", "is used by no task")
    for label in sorted(executors - used):
        yield Finding(f"executor '{label}'", "executors", "is used by no component")


def _check_dag(name: str, component: Any, components: Mapping[str, Any]) -> Iterator[Finding]:
    tasks = component.dag.tasks
    for task_name, task in sorted(tasks.items()):
        place = f"task '{task_name}' in '{name}'"
        if task.component_ref.name not in components:
            yield Finding(place, "componentRef", f"names '{task.component_ref.name}', which is no component")
            continue
        for field, fault in _check_task(task, component, components):
            yield Finding(place, field, fault)
    outputs = component.dag.outputs
    for kind, declared, selected in (
        ("parameters", component.output_definitions.parameters, _selected_parameters(outputs)),
        ("artifacts", component.output_definitions.artifacts, _selected_artifacts(outputs)),
    ):
        for output, producer, key in selected:
            place, field = f"dag '{name}'", f"outputs.{kind}.{output}"
            if output not in declared:
                yield Finding(place, field, "is not declared in outputDefinitions")
            for fault in _check_producer(producer, key, kind, tasks, components):
                yield Finding(place, field, fault)


def _selected_parameters(outputs: Any) -> Iterator[tuple[str, str, str]]:
    for output, selector in sorted(outputs.parameters.items()):
        one = [selector.value_from_parameter] if selector.HasField("value_from_parameter") else []
        for choice in [*one, *selector.value_from_oneof.parameter_selectors]:
            yield output, choice.producer_subtask, choice.output_parameter_key


def _selected_artifacts(outputs: Any) -> Iterator[tuple[str, str, str]]:
    for output, selectors in sorted(outputs.artifacts.items()):
        for choice in selectors.artifact_selectors:
            yield output, choice.producer_subtask, choice.output_artifact_key


def _check_task(task: Any, parent: Any, components: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields field and fault."""
    siblings, target = parent.dag.tasks, components[task.component_ref.name]
    for kind in ("parameters", "artifacts"):
        given, wanted = getattr(task.inputs, kind), getattr(target.input_definitions, kind)
        from_parent = getattr(parent.input_definitions, kind)
        for name, source in sorted(given.items()):
            field = f"inputs.{kind}.{name}"
            if name not in wanted:
                yield field, f"is no input of '{task.component_ref.name}'"
            for fault in _check_source(source, kind, from_parent, siblings, components):
                yield field, fault
        items, faults = _iterated(task, kind)
        yield from faults
        for name in sorted(items - set(wanted)):
            yield "iterator.itemInput", f"names '{name}', which is no input of '{task.component_ref.name}'"
        for name, definition in sorted(wanted.items()):
            optional = definition.is_optional or (
                kind == "parameters" and definition.HasField("default_value")
            )
            if not optional and name not in given and name not in items:
                yield f"inputs.{kind}.{name}", "is not handed in"
    for name in task.dependent_tasks:
        if name not in siblings:
            yield "dependentTasks", f"names '{name}', which is no task beside it"
    for name in CONDITION_INPUT.findall(task.trigger_policy.condition):
        if name not in task.inputs.parameters:
            yield "triggerPolicy.condition", f"names '{name}', which is not handed in"


def _iterated(task: Any, kind: str) -> tuple[set[str], list[tuple[str, str]]]:
    """Returns the inputs that a loop over `kind` fills, and what is wrong with what it loops over."""
    iterator = task.WhichOneof("iterator")
    if iterator is None or not kind.startswith(iterator.removesuffix("_iterator")):
        return set(), []
    loop = getattr(task, iterator)
    looped = loop.items.input_parameter if kind == "parameters" else loop.items.input_artifact
    known = not looped or looped in getattr(task.inputs, kind)
    faults = [] if known else [("iterator.items", f"names '{looped}', which is not handed in")]
    return {loop.item_input}, faults


def _check_source(
    source: Any, kind: str, from_parent: Any, siblings: Mapping[str, Any], components: Mapping[str, Any]
) -> Iterator[str]:
    match source.WhichOneof("kind"):
        case "task_output_parameter":
            output = source.task_output_parameter
            yield from _check_producer(
                output.producer_task, output.output_parameter_key, kind, siblings, components
            )
        case "task_output_artifact":
            output = source.task_output_artifact
            yield from _check_producer(
                output.producer_task, output.output_artifact_key, kind, siblings, components
            )
        case "component_input_parameter" | "component_input_artifact" as which:
            name = getattr(source, which)
            if name not in from_parent:
                yield f"takes '{name}', which is no input of the dag around it"
        case "task_final_status":
            if source.task_final_status.producer_task not in siblings:
                yield f"waits for '{source.task_final_status.producer_task}', which is no task beside it"
        case None:
            yield "comes from nowhere"


def _check_producer(
    producer: str, key: str, kind: str, tasks: Mapping[str, Any], components: Mapping[str, Any]
) -> Iterator[str]:
    if producer not in tasks:
        yield f"comes from '{producer}', which is no task there"
        return
    reference = tasks[producer].component_ref.name
    if reference in components and key not in getattr(components[reference].output_definitions, kind):
        yield f"takes '{key}' of '{producer}', which has no such output"


def _check_executors(executors: Mapping[str, Any], require_digests: bool) -> Iterator[Finding]:
    for label, executor in sorted(executors.items()):
        if executor.WhichOneof("spec") != "container":
            continue
        container, place = executor.container, f"executor '{label}'"
        fault = explain_image(container.image, require_digests)
        if fault:
            yield Finding(place, "container.image", f"'{container.image}' {fault}")
        for text in [*container.command, *container.args]:
            if INSTALL.search(text):
                yield Finding(place, "container.command", "installs packages when the step starts")
                break
        for written, name in RESOURCES.items():
            if not getattr(container.resources, name):
                yield Finding(place, f"container.resources.{written}", "is missing")


def explain_image(image: str, require_digest: bool) -> str:
    """Returns what is wrong with how an image is named, empty where nothing is."""
    if DIGEST.search(image):
        return ""
    if require_digest:
        return "is not named by its digest"
    if "@" in image:
        return "is no digest of SHA-256"
    _, colon, tag = image.rpartition("/")[2].partition(":")
    if not colon or not tag:
        return "has no tag"
    return "may change under its tag" if tag == "latest" or "{{" in image else ""
