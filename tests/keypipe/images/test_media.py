from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keypipe.errors import AnnotationError
from keypipe.images.media import open_timed_video, open_video, read_image
from tests.keypipe.batch.spots import write_film

# ------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_read_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    from PIL import ImageOps

    small = np.random.default_rng(0).integers(0, 255, (3, 5, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((50, 30), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"奶牛 é{suffix}"
    image.save(path, exif=exif, quality=100, **({"subsampling": 0} if suffix == ".jpg" else {}))
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"), dtype=int)
    found = read_image(path)[..., ::-1].astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 30  # lossy formats


def test_content_counts_not_the_suffix(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (200, 20, 20)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (30, 40, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "1"])
def test_every_kind_of_pixel_becomes_bgr(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (40, 30)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (30, 40, 3)


def test_unreadable_images(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name, message in {
        "cut.jpg": "truncated",
        "text.jpg": "not an image",
        "empty.jpg": "not an image",
        "none.jpg": "No such file",
    }.items():
        with pytest.raises(AnnotationError, match=message) as caught:
            read_image(tmp_path / name)
        assert name in str(caught.value)
    (tmp_path / "longer.jpg").write_bytes(content + b"appended by a phone")
    np.testing.assert_array_equal(read_image(tmp_path / "longer.jpg"), read_image(tmp_path / "whole.jpg"))


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("hello")
    for name in ("a.mp4", "none.mp4"):
        with pytest.raises(AnnotationError, match="not a video"), open_video(tmp_path / name):
            pass


@pytest.mark.parametrize("skip", [0, 1, 5, 9, 12])
def test_a_video_from_a_frame_on(tmp_path: Path, skip: int) -> None:
    path = write_film(tmp_path / "film.avi", n_frames=10)
    with open_timed_video(path) as (_, frames):
        whole = list(frames)
    assert [seconds for seconds, _ in whole] == pytest.approx([number / 25 for number in range(10)])
    with open_timed_video(path, skip) as (_, frames):
        rest = list(frames)
    assert [seconds for seconds, _ in rest] == [seconds for seconds, _ in whole[skip:]]
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(rest, whole[skip:], strict=True))
