"""What Prometheus is told. Labels have few values, and none comes from a request."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tumorflow.serving.answers import Prediction

BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)


class Measures:
    """Counts of one service."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tumorflow_requests", "Requests answered.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "tumorflow_request_seconds",
            "From the first byte to the answer.",
            ("route",),
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.working = Gauge(
            "tumorflow_requests_in_progress", "Predictions being worked on.", registry=self.registry
        )
        self.slices = Counter(
            "tumorflow_slices",
            "Slices answered, by the class that was predicted.",
            ("predicted",),
            registry=self.registry,
        )
        self.warned = Counter(
            "tumorflow_warned_slices", "Slices answered with a warning.", ("rule",), registry=self.registry
        )
        self.refused = Counter(
            "tumorflow_refused_files", "Files that were not used.", ("rule",), registry=self.registry
        )

    def count(self, prediction: Prediction) -> None:
        """Counts what one answer holds."""
        for opinion in prediction.slices:
            self.slices.labels(opinion.predicted).inc()
            for warned in opinion.warnings:
                self.warned.labels(warned.rule).inc()
        for refused in prediction.refused:
            self.refused.labels(refused.rule).inc()

    def render(self) -> bytes:
        """Returns all counts in Prometheus' text format."""
        return bytes(generate_latest(self.registry))
