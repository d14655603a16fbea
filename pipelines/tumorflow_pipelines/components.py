"""The steps as Kubeflow components. Each body runs alone, in a process or container of its own.

The signatures repeat the chain, since Kubeflow takes a component from the source of a function; a test
holds the two equal. `image` says what the image's name stands for: a change of that is a cache miss, as
`code_hash` is one of the step's code; and the step's record keeps it.
"""

from typing import NamedTuple

from kfp import dsl

from tumorflow.cluster import Images

LIGHT_IMAGE = Images().light
TENSORFLOW_IMAGE = Images().tensorflow


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def ingest(
    source: str,
    data_hash: str,
    key_id: str,
    params: str,
    code_hash: str,
    image: str,
    dataset: dsl.Output[dsl.Dataset],
) -> None:
    """Reads, de-identifies and pseudonymises a source."""
    from tumorflow.execution import execute_in_pipeline

    execute_in_pipeline(
        "ingest",
        params=params,
        code_hash=code_hash,
        image=image,
        inputs={},
        output=dataset.path,
        uri=dataset.uri,
        arguments={"source": source, "data_hash": data_hash, "key_id": key_id},
    )


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def resolve(
    source: str,
) -> NamedTuple("Resolved", [("source", str), ("data_hash", str)]):  # type: ignore[valid-type]  # kfp reads it
    """Finds the newest version of a source, and pins it."""
    from tumorflow.conclusion import resolve

    return resolve(source)


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def decide(
    params: str,
    code_hash: str,
    image: str,
    dataset: dsl.Input[dsl.Dataset],
    decision: dsl.Output[dsl.Artifact],
) -> NamedTuple("Decided", [("action", str), ("champion", str)]):  # type: ignore[valid-type]  # as above
    """Says whether to train, and which champion is the yardstick."""
    import json
    from pathlib import Path

    from tumorflow.execution import execute_in_pipeline

    action = execute_in_pipeline(
        "decide",
        params=params,
        code_hash=code_hash,
        image=image,
        inputs={"dataset": dataset.path},
        output=decision.path,
        uri=decision.uri,
    )
    champion = json.loads((Path(decision.path) / "decision.json").read_text())["champion"]
    return action, champion


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def validate(
    params: str,
    code_hash: str,
    image: str,
    dataset: dsl.Input[dsl.Dataset],
    validation: dsl.Output[dsl.Artifact],
) -> None:
    """Checks manifest and pixel statistics."""
    from tumorflow.execution import execute_in_pipeline

    execute_in_pipeline(
        "validate",
        params=params,
        code_hash=code_hash,
        image=image,
        inputs={"dataset": dataset.path},
        output=validation.path,
        uri=validation.uri,
    )


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def preprocess(
    champion: str,
    params: str,
    code_hash: str,
    image: str,
    dataset: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Artifact],
    tensors: dsl.Output[dsl.Dataset],
) -> None:
    """Windows, resizes, splits by patient and writes shards."""
    from tumorflow.execution import execute_in_pipeline

    execute_in_pipeline(
        "preprocess",
        params=params,
        code_hash=code_hash,
        image=image,
        inputs={"dataset": dataset.path, "validation": validation.path},
        output=tensors.path,
        uri=tensors.uri,
        arguments={"champion": champion},
    )


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def prepare(
    number: str,
    of: str,
    params: str,
    code_hash: str,
    image: str,
    dataset: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Artifact],
    part: dsl.Output[dsl.Dataset],
) -> None:
    """Does the work of preprocessing on one part of the slices."""
    from tumorflow.execution import execute_in_pipeline

    execute_in_pipeline(
        "prepare",
        params=params,
        code_hash=code_hash,
        image=image,
        inputs={"dataset": dataset.path, "validation": validation.path},
        output=part.path,
        uri=part.uri,
        arguments={"number": number, "of": of},
    )


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def join(
    champion: str,
    params: str,
    code_hash: str,
    image: str,
    dataset: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Artifact],
    parts: dsl.Input[list[dsl.Dataset]],
    tensors: dsl.Output[dsl.Dataset],
) -> None:
    """Preprocesses from parts that were prepared side by side."""
    from tumorflow.execution import execute_in_pipeline

    execute_in_pipeline(
        "preprocess",
        params=params,
        code_hash=code_hash,
        image=image,
        inputs={
            "dataset": dataset.path,
            "validation": validation.path,
            "parts": [part.path for part in parts],
        },
        output=tensors.path,
        uri=tensors.uri,
        arguments={"champion": champion},
    )


@dsl.component(base_image=TENSORFLOW_IMAGE, install_kfp_package=False)
def train(
    params: str,
    code_hash: str,
    image: str,
    tensors: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
) -> None:
    """Trains a classifier."""
    from tumorflow.execution import execute_in_pipeline

    execute_in_pipeline(
        "train",
        params=params,
        code_hash=code_hash,
        image=image,
        inputs={"tensors": tensors.path},
        output=model.path,
        uri=model.uri,
    )


@dsl.component(base_image=TENSORFLOW_IMAGE, install_kfp_package=False)
def evaluate(
    champion: str,
    params: str,
    code_hash: str,
    image: str,
    tensors: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    validation: dsl.Input[dsl.Artifact],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    roc: dsl.Output[dsl.ClassificationMetrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Measures the model and returns the gate's decision: accepted or rejected."""
    import json

    from tumorflow.execution import execute_in_pipeline
    from tumorflow.visualisations import show

    decision = execute_in_pipeline(
        "evaluate",
        params=params,
        code_hash=code_hash,
        image=image,
        inputs={"tensors": tensors.path, "model": model.path, "validation": validation.path},
        output=evaluation.path,
        uri=evaluation.uri,
        arguments={"champion": champion},
    )
    classes = json.loads(params)["classes"]
    show(evaluation.path, classes, metrics=metrics, roc=roc, confusion=confusion, report=report)
    return decision


@dsl.component(base_image=TENSORFLOW_IMAGE, install_kfp_package=False)
def export(
    alias: str,
    registry: str,
    params: str,
    code_hash: str,
    image: str,
    tensors: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    release: dsl.Output[dsl.Artifact],
) -> str:
    """Exports to TFLite, registers the version and returns the release as JSON, with its place."""
    from tumorflow.conclusion import describe_release
    from tumorflow.execution import execute_in_pipeline

    returned = execute_in_pipeline(
        "export",
        params=params,
        code_hash=code_hash,
        image=image,
        inputs={"tensors": tensors.path, "model": model.path, "evaluation": evaluation.path},
        output=release.path,
        uri=release.uri,
        arguments={"alias": alias, "registry": registry},
    )
    return describe_release(
        returned, release=release.path, uri=release.uri, evaluation=evaluation.path, tensors=tensors.path
    )


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def conclude(release: str, summary: dsl.Output[dsl.Artifact]) -> None:
    """Sums the run up and ends it in MLflow."""
    from tumorflow.conclusion import conclude

    conclude(release, summary.path)


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def halt(decision: dsl.Input[dsl.Artifact], summary: dsl.Output[dsl.Artifact]) -> None:
    """Sums up a run that trained nothing, and ends it in MLflow."""
    from tumorflow.conclusion import halt

    halt(decision.path, summary.path)


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def finish(status: dsl.PipelineTaskFinalStatus) -> None:
    """Ends the run in MLflow, however the steps ended."""
    from tumorflow.conclusion import finish

    finish(status.state)
