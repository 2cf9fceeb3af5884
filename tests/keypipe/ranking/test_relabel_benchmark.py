"""The benchmark of relabel makes objects wrong in every way, and counts what is found."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.relabel import WAYS, Wrong, make_wrong, tally
from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import LabelmeOptions
from keypipe.demo.scene import SCHEMA, write_demo
from keypipe.keypoints.instances import AnnotatedImage
from keypipe.keypoints.skeleton import parse_schema
from keypipe.ranking.suspects import Suspect

DEMO = parse_schema(SCHEMA)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[AnnotatedImage]:
    raw = tmp_path_factory.mktemp("demo") / "raw"
    write_demo(raw, 60, seed=2, size_wh=(160, 120))
    return [file.image for file in read_folder(raw, DEMO, LabelmeOptions()).files if file.image]


def test_one_object_of_an_image_is_made_wrong_in_every_way(images: list[AnnotatedImage]) -> None:
    made, wrong = make_wrong(images, DEMO, 1.0, seed=0)
    assert Counter(one.kind for one in wrong).keys() == WAYS.keys()
    assert len({one.image for one in wrong}) == len(wrong)
    changed = {
        (image.path.partition("/")[2], one.box_xyxy)
        for image, before in zip(made, images, strict=True)
        for one, was in zip(image.instances, before.instances, strict=True)
        if one != was
    }
    assert changed == {(one.image, one.box_xyxy) for one in wrong}


def test_the_same_seed_makes_the_same_wrong(images: list[AnnotatedImage]) -> None:
    assert make_wrong(images, DEMO, 0.3, seed=1) == make_wrong(images, DEMO, 0.3, seed=1)
    assert len(make_wrong(images, DEMO, 0.3, seed=1)[1]) <= 18


def suspect(image: str, left: float) -> Suspect:
    return Suspect(
        image=f"raw/{image}",
        source="",
        kind="moved",
        score=9,
        class_name="cow",
        box_xyxy=(left, 0, left + 40, 40),
    )


def test_what_is_counted() -> None:
    wrong = [Wrong("a.jpg", "displaced far", (0, 0, 40, 40)), Wrong("b.jpg", "order shifted", (0, 0, 40, 40))]
    counted = tally([suspect("a.jpg", 2), suspect("a.jpg", 60), suspect("c.jpg", 0)], wrong)
    assert counted["precision"] == counted["precision_at_20"] == pytest.approx(1 / 3)
    assert counted["recall"] == 0.5
    assert counted["f1"] == pytest.approx(0.4)
    assert counted["by_kind"] == {"displaced far": [1, 1], "order shifted": [0, 1]}
    assert tally([], wrong)["f1"] == 0
