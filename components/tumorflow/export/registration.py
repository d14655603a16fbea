"""The release as a version of the registered model, with all that a reviewer needs."""

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumorflow import membership
from tumorflow.export import overview
from tumorflow.export.description import Facts, describe
from tumorflow.files import hash_file, read_json, write_bytes, write_json
from tumorflow.lineage import RECORD, combine_params_hashes, hash_content, hash_params
from tumorflow.params import ExportParams
from tumorflow.tracker import ModelRegistration, RegisteredVersion, Tracker

AGAIN_OTHERWISE = (
    "release/speed.json",
    "release/variants.*",
    "overview.png",
    "release/saved_model/**/*",
    "release/saved_model/*",
)
"""Of the evidence: what a repeated step measures or writes otherwise, though the release is the same."""


def register(
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
    """Returns the version that holds this release with all its evidence; the same one is registered once."""
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
        picture = overview.draw_overview(evaluation / "plots", release)
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
                fingerprint=hash_content(evidence, AGAIN_OTHERWISE),
                alias=alias if accepted else "",
                describe=partial(describe, facts),
            )
        )
