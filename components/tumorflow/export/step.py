"""Export: TFLite files that answer as Keras does, and a registered version with all its evidence."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tumorflow import membership
from tumorflow.errors import ParameterError
from tumorflow.export import conversion, metadata, overview, parity, speed, variants
from tumorflow.export.description import Facts, describe
from tumorflow.files import hash_file, read_json, write_bytes, write_json
from tumorflow.lineage import RECORD, combine_params_hashes, hash_content, hash_params
from tumorflow.litert import classify_all
from tumorflow.model_file import ModelFile, pack
from tumorflow.params import ExportParams
from tumorflow.progress import track
from tumorflow.tensorflow_runtime import configure
from tumorflow.tracker import ModelRegistration, RegisteredVersion, Tracker

if TYPE_CHECKING:
    import pandas as pd

REVIEWERS_ALIAS = "champion"
THREADS = (1, 2)
VALIDATION_SLICES = 256


def run(
    params: ExportParams,
    *,
    tensors: Path,
    model: Path,
    evaluation: Path,
    release: Path,
    alias: str,
    registry: str,  # noqa: ARG001 - part of the cache key alone
    tracker: Tracker,
) -> str:
    """Returns the release as JSON: final decision, its rules, the registered version and the files.

    Raises:
        ParameterError: the alias is the one that only a reviewer may set.
    """
    if alias == REVIEWERS_ALIAS:
        raise ParameterError(
            f"A pipeline never sets the alias '{REVIEWERS_ALIAS}': a reviewer does. "
            f"Received: --alias {alias}. Use candidate."
        )
    keras = configure(params.seed)
    network = keras.models.load_model(model / "model.keras", compile=False)
    predictions, slices = read_test_slices(tensors, evaluation)
    expected = predictions[[f"probability_{name}" for name in params.classes]].to_numpy(np.float64)

    index = read_index(tensors)
    representative = draw_representative(tensors, index, "train", params.calibration_slices)
    validation = draw_representative(tensors, index, "validation", VALIDATION_SLICES) or representative
    answers = predict(network, validation)
    about = metadata.describe_file(
        params,
        preprocessing=read_json(tensors / "preprocessing.json"),
        lineage=read_json(evaluation / RECORD)["lineage"],
        thickness_mm=metadata.measure_thickness(index),
        head=conversion.read_head(network),
        distribution=metadata.describe_distribution(network, representative, validation),
    )

    def check(name: str, flatbuffer: bytes) -> parity.Parity:
        counted = track(validation, len(validation), f"export: {name} tried", "slices")
        return parity.compare(answers, classify_all(flatbuffer, counted))

    parities: dict[str, parity.Parity] = {}
    measured: dict[str, dict[str, Any]] = {}
    (release / "tflite").mkdir()
    for name in params.variants:
        built = variants.build(name, network, representative, partial(check, name), params)
        counted = track(slices, len(slices), f"export: {name} against Keras", "slices")
        parities[name] = parity.compare(expected, classify_all(built.flatbuffer, counted))
        file = release / "tflite" / f"model_{name}.tflite"
        named = ModelFile({**about.about, "variant": name}, about.arrays)
        write_bytes(file, pack(built.flatbuffer, named))
        measured[name] = {
            "size_bytes": file.stat().st_size,
            "float_nodes": built.float_nodes,
            "speed": {str(threads): asdict(speed.measure(file, threads)) for threads in THREADS},
        }
        kept = all(rule["passed"] for rule in parity.judge(name, parities[name], params))
        if not kept and name not in params.required_variants:
            file.unlink()
            print(f"note: TFLite {name} misses parity with Keras and is left out of the release", flush=True)
    figures = parity.as_json(parities, measured)
    write_json(release / "parity.json", figures)

    rules = [
        rule
        for variant in params.required_variants
        for rule in parity.judge(variant, parities[variant], params)
    ]
    decision = decide(read_json(evaluation / "decision.json"), rules)
    write_json(release / "decision.json", decision)
    tracker.log_metrics(
        {f"{variant}_label_agreement": each.label_agreement for variant, each in parities.items()}
    )

    version = _register(
        params, tensors, model, evaluation, release, decision, alias, slices[0], expected[0], tracker
    )
    registered = {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "run_id": version.run_id,
    }
    write_json(release / "model.json", registered)
    return json.dumps({**decision, "model": registered, "parity": figures})


def decide(decision: dict[str, Any], parity_rules: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the gate's decision with the parity rules added: accepted only if every rule passed."""
    rules = [*decision["rules"], *parity_rules]
    accepted = decision["decision"] == "accepted" and all(rule["passed"] for rule in rules)
    return {**decision, "decision": "accepted" if accepted else "rejected", "rules": rules}


def predict(network: Any, slices: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float64]:
    """Returns a Keras model's probabilities of slices, (slices, classes), one slice at a time."""
    answers = [network.predict_on_batch(pixels[np.newaxis].astype(np.float32))[0] for pixels in slices]
    return np.array(answers, dtype=np.float64)


class ShardSlices:
    """Slices read from their shards one at a time, in the order of `rows`."""

    def __init__(self, tensors: Path, rows: "pd.DataFrame") -> None:
        self._tensors = tensors
        self._places = list(zip(rows["shard"], rows["row"], strict=True))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, position: int) -> npt.NDArray[np.uint8]:
        shard, row = self._places[position]
        return np.array(np.load(self._tensors / "shards" / shard, mmap_mode="r")[row])

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        return (self[position] for position in range(len(self)))


def read_test_slices(tensors: Path, evaluation: Path) -> tuple["pd.DataFrame", ShardSlices]:
    """Returns Keras' predictions of the test set, and its slices in the same order."""
    import pandas as pd

    predictions = pd.read_parquet(evaluation / "predictions.parquet")
    index = pd.read_parquet(tensors / "index.parquet", columns=["slice_id", "shard", "row", "split"])
    index = index[index["split"] == "test"]
    rows = predictions[["slice_id"]].merge(index, on="slice_id", how="left", validate="one_to_one")
    return predictions, ShardSlices(tensors, rows)


def read_index(tensors: Path) -> "pd.DataFrame":
    """Returns where each slice lies, its class, group, split and thickness."""
    import pandas as pd

    columns = ["shard", "row", "split", "label", "group", "slice_thickness_mm"]
    return pd.read_parquet(tensors / "index.parquet", columns=columns)


def draw_representative(
    tensors: Path, index: "pd.DataFrame", split: str, count: int
) -> list[npt.NDArray[np.uint8]]:
    """Returns at most `count` slices of a split: each class in turn, and in it each group in turn.

    The rows of `index` lie in random order, so that the first slice of a group is any of its slices.
    """
    rows = index[index["split"] == split].copy()
    rows["of_group"] = rows.groupby(["label", "group"]).cumcount()
    rows = rows.sort_values("of_group", kind="stable")
    rows["of_class"] = rows.groupby("label").cumcount()
    return list(ShardSlices(tensors, rows.sort_values(["of_class", "label"], kind="stable").head(count)))


def _register(
    params: ExportParams,
    tensors: Path,
    model: Path,
    evaluation: Path,
    release: Path,
    decision: dict[str, Any],
    alias: str,
    pixels: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.float64],
    tracker: Tracker,
) -> RegisteredVersion:
    import pandas as pd

    accepted = decision["decision"] == "accepted"
    record = read_json(evaluation / RECORD)
    preprocessing = read_json(tensors / "preprocessing.json")
    tags = {
        "tumorflow.decision": decision["decision"],
        "tumorflow.intended_use": "research, not for clinical decisions",
        "tumorflow.data_hash": record["lineage"].get("data_hash", ""),
        "tumorflow.git_commit": record["git_commit"],
        "tumorflow.params_hash": combine_params_hashes(
            {**record["lineage"], "export": {"params_hash": hash_params(params.model_dump(mode="json"))}}
        ),
        "tumorflow.seed": str(params.seed),
        "tumorflow.split_hash": preprocessing["split_hash"],
        "tumorflow.report_hash": hash_file(evaluation / "report.html"),
        "tumorflow.decision_hash": hash_file(release / "decision.json"),
        "tumorflow.model_hash": record["lineage"]["train"]["content_hash"],
    }
    if image := record.get("image"):  # a process on its own has none, and an older record does not say
        tags["tumorflow.image"] = image
    if decision["champion"]:
        tags["tumorflow.champion"] = decision["champion"]
        tags["tumorflow.not_judged"] = ", ".join(rule["name"] for rule in decision["not_judged"]) or "none"
    members = membership.describe_members(
        pd.read_parquet(tensors / "index.parquet", columns=["split", *membership.KINDS])
    ).to_parquet(index=False)
    with tempfile.TemporaryDirectory(prefix="tumorflow-evidence-") as folder:
        evidence = Path(folder)
        for source, name in ((evaluation, "evaluation"), (release, "release")):
            shutil.copytree(source, evidence / name, ignore=shutil.ignore_patterns(RECORD))
        write_json(evidence / "lineage.json", record["lineage"])
        shutil.copy(tensors / "preprocessing.json", evidence / "preprocessing.json")
        shutil.copy(model / "training.json", evidence / "training.json")
        write_bytes(evidence / membership.FILE, members)
        picture = overview.draw_overview(evaluation / "plots")
        if picture:
            write_bytes(evidence / overview.FILE, picture)
        facts = Facts(
            name=params.registered_model,
            classes=params.classes,
            decision=decision,
            metrics=read_json(evaluation / "metrics.json"),
            tags=tags,
            picture=f"evidence/{overview.FILE}" if picture else "",
        )
        return tracker.register_model(
            ModelRegistration(
                name=params.registered_model,
                keras_model=model / "model.keras",
                input_example=pixels[np.newaxis].astype(np.float32),
                output_example=probabilities[np.newaxis].astype(np.float32),
                evidence={"evidence": evidence},
                tags=tags,
                fingerprint=hash_content(evidence),
                alias=alias if accepted else "",
                describe=partial(describe, facts),
            )
        )
