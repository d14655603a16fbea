"""The pipeline: the chain as Kubeflow runs it, with the gate as a condition."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kfp import dsl

from tumorflow.chain import STEPS
from tumorflow.cluster import ClusterParams
from tumorflow_pipelines.tasks import SETTINGS, Chain, takes

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
    @takes((*SETTINGS, "data_hash", "champion"), STEPS)
    def train_pipeline(given: Mapping[str, Any]) -> None:
        chain = Chain(cluster, given)
        with dsl.ExitHandler(chain.finish(), name="run"):
            ingest = chain.add(
                "ingest", source=given["source"], data_hash=given["data_hash"], key_id=given["key_id"]
            )
            chain.train(ingest.outputs["dataset"], champion=given["champion"], parts=parts)

    pipeline: BaseComponent = train_pipeline
    return pipeline
