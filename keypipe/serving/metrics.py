"""What a prediction server counts, in Prometheus' words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from keypipe.serving.following.in_use import InUse
from keypipe.serving.model import ServedResult
from keypipe.serving.queue import BoundedQueue
from keypipe.serving.recording import Recorder
from keypipe.serving.shadow.shadow import BOUNDS, Shadow

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Counters of one server, in a registry of their own."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(
        self, queue: BoundedQueue, in_use: InUse, shadow: Shadow | None = None, recorder: Recorder | None = None
    ) -> None:
        """Start at zero; what the queue and the model are is read when it is asked for."""
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
        self._images = Counter("keypipe_images", "Images predicted on by model.", ["model"], registry=self._registry)
        self._registry.register(_OfTheModel(in_use))
        if shadow:
            self._registry.register(_OfTheShadow(shadow))
        if recorder:
            self._registry.register(_OfTheLog(recorder))

    def count(self, status: int) -> None:
        """An answer went out."""
        self._requests.labels(str(status)).inc()

    def note(self, result: ServedResult) -> None:
        """An image was predicted on."""
        for step in ("wait", "decode", "predict"):
            self._seconds.labels(step).observe(getattr(result.times_ms, step) / 1000)
        self._images.labels(result.model.path).inc()
        for found in result.predictions:
            self._objects.labels(found.class_name).inc()

    def format(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _OfTheModel(Collector):
    """Which model answers, and how it stands with the registry."""

    def __init__(self, in_use: InUse) -> None:
        self._in_use = in_use

    def collect(self) -> Iterator[Metric]:
        """Read it off."""
        model, following = self._in_use.model, self._in_use.following
        info = GaugeMetricFamily("keypipe_model_info", "The model in use.", labels=["model", "sha256", "alias"])
        info.add_metric([model.stamp.path, model.stamp.sha256, model.registered.alias if model.registered else ""], 1)
        yield info
        yield GaugeMetricFamily("keypipe_model_since_timestamp_seconds", "When it was loaded.", value=model.since)
        if following is None:
            return
        yield GaugeMetricFamily(
            "keypipe_model_behind",
            "1 where the version that is meant could not be put into use.",
            bool(following.problem),
        )
        yield GaugeMetricFamily("keypipe_registry_up", "1 where the registry answers.", not following.away)
        yield GaugeMetricFamily(
            "keypipe_model_from_cache",
            "1 where the registry has not answered since the start, and what was in use here last goes on.",
            following.from_cache,
        )
        yield GaugeMetricFamily(
            "keypipe_registry_answered_timestamp_seconds", "When it answered last.", following.answered
        )
        yield CounterMetricFamily("keypipe_model_switches", "Versions put into use.", following.switches)
        yield CounterMetricFamily(
            "keypipe_model_switch_failures", "Tries to put a version into use that failed.", following.failures
        )


class _OfTheLog(Collector):
    """What became of images for the prediction log."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def collect(self) -> Iterator[Metric]:
        """Read it off."""
        state = self._recorder.now()
        images = CounterMetricFamily("keypipe_log_images", "Images for the prediction log.", labels=["outcome"])
        for outcome in ("logged", "dropped", "failed"):
            images.add_metric([outcome], getattr(state, outcome))
        yield images
        yield GaugeMetricFamily("keypipe_log_up", "1 where the log can be written.", not state.problem)


class _OfTheShadow(Collector):
    """How far the challenger is from the model in use."""

    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow

    def collect(self) -> Iterator[Metric]:
        """Read it off."""
        state = self._shadow.now()
        up = GaugeMetricFamily("keypipe_shadow_up", "1 where a challenger is asked as well.", labels=["model"])
        up.add_metric([state.version], bool(state.version))
        yield up
        images = CounterMetricFamily("keypipe_shadow_images", "Images for the challenger.", labels=["outcome"])
        for outcome in ("compared", "dropped", "failed"):
            images.add_metric([outcome], getattr(state, outcome))
        yield images
        objects = CounterMetricFamily("keypipe_shadow_objects", "Objects found by both, or one.", labels=["found_by"])
        objects.add_metric(["both"], state.matched)
        objects.add_metric(["one"], state.unmatched)
        yield objects
        distances = HistogramMetricFamily(
            "keypipe_shadow_keypoint_diagonals",
            "Median and largest distance of an image's keypoints between the models, box diagonals.",
            labels=["of"],
        )
        for name, counts, total in (
            ("median", state.medians, state.median_sum),
            ("largest", state.largest, state.largest_sum),
        ):
            bounds = [*map(str, BOUNDS), "+Inf"]
            buckets = list(zip(bounds, map(float, itertools.accumulate(counts)), strict=True))
            distances.add_metric([name], buckets, total)
        yield distances
