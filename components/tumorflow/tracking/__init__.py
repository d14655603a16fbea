"""The thin adapter to MLflow: tracked runs and the model registry."""

from tumorflow.tracking.registry import look_up_version
from tumorflow.tracking.runs import (
    default_tracking_uri,
    finish_job,
    track_step,
    tracking_uri,
    without_credentials,
)

__all__ = [
    "default_tracking_uri",
    "finish_job",
    "look_up_version",
    "track_step",
    "tracking_uri",
    "without_credentials",
]
