"""Export: TFLite files that answer as Keras does, and a registered version with all its evidence."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tumorflow import membership
from tumorflow.errors import ParameterError
from tumorflow.export import conversion, overview, parity
from tumorflow.export.bias_correction import correct_bias
from tumorflow.export.description import Facts, describe
from tumorflow.files import hash_file, read_json, write_bytes, write_json
from tumorflow.lineage import RECORD, combine_params_hashes, hash_content, hash_params
from tumorflow.params import ExportParams
from tumorflow.progress import track
from tumorflow.tensorflow_runtime import configure
from tumorflow.tracker import ModelRegistration, RegisteredVersion, Tracker

if TYPE_CHECKING:
    import pandas as pd

REVIEWERS_ALIAS = "champion"


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

    convertible = {"float32": network}
    if "dynamic" in params.variants:
        calibration = read_training_slices(tensors, params.calibration_slices)
        convertible["dynamic"] = correct_bias(network, calibration)

    parities: dict[str, parity.Parity] = {}
    sizes: dict[str, int] = {}
    (release / "tflite").mkdir()
    for variant in params.variants:
        flatbuffer = conversion.convert(convertible[variant], variant)
        counted = track(slices, len(slices), f"export: {variant} against Keras", "slices")
        parities[variant] = parity.compare(expected, parity.predict_with_tflite(flatbuffer, counted))
        sizes[variant] = len(flatbuffer)
        kept = all(rule["passed"] for rule in parity.judge(variant, parities[variant], params))
        if kept or variant in params.required_variants:
            write_bytes(release / "tflite" / f"model_{variant}.tflite", flatbuffer)
        else:
            print(
                f"note: TFLite {variant} misses parity with Keras and is left out of the release", flush=True
            )
    figures = parity.as_json(parities, sizes)
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


def read_training_slices(tensors: Path, count: int) -> list[npt.NDArray[np.uint8]]:
    """Returns the first `count` training slices; they lie in the shards in random order."""
    import pandas as pd

    index = pd.read_parquet(tensors / "index.parquet", columns=["shard", "row", "split"])
    return list(ShardSlices(tensors, index[index["split"] == "train"].head(count)))


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
