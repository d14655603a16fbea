"""The six steps as Kubeflow components. Each body runs alone, in a process or container of its own.

The signatures repeat the chain, since Kubeflow takes a component from the source of a function; a test
holds the two equal. `code_hash` is not read: it is there so that a change of a step's code is a cache miss.
`job` is Kubeflow's own placeholder for the name of the pipeline run, which does not enter the cache key.
"""

# ruff: noqa: ARG001 - code_hash is part of the cache key, and read by Kubeflow alone

from kfp import dsl

from tumorflow import __version__

LIGHT_IMAGE = f"localhost/tumorflow-light:{__version__}"
TENSORFLOW_IMAGE = f"localhost/tumorflow-tensorflow:{__version__}"


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def ingest(
    source: str,
    data_hash: str,
    key_id: str,
    params: str,
    code_hash: str,
    job: str,
    dataset: dsl.Output[dsl.Dataset],
) -> None:
    """Reads, de-identifies and pseudonymises a source."""
    from tumorflow.execution import execute_in_pipeline

    execute_in_pipeline(
        "ingest",
        params=params,
        inputs={},
        output=dataset.path,
        arguments={"source": source, "data_hash": data_hash, "key_id": key_id},
        job=job,
    )


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def validate(
    params: str,
    code_hash: str,
    job: str,
    dataset: dsl.Input[dsl.Dataset],
    validation: dsl.Output[dsl.Artifact],
) -> None:
    """Checks manifest and pixel statistics."""
    from tumorflow.execution import execute_in_pipeline

    execute_in_pipeline(
        "validate", params=params, inputs={"dataset": dataset.path}, output=validation.path, job=job
    )


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def preprocess(
    params: str,
    code_hash: str,
    job: str,
    dataset: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Artifact],
    tensors: dsl.Output[dsl.Dataset],
) -> None:
    """Windows, resizes, splits by patient and writes shards."""
    from tumorflow.execution import execute_in_pipeline

    execute_in_pipeline(
        "preprocess",
        params=params,
        inputs={"dataset": dataset.path, "validation": validation.path},
        output=tensors.path,
        job=job,
    )


@dsl.component(base_image=TENSORFLOW_IMAGE, install_kfp_package=False)
def train(
    params: str,
    code_hash: str,
    job: str,
    tensors: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
) -> None:
    """Trains a classifier."""
    from tumorflow.execution import execute_in_pipeline

    execute_in_pipeline("train", params=params, inputs={"tensors": tensors.path}, output=model.path, job=job)


@dsl.component(base_image=TENSORFLOW_IMAGE, install_kfp_package=False)
def evaluate(
    params: str,
    code_hash: str,
    job: str,
    tensors: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    validation: dsl.Input[dsl.Artifact],
    evaluation: dsl.Output[dsl.Artifact],
) -> str:
    """Measures the model and returns the gate's decision: accepted or rejected."""
    from tumorflow.execution import execute_in_pipeline

    return execute_in_pipeline(
        "evaluate",
        params=params,
        inputs={"tensors": tensors.path, "model": model.path, "validation": validation.path},
        output=evaluation.path,
        job=job,
    )


@dsl.component(base_image=TENSORFLOW_IMAGE, install_kfp_package=False)
def export(
    alias: str,
    registry: str,
    params: str,
    code_hash: str,
    job: str,
    tensors: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    release: dsl.Output[dsl.Artifact],
) -> str:
    """Exports to TFLite, registers the version and returns the release as JSON, with its place."""
    import json

    from tumorflow.execution import execute_in_pipeline

    returned = execute_in_pipeline(
        "export",
        params=params,
        inputs={"tensors": tensors.path, "model": model.path, "evaluation": evaluation.path},
        output=release.path,
        arguments={"alias": alias, "registry": registry},
        job=job,
    )
    return json.dumps({**json.loads(returned), "uri": release.uri})
