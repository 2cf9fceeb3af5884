from __future__ import annotations

from keypipe.dataset.coco import CocoAnnotation, CocoCategory, CocoFile, CocoImage
from keypipe.evaluation.matching import Detection, confuse_classes, match_instances

COW = CocoCategory(1, "cow", ["nose", "tail", "ear"])
BIRD = CocoCategory(2, "bird", ["beak"])


def test_classes_that_are_taken_for_each_other() -> None:
    boxes: list[tuple[float, float, float, float]] = [(0, 0, 10, 10), (20, 0, 10, 10), (40, 0, 10, 10)]
    truth = CocoFile([CocoImage(1, "a", 99, 99)], [], [COW, BIRD])
    for index, (box, category) in enumerate(zip(boxes, (1, 1, 2), strict=True)):
        flat: list[int | float] = [box[0] + 5, 5, 2] * (3 if category == 1 else 1)
        truth.annotations.append(CocoAnnotation(index + 1, 1, category, box, 100.0, flat, 3))
    found = [
        Detection(1, 1, 0.9, boxes[0], []),
        Detection(1, 2, 0.8, boxes[1], []),  # a cow taken for a bird
        Detection(1, 1, 0.7, (70, 70, 10, 10), []),  # nothing there
    ]
    assert confuse_classes(truth, found).tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_the_better_score_chooses_first() -> None:
    truth = CocoFile([CocoImage(1, "a", 9, 9)], [CocoAnnotation(1, 1, 2, (0, 0, 10, 10), 100.0, [1, 1, 2], 1)], [BIRD])
    low, high = (Detection(1, 2, score, (0, 0, 10, 9), [1, 1, 1]) for score in (0.3, 0.6))
    assert match_instances(truth, [low, high]) == [(truth.annotations[0], high)]
