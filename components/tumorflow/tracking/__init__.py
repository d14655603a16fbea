"""The thin adapter to MLflow: tracked runs and the model registry."""

from tumorflow.tracking.runs import default_tracking_uri, finish_job, track_step, tracking_uri

__all__ = ["default_tracking_uri", "finish_job", "track_step", "tracking_uri"]
