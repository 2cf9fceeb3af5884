from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keypipe.errors import AnnotationError
from keypipe.images.header import parse_image_header, repair_image
from keypipe.images.media import decode_image


def encode(size_wh: tuple[int, int] = (40, 20), image_format: str = "JPEG", orientation: int = 1) -> bytes:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (size_wh[1] // 4, size_wh[0] // 4, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize(size_wh)
    exif = Image.Exif()
    exif[274] = orientation
    buffer = io.BytesIO()
    image.save(buffer, image_format, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_size_is_the_one_that_labelme_and_opencv_show(image_format: str, orientation: int, labelme_files: Any) -> None:
    content = encode(image_format=image_format, orientation=orientation)
    header = parse_image_header(content)
    shown = labelme_files.apply_exif_orientation(Image.open(io.BytesIO(content)))
    assert header.size_wh == shown.size
    decoded = decode_image(content)
    assert header.size_wh == decoded.shape[1::-1]
    if image_format == "PNG":
        np.testing.assert_array_equal(decoded[..., ::-1], np.asarray(shown.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"icc_profile": b"profile" * 9}, {"comment": b"Exif"}, {"dpi": (72, 72)}]
)
def test_a_jpeg_without_exif_has_the_header_that_pillow_reads(mode: str, options: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (37, 21)).save(buffer, "JPEG", **options)
    plain, filled = buffer.getvalue(), b"\xff\xd8\xff" + buffer.getvalue()[2:]  # a fill byte before the first marker
    for content in (plain, filled):
        header = parse_image_header(content)
        shown = Image.open(io.BytesIO(content))
        assert (header.format, header.size_wh, header.complete) == (shown.format, shown.size, True)
    with pytest.raises(AnnotationError, match="smaller than"):
        parse_image_header(plain_jpeg((9, 40)))


def stated_size(content: bytes, marker: bytes, offset: int, layout: str, size: tuple[int, int]) -> bytes:
    """Write another size into a header."""
    at = content.index(marker) + offset
    return content[:at] + struct.pack(layout, *size) + content[at + struct.calcsize(layout) :]


def test_a_header_that_promises_too_many_pixels_is_refused() -> None:
    for content in (
        stated_size(plain_jpeg((40, 20)), b"\xff\xc0", 5, ">HH", (60_000, 60_000)),
        stated_size(encode(orientation=6), b"\xff\xc0", 5, ">HH", (60_000, 60_000)),  # with EXIF Pillow reads it
        stated_size(encode(image_format="BMP"), b"BM", 18, "<ii", (40_000, 40_000)),
    ):
        for read in (parse_image_header, decode_image):
            with pytest.raises(AnnotationError, match="image of more than 178 megapixels"):
                read(content)


def plain_jpeg(size_wh: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size_wh).save(buffer, "JPEG")
    return buffer.getvalue()


def test_the_bytes_tell_the_format_not_the_name() -> None:
    assert parse_image_header(encode(image_format="PNG")).format == "PNG"
    assert parse_image_header(encode()).suffix == ".jpg"


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_a_truncated_image_is_found_and_refused(image_format: str) -> None:
    content = encode((200, 200), image_format)[:-200]
    assert not parse_image_header(content).complete
    with pytest.raises(AnnotationError, match="truncated"):
        repair_image(content)


def test_a_jpeg_with_bytes_behind_its_end_is_mended_and_keeps_its_pixels() -> None:
    whole = encode((64, 48))
    broken = whole + b"\0\0\0appended by a phone"
    assert not parse_image_header(broken).complete
    mended = repair_image(broken)
    assert mended.endswith(b"\xff\xd9")
    np.testing.assert_array_equal(decode_image(mended), decode_image(whole))


@pytest.mark.parametrize("content", [b"", b"no image", encode((9, 9))])
def test_what_is_no_image_for_training_is_refused(content: bytes) -> None:
    with pytest.raises(AnnotationError):
        parse_image_header(content)
