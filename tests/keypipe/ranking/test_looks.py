from __future__ import annotations

import numpy as np
import pytest

from keypipe.diagnosis.outliers import learn_shapes
from keypipe.inference.model_info import ModelInfo
from keypipe.inference.predictor import Predictor
from keypipe.keypoints.skeleton import Schema, Skeleton
from keypipe.ranking.looks import Look, look_at, score_looks
from tests.onnx_files import raw_output

SCHEMA = Schema({"cow": Skeleton(("a", "b", "c", "d"))})
IMAGE = np.zeros((64, 64, 3), np.uint8)
USUAL = {"a": (20.0, 20.0), "b": (40.0, 20.0), "c": (40.0, 40.0), "d": (20.0, 40.0)}
Points = dict[str, tuple[float, float]]


def look(score: float = 0.9, confidence: float = 0.95, points: Points = USUAL) -> Look:
    found = ("cow", score, [30.0, 30.0, 24.0, 24.0], {name: (*xy, confidence) for name, xy in points.items()})
    output = raw_output(SCHEMA, [found])[None]
    rng = np.random.default_rng(0)
    mean = np.array([complex(*xy) for xy in USUAL.values()])
    shapes = mean + rng.normal(0, 0.5, (60, 4)) + 1j * rng.normal(0, 0.5, (60, 4))
    examiner = learn_shapes(shapes, range(4))
    assert examiner is not None
    return look_at(Predictor(lambda images: output, ModelInfo(SCHEMA, (64, 64))), IMAGE, {"cow": examiner})


def test_undecided_models_are_uncertain() -> None:
    sure, unsure, faint = look(0.95, 0.98), look(0.6, 0.55), look(0.15)
    assert sure.uncertainty < 0.2
    assert unsure.uncertainty > 0.7
    assert not faint.predictions  # too faint to be drawn, and yet it may be there
    assert faint.uncertainty == pytest.approx(0.3, abs=0.01)


def test_shapes_that_nobody_has_annotated_are_unusual() -> None:
    odd = look(points=USUAL | {"c": (22.0, 22.0)})
    assert look().unusual < 3 < odd.unusual
    assert np.isnan(look(confidence=0.3).unusual)  # nothing is sure enough to tell


def test_signals_are_ranked_and_what_is_not_known_is_in_the_middle() -> None:
    looks = [Look([], 0.1, 0.9, float("nan")), Look([], 0.1, 0.1, 9.0), Look([], 0.8, 0.5, 1.0)]
    assert score_looks(looks, ["disagreement"]).tolist() == [0.25, 0.25, 1.0]
    assert score_looks(looks, ["unusual"]).tolist() == [0.5, 1.0, 0.0]
    assert score_looks(looks).tolist() == pytest.approx([(0.25 + 1 + 0.5) / 3, (0.25 + 0 + 1) / 3, (1 + 0.5 + 0) / 3])
    assert score_looks([]).tolist() == []
