"""The thin adapter to MLflow: tracked runs and the model registry."""

from tumorflow.tracking.connection import default_tracking_uri, tracking_uri, without_credentials
from tumorflow.tracking.jobs import fetch_summary, find_failure, find_finished_steps, finish_job, sign_job
from tumorflow.tracking.registry import look_up_champion, look_up_version
from tumorflow.tracking.runs import track_step

__all__ = [
    "default_tracking_uri",
    "fetch_summary",
    "find_failure",
    "find_finished_steps",
    "finish_job",
    "look_up_champion",
    "look_up_version",
    "sign_job",
    "track_step",
    "tracking_uri",
    "without_credentials",
]
