from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from keypipe.dataset.coco import CocoFile, format_coco, parse_coco, to_coco
from keypipe.dataset.coco_stream import (
    CocoLines,
    annotation_without_ids,
    image_without_id,
    parse_image,
    pick,
    write_parts,
)
from keypipe.errors import AnnotationError
from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint
from keypipe.keypoints.skeleton import parse_schema

SCHEMA = parse_schema(
    {
        "classes": {
            "cow": {"keypoints": ["nose", "tail"], "skeleton": [["nose", "tail"]]},
            "bird": {"keypoints": ["beak"]},
        }
    }
)


def dataset() -> CocoFile:
    """Three images, with two, no and one object."""
    cow = Instance("cow", (1, 2, 30.5, 40), {"nose": Keypoint(3, 4.25)})
    bird = Instance("bird", (0, 0, 5, 5), {"beak": Keypoint(1, 1)})
    objects = {"raw/ä ],.jpg": (cow, bird), "raw/b.jpg": (), "raw/c.jpg": (cow,)}
    images = [AnnotatedImage(path, (64, 48), f"md5-{path}", some, "a.json") for path, some in objects.items()]
    return to_coco(images, SCHEMA)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "coco.json").write_bytes(format_coco(dataset()))
    return tmp_path / "coco.json"


def test_entries_are_images_with_what_lies_on_them(path: Path) -> None:
    coco, file = CocoLines(path), dataset()
    assert coco.categories == file.categories
    assert coco.n_images == 3
    assert list(coco.images()) == file.images
    for _ in range(2):  # as often as one likes
        entries = [(parse_image(image), coco.annotations(lines)) for image, lines in coco.entries()]
        assert [image for image, _ in entries] == file.images
        assert [annotation for _, some in entries for annotation in some] == file.annotations
        assert [len(some) for _, some in entries] == [0, 1, 2]  # by path


def test_parts_are_the_bytes_of_their_own_files(path: Path, tmp_path: Path) -> None:
    file = dataset()
    parts = {tmp_path / "some": [1, 0, 1], tmp_path / "other": [0, 1, 0], tmp_path / "none": [0, 0, 0]}
    write_parts(CocoLines(path), parts)
    for part, chosen in parts.items():
        ids = [image.id for image, wanted in zip(file.images, chosen, strict=True) if wanted]
        images = [image for image in file.images if image.id in ids]
        annotations = [annotation for annotation in file.annotations if annotation.image_id in ids]
        assert part.read_bytes() == format_coco(CocoFile(images, annotations, file.categories, file.info))
        assert CocoLines(part).n_images == sum(chosen)


def test_picked_images(path: Path) -> None:
    file = dataset()
    last = file.images[-1]
    assert pick(CocoLines(path), [last.file_name]) == CocoFile(
        [last], [a for a in file.annotations if a.image_id == last.id], file.categories
    )
    assert pick(CocoLines(path), []) == CocoFile([], [], file.categories)


def test_a_line_without_its_ids_says_the_same_wherever_it_stands(path: Path) -> None:
    entries = list(CocoLines(path).entries())
    lines = [line for _, own in entries for line in own]
    assert len(lines) == 3
    assert len(set(map(annotation_without_ids, lines))) == 2  # the two cows are equal
    assert {"{" + image_without_id(line).decode() for line, _ in entries} == {
        msgspec.json.encode(image).decode().replace(f'"id":{image.id},', "") for image in dataset().images
    }


def test_a_file_with_another_layout_is_laid_out(path: Path) -> None:
    file = dataset()
    document = json.loads(path.read_text())
    document["annotations"].reverse()
    path.write_text(json.dumps(document, indent=1))
    coco = CocoLines(path)
    assert list(coco.images()) == file.images
    found = [annotation for _, lines in coco.entries() for annotation in coco.annotations(lines)]
    assert sorted(found, key=lambda annotation: annotation.id) == file.annotations


def spoil(path: Path, old: str, new: str) -> CocoLines:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return CocoLines(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"image_id":3,', '"image_id":7,', '"image_id":7,.*of no image of the file'),
        ('"image_id":3,', '"image":3,', '"image":3,.*an annotation apart'),
        ('"file_name":', '"name":', "not an entry as keypipe writes it"),
        ('"category_id":2', '"category_id":9', "expected a category of the file"),
        ("[1,1,2]", "[1,1]", "expected 3 values for the keypoints, got 2"),
        ("[1,1,2]", "[1,null,2]", "not an annotation of a COCO file"),
        ('"width":64', '"width":"64"', "not an image of a COCO file"),
        ("\n]}\n", "\n", "ends where more must come"),
        (',\n"annotations":[', "", "ends where more must come"),
    ],
)
def test_what_is_wrong_is_said(path: Path, old: str, new: str, message: str) -> None:
    def read() -> Any:
        coco = spoil(path, old, new)
        return [(list(coco.images()), coco.annotations(lines)) for _, lines in coco.entries()]

    with pytest.raises(AnnotationError, match=message):
        read()


def test_no_coco_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(AnnotationError, match="not a COCO-keypoints JSON"):
        CocoLines(tmp_path / "a.json")


def test_the_parser_of_whole_files_agrees(path: Path) -> None:
    assert parse_coco(path.read_bytes()) == dataset()
