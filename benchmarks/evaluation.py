"""COCO's keypoint evaluation by faster-coco-eval beside pycocotools on the same objects, and a bootstrap resample.

Both are timed from parsed COCO mappings to the ten figures, in turn, in this process. The figures must agree.

    python -m benchmarks.evaluation [--instances 50000] [--keypoints 13] [--times 3]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from keypipe.dataset.coco import CocoAnnotation, CocoCategory, CocoFile, CocoImage
from keypipe.evaluation.average_precision import average_precision, match_by_oks
from keypipe.evaluation.bootstrap import draw_weights
from keypipe.evaluation.matching import Detection

OBJECTS_PER_IMAGE = 4
SIGMA = 0.1


def draw(n_instances: int, n_keypoints: int, seed: int = 0) -> tuple[CocoFile, list[Detection]]:
    """Draw a truth, and detections as a fair model gives them: most objects, off by some pixels, and false ones."""
    rng = np.random.default_rng(seed)
    category = CocoCategory(1, "object", [f"k{index}" for index in range(n_keypoints)])
    truth, detections = CocoFile([], [], [category]), list[Detection]()
    for number in range(n_instances):
        image_id = number // OBJECTS_PER_IMAGE + 1
        if number % OBJECTS_PER_IMAGE == 0:
            truth.images.append(CocoImage(image_id, f"raw/{image_id}.jpg", 640, 480))
        left, top, width, height = (*rng.uniform(0, 250, 2), *rng.uniform(40, 220, 2))
        points = np.column_stack(
            [
                rng.uniform(left, left + width, n_keypoints),
                rng.uniform(top, top + height, n_keypoints),
                rng.integers(0, 3, n_keypoints),
            ]
        )
        points[points[:, 2] == 0] = 0
        box = (float(left), float(top), float(width), float(height))
        labelled = int((points[:, 2] > 0).sum())
        area = 0.53 * box[2] * box[3]
        flat = points.ravel().tolist()
        truth.annotations.append(CocoAnnotation(number + 1, image_id, 1, box, area, flat, labelled))
        for score, noise in ((rng.uniform(0.3, 1), rng.gamma(2, 4)), (rng.uniform(0, 0.3), 40.0)):
            found = points + rng.normal(0, noise, points.shape)
            found[:, 2] = rng.random(n_keypoints)
            detections.append(Detection(image_id, 1, float(score), box, found.ravel().tolist()))
    return truth, detections


def by_faster_coco_eval(document: dict[str, Any], results: list[dict[str, Any]], sigmas: list[float]) -> list[float]:
    """Evaluate as ``keypipe.evaluation.evaluation`` does."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(document)
    run = COCOeval_faster(truth, truth.loadRes(results), iouType="keypoints", kpt_oks_sigmas=sigmas)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return [float(value) for value in run.stats[:10]]


def by_pycocotools(document: dict[str, Any], results: list[dict[str, Any]], sigmas: list[float]) -> list[float]:
    """Evaluate as COCO's own program does."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = document
    truth.createIndex()
    run = COCOeval(truth, truth.loadRes(results), "keypoints")
    run.params.kpt_oks_sigmas = np.array(sigmas)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return [float(value) for value in run.stats]


class Timing(NamedTuple):
    """Wall time, and processor time over all threads, which other work on the machine disturbs less; seconds."""

    wall: float
    cpu: float


def timed(
    evaluate: Callable[..., list[float]], truth: CocoFile, detections: list[Detection]
) -> tuple[Timing, list[float]]:
    """Return the times and the figures; each run gets values of its own, which both programs write into."""
    document = msgspec.to_builtins(truth)
    results = [msgspec.to_builtins(item) for item in detections]
    sigmas = [SIGMA] * len(truth.categories[0].keypoints)
    started = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        stats = evaluate(document, results, sigmas)
    return Timing(time.perf_counter() - started[0], time.process_time() - started[1]), stats


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=50_000)
    parser.add_argument("--keypoints", type=int, default=13)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    for evaluate in (by_faster_coco_eval, by_pycocotools):  # imports and first calls are not what is measured
        timed(evaluate, *draw(40, options.keypoints))
    truth, detections = draw(options.instances, options.keypoints)
    pairs = []
    for _ in range(options.times):
        ours, stats = timed(by_faster_coco_eval, truth, detections)
        theirs, expected = timed(by_pycocotools, truth, detections)
        np.testing.assert_allclose(stats, expected, atol=1e-6)
        pairs.append((ours, theirs))
    print(
        f"{options.instances} objects, {len(detections)} detections, {options.keypoints} keypoints,"
        f" {options.times} pairs"
    )
    for kind in Timing._fields:
        first, second = ([getattr(pair[index], kind) for pair in pairs] for index in (0, 1))
        ratios = sorted(ours / theirs for ours, theirs in zip(first, second, strict=True))
        print(
            f"{kind:5} faster-coco-eval {statistics.median(first):8.2f} s,"
            f" pycocotools {statistics.median(second):8.2f} s,"
            f" ratio {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )
    print("figures equal to 1e-6")

    sigmas = {"object": np.full(options.keypoints, SIGMA)}
    started = time.perf_counter()
    matched = match_by_oks(truth, detections, sigmas, 0.53)["object"]
    matching = time.perf_counter() - started
    units = [image.file_name for image in truth.images]
    draws = list(draw_weights(units, 20, seed=0))
    started = time.perf_counter()
    for weights in draws:
        average_precision(matched, weights)
    resample = (time.perf_counter() - started) / len(draws)
    print(f"bootstrap: matching once {matching:.2f} s, a resample {1000 * resample:.1f} ms")


if __name__ == "__main__":
    main()
