"""The pipeline: the chain as Kubeflow runs it, with the gate as a condition."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kfp import dsl

from tumorflow.chain import STEPS, find_step
from tumorflow.cluster import ClusterParams
from tumorflow_pipelines import components
from tumorflow_pipelines.placement import place

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

PIPELINE_NAME = "tumorflow-train"
CANDIDATE = "candidate"


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


class Chain:
    """The steps as tasks of the pipeline that is being compiled, each with its parameters and its place."""

    def __init__(
        self,
        cluster: ClusterParams,
        *,
        images: Mapping[str, Any],
        params: Mapping[str, Any],
        code: Mapping[str, Any],
    ) -> None:
        self._cluster = cluster
        self._images = images
        self._params = params
        self._code = code

    def add(self, name: str, component: Any = None, **inputs: Any) -> dsl.PipelineTask:
        """Returns the task of a step, from its own component or another that does its work."""
        step = find_step(name)
        task = (component or getattr(components, name))(
            params=self._params[step.params],
            code_hash=self._code[step.params],
            image=self._images[step.image],
            **inputs,
        )
        return place(task, name, step.image, self._cluster)

    def finish(self) -> dsl.PipelineTask:
        """Returns the task that ends the run in MLflow, whatever becomes of the others."""
        return self._close(components.finish(), "finish")

    def conclude(self, release: Any) -> dsl.PipelineTask:
        """Returns the task that sums the run up."""
        return self._close(components.conclude(release=release), "conclude")

    def _close(self, task: dsl.PipelineTask, name: str) -> dsl.PipelineTask:
        # what they tell is of this run, never of an earlier one
        return place(task, name, "light", self._cluster).set_caching_options(enable_caching=False)

    def train(self, dataset: Any, *, registry: Any, champion: Any, parts: int) -> None:
        """Adds all that follows ingestion, to the release and the run's summary."""
        validation = self.add("validate", dataset=dataset).outputs["validation"]
        tensors = self._preprocess(dataset, validation, parts).outputs["tensors"]
        model = self.add("train", tensors=tensors).outputs["model"]
        evaluate = self.add(
            "evaluate", champion=champion, tensors=tensors, model=model, validation=validation
        )
        shipped = {
            "registry": registry,
            "tensors": tensors,
            "model": model,
            "evaluation": evaluate.outputs["evaluation"],
        }
        # both branches export and register, so that a rejected model leaves its evidence; one gets an alias
        with dsl.If(evaluate.outputs["Output"] == "accepted", name="gate-passed"):
            accepted = self.add("export", alias=CANDIDATE, **shipped)
        with dsl.Else(name="gate-failed"):
            rejected = self.add("export", alias="", **shipped)
        self.conclude(dsl.OneOf(accepted.outputs["Output"], rejected.outputs["Output"]))

    def _preprocess(self, dataset: Any, validation: Any, parts: int) -> dsl.PipelineTask:
        inputs = {"dataset": dataset, "validation": validation}
        if parts == 1:
            return self.add("preprocess", **inputs)
        numbers = [str(number) for number in range(parts)]
        with dsl.ParallelFor(items=numbers, name="parts") as number:
            prepared = self.add("prepare", number=number, of=str(parts), **inputs)
        collected = dsl.Collected(prepared.outputs["part"])
        return self.add("preprocess", components.join, parts=collected, **inputs)


def pipeline_arguments(
    source: str,
    data_hash: str,
    key_id: str,
    registry: str,
    params: Mapping[str, str],
    code: Mapping[str, str],
    *,
    champion: str = "",
    light_image: str = "",
    tensorflow_image: str = "",
) -> dict[str, str]:
    """Returns the arguments of a run, from each step's parameters (JSON) and code hash by its name.

    Args:
        source: where the data are.
        data_hash: their version.
        key_id: fingerprint of the pseudonym key.
        registry: which registry is meant.
        params: by step.
        code: by step.
        champion: the yardstick, NAME/VERSION; empty: none.
        light_image: what the light steps' image is, by content; empty: this installation.
        tensorflow_image: the same of the other steps.
    """
    by_step = {f"{step.name}_params": params[step.name] for step in STEPS}
    by_step |= {f"{step.name}_code": code[step.name] for step in STEPS}
    return {
        "source": source,
        "data_hash": data_hash,
        "key_id": key_id,
        "registry": registry,
        "champion": champion,
        "light_image": light_image,
        "tensorflow_image": tensorflow_image,
        **by_step,
    }
