from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from keypipe.demo.scene import draw_scene
from keypipe.diagnosis.copies import TURNS, Turn, find_copies
from keypipe.diagnosis.findings import Finding
from keypipe.images.near_duplicates import near_duplicates
from keypipe.images.pixels import look_at
from keypipe.keypoints.instances import AnnotatedImage

MIRROR = Image.Transpose.FLIP_LEFT_RIGHT
CHANGES = {
    "a mirrored copy": [MIRROR, Image.Transpose.FLIP_TOP_BOTTOM],
    "a copy turned by half": [Image.Transpose.ROTATE_180],
    "a copy turned by a quarter": [Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270],
    "a copy turned by a quarter and mirrored": [Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE],
}


def scene(seed: int) -> Image.Image:
    return Image.fromarray(draw_scene(np.random.default_rng(seed), (320, 240)).image)


def encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def find(train: list[Image.Image], test: list[Image.Image]) -> list[Finding]:
    contents = {
        f"raw/{split}{n}.jpg": encode(image)
        for split, images in (("train", train), ("test", test))
        for n, image in enumerate(images)
    }
    splits = {path: "train" if "train" in path else "test" for path in contents}
    md5s = {path: hashlib.md5(content).hexdigest() for path, content in contents.items()}
    facts = {md5s[path]: look_at(content) for path, content in contents.items()}
    images = [AnnotatedImage(path, (1, 1), md5s[path], (), path[4:]) for path in contents]
    return find_copies(images, facts, splits, near_duplicates(facts), contents.__getitem__)


@pytest.mark.parametrize("name", CHANGES)
def test_turned_and_mirrored_copies(name: str) -> None:
    for change in CHANGES[name]:
        (found,) = find([scene(1), scene(2), scene(3)], [scene(4), scene(2).transpose(change).resize((200, 160))])
        assert found.message == f"{name} of train1.jpg, which is in train, while this one is in test"
        assert (found.kind, found.severity) == ("transformed-copy-across-sides", "warning")
        assert (found.file, found.others) == ("test1.jpg", ("train1.jpg", "raw/train1.jpg"))


def test_relit_copies_that_no_plain_likeness_finds() -> None:
    bright = [ImageEnhance.Brightness(scene(seed)).enhance(1.4) for seed in range(12)]
    found = find([scene(seed) for seed in range(12)], bright)
    assert found
    assert all(item.message.startswith("a relit copy of train") for item in found)
    assert all(item.file.removeprefix("test") == item.others[0].removeprefix("train") for item in found)


def test_other_scenes_and_copies_in_one_split_say_nothing() -> None:
    scenes = [scene(seed) for seed in range(40)]
    assert not find(scenes[:25], scenes[25:])
    assert not find([scene(1), scene(1).transpose(MIRROR)], [scene(2)])


@pytest.mark.parametrize("turn", TURNS)
def test_hashes_of_turned_pictures_follow_from_the_hash(turn: Turn) -> None:
    distances = []
    for seed in range(10):
        pixels = np.asarray(scene(seed).convert("L"))
        hashes = np.array([look_at(encode(Image.fromarray(pixels))).phash], np.uint64)
        turned = encode(Image.fromarray(np.ascontiguousarray(turn.apply(pixels.astype(np.float32)).astype(np.uint8))))
        distances.append(int(np.bitwise_count(turn.apply_to_hashes(hashes)[0] ^ np.uint64(look_at(turned).phash or 0))))
    assert np.median(distances) <= 4
