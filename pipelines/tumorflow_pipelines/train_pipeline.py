"""The pipeline: the chain as Kubeflow runs it, with the gate as a condition."""

from typing import TYPE_CHECKING

from kfp import dsl

from tumorflow.cluster import ClusterParams
from tumorflow_pipelines.tasks import Chain

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

PIPELINE_NAME = "tumorflow-train"


def build_train_pipeline(cluster: ClusterParams, parts: int = 1) -> "BaseComponent":
    """Returns the pipeline from a source to a gated, exported and registered model.

    Args:
        cluster: where and how the steps run.
        parts: how many parts preprocessing is done in, side by side; 1: in one step.
    """

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
        champion: str,
        light_image: str,
        tensorflow_image: str,
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
    ) -> None:
        chain = Chain(
            cluster,
            images={"light": light_image, "tensorflow": tensorflow_image},
            params={
                "ingest": ingest_params,
                "validate": validate_params,
                "preprocess": preprocess_params,
                "train": train_params,
                "evaluate": evaluate_params,
                "export": export_params,
            },
            code={
                "ingest": ingest_code,
                "validate": validate_code,
                "preprocess": preprocess_code,
                "train": train_code,
                "evaluate": evaluate_code,
                "export": export_code,
            },
        )
        with dsl.ExitHandler(chain.finish(), name="run"):
            ingest = chain.add("ingest", source=source, data_hash=data_hash, key_id=key_id)
            chain.train(ingest.outputs["dataset"], registry=registry, champion=champion, parts=parts)

    pipeline: BaseComponent = train_pipeline
    return pipeline
