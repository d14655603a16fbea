"""The thin adapter to MLflow: tracked runs and the model registry."""

from tumorflow.tracking.runs import finish_job, track_step, tracking_uri

__all__ = ["finish_job", "track_step", "tracking_uri"]
