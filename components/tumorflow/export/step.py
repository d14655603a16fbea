"""Export: TFLite files that answer as Keras does, and a registered version with all its evidence."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumorflow.errors import ParameterError
from tumorflow.export import (
    comparison,
    conversion,
    metadata,
    overview,
    parity,
    speed,
    tflite_metadata,
    variants,
)
from tumorflow.export.inputs import ShardSlices, draw_representative, read_index, read_test_slices, refer
from tumorflow.export.registration import register
from tumorflow.files import read_json, write_bytes, write_json, write_text
from tumorflow.lineage import RECORD
from tumorflow.litert import Classifier, classify_all
from tumorflow.metrics import roc_aucs
from tumorflow.model_file import ModelFile, pack
from tumorflow.params import ExportParams
from tumorflow.progress import track
from tumorflow.tensorflow_runtime import configure
from tumorflow.tracker import Tracker

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
    reference, slices = read_test_slices(tensors, evaluation, params)

    index = read_index(tensors)
    drawn = draw_representative(index, "train", params.calibration_slices)
    representative = list(ShardSlices(tensors, drawn))
    rows = draw_representative(index, "validation", VALIDATION_SLICES)
    rows = rows if len(rows) else drawn
    validation = list(ShardSlices(tensors, rows))
    answers = refer(rows, predict(network, validation), params)
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
        return parity.compare(answers, classify_all(flatbuffer, counted), params)

    measured: dict[str, comparison.Measured] = {}
    (release / "tflite").mkdir()
    for name in params.variants:
        built = variants.build(name, network, representative, partial(check, name), params)
        tensors_held = Classifier(built.flatbuffer).tensors
        named = ModelFile({**about.about, "variant": name, "tensors": tensors_held}, about.arrays)
        content = pack(tflite_metadata.attach(built.flatbuffer, named.about), named)
        counted = track(slices, len(slices), f"export: {name} against Keras", "slices")
        probabilities = classify_all(content, counted)
        found = parity.compare(reference, probabilities, params)
        rules = parity.judge(name, found, params)
        file = release / "tflite" / f"model_{name}.tflite"
        write_bytes(file, content)
        kept = all(rule["passed"] for rule in rules) or name in params.required_variants
        measured[name] = comparison.Measured(
            parity=found,
            size_bytes=file.stat().st_size,
            float_nodes=built.float_nodes,
            auc=float(roc_aucs(reference.truth, probabilities, np.ones((1, len(slices))))[0].mean()),
            speeds={threads: speed.measure(file, threads) for threads in THREADS},
            kept=kept,
            rules=rules,
        )
        if not kept:
            file.unlink()
            print(f"note: TFLite {name} misses parity with Keras and is left out of the release", flush=True)
    conversion.save(network, release / "saved_model")
    figures = write_comparison(release, measured, params)

    required = [dict(rule) for variant in params.required_variants for rule in measured[variant].rules]
    decision = decide(read_json(evaluation / "decision.json"), required)
    write_json(release / "decision.json", decision)
    tracker.log_metrics(
        {f"{variant}_label_agreement": each.parity.label_agreement for variant, each in measured.items()}
    )

    version = register(
        params,
        tensors,
        model,
        evaluation,
        release,
        decision,
        alias,
        slices[0],
        reference.probabilities[0],
        tracker,
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


def write_comparison(
    release: Path, measured: Mapping[str, comparison.Measured], params: ExportParams
) -> dict[str, Any]:
    """Returns what is told of the variants, after writing `parity.json`, `speed.json` and the page."""
    about = {
        name: {"size_bytes": each.size_bytes, "float_nodes": each.float_nodes, "in_release": each.kept}
        for name, each in measured.items()
    }
    figures = parity.as_json({name: each.parity for name, each in measured.items()}, about)
    speeds = {
        name: {str(threads): asdict(found) for threads, found in each.speeds.items()}
        for name, each in measured.items()
    }
    write_json(release / "parity.json", figures)
    write_json(release / "speed.json", speeds)
    picture = comparison.draw_variants(measured)
    write_bytes(release / overview.VARIANTS, picture)
    write_text(release / "variants.html", comparison.render(measured, picture, params.classes))
    return {name: {**each, "speed": speeds[name]} for name, each in figures.items()}
