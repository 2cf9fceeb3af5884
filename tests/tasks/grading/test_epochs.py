from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keypipe.dataset.coco import CocoFile
from keypipe.evaluation.evaluation import Detection, evaluate, flatten_figures
from keypipe.evaluation.oks import AREA_FACTOR
from tasks.grading.epochs import FIGURES, keep_counting, make_scorer
from tasks.grading.rules import GradingParams, to_grading
from tasks.validate import ValidateParams
from tasks.workspace.dataset import read_schema, read_split
from tests.workspace import make_workspace, run_stages


@pytest.fixture(scope="module")
def split_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("scoring") / "workspace", n_images=20)
    run_stages(root, "convert", "split")
    return root


def noisy_rows(truth: CocoFile, n_false: int, seed: int = 0) -> list[Any]:
    """Predictions near the truth, each with many worse ones around it."""
    from keypipe.dataset.yolo import view_names

    rng = np.random.default_rng(seed)
    names = view_names(image.file_name for image in truth.images)
    by_id = {image.id: names[image.file_name] for image in truth.images}
    rows: list[Any] = []
    for annotation in truth.annotations:
        left, top, width, height = annotation.bbox
        keypoints = np.array(annotation.keypoints, dtype=float).reshape(-1, 3)
        for number in range(n_false + 1):
            spread = (0.02 if number == 0 else 0.3) * np.hypot(width, height)
            moved = keypoints + rng.normal(0, spread, keypoints.shape) * [1, 1, 0]
            score = float(rng.uniform(0.3, 0.9) if number < 2 else rng.uniform(0.001, 0.2))
            box = [left, top, left + width, top + height]
            rows.append((by_id[annotation.image_id], annotation.category_id - 1, score, box, moved.tolist()))
    return rows


def test_a_scorer_gives_the_figures_of_the_whole_evaluation(split_once: Path) -> None:
    from tasks.grading.detections import to_detections

    truth, schema = read_split(split_once, "train"), read_schema(split_once)
    rows = noisy_rows(truth, 60)
    scored = make_scorer(to_grading(GradingParams(), schema, split_once), 0.25, truth, schema)(rows)
    sigmas = {name: np.full(len(skeleton.keypoints), 0.1) for name, skeleton in schema.classes.items()}
    whole: Any = flatten_figures(evaluate(truth, to_detections(rows, truth, schema), sigmas, AREA_FACTOR, 0.25))
    assert scored == {name: pytest.approx(whole[name], abs=1e-12) for name in FIGURES}
    assert 0.1 < scored["oks_AP"] < 1


def test_no_prediction_is_worth_nothing(split_once: Path) -> None:
    truth, schema = read_split(split_once, "train"), read_schema(split_once)
    assert make_scorer(to_grading(GradingParams(), schema, split_once), 0.25, truth, schema)([]) == dict.fromkeys(
        FIGURES, 0.0
    )


def test_only_detections_that_count_are_kept() -> None:
    scores = [0.9, 0.8, 0.4, 0.2]
    detections = [Detection(1, 1, score, (0, 0, 1, 1), []) for score in scores] + [
        Detection(2, 1, 0.1, (0, 0, 1, 1), [])
    ]
    assert [item.score for item in keep_counting(detections, 1, 0.3)] == [0.9, 0.8, 0.4, 0.1]
    assert [item.score for item in keep_counting(detections, 3, 0.95)] == [0.9, 0.8, 0.4, 0.1]


def test_other_stages_grade_as_validate_does() -> None:
    theirs = ValidateParams.model_fields
    for name, field in GradingParams.model_fields.items():
        assert field.default == theirs[name].default
        assert field.metadata == theirs[name].metadata
