from __future__ import annotations

import hashlib
import io
import multiprocessing
from pathlib import Path

import imagehash
import msgspec
import numpy as np
import pytest
from PIL import ExifTags, Image

from keypipe.demo.scene import draw_scene
from keypipe.images.pixels import CHANGED, hash_image, look_at, read_pixels


def scene(seed: int, size_wh: tuple[int, int] = (320, 240)) -> Image.Image:
    return Image.fromarray(draw_scene(np.random.default_rng(seed), size_wh).image)


def encode(image: Image.Image, suffix: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, suffix, **options)
    return out.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def facts_of(values: np.ndarray, suffix: str) -> tuple[int, bool]:
    facts = look_at(encode(Image.fromarray(values), suffix))
    return facts.levels, facts.deep


def test_how_much_of_its_range_an_image_uses() -> None:
    ramp = np.tile(np.linspace(0, 1, 256), (64, 1))
    for suffix in ("PNG", "TIFF"):
        assert facts_of((ramp * 4095).astype(np.uint16), suffix) == (16, True)
        assert facts_of((ramp * 65535).astype(np.uint16), suffix) == (256, True)
        assert facts_of((ramp * 9).astype(np.uint8), suffix) == (10, False)
    levels, deep = facts_of((ramp * 255).astype(np.uint8), "JPEG")
    assert (levels > 250, deep) == (True, False)
    assert facts_of(ramp.astype(np.float32), "TIFF") == (256, True)
    hot = np.full((200, 200), 7, np.uint8)
    hot[3, 3] = 255
    assert facts_of(hot, "PNG") == (1, False)
    import cv2

    colours = np.dstack([ramp * 4095] * 3).astype(np.uint16)
    facts = look_at(cv2.imencode(".png", colours)[1].tobytes())
    assert (facts.levels, facts.deep) == (16, True)


def distance(first: int, second: int) -> int:
    return (first ^ second).bit_count()


@pytest.mark.parametrize("size_wh", [(320, 240), (200, 500), (1200, 900), (3000, 200)])
def test_the_hash_is_imagehashs(size_wh: tuple[int, int]) -> None:
    image = scene(1, size_wh)
    expected = int(str(imagehash.phash(image)), 16)
    assert distance(hash_image(encode(image, "PNG")), expected) <= 2  # it rounds the shrunken pixels to whole numbers
    assert distance(hash_image(encode(image, quality=95)), expected) <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP"])
def test_the_hash_is_of_the_upright_image(orientation: int, suffix: str) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encode(scene(2), suffix, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert distance(hash_image(content), int(str(imagehash.phash(upright)), 16)) <= 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_kind_of_pixels(mode: str) -> None:
    image = scene(3)
    grey = np.asarray(image.convert("L"))
    deep = {"I;16": grey.astype(np.uint16) * 200, "I": grey.astype(np.int32) * 200, "F": grey.astype(np.float32)}
    kept = Image.fromarray(deep[mode]) if mode in deep else image.convert(mode)
    assert kept.mode == mode
    content = encode(kept, "TIFF")
    assert distance(hash_image(content), hash_image(encode(image))) <= 8


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_missing_pixels_are_found(tmp_path: Path, suffix: str, share: float) -> None:
    whole = encode(scene(4), suffix)
    content = whole[: int(len(whole) * share)]
    path = tmp_path / "image"
    path.write_bytes(content)
    found = read_pixels({md5(content): path}, tmp_path / "cache")[md5(content)]
    assert found.phash is None
    assert "damaged" in found.error


def write_scenes(folder: Path, count: int) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for index in range(count):
        content = encode(scene(index, (64, 48)))
        files[md5(content)] = folder / f"{index}.jpg"
        files[md5(content)].write_bytes(content)
    return files


def test_what_was_found_is_remembered_by_content(tmp_path: Path) -> None:
    files = write_scenes(tmp_path, 6)
    calls: list[tuple[int, int]] = []
    first = read_pixels(files, tmp_path / "state/cache", progress=lambda *done: calls.append(done))
    assert list(first) == list(files)
    assert calls == [(6, 6)]
    for path in files.values():
        path.unlink()
    assert read_pixels(files, tmp_path / "state/cache", progress=lambda *done: calls.append(done)) == first
    assert calls == [(6, 6)]


def test_the_result_is_the_same_with_any_number_of_processes(tmp_path: Path) -> None:
    files = write_scenes(tmp_path, 8)
    many = dict(files)
    for index in range(500):
        content = encode(Image.new("L", (16, 16), index % 256)) + index.to_bytes(2, "big") + b"\xff\xd9"
        many[md5(content)] = tmp_path / f"even{index}.jpg"
        many[md5(content)].write_bytes(content)
    one = read_pixels(many, tmp_path / "one", processes=1)
    two = read_pixels(dict(reversed(many.items())), tmp_path / "two", processes=2)
    assert one == two
    assert sum(fact.phash == 0 for fact in one.values()) == 500


def test_a_torn_cache_and_one_of_another_version_do_no_harm(tmp_path: Path) -> None:
    files = write_scenes(tmp_path, 3)
    cache = tmp_path / "cache"
    whole = read_pixels(files, cache)
    lines = cache.read_bytes().splitlines(keepends=True)
    for torn in (b"", lines[0][:20], lines[0] + lines[1][:-3], b"\xff\xfe" + lines[2], b"[999" + lines[0][2:]):
        cache.write_bytes(torn)
        assert read_pixels(files, cache) == whole
        for path in files.values():
            path.rename(path.with_suffix(".away"))
        assert read_pixels(files, cache) == whole
        for path in files.values():
            path.with_suffix(".away").rename(path)


def test_two_processes_share_a_cache(tmp_path: Path) -> None:
    files = write_scenes(tmp_path, 20)
    cache = tmp_path / "cache"
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=read_pixels, args=(files, cache, 1)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    entries = [msgspec.json.decode(line) for line in cache.read_bytes().splitlines()]
    assert {entry[1]["md5"] for entry in entries} == set(files)


def test_what_does_not_belong_to_the_content_is_not_remembered(tmp_path: Path) -> None:
    content = encode(scene(5))
    path = tmp_path / "a.jpg"
    files = {md5(content): path}
    cache = tmp_path / "cache"
    assert "cannot be read (No such file" in read_pixels(files, cache)[md5(content)].error
    path.write_bytes(encode(scene(6)))
    assert read_pixels(files, cache)[md5(content)].error == CHANGED
    path.write_bytes(content)
    assert read_pixels(files, cache)[md5(content)].error == ""
