"""The steps as tasks of a pipeline that is being compiled."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kfp import dsl

from tumorflow.chain import Step, find_step
from tumorflow.cluster import ClusterParams
from tumorflow_pipelines import components
from tumorflow_pipelines.placement import place

CANDIDATE = "candidate"
Body = Callable[[Mapping[str, Any]], None]


SETTINGS = ("source", "key_id", "registry", "light_image", "tensorflow_image")
"""What every pipeline is given beside its steps' parameters and code hashes."""


def takes(settings: Sequence[str], steps: Sequence[Step]) -> Callable[[Body], Callable[..., None]]:
    """Returns a decorator that makes a function of all arguments one that kfp can compile.

    kfp reads a pipeline's arguments from its signature; here it is made from the chain.

    Args:
        settings: names of arguments.
        steps: each adds the argument of its parameters and that of its code hash.
    """
    names = [*settings, *(f"{step.params}_{what}" for step in steps for what in ("params", "code"))]

    def decorate(body: Body) -> Callable[..., None]:
        def pipeline(*given: Any) -> None:
            body(dict(zip(names, given, strict=True)))

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind, annotation=str) for name in names]
        signature = inspect.Signature(parameters, return_annotation=None)
        pipeline.__signature__ = signature  # type: ignore[attr-defined]  # inspect looks for it
        return pipeline

    return decorate


class Chain:
    """The steps as tasks of the pipeline that is being compiled, each with its parameters and its place."""

    def __init__(self, cluster: ClusterParams, given: Mapping[str, Any]) -> None:
        self._cluster = cluster
        self._given = given

    def add(self, name: str, component: Any = None, **inputs: Any) -> dsl.PipelineTask:
        """Returns the task of a step, from its own component or another that does its work."""
        step = find_step(name)
        task = (component or getattr(components, name))(
            params=self._given[f"{step.params}_params"],
            code_hash=self._given[f"{step.params}_code"],
            image=self._given[f"{step.image}_image"],
            **inputs,
        )
        return place(task, name, step.image, self._cluster)

    def resolve(self, source: Any) -> dsl.PipelineTask:
        """Returns the task that finds the newest version of a source."""
        return self._place_uncached(components.resolve(source=source), "resolve")

    def decide(self, dataset: Any) -> dsl.PipelineTask:
        """Returns the task that says whether to train: of the champion of now, never of an earlier one."""
        return self.add("decide", dataset=dataset).set_caching_options(enable_caching=False)

    def halt(self, decision: Any) -> dsl.PipelineTask:
        """Returns the task that sums up a run that trains nothing."""
        return self._place_uncached(components.halt(decision=decision), "halt")

    def finish(self) -> dsl.PipelineTask:
        """Returns the task that ends the run in MLflow, whatever becomes of the others."""
        return self._place_uncached(components.finish(), "finish")

    def conclude(self, release: Any) -> dsl.PipelineTask:
        """Returns the task that sums the run up."""
        return self._place_uncached(components.conclude(release=release), "conclude")

    def _place_uncached(self, task: dsl.PipelineTask, name: str) -> dsl.PipelineTask:
        # what they tell is of this run, never of an earlier one
        return place(task, name, "light", self._cluster).set_caching_options(enable_caching=False)

    def train(self, dataset: Any, *, champion: Any, parts: int) -> None:
        """Adds all that follows ingestion, to the release and the run's summary."""
        validation = self.add("validate", dataset=dataset).outputs["validation"]
        tensors = self._preprocess(dataset, validation, champion, parts).outputs["tensors"]
        model = self.add("train", tensors=tensors).outputs["model"]
        evaluate = self.add(
            "evaluate", champion=champion, tensors=tensors, model=model, validation=validation
        )
        shipped = {
            "registry": self._given["registry"],
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

    def _preprocess(self, dataset: Any, validation: Any, champion: Any, parts: int) -> dsl.PipelineTask:
        inputs = {"dataset": dataset, "validation": validation}
        if parts == 1:
            return self.add("preprocess", champion=champion, **inputs)
        numbers = [str(number) for number in range(parts)]
        with dsl.ParallelFor(items=numbers, name="parts") as number:
            prepared = self.add("prepare", number=number, of=str(parts), **inputs)
        collected = dsl.Collected(prepared.outputs["part"])
        return self.add("preprocess", components.join, champion=champion, parts=collected, **inputs)
