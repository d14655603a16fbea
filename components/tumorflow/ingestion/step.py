"""Ingestion: source folder → `dataset` (docs/artifacts.md)."""

from pathlib import Path

from tumorflow.errors import DataError, ParameterError, SourceError
from tumorflow.files import write_json, write_text
from tumorflow.ingestion import quarantine, sources
from tumorflow.ingestion.collection import Collection
from tumorflow.ingestion.labels import LabelFile, read_labels
from tumorflow.ingestion.manifest import build_manifest
from tumorflow.ingestion.pseudonym_key import key_id as fingerprint
from tumorflow.ingestion.pseudonym_key import load_or_create_key
from tumorflow.ingestion.pseudonyms import Pseudonyms
from tumorflow.params import IngestParams
from tumorflow.progress import track
from tumorflow.tracker import Tracker


def run(
    params: IngestParams, *, source: str, data_hash: str, key_id: str, dataset: Path, tracker: Tracker
) -> str:
    """Returns an empty string after writing `dataset` from the files below `source`.

    Raises:
        ParameterError: the pseudonym key is weak, or another one than `key_id` names.
        SourceError: source or labels are missing, unreadable or contradictory, or no slice can be used.
        DataError: more files were refused than `max_quarantined_fraction` allows.
    """
    import pyarrow.parquet

    pseudonyms = Pseudonyms(_load_key(key_id))
    root = Path(source)
    files = sources.list_files(root)
    labels, label_path = _find_labels(root, params)
    candidates = [file for file in files if not file.is_sidecar and file.path != label_path]
    if not candidates:
        raise SourceError(
            f"The source holds DICOM files or images. Received: {len(files)} files, none of them such. "
            "Check --source."
        )
    kind = sources.detect_kind(candidates)
    (dataset / "slices").mkdir()
    collection = Collection(params, labels, pseudonyms, dataset)
    for file in track(candidates, len(candidates), "ingest", "files"):
        collection.add(file, kind)
    rows, refusals = collection.finish()

    _check_outcome(params, len(candidates), len(rows), refusals)
    classes = {str(row.values["label"]) for row in rows} - {""}
    _check_labels(labels, kind, classes, collection.used_label_rows)
    pyarrow.parquet.write_table(build_manifest(rows), dataset / "manifest.parquet")
    write_text(dataset / "quarantine.csv", quarantine.to_csv(refusals))
    summary = {
        "kind": kind,
        "data_hash": data_hash,
        "files": len(files),
        "ignored": len(files) - len(candidates),
        "slices": len(rows),
        "quarantined": len(refusals),
        "classes": [label for label in params.classes if label in classes],
    }
    write_json(dataset / "source.json", summary)
    tracker.log_dataset("source", digest=data_hash, source=kind, context="ingestion")
    tracker.log_params({"source_kind": kind, "pseudonym_key_id": fingerprint(pseudonyms.key)})
    counts = {name: len_ for name, len_ in summary.items() if isinstance(len_, int)}
    by_rule = {f"quarantined_{rule}": n for rule, n in quarantine.count_rules(refusals).items()}
    tracker.log_metrics({name: float(value) for name, value in (counts | by_rule).items()})
    return ""


def _load_key(expected_id: str) -> bytes:
    key = load_or_create_key()
    if expected_id and fingerprint(key) != expected_id:
        raise ParameterError(
            f"The pseudonym key is the one that key_id names. Received: key_id {expected_id}, and a key with "
            f"fingerprint {fingerprint(key)}. Set TUMORFLOW_PSEUDONYM_KEY to the project's key."
        )
    return key


def _find_labels(root: Path, params: IngestParams) -> tuple[LabelFile | None, Path | None]:
    path = root / (params.labels or "labels.csv")
    if not params.labels and not path.is_file():
        return None, None
    return read_labels(path, params.classes, params.class_folders), path


def _check_outcome(
    params: IngestParams, candidates: int, slices: int, refusals: list[quarantine.Refusal]
) -> None:
    if slices == 0:
        raise SourceError(
            f"The source holds at least one usable slice. Received: {candidates} files, all refused "
            f"({quarantine.describe_rules(refusals)}). Check --source and the export."
        )
    refused = len({row.position for row in refusals})
    if refused > params.max_quarantined_fraction * candidates:
        raise DataError(
            f"At most {params.max_quarantined_fraction:.0%} of the files may be refused. Received: {refused} "
            f"of {candidates} ({quarantine.describe_rules(refusals)}). Mend the source, or raise "
            "ingest.max_quarantined_fraction."
        )


def _check_labels(
    labels: LabelFile | None, kind: sources.Kind, classes: set[str], used_rows: frozenset[int]
) -> None:
    if labels is not None and not used_rows:
        raise SourceError(
            f"The label file speaks of slices in the source. Received: {len(labels.entries)} rows, of which "
            "none fits. Compare its paths or patient IDs with the source."
        )
    # DICOM without labels is kept, for validation to judge; images have nothing else to go by
    if labels is None and kind == "images" and not classes:
        raise SourceError(
            "A source of images has one folder a class, or a label file. Received: no such folder. "
            "Map folder names in ingest.class_folders (the preset iqoth_nccd does so for IQ-OTH/NCCD)."
        )
