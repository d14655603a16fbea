"""The pipeline: the chain as Kubeflow runs it, with the gate as a condition."""

from typing import NamedTuple

from kfp import dsl

from tumorflow.chain import STEPS
from tumorflow_pipelines import components

PIPELINE_NAME = "tumorflow-train"
CANDIDATE = "candidate"


class TrainOutputs(NamedTuple):
    """What a run leaves for whoever started it."""

    dataset: dsl.Dataset
    validation: dsl.Artifact
    tensors: dsl.Dataset
    model: dsl.Model
    evaluation: dsl.Artifact
    release: str


@dsl.pipeline(
    name=PIPELINE_NAME,
    description="CT studies to a gated, exported and registered tumour classifier. "
    "For research, not for clinical decisions.",
)
def train_pipeline(
    source: str,
    data_hash: str,
    key_id: str,
    registry: str,
    ingest_params: str,
    ingest_code: str,
    validate_params: str,
    validate_code: str,
    preprocess_params: str,
    preprocess_code: str,
    train_params: str,
    train_code: str,
    evaluate_params: str,
    evaluate_code: str,
    export_params: str,
    export_code: str,
) -> TrainOutputs:
    """Returns the artifacts of every step, and the release as JSON."""
    job = dsl.PIPELINE_JOB_NAME_PLACEHOLDER
    ingest = components.ingest(
        source=source,
        data_hash=data_hash,
        key_id=key_id,
        params=ingest_params,
        code_hash=ingest_code,
        job=job,
    )
    dataset = ingest.outputs["dataset"]
    validate = components.validate(params=validate_params, code_hash=validate_code, job=job, dataset=dataset)
    validation = validate.outputs["validation"]
    preprocess = components.preprocess(
        params=preprocess_params, code_hash=preprocess_code, job=job, dataset=dataset, validation=validation
    )
    tensors = preprocess.outputs["tensors"]
    train = components.train(params=train_params, code_hash=train_code, job=job, tensors=tensors)
    model = train.outputs["model"]
    evaluate = components.evaluate(
        params=evaluate_params,
        code_hash=evaluate_code,
        job=job,
        tensors=tensors,
        model=model,
        validation=validation,
    )
    evaluation = evaluate.outputs["evaluation"]
    shipped = {
        "registry": registry,
        "params": export_params,
        "code_hash": export_code,
        "job": job,
        "tensors": tensors,
        "model": model,
        "evaluation": evaluation,
    }
    # both branches export and register, so that a rejected model leaves all its evidence; one gets an alias
    with dsl.If(evaluate.outputs["Output"] == "accepted", name="gate-passed"):
        accepted = components.export(alias=CANDIDATE, **shipped)
    with dsl.Else(name="gate-failed"):
        rejected = components.export(alias="", **shipped)
    release = dsl.OneOf(accepted.outputs["Output"], rejected.outputs["Output"])
    return TrainOutputs(
        dataset=dataset,
        validation=validation,
        tensors=tensors,
        model=model,
        evaluation=evaluation,
        release=release,
    )


def pipeline_arguments(
    source: str, data_hash: str, key_id: str, registry: str, params: dict[str, str], code: dict[str, str]
) -> dict[str, str]:
    """Returns the arguments of a run, from each step's parameters (JSON) and code hash by its name."""
    by_step = {f"{step.name}_params": params[step.name] for step in STEPS}
    by_step |= {f"{step.name}_code": code[step.name] for step in STEPS}
    return {"source": source, "data_hash": data_hash, "key_id": key_id, "registry": registry, **by_step}
