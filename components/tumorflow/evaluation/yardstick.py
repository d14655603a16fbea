"""The champion, fetched from the registry and asked about the test slices of another model."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumorflow import membership
from tumorflow.errors import SourceError
from tumorflow.evaluation import comparison, prediction
from tumorflow.evaluation.comparison import Comparison
from tumorflow.files import read_json
from tumorflow.params import EvaluateParams
from tumorflow.tracker import Tracker, split_reference

if TYPE_CHECKING:
    from tumorflow.evaluation.prediction import TestSplit
    from tumorflow.metrics import Floats

MODEL = "model.keras"
RECIPE = "evidence/preprocessing.json"
INPUT = ("classes", "method", "image_size_px", "windows", "intensity_unit")
"""The settings of preprocessing that decide what a network is given, and what it answers."""
LEARNED_FROM = ("train", "validation")


def compare_with(
    champion: str,
    keras: Any,
    tensors: Path,
    test: "TestSplit",
    probabilities: "Floats",
    preprocessing: Mapping[str, Any],
    params: EvaluateParams,
    tracker: Tracker,
) -> Comparison:
    """Returns how the model that answered `probabilities` compares with the champion.

    A champion that cannot take the tensors leaves a comparison that says so.

    Args:
        champion: NAME/VERSION.
        keras: as configured.
        tensors: artifact with the test slices.
        test: the test split.
        probabilities: (n, classes), the model's.
        preprocessing: facts of the tensors.
        params: classes, margin, bootstrap.
        tracker: knows the registry.

    Raises:
        ParameterError: `champion` names no version of the registry.
        UnavailableError: the registry or its files cannot be had.
    """
    name, version = split_reference(champion)
    with tempfile.TemporaryDirectory(prefix="tumorflow-champion-") as place:
        folder = Path(place)
        tracker.fetch_version(name, version, folder, (MODEL, RECIPE, membership.EVIDENCE))
        if not (folder / RECIPE).is_file():
            return Comparison(champion, f"{champion} keeps no record of the input that it was made for.")
        recipe = read_json(folder / RECIPE)
        changed = [key for key in INPUT if recipe.get(key) != preprocessing[key]]
        if changed:
            return Comparison(champion, f"{champion} was made for another input ({', '.join(changed)}).")
        try:
            network = prediction.load_model(keras, folder, params.classes, preprocessing["image_size_px"])
        except SourceError:
            return Comparison(champion, f"the Keras model of {champion} cannot be loaded.")
        path = folder / membership.EVIDENCE
        members = membership.read_members(path) if path.is_file() else None
    answers = prediction.predict(network, tensors, test.table, len(params.classes))
    theirs, _ = prediction.settle(answers)
    seen = None
    if members is not None:
        patients, contents = test.table["patient"].fillna(""), test.table["content_hash"]
        seen = membership.recognise(members, patients, contents, LEARNED_FROM)
    return comparison.compare(champion, test.truth, (probabilities, theirs), test.groups, seen, params)
