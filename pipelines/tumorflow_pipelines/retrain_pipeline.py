"""The pipeline of schedules: trains again where enough is new, with the champion as the yardstick."""

from typing import TYPE_CHECKING

from kfp import dsl

from tumorflow.cluster import ClusterParams
from tumorflow_pipelines.tasks import Chain

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

PIPELINE_NAME = "tumorflow-retrain"


def build_retrain_pipeline(cluster: ClusterParams, parts: int = 1) -> "BaseComponent":
    """Returns the pipeline that finds the newest data, and ends early where too little of them is new.

    Args:
        cluster: where and how the steps run.
        parts: how many parts preprocessing is done in, side by side; 1: in one step.
    """

    @dsl.pipeline(
        name=PIPELINE_NAME,
        description="The newest data to a gated candidate beside the champion, if enough is new. "
        "For research, not for clinical decisions.",
    )
    def retrain_pipeline(
        source: str,
        key_id: str,
        registry: str,
        light_image: str,
        tensorflow_image: str,
        ingest_params: str,
        ingest_code: str,
        retrain_params: str,
        retrain_code: str,
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
    ) -> None:
        chain = Chain(
            cluster,
            images={"light": light_image, "tensorflow": tensorflow_image},
            params={
                "ingest": ingest_params,
                "retrain": retrain_params,
                "validate": validate_params,
                "preprocess": preprocess_params,
                "train": train_params,
                "evaluate": evaluate_params,
                "export": export_params,
            },
            code={
                "ingest": ingest_code,
                "retrain": retrain_code,
                "validate": validate_code,
                "preprocess": preprocess_code,
                "train": train_code,
                "evaluate": evaluate_code,
                "export": export_code,
            },
        )
        with dsl.ExitHandler(chain.finish(), name="run"):
            newest = chain.resolve(source).outputs
            ingest = chain.add(
                "ingest", source=newest["source"], data_hash=newest["data_hash"], key_id=key_id
            )
            dataset = ingest.outputs["dataset"]
            decide = chain.decide(dataset)
            with dsl.If(decide.outputs["action"] == "train", name="enough-is-new"):
                chain.train(dataset, registry=registry, champion=decide.outputs["champion"], parts=parts)
            with dsl.Else(name="too-little-is-new"):
                chain.halt(decide.outputs["decision"])

    pipeline: BaseComponent = retrain_pipeline
    return pipeline
