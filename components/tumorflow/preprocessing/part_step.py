"""One part of preprocessing: `dataset` and `validation` → `part` (docs/artifacts.md)."""

from pathlib import Path

from tumorflow.errors import UsageError
from tumorflow.files import read_json
from tumorflow.params import PreprocessParams
from tumorflow.preprocessing import preparation
from tumorflow.preprocessing.cohort import read_cohort
from tumorflow.tracker import Tracker


def run(
    params: PreprocessParams,
    *,
    dataset: Path,
    validation: Path,
    part: Path,
    number: str,
    of: str,
    tracker: Tracker,
) -> str:
    """Returns an empty string after preparing one part of the dataset's labelled slices in `part`.

    Args:
        params: as those of the step that joins the parts.
        dataset: from ingestion.
        validation: of the dataset.
        part: the folder to fill.
        number: of the part, from 0.
        of: how many parts there are.
        tracker: is told how many slices the part has.

    Raises:
        UsageError: there is no such part.
        SourceError: an input is missing or unreadable.
        DataError: the data did not pass validation.
        SliceError: a slice of the dataset cannot be decoded.
    """
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise UsageError(
            f"A part's number is from 0 to one less than there are parts. Received: '{number}' of '{of}'. "
            "For example: 0 of 4."
        )
    cohort = read_cohort(dataset, read_json(validation / "report.json"), params.classes)
    slices = preparation.prepare(
        params, cohort=cohort, dataset=dataset, folder=part, number=int(number), of=int(of)
    )
    tracker.log_metrics({"slices": slices})
    return ""
