"""What a prediction server counts, in Prometheus' words."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from keypipe.serving.model import ServedResult
from keypipe.serving.queue import BoundedQueue

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Counters of one server, in a registry of their own."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, queue: BoundedQueue) -> None:
        """Start at zero; the length of the queue is read when it is asked for."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "keypipe_requests", "Answers to POST /predict by status.", ["status"], registry=self._registry
        )
        self._objects = Counter("keypipe_objects", "Objects found by class.", ["class_name"], registry=self._registry)
        self._seconds = Histogram(
            "keypipe_seconds",
            "Seconds that an image waited, was decoded, was predicted on.",
            ["step"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        Gauge("keypipe_places", "Requests held at most.", registry=self._registry).set(queue.places)
        Gauge("keypipe_places_taken", "Requests held now.", registry=self._registry).set_function(lambda: queue.taken)

    def count(self, status: int) -> None:
        """An answer went out."""
        self._requests.labels(str(status)).inc()

    def note(self, result: ServedResult) -> None:
        """An image was predicted on."""
        for step in ("wait", "decode", "predict"):
            self._seconds.labels(step).observe(getattr(result.times_ms, step) / 1000)
        for found in result.predictions:
            self._objects.labels(found.class_name).inc()

    def format(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)
