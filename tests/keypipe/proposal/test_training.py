from __future__ import annotations

import math

import msgspec
import pytest

from keypipe.proposal.geometry import Geometry
from keypipe.proposal.training import (
    PUBLISHED,
    SCRATCH,
    Images,
    Machine,
    propose_batch,
    propose_degrees,
    propose_epochs,
    propose_imgsz,
    propose_mirroring,
    propose_mosaic,
    propose_patience,
    propose_training,
)

CPU, GPU = Machine("cpu", 16e9), Machine("gpu", 16e9)
USUAL = Geometry(
    n_objects=400,
    image_px=1920,
    smallest=0.2,
    small=0.25,
    median=0.4,
    spacing=0.05,
    whole=0.3,
    turned_degrees=8,
    quarters=0.9,
    mirrored=0.05,
)


def like(**values: float) -> Geometry:
    return msgspec.structs.replace(USUAL, **values)


@pytest.mark.parametrize(
    ("geometry", "machine", "imgsz"),
    [
        (USUAL, CPU, 256),  # half of the objects have 96 px
        (like(median=0.9, small=0.8), CPU, 160),
        (like(spacing=0.01), CPU, 448),  # keypoints close together
        (like(image_px=200), CPU, 224),  # no larger than the images
        (like(smallest=0.014, small=0.028, median=0.06), CPU, 640),  # circuit diagrams
        (like(smallest=0.014, small=0.028, median=0.06), GPU, 1280),
        (like(smallest=0.008, small=0.028, median=0.06), CPU, 1024),  # the smallest would have no cell of their own
        (like(smallest=0.001, small=0.002, median=0.003), CPU, 1280),
        (like(spacing=math.nan), CPU, 256),
        (like(spacing=0.0), CPU, 256),
    ],
)
def test_the_input_fits_objects_keypoints_images_and_machine(geometry: Geometry, machine: Machine, imgsz: int) -> None:
    proposal = propose_imgsz(geometry, machine)
    assert proposal.value == imgsz
    assert f"objects {geometry.median * imgsz:.0f} px (median)" in proposal.why


def test_why_the_input_is_no_larger_is_said() -> None:
    assert "more is finer, and slow on this CPU" in propose_imgsz(like(median=0.06, small=0.04), CPU).why
    assert "no larger than the images, 200 px" in propose_imgsz(like(image_px=200), CPU).why
    assert "cut such images into tiles" in propose_imgsz(like(smallest=0.001, small=0.002, median=0.003), CPU).why


@pytest.mark.parametrize(
    ("imgsz", "images", "machine", "batch"),
    [
        (256, Images(500, 100), CPU, 16),
        (256, Images(40, 10), CPU, 8),
        (1280, Images(500, 100), Machine("cpu", 6e9), 2),
        (1280, Images(500, 100), Machine("cpu", 1e9), 1),
        (256, Images(20_000, 500), GPU, 64),
        (256, Images(2_000, 500), GPU, 32),
        (256, Images(20_000, 500), CPU, 16),
    ],
)
def test_the_batch_fits_the_memory(imgsz: int, images: Images, machine: Machine, batch: int) -> None:
    assert propose_batch(imgsz, images, machine).value == batch


def test_few_images_get_many_epochs_and_patience() -> None:
    assert propose_epochs(Images(150, 32), 16, SCRATCH).value == 300
    assert propose_epochs(Images(480, 100), 16, SCRATCH).value == 100
    assert propose_epochs(Images(50_000, 100), 16, SCRATCH).value == 100
    assert propose_epochs(Images(150, 32), 16, PUBLISHED).value == 150
    assert propose_patience(Images(150, 32), 300).value == 150
    assert propose_patience(Images(480, 100), 100).value == 33


@pytest.mark.parametrize(("whole", "mosaic"), [(0.9, 1.0), (0.5, 0.5), (0.28, 0.0)])
def test_mosaics_are_for_objects_that_stay_whole(whole: float, mosaic: float) -> None:
    assert propose_mosaic(like(whole=whole)).value == mosaic


@pytest.mark.parametrize(
    ("turned", "quarters", "degrees"),
    [(2, 1, 0), (12, 0.9, 10), (80, 0.3, 30), (80, 0.99, 0), (math.nan, math.nan, 0)],
)
def test_images_are_turned_as_objects_are(turned: float, quarters: float, degrees: float) -> None:
    assert propose_degrees(like(turned_degrees=turned, quarters=quarters)).value == degrees


def test_images_are_mirrored_where_names_have_partners_and_asked_about_where_mirror_images_occur() -> None:
    assert [(p.key, p.value) for p in propose_mirroring(USUAL, has_pairs=True)] == [("train.fliplr", 0.5)]
    assert [(p.key, p.value) for p in propose_mirroring(USUAL, has_pairs=False)] == [("train.fliplr", 0.0)]
    (asked,) = propose_mirroring(like(mirrored=0.3), has_pairs=False)
    assert (asked.key, asked.value, asked.sure, asked.else_value) == ("train.symmetric", True, False, False)
    assert "keep its name in a mirror" in asked.question
    (unknown,) = propose_mirroring(like(mirrored=math.nan), has_pairs=False)
    assert unknown.key == "train.fliplr"


def test_where_weights_come_from_decides_rate_and_epochs() -> None:
    def values(*, published: bool) -> dict[str, object]:
        proposals = propose_training(
            USUAL, Images(150, 32), CPU, published=published, offline="no network", has_pairs=True
        )
        assert all("\n" not in proposal.why and proposal.why for proposal in proposals)
        return {proposal.key: proposal.value for proposal in proposals}

    fetched, scratch = values(published=True), values(published=False)
    assert (fetched["train.model"], fetched["train.lr0"], fetched["train.epochs"]) == (PUBLISHED, 0.001, 150)
    assert (scratch["train.model"], scratch["train.lr0"], scratch["train.epochs"]) == (SCRATCH, 0.003, 300)
    assert fetched["train.nbs"] == fetched["train.batch"]
