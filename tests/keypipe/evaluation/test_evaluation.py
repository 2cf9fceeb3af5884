from __future__ import annotations

import contextlib
import io
from typing import Any

import msgspec
import numpy as np
import pytest

from keypipe.dataset.coco import CocoAnnotation, CocoCategory, CocoFile, CocoImage
from keypipe.evaluation.evaluation import (
    Detection,
    describe_rule,
    evaluate,
    flatten_figures,
    flatten_rule,
)
from keypipe.evaluation.oks import AreaRule

COW = CocoCategory(1, "cow", ["nose", "tail", "ear"])
BIRD = CocoCategory(2, "bird", ["beak"])
SIGMAS = {"cow": np.array([0.1, 0.1, 0.1]), "bird": np.array([0.2])}


def make(n_images: int = 12, seed: int = 0, noise_px: float = 4.0) -> tuple[CocoFile, list[Detection]]:
    """Draw a truth and detections of it, some missed, some false."""
    rng = np.random.default_rng(seed)
    truth = CocoFile([], [], [COW, BIRD])
    detections: list[Detection] = []
    for image_id in range(1, n_images + 1):
        truth.images.append(CocoImage(image_id, f"raw/{image_id}.jpg", 640, 480))
        for _ in range(rng.integers(0, 4)):
            category = COW if rng.random() < 0.7 else BIRD
            left, top, width, height = (
                rng.uniform(0, 300),
                rng.uniform(0, 200),
                rng.uniform(20, 300),
                rng.uniform(20, 250),
            )
            points = np.column_stack(
                [
                    rng.uniform(left, left + width, len(category.keypoints)),
                    rng.uniform(top, top + height, len(category.keypoints)),
                    rng.integers(0, 3, len(category.keypoints)),
                ]
            )
            points[points[:, 2] == 0] = 0
            labelled = int((points[:, 2] > 0).sum())
            annotation = CocoAnnotation(
                len(truth.annotations) + 1, image_id, category.id, (left, top, width, height), width * height,
                points.ravel().tolist(), labelled,
            )  # fmt: skip
            truth.annotations.append(annotation)
            if rng.random() < 0.85:
                found = points + rng.normal(0, noise_px, points.shape)
                found[:, 2] = rng.random(len(found))
                detections.append(
                    Detection(image_id, category.id, float(rng.random()), annotation.bbox, found.ravel().tolist())
                )
        false = rng.uniform(0, 400, (len(COW.keypoints), 3))
        detections.append(Detection(image_id, 1, float(rng.random() / 2), (0, 0, 50, 50), false.ravel().tolist()))
    return truth, detections


def by_pycocotools(truth: CocoFile, detections: list[Detection], category: CocoCategory, factor: float) -> list[float]:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    document: dict[str, Any] = msgspec.to_builtins(truth)
    document["annotations"] = [
        {**item, "area": factor * item["area"]}
        for item in document["annotations"]
        if item["category_id"] == category.id
    ]
    results = [msgspec.to_builtins(item) for item in detections if item.category_id == category.id]
    with contextlib.redirect_stdout(io.StringIO()):
        ground = coco.COCO()
        ground.dataset = document
        ground.createIndex()
        run = cocoeval.COCOeval(ground, ground.loadRes(results), "keypoints")
        run.params.kpt_oks_sigmas = SIGMAS[category.name]
        run.params.catIds = [category.id]
        run.evaluate()
        run.accumulate()
        run.summarize()
    return list(run.stats)


@pytest.mark.parametrize("rule", ["box", "coco"])
@pytest.mark.parametrize("seed", range(4))
def test_the_figures_are_pycocotools(seed: int, rule: AreaRule) -> None:
    truth, detections = make(seed=seed)
    if rule == "coco":  # areas as masks have them, smaller than the box by another share each
        for annotation, share in zip(truth.annotations, np.random.default_rng(seed).uniform(0.2, 1, 99), strict=False):
            annotation.area *= float(share)
    evaluation = evaluate(truth, detections, SIGMAS, area_rule=rule)
    for category in (COW, BIRD):
        expected = by_pycocotools(truth, detections, category, 0.53 if rule == "box" else 1.0)
        got = list(evaluation.oks_by_class[category.name].values())
        assert [(-1 if value is None else value) for value in got] == pytest.approx(expected, abs=1e-6)
    values = [figures["AP50"] for figures in evaluation.oks_by_class.values()]
    assert evaluation.oks["AP50"] == pytest.approx(np.mean([value for value in values if value is not None]))


def perfect(truth: CocoFile) -> list[Detection]:
    return [Detection(a.image_id, a.category_id, 0.9, a.bbox, [*map(float, a.keypoints)]) for a in truth.annotations]


def test_the_truth_itself_is_perfect() -> None:
    truth, _ = make()
    truth.annotations = [item for item in truth.annotations if item.num_keypoints]  # COCO ignores the others
    evaluation = evaluate(truth, perfect(truth), SIGMAS)
    assert evaluation.oks["AP"] == pytest.approx(1)
    assert evaluation.within == 1
    assert evaluation.detected == 1
    assert evaluation.median_diagonals == 0


def test_nothing_found_is_zero_and_nothing_there_is_none() -> None:
    truth, _ = make()
    nothing = evaluate(truth, [], SIGMAS)
    assert nothing.oks["AP"] == 0
    assert nothing.within == 0
    assert nothing.median_diagonals is None
    empty = evaluate(CocoFile(truth.images, [], [COW, BIRD]), perfect(truth), SIGMAS)
    assert empty.oks["AP"] is None
    assert empty.within is None
    assert "oks_AP" not in flatten_figures(empty)


def test_more_objects_on_an_image_than_coco_counts() -> None:
    truth = CocoFile([CocoImage(1, "raw/1.jpg", 1000, 1000)], [], [BIRD])
    for index in range(30):
        box = (30.0 * index, 0.0, 20.0, 20.0)
        truth.annotations.append(CocoAnnotation(index + 1, 1, 2, box, 400.0, [30.0 * index + 5, 5, 2], 1))
    evaluation = evaluate(truth, perfect(truth), {"bird": np.array([0.1])})
    assert evaluation.max_detections == 30
    assert evaluation.oks["AR"] == pytest.approx(1)


def test_keypoint_errors() -> None:
    box = (0.0, 0.0, 30.0, 40.0)  # diagonal 50
    truth = CocoFile(
        [CocoImage(1, "raw/1.jpg", 100, 100)],
        [
            CocoAnnotation(1, 1, 1, box, 1200.0, [10, 10, 2, 20, 20, 1, 0, 0, 0], 2),
            CocoAnnotation(2, 1, 1, (60, 60, 30, 30), 900.0, [70, 70, 2, 0, 0, 0, 0, 0, 0], 1),
        ],
        [COW],
    )
    found = [
        Detection(1, 1, 0.8, box, [13, 14, 0.9, 20, 30, 0.9, 1, 1, 0.1]),
        Detection(1, 1, 0.1, (60, 60, 30, 30), [70, 70, 1, 0, 0, 0, 0, 0, 0]),
    ]
    evaluation = evaluate(truth, found, SIGMAS, conf=0.25)
    nose, tail, ear = evaluation.keypoints
    assert (nose.labelled, nose.found, nose.median_px, nose.median_diagonals, nose.within) == (2, 1, 5.0, 0.1, 0.5)
    assert (tail.labelled, tail.median_px, tail.within) == (1, 10.0, 0.0)
    assert (ear.labelled, ear.found, ear.median_px, ear.within) == (0, 0, None, None)
    assert evaluation.within == pytest.approx(1 / 3)
    assert evaluation.detected == 0.5


def test_the_rule_stands_beside_the_figures() -> None:
    truth, detections = make()
    evaluation = evaluate(truth, detections, SIGMAS)
    assert describe_rule(evaluation) == "sigma 0.1 to 0.2 by keypoint, area 0.53 of the box"
    assert flatten_rule(evaluation) == {
        "sigma_min": 0.1, "sigma_max": 0.2, "area_share_of_box": 0.53, "max_detections": 20.0, "conf": 0.25,
    }  # fmt: skip
    one = evaluate(CocoFile(truth.images, [], [BIRD]), [], {"bird": np.array([0.05])}, area_rule="coco")
    assert describe_rule(one) == "sigma 0.05, area as annotated"
    assert flatten_rule(one)["area_as_annotated"] == 1.0
