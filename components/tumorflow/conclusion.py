"""How a pipeline run ends: its summary, and its end in MLflow.

These run in the pipeline beside the steps, and know of them only what the release says. So a run is
summed up the same on a laptop and on a cluster, where nobody downloads artifacts to do it.
"""

import json
import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tumorflow.chain import STEPS
from tumorflow.errors import TumorflowError, UsageError
from tumorflow.execution import JOB_VARIABLE, told
from tumorflow.files import read_json, write_json
from tumorflow.lineage import RECORD, combine_params_hashes
from tumorflow.tracker import RegisteredVersion

NOTICE = "For research, not for clinical decisions."
SUMMARY = "summary.json"
SUCCEEDED = ("SUCCEEDED", "COMPLETE", "CACHED")
"""How an exit handler hears that all went well: from kfp's local runner, and from Kubeflow itself."""
HALTED = "halted"
"""The verdict on a run that trained nothing, since too little was new."""


def describe_release(
    returned: str, *, release: str | Path, uri: str, evaluation: str | Path, tensors: str | Path
) -> str:
    """Returns a release as JSON with all that a summary says, so that nothing else need be read for one.

    Args:
        returned: what the step `export` returned.
        release: its folder.
        uri: where the folder is kept.
        evaluation: folder of the evaluation.
        tensors: folder of the tensors.
    """
    measured = read_json(Path(evaluation) / "metrics.json")
    preprocessing = read_json(Path(tensors) / "preprocessing.json")
    record = read_json(Path(release) / RECORD)
    variants = sorted(path.stem for path in (Path(release) / "tflite").glob("*.tflite"))
    described = {
        **json.loads(returned),
        "uri": uri,
        "metrics": {name: entry for name, entry in measured.items() if name != "about"},
        "measured": measured["about"],
        **{name: preprocessing[name] for name in ("groups", "slices", "groups_from")},
        "variants": variants,
        "lineage": record["lineage"],
        "steps": record["steps"],
    }
    return json.dumps(described)


def summarise(
    release: Mapping[str, Any], executed: Collection[str], current: RegisteredVersion | None
) -> dict[str, Any]:
    """Returns summary.json's content for a run that ended with a release.

    Args:
        release: as `describe_release` tells it.
        executed: names of the steps that ran; the others came from the cache.
        current: the registered version as the registry knows it now; None: it is gone.
    """
    steps, lineage = release["steps"], release["lineage"]
    return {
        "status": "finished",
        "data_hash": lineage["data_hash"],
        "git_commit": steps["export"]["git_commit"],
        "params_hash": combine_params_hashes(lineage),
        "seed": steps["train"]["seed"],
        "decision": {
            "verdict": release["decision"],
            "rules": release["rules"],
            "not_judged": release["not_judged"],
        },
        "metrics": release["metrics"],
        "measured": release["measured"],
        "groups": release["groups"],
        "slices": release["slices"],
        "groups_from": release["groups_from"],
        "model": {**release["model"], "aliases": list(current.aliases) if current else []},
        "registered": current is not None,
        "artifacts": artifact_places(release),
        "steps": [
            {
                "name": step.name,
                "seconds": steps[step.name]["seconds"],
                "cached": step.name not in executed,
                "peak_memory_mb": steps[step.name]["peak_memory_mb"],
                "code_hash": steps[step.name]["code_hash"],
                "content_hash": steps[step.name]["content_hash"],
            }
            for step in STEPS
        ],
        "peak_memory_mb": max(entry["peak_memory_mb"] for entry in steps.values()),
        "notice": NOTICE,
    }


def artifact_places(release: Mapping[str, Any]) -> dict[str, str]:
    """Returns the places of what a person or a program may want to open."""
    places = {step.output: release["steps"][step.name]["uri"] for step in STEPS}
    places["release"] = release["uri"]
    files = {
        "manifest": f"{places['dataset']}/manifest.parquet",
        "quarantine": f"{places['dataset']}/quarantine.csv",
        "data_docs": f"{places['validation']}/data_docs/index.html",
        "keras_model": f"{places['model']}/model.keras",
        "report": f"{places['evaluation']}/report.html",
        "decision": f"{places['release']}/decision.json",
    }
    tflite = {name: f"{places['release']}/tflite/{name}.tflite" for name in release["variants"]}
    return {**places, **files, **tflite}


def resolve(source: str) -> tuple[str, str]:
    """Returns what a source names at this moment, and the version of its data."""
    from tumorflow.storage import resolve as resolve_source
    from tumorflow.tracking import track_step

    with (
        told("resolve", Path.cwd()),
        track_step("resolve", _require_job(), {}) as tracker,
        tempfile.TemporaryDirectory(prefix="tumorflow-hashes-") as state,
    ):
        resolved = resolve_source(source, Path(state))
        tracker.log_params({"data_hash": resolved.data_hash})
        return resolved.source, resolved.data_hash


def conclude(release: str, summary: str) -> None:
    """Writes the summary of a run that ended with a release, and ends the run in MLflow with it.

    Args:
        release: as `describe_release` tells it.
        summary: folder to write summary.json to.
    """
    from tumorflow.tracking import find_finished_steps, finish_job, look_up_version

    with told("conclude", Path(summary).parent):
        job = _require_job()
        described = json.loads(release)
        model = described["model"]
        current = look_up_version(model["name"], model["version"], model["run_id"])
        content = summarise(described, find_finished_steps(job), current)
        tags = {
            "tumorflow.decision": content["decision"]["verdict"],
            "tumorflow.data_hash": content["data_hash"],
        }
        finish_job(job, "FINISHED", metrics=_headlines(content["metrics"]), tags=tags, summary=content)
        _write(content, summary)


def halt(decision: str, summary: str) -> None:
    """Writes the summary of a run that trained nothing, and ends it in MLflow as finished.

    Args:
        decision: folder with the decision not to train.
        summary: folder to write summary.json to.
    """
    from tumorflow.tracking import finish_job

    with told("halt", Path(summary).parent):
        reasons = read_json(Path(decision) / "decision.json")
        content = {
            "status": "finished",
            "data_hash": reasons["data_hash"],
            "decision": {"verdict": HALTED, "rules": [], "not_judged": []},
            "retraining": reasons,
            "notice": NOTICE,
        }
        tags = {"tumorflow.decision": HALTED, "tumorflow.data_hash": content["data_hash"]}
        finish_job(_require_job(), "FINISHED", tags=tags, summary=content)
        _write(content, summary)


def finish(state: str) -> None:
    """Ends a run in MLflow, however it ended. One that was concluded has been ended with its summary.

    Args:
        state: how the steps ended, in Kubeflow's words.
    """
    with told("finish", Path.cwd()):
        if state in SUCCEEDED:
            return
        from tumorflow.tracking import fetch_summary, find_failure, finish_job

        job = _require_job()
        if fetch_summary(job) is not None:  # concluded, whatever the state is called
            return
        error = find_failure(job) or TumorflowError("A step died without a reason. Kubeflow has its log.")
        finish_job(job, "FAILED", tags={"tumorflow.error": str(error)}, summary=failed(error))


def failed(error: BaseException, data_hash: str = "", git_commit: str = "") -> dict[str, Any]:
    """Returns summary.json's content for a run that ended without a decision."""
    explained = isinstance(error, TumorflowError)
    return {
        "status": "interrupted" if isinstance(error, KeyboardInterrupt) else "failed",
        "error": {
            "message": str(error) if explained else type(error).__name__,
            "exit_code": error.exit_code if isinstance(error, TumorflowError) else 1,
        },
        "data_hash": data_hash,
        "git_commit": git_commit,
        "decision": None,
    }


def _headlines(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: entry["value"]
        for name, entry in metrics.items()
        if isinstance(entry, Mapping) and isinstance(entry.get("value"), float)
    }


def _require_job() -> str:
    job = os.environ.get(JOB_VARIABLE, "")
    if not job:
        raise UsageError(
            f"{JOB_VARIABLE} names the pipeline run. Received: nothing. "
            "Whoever starts the pipeline sets it; on Kubeflow it comes from the pod's label."
        )
    return job


def _write(content: Mapping[str, Any], summary: str) -> None:
    folder = Path(summary)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SUMMARY, content)
    print(f"summary written to {folder / SUMMARY}", flush=True)
