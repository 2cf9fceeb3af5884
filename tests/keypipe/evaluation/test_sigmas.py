from __future__ import annotations

import numpy as np
import pytest
import yaml

from keypipe.errors import ConfigError, DatasetError
from keypipe.evaluation.sigmas import (
    COCO_PERSON_SIGMAS,
    SIGMAS_FILE,
    SigmaFile,
    SigmaSetting,
    estimate_sigmas,
    format_sigmas,
    match_annotators,
    resolve_sigmas,
)
from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint
from keypipe.keypoints.skeleton import parse_schema

SCHEMA = parse_schema({"classes": {"cow": {"keypoints": ["nose", "tail"]}}})
SLOTS = SCHEMA.slots
SIZE = (400.0, 300.0)


def instance(left: float, top: float, points: dict[str, tuple[float, float]]) -> Instance:
    box = (left, top, left + SIZE[0], top + SIZE[1])
    return Instance("cow", box, {name: Keypoint(*xy) for name, xy in points.items()})


def image(number: int, *instances: Instance, path: str | None = None, md5: str | None = None) -> AnnotatedImage:
    return AnnotatedImage(path or f"raw/{number}.jpg", (2000, 2000), md5 or f"md5-{number}", instances, "")


def annotate(rng: np.random.Generator, n: int, spread: dict[str, float]) -> list[AnnotatedImage]:
    """Draw one person's annotations; ``spread`` is the standard deviation of each coordinate, pixels."""
    images = []
    for number in range(n):
        points = {name: (200 + rng.normal(0, px), 150 + rng.normal(0, px)) for name, px in spread.items()}
        images.append(image(number, instance(0, 0, points)))
    return images


@pytest.mark.parametrize("people", [2, 3, 5])
def test_known_sigmas_are_found_again(people: int) -> None:
    rng = np.random.default_rng(people)
    scale = np.sqrt(0.53 * SIZE[0] * SIZE[1])
    wanted = {"nose": 0.02, "tail": 0.1}
    # E[d**2] is the sum over both coordinates.
    spread = {name: sigma * scale / np.sqrt(2) for name, sigma in wanted.items()}
    found = match_annotators([annotate(rng, 1500, spread) for _ in range(people)])
    assert (found.images, found.alone, len(found.objects)) == (1500, 0, 1500)
    for entry in estimate_sigmas(found.objects, SCHEMA):
        assert entry.sigma == pytest.approx(wanted[entry.keypoint], rel=0.05)
        assert entry.repetitions == 1500
        assert entry.low is not None
        assert entry.high is not None
        assert entry.low < entry.sigma < entry.high


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    scale = np.sqrt(0.53 * SIZE[0] * SIZE[1])
    held = 0
    for _ in range(200):
        found = match_annotators([annotate(rng, 15, {"nose": 0.05 * scale / np.sqrt(2)}) for _ in range(2)])
        nose = estimate_sigmas(found.objects, SCHEMA)[0]
        assert nose.low is not None
        assert nose.high is not None
        held += nose.low <= 0.05 <= nose.high
    assert 0.9 <= held / 200 <= 0.99


def test_two_people_by_hand() -> None:
    first = [image(1, instance(0, 0, {"nose": (100.0, 100.0), "tail": (50.0, 50.0)}))]
    second = [image(1, instance(0, 0, {"nose": (106.0, 108.0)}))]
    nose, tail = estimate_sigmas(match_annotators([first, second]).objects, SCHEMA)
    assert nose.sigma == pytest.approx(np.sqrt(10**2 / 2 / (0.53 * 400 * 300)))
    assert (nose.median_px, nose.largest_px, nose.largest_path) == (10.0, 10.0, "raw/1.jpg")
    assert (tail.repetitions, tail.sigma) == (0, None)


def test_objects_are_matched_by_box_and_images_by_content() -> None:
    left, right = instance(0, 0, {"nose": (1, 1)}), instance(600, 0, {"nose": (601, 1)})
    moved = instance(610, 5, {"nose": (602, 1)})
    first = [image(1, left, right), image(2, left), image(3, left)]
    second = [
        image(1, moved, left, path="raw/renamed.jpg"),  # the same bytes under another name
        image(2, left, md5="saved again"),  # the same name, other bytes
        image(4, left),
    ]
    found = match_annotators([first, second])
    assert found.images == 2
    assert found.alone == 0
    pairs = {frozenset(item.box_xyxy[0] for item in entry.instances) for entry in found.objects}
    assert pairs == {frozenset([0]), frozenset([600, 610])}


def test_what_one_person_alone_has_is_counted() -> None:
    left, right = instance(0, 0, {"nose": (1, 1)}), instance(600, 0, {"nose": (601, 1)})
    found = match_annotators([[image(1, left)], [image(1, left, right)], [image(1, right)]])
    assert found.alone == 0
    assert len(found.objects) == 2
    assert match_annotators([[image(1, left)], [image(1, right)]]).alone == 2


def test_folders_without_a_common_image() -> None:
    with pytest.raises(DatasetError, match="no image is in two of the folders"):
        match_annotators([[image(1)], [image(2)]])


def test_the_file_is_read_back() -> None:
    rng = np.random.default_rng(0)
    found = match_annotators([annotate(rng, 40, {"nose": 3.0}) for _ in range(2)])
    text = format_sigmas(estimate_sigmas(found.objects, SCHEMA), "box", 0.53)
    document = yaml.safe_load(text)
    assert document["area_rule"] == "box"
    assert set(document["sigmas"]) == {"nose"}
    assert "# 40 repetitions" in text


def test_settings() -> None:
    measured = SigmaFile("box", 0.53, {"tail": 0.3, "nose": 0.2})
    settings: list[tuple[SigmaSetting, list[float]]] = [
        (0.1, [0.1, 0.1]),
        ([0.1, 0.2], [0.1, 0.2]),
        ({"tail": 0.4, "nose": 0.5}, [0.5, 0.4]),
        (SIGMAS_FILE, [0.2, 0.3]),
    ]
    for setting, expected in settings:
        assert resolve_sigmas(setting, SLOTS, "validate.sigma", measured=measured).tolist() == expected


def test_the_sigmas_of_cocos_persons() -> None:
    from pycocotools.cocoeval import Params

    slots = list(COCO_PERSON_SIGMAS)
    assert resolve_sigmas("coco-person", slots, "s").tolist() == pytest.approx(Params("keypoints").kpt_oks_sigmas)
    assert resolve_sigmas("coco-person", slots[::-1], "s")[-1] == 0.026  # by name, not by order


@pytest.mark.parametrize(
    ("setting", "measured", "message"),
    [
        (0.0, None, "expected one number above 0, or 2 of them"),
        ({"nose": 0.1}, None, "no sigma for tail"),
        ({"nose": 0.1, "tail": 0.1, "ear": 0.1}, None, "ear is no keypoint of the schema"),
        ("coco-person", None, "is for the 17 keypoints of COCO's persons"),
        ("elsewhere.yaml", None, "expected a number, a list, coco-person or data/sigmas.yaml"),
        (SIGMAS_FILE, None, "holds no sigmas; make it with `keypipe sigmas"),
        (SIGMAS_FILE, SigmaFile("box", 0.53, {"nose": 0.1}), "no sigma for tail; let more people annotate"),
        (SIGMAS_FILE, SigmaFile("coco", 0.53, {"nose": 0.1, "tail": 0.1}), "were estimated with area_rule coco"),
        (SIGMAS_FILE, SigmaFile("box", 1.0, {"nose": 0.1, "tail": 0.1}), "area_factor 1, and validate has box, 0.53"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(setting: SigmaSetting, measured: SigmaFile | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_sigmas(setting, SLOTS, "validate.sigma", measured=measured)
