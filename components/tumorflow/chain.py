"""The one table of steps. The Kubeflow pipeline, dvc.yaml and the command line are made from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Step:
    """One step: a room of the package, its artifacts and its settings.

    Every input and output is a folder; docs/artifacts.md says what is in each.
    """

    name: str
    summary: str
    room: str
    inputs: tuple[str, ...]
    output: str
    image: Literal["light", "tensorflow"]
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Settings beside the parameters: name → help."""
    returns: str = ""
    """What the string says that the step hands to the pipeline; empty: it hands none."""
    example: str = ""
    entry: str = "step"
    """The module of the room that holds the step's `run`."""
    section: str = ""
    """The section of the parameters; empty: the one of the step's name."""

    @property
    def module(self) -> str:
        """The step's module."""
        return f"tumorflow.{self.room}.{self.entry}"

    @property
    def params(self) -> str:
        """The name of the step's section of the parameters."""
        return self.section or self.name


CHAMPION = "registered version that is the yardstick, NAME/VERSION; empty: none"

STEPS = (
    Step(
        name="ingest",
        summary="read, de-identify and pseudonymise a source; refuse what is broken, with a reason",
        room="ingestion",
        inputs=(),
        output="dataset",
        image="light",
        arguments={
            "source": "folder, s3://BUCKET/PREFIX or REPO@REV: DICOM files, or one folder of images a class",
            "data_hash": "version that the source must have, as resolved at submission; empty: any",
            "key_id": "fingerprint of the pseudonym key that must be used; empty: any",
        },
        example="tumorflow ingest --source data --dataset build/dataset",
    ),
    Step(
        name="validate",
        summary="check manifest and pixel statistics; errors stop the run, warnings travel with it",
        room="validation",
        inputs=("dataset",),
        output="validation",
        image="light",
        example="tumorflow validate --dataset build/dataset --validation build/validation",
    ),
    Step(
        name="preprocess",
        summary="window, resize, split by patient and write shards of tensors",
        room="preprocessing",
        inputs=("dataset", "validation"),
        output="tensors",
        image="light",
        arguments={"champion": CHAMPION},
        example=(
            "tumorflow preprocess --dataset build/dataset --validation build/validation "
            "--tensors build/tensors"
        ),
    ),
    Step(
        name="train",
        summary="train a classifier on the training split; keep the best epoch",
        room="training",
        inputs=("tensors",),
        output="model",
        image="tensorflow",
        example="tumorflow train --tensors build/tensors --model build/model --set train.epochs=5",
    ),
    Step(
        name="evaluate",
        summary="measure the model on the locked test set, explain it, decide rule by rule",
        room="evaluation",
        inputs=("tensors", "model", "validation"),
        output="evaluation",
        image="tensorflow",
        arguments={"champion": CHAMPION},
        returns="the gate's decision: accepted or rejected",
        example=(
            "tumorflow evaluate --tensors build/tensors --model build/model "
            "--validation build/validation --evaluation build/evaluation"
        ),
    ),
    Step(
        name="export",
        summary="export to TFLite, check parity with Keras, register the model version",
        room="export",
        inputs=("tensors", "model", "evaluation"),
        output="release",
        image="tensorflow",
        arguments={
            "alias": "registry alias for the version if every rule passed; empty: none",
            "registry": "name of the registry meant, so that another one is no repetition; not read",
        },
        returns="the release as JSON: decision, rules, model and files",
        example=(
            "tumorflow export --tensors build/tensors --model build/model "
            "--evaluation build/evaluation --release build/release --alias candidate"
        ),
    ),
)

PART = Step(
    name="prepare",
    summary="do the work of preprocessing on one part of the slices; preprocess joins the parts",
    room="preprocessing",
    inputs=("dataset", "validation"),
    output="part",
    image="light",
    arguments={"number": "which part, from 0", "of": "how many parts there are"},
    example=(
        "tumorflow prepare --dataset build/dataset --validation build/validation "
        "--number 0 --of 4 --part build/part-0"
    ),
    entry="part_step",
    section="preprocess",
)
"""What runs side by side, where preprocessing is done in parts."""

DECIDE = Step(
    name="decide",
    summary="say whether a dataset has enough that is new to the champion to train again",
    room="retraining",
    inputs=("dataset",),
    output="decision",
    image="light",
    returns="train or stop",
    example="tumorflow decide --dataset build/dataset --decision build/decision",
    section="retrain",
)
"""What the retraining pipeline asks before it goes on with the chain."""

ALL_STEPS = (*STEPS, PART, DECIDE)


def find_step(name: str) -> Step:
    """Returns the step called `name`, of the chain or beside it.

    Raises:
        KeyError: there is none.
    """
    return {step.name: step for step in ALL_STEPS}[name]
