from __future__ import annotations

import msgspec
import numpy as np
import pytest

from keypipe.dataset.coco import CocoAnnotation, CocoCategory, CocoFile, CocoImage
from keypipe.evaluation.average_precision import match_by_oks
from keypipe.evaluation.calibration import calibrate_confidence
from keypipe.evaluation.evaluation import Detection, evaluate_in_full
from keypipe.keypoints.skeleton import parse_schema
from keypipe.report.page import LineCharts
from tasks.pages.validation import Measured, to_sections

SCHEMA = parse_schema({"classes": {"duck": {"keypoints": ["beak", "tail"]}}})
N_IMAGES = 60


@pytest.fixture(scope="module")
def measured() -> Measured:
    """Ducks that are all found, with keypoints of which three in four are labelled and all have a confidence of 0.9."""
    truth = CocoFile([], [], [CocoCategory(1, "duck", ["beak", "tail"])])
    detections: list[Detection] = []
    box = (0.0, 0.0, 60.0, 80.0)
    for number in range(1, N_IMAGES + 1):
        truth.images.append(CocoImage(number, f"raw/{number}.jpg", 100, 100))
        tail: list[int | float] = [30, 40, 2] if number % 2 else [0, 0, 0]
        points = [10, 10, *([2] if number % 4 < 2 else [1]), *tail]
        truth.annotations.append(CocoAnnotation(number, number, 1, box, 4800.0, points, 1 + number % 2))
        detections.append(Detection(number, 1, 0.9, box, [10.0, 10.0, 0.9, 30.0, 40.0, 0.9]))
    sigmas = {"duck": np.full(2, 0.1)}
    evaluation, tables = evaluate_in_full(truth, detections, sigmas)
    calibration = calibrate_confidence(tables, [image.file_name for image in truth.images])
    return Measured(truth, detections, evaluation, match_by_oks(truth, detections, sigmas), None, calibration)


def describe_confidence(measured: Measured) -> str:
    """Return what the page says of the keypoint confidence."""
    sections = to_sections("test", measured, {}, {"worst": [], "random": []}, SCHEMA)
    (charts,) = [section for section in sections if isinstance(section, LineCharts)]
    return next(chart.note for chart in charts.charts if chart.title == "Keypoint confidence kept")


def test_what_the_confidence_would_be_worth_once_calibrated_stands_beside_its_error(measured: Measured) -> None:
    said = describe_confidence(measured)
    assert "Expected calibration error: 0.150 (labelled), 0.150 (close)" in said
    assert said.endswith(
        "Isotonic regression, measured on images left out, would make it 0.000 (labelled), 0.000 (close)."
    )


def test_without_a_calibration_nothing_is_said_of_it(measured: Measured) -> None:
    said = describe_confidence(msgspec.structs.replace(measured, calibration=None))
    assert said.endswith("0 is best.")
