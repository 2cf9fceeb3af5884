from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypipe.dataset.coco import format_coco, parse_coco, to_coco, to_images
from keypipe.dataset.coco_writer import write_coco
from keypipe.errors import AnnotationError
from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint, Visibility
from keypipe.keypoints.packed import pack
from keypipe.keypoints.skeleton import parse_schema

SCHEMA = parse_schema(
    {
        "classes": {
            "cow": {"keypoints": ["nose", "left_ear", "right_ear"], "skeleton": [["nose", "left_ear"]]},
            "奶牛": {"keypoints": ["tail"]},
        }
    }
)

pixels = st.floats(0, 100, allow_nan=False)
keypoint = st.builds(Keypoint, pixels, pixels, st.sampled_from([Visibility.OCCLUDED, Visibility.VISIBLE]))


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    class_name = draw(st.sampled_from(SCHEMA.class_names))
    names = SCHEMA.classes[class_name].keypoints
    labelled = draw(st.sets(st.sampled_from(names)))
    keypoints = {name: draw(keypoint) for name in names if name in labelled}
    # Whole numbers, so that right = left + width without rounding.
    left, top, width, height = (float(draw(st.integers(1, 50))) for _ in range(4))
    return Instance(class_name, (left, top, left + width, top + height), keypoints)


images = st.lists(
    st.builds(
        AnnotatedImage,
        st.from_regex(r"\Araw/[a-z]{1,3}\.jpg\Z"),
        st.just((100, 100)),
        st.just("0" * 32),
        st.lists(instances(), max_size=3).map(tuple),
        st.just("a.json"),
    ),
    unique_by=lambda image: image.path,
)


@given(images)
def test_what_is_written_is_read_back(images: list[AnnotatedImage]) -> None:
    content = format_coco(to_coco(images, SCHEMA))
    assert sorted(to_images(parse_coco(content)), key=lambda image: image.path) == sorted(
        images, key=lambda image: image.path
    )
    assert format_coco(parse_coco(content)) == content


@given(images)
def test_one_image_after_the_other_gives_the_same_file(images: list[AnnotatedImage]) -> None:
    packed = [
        (msgspec.structs.replace(image, instances=()), pack(image.instances, [], SCHEMA))
        for image in sorted(images, key=lambda image: image.path)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coco.json"
        write_coco(path, packed, SCHEMA)
        assert [entry.name for entry in Path(folder).iterdir()] == ["coco.json"]
        assert path.read_bytes() == format_coco(to_coco(images, SCHEMA))


EXAMPLE = [
    AnnotatedImage(
        "raw/a.jpg",
        (100, 80),
        "0" * 32,
        (
            Instance(
                "cow", (10, 20, 40, 60), {"nose": Keypoint(1.5, 2.5), "right_ear": Keypoint(3, 4, Visibility.OCCLUDED)}
            ),
            Instance("奶牛", (0, 0, 10, 10), {}),
        ),
        "a.json",
    ),
    AnnotatedImage("raw/b.jpg", (100, 80), "1" * 32, (), "b.json"),
]


def test_it_is_what_cocos_own_tools_expect(tmp_path: object) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    path = tmp_path / "a.json"  # type: ignore[operator]
    path.write_bytes(format_coco(to_coco(EXAMPLE, SCHEMA)))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_module.COCO(str(path))
    category = coco.loadCats(1)[0]
    assert category["keypoints"] == ["nose", "left_ear", "right_ear"]
    assert category["skeleton"] == [[1, 2]]
    annotation = coco.loadAnns(coco.getAnnIds(imgIds=[1], catIds=[1]))[0]
    assert annotation["area"] == 30 * 40
    assert annotation["bbox"] == [10, 20, 30, 40]
    assert annotation["keypoints"] == [1.5, 2.5, 2, 0, 0, 0, 3, 4, 1]
    assert annotation["num_keypoints"] == 2
    assert annotation["iscrowd"] == 0
    assert coco.loadImgs(1)[0]["width"] == 100
    assert len(coco.getImgIds()) == 2


def test_a_line_an_entry_and_readable_names() -> None:
    text = format_coco(to_coco(EXAMPLE, SCHEMA)).decode()
    assert '"name":"奶牛"' in text
    assert len(text.splitlines()) == 1 + 4 + 4 + 4  # info, and per list its entries between two brackets
    json.loads(text)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"images": 1, "annotations": [], "categories": []}'])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(AnnotationError, match="not a COCO-keypoints JSON"):
        parse_coco(content)


def test_dangling_references_are_refused() -> None:
    file = to_coco(EXAMPLE, SCHEMA)
    file.annotations[0].image_id = 99
    with pytest.raises(AnnotationError, match="annotation 1 names an image"):
        to_images(file)
