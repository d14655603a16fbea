"""Retraining: the newest `dataset` against the champion → `decision` (docs/artifacts.md)."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tumorflow import membership
from tumorflow.errors import SourceError
from tumorflow.files import read_json, write_json
from tumorflow.params import RetrainParams
from tumorflow.retraining import novelty
from tumorflow.tracker import Tracker

if TYPE_CHECKING:
    import pandas as pd


def run(params: RetrainParams, *, dataset: Path, decision: Path, tracker: Tracker) -> str:
    """Returns `train` or `stop` after writing what led to it.

    Raises:
        SourceError: the dataset is missing or unreadable.
        UnavailableError: the registry cannot be had.
    """
    manifest = read_manifest(dataset, params.classes)
    data_hash = read_json(dataset / "source.json")["data_hash"]
    found = tracker.find_champion(params.registered_model)
    champion = found.reference if found else ""
    members = membership.fetch_members(champion, tracker) if champion else None
    count = count_new(manifest, members)
    champion_data_hash = found.tags.get("tumorflow.data_hash", "") if found else ""
    verdict = novelty.decide(count, params.min_new_patients, champion, data_hash, champion_data_hash)
    counts = {"new_patients": count.new, "known_patients": count.known, "required": params.min_new_patients}
    write_json(
        decision / "decision.json",
        {
            **asdict(verdict),
            **counts,
            "unit": count.unit,
            "champion": champion,
            "champion_recorded": members is not None,
            "data_hash": data_hash,
            "champion_data_hash": champion_data_hash,
        },
    )
    print(f"retraining: {verdict.decision}. {verdict.message}", flush=True)
    tracker.log_params(
        {"decision": verdict.decision, "reason": verdict.reason, "champion": champion or "none"}
    )
    tracker.log_metrics({name: float(value) for name, value in counts.items()})
    return verdict.decision


def read_manifest(dataset: Path, classes: tuple[str, ...]) -> "pd.DataFrame":
    """Returns `patient` and `content_hash` of the slices that have a label: the others train nothing.

    Raises:
        SourceError: there is no readable manifest.
    """
    import pandas as pd

    try:
        manifest = pd.read_parquet(dataset / "manifest.parquet", columns=["patient", "label", "content_hash"])
    except (OSError, ValueError) as error:
        raise SourceError(
            f"A dataset has a readable manifest.parquet. Received: {type(error).__name__}. "
            "Run ingestion again."
        ) from error
    return manifest[manifest["label"].isin(classes)]


def count_new(manifest: "pd.DataFrame", members: "pd.DataFrame | None") -> novelty.Count:
    """Returns how many patients are new; all of them where nobody is known."""
    import numpy as np

    patients, contents = manifest["patient"].fillna("").tolist(), manifest["content_hash"].tolist()
    if members is None:
        return novelty.count_new(patients, contents, np.zeros(len(patients), dtype=bool))
    return novelty.count_new(
        patients, contents, membership.recognise(members, patients, contents, membership.SPLITS)
    )
