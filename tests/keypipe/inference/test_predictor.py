from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from keypipe.errors import ModelError
from keypipe.images.media import read_image
from keypipe.inference.letterbox import Placement, place_image
from keypipe.inference.model_info import parse_model_info
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.inference.results import round_prediction
from keypipe.keypoints.skeleton import Schema, Skeleton
from tests.onnx_files import metadata_of, raw_output, write_constant_model
from tests.pose_checkpoint import CLASS_NAMES, KEYPOINT_NAMES, SIDE_PX, write_random_checkpoint

COW_AND_HAND = Schema(
    {
        "奶牛": Skeleton(("nose", "left_ear", "right_ear"), (("nose", "left_ear"),), (("left_ear", "right_ear"),)),
        "hand": Skeleton(("thumb", "nose")),
    }
)
SIZES_WH = [(64, 48), (33, 500), (701, 99), (160, 160), (320, 213), (1, 300), (17, 11), (161, 159), (1280, 720)]


# ------------------------------------------------------------------------- against Ultralytics


@pytest.fixture(scope="session")
def exported(ultralytics: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A YOLOv8n-pose of random weights, as checkpoint and as ONNX."""
    checkpoint = write_random_checkpoint(tmp_path_factory.mktemp("model") / "random.pt")
    onnx = ultralytics.YOLO(checkpoint).export(format="onnx", imgsz=SIDE_PX, simplify=True, verbose=False)
    return {"pt": checkpoint, "onnx": Path(onnx)}


@pytest.fixture(scope="session")
def drawn_images() -> list[NDArray[np.uint8]]:
    """Coloured blots in many shapes and sizes, BGR."""
    rng = np.random.default_rng(1)
    blots = [rng.integers(0, 255, (max(h // 12, 1), max(w // 12, 1), 3), dtype=np.uint8) for w, h in SIZES_WH]
    return [cv2.resize(blot, size, interpolation=cv2.INTER_CUBIC) for blot, size in zip(blots, SIZES_WH, strict=True)]


def assert_equal_to_ultralytics(
    ultralytics: Any, exported: dict[str, Path], kind: str, images: list[NDArray[np.uint8]], tolerance_px: float
) -> None:
    predictor = Predictor(*load_onnx_model(exported["onnx"]))
    reference = ultralytics.YOLO(exported[kind], task="pose")
    n_found = 0
    for image in images:
        for conf in (0.25, 0.02):
            # rect=False: a checkpoint would otherwise get an input as narrow as the image.
            options = {"imgsz": SIDE_PX, "conf": conf, "rect": False, "save": False, "verbose": False}
            expected = reference.predict(image, **options)[0]
            found = predictor.detect(image, Thresholds(conf))
            n_found += len(found)
            assert len(found) == len(expected), image.shape
            np.testing.assert_array_equal(found.class_ids, expected.boxes.cls.numpy())
            np.testing.assert_allclose(found.scores, expected.boxes.conf.numpy(), atol=1e-4)
            np.testing.assert_allclose(found.boxes_xyxy, expected.boxes.xyxy.numpy(), atol=tolerance_px)
            if len(found):
                np.testing.assert_allclose(found.keypoints, expected.keypoints.data.numpy(), atol=tolerance_px)
    assert n_found > 10 * len(images)


@pytest.mark.parametrize(("kind", "tolerance_px"), [("onnx", 0.001), ("pt", 0.05)])
def test_drawn_images_as_ultralytics(
    ultralytics: Any,
    exported: dict[str, Path],
    drawn_images: list[NDArray[np.uint8]],
    kind: str,
    tolerance_px: float,
) -> None:
    assert_equal_to_ultralytics(ultralytics, exported, kind, drawn_images, tolerance_px)


def test_photos_as_ultralytics(ultralytics: Any, exported: dict[str, Path], shared_data: Callable[[str], Path]) -> None:
    photos = sorted((shared_data("setsquare") / "labelme").glob("*.jpg"))[:12]
    assert_equal_to_ultralytics(ultralytics, exported, "onnx", [read_image(photo) for photo in photos], 0.001)


class PredictorBefore(Predictor):
    """Fits an image into the model's input as it was done while one session had all cores."""

    def prepare(self, image_bgr: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Placement]:
        height, width = image_bgr.shape[:2]
        placement = place_image((width, height), (SIDE_PX, SIDE_PX))
        resized = cv2.resize(image_bgr, placement.resized_wh, interpolation=cv2.INTER_LINEAR)
        canvas = np.full((SIDE_PX, SIDE_PX, 3), 114, dtype=np.uint8)
        left, top = placement.pad_xy
        canvas[top : top + resized.shape[0], left : left + resized.shape[1]] = resized
        planes = np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1))
        return planes[None].astype(np.float32) / np.float32(255), placement


def test_a_session_of_one_thread_says_number_by_number_what_one_of_several_said_before(
    exported: dict[str, Path], drawn_images: list[NDArray[np.uint8]]
) -> None:
    thresholds = Thresholds(conf=0.02)
    before = PredictorBefore(*load_onnx_model(exported["onnx"], threads=4))
    now = Predictor(*load_onnx_model(exported["onnx"], threads=1))
    with ThreadPoolExecutor(3) as pool:
        founds = list(pool.map(lambda image: now.predict_image(image, thresholds), drawn_images))
    expected = [before.predict_image(image, thresholds) for image in drawn_images]
    rounded = [[[round_prediction(item) for item in found] for found in some] for some in (founds, expected)]
    assert rounded[0] == rounded[1]
    assert sum(map(len, expected)) > 5 * len(drawn_images)


def test_ultralytics_own_export_is_described(exported: dict[str, Path]) -> None:
    _, info = load_onnx_model(exported["onnx"])
    assert info.class_names == CLASS_NAMES
    assert info.slots == KEYPOINT_NAMES
    assert info.imgsz == (SIDE_PX, SIDE_PX)
    assert info.edges == ()
    assert not info.end2end


# ------------------------------------------------------------------------------------- by name


def test_a_prediction_has_the_keypoints_of_its_class_only(tmp_path: Path) -> None:
    output = raw_output(
        COW_AND_HAND,
        [
            ("hand", 0.8, [32, 32, 20, 20], {"thumb": (30, 30, 0.9), "nose": (34, 34, 0.1)}),
            (
                "奶牛",
                0.9,
                [20, 32, 20, 10],
                {"nose": (12, 30, 0.7), "left_ear": (20, 28, 0.2), "right_ear": (64, 64, 0)},
            ),
        ],
    )
    path = write_constant_model(tmp_path / "模型.onnx", output, metadata_of(COW_AND_HAND))
    predictor = Predictor(*load_onnx_model(path, COW_AND_HAND, threads=1, device="cpu"))

    # 128 x 64 lies in rows 16 to 48 of the 64 x 64 input, at half its size.
    cow, hand = predictor.predict_image(np.zeros((64, 128, 3), np.uint8))

    assert (cow.class_name, round(cow.score, 3), cow.box_xyxy) == ("奶牛", 0.9, (20, 22, 60, 42))
    assert [(p.name, p.x, p.y) for p in cow.keypoints] == [
        ("nose", 24, 28),
        ("left_ear", 40, 24),
        ("right_ear", 128, 64),  # clipped to the image
    ]
    assert [round(p.confidence, 3) for p in cow.keypoints] == [0.7, 0.2, 0]
    assert [(p.name, p.x, p.y) for p in hand.keypoints] == [("thumb", 60, 28), ("nose", 68, 36)]


def test_nothing_found(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "m.onnx", raw_output(COW_AND_HAND, []), metadata_of(COW_AND_HAND))
    assert Predictor(*load_onnx_model(path)).predict_image(np.zeros((50, 70, 3), np.uint8)) == []


# -------------------------------------------------------------------------------------- faults


def test_raw_output_that_does_not_fit() -> None:
    info = parse_model_info(metadata_of(COW_AND_HAND))
    predictor = Predictor(lambda images: np.zeros((len(images), 9, 5), np.float32), info)
    with pytest.raises(ModelError, match="it was made for another skeleton"):
        predictor.predict_image(np.zeros((20, 20, 3), np.uint8))
