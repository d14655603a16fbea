"""The pipeline of schedules: trains again where enough is new, with the champion as the yardstick."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kfp import dsl

from tumorflow.chain import DECIDE, STEPS
from tumorflow.cluster import ClusterParams
from tumorflow_pipelines.tasks import SETTINGS, Chain, takes

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
    @takes(SETTINGS, (DECIDE, *STEPS))
    def retrain_pipeline(given: Mapping[str, Any]) -> None:
        chain = Chain(cluster, given)
        with dsl.ExitHandler(chain.finish(), name="run"):
            newest = chain.resolve(given["source"]).outputs
            ingest = chain.add(
                "ingest", source=newest["source"], data_hash=newest["data_hash"], key_id=given["key_id"]
            )
            dataset = ingest.outputs["dataset"]
            decide = chain.decide(dataset)
            with dsl.If(decide.outputs["action"] == "train", name="enough-is-new"):
                chain.train(dataset, champion=decide.outputs["champion"], parts=parts)
            with dsl.Else(name="too-little-is-new"):
                chain.halt(decide.outputs["decision"])

    pipeline: BaseComponent = retrain_pipeline
    return pipeline
