"""Samples of more than 8 bits, and formats that few people use."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from keypipe.errors import AnnotationError
from keypipe.images.depth import NoRangeError, encode_bmp, scale_to_8_bits
from keypipe.images.formats import IMAGE_SUFFIXES, UNREAD_SUFFIXES, UnreadFormatError
from keypipe.images.header import parse_image_header
from keypipe.images.media import decode_image, read_image, to_trainable

RAMP = np.tile(np.linspace(0, 1, 120), (60, 1))
BYTES = np.rint(RAMP * 255)


def encode(values: NDArray[Any], suffix: str) -> bytes:
    return bytes(cv2.imencode(suffix, values)[1].tobytes())


def colours(values: NDArray[Any]) -> NDArray[Any]:
    return np.dstack([values, values[:, ::-1], values])


DEEP = {
    "12 bits in a PNG": encode((RAMP * 4095).astype(np.uint16), ".png"),
    "12 bits in a TIFF": encode((RAMP * 4095).astype(np.uint16), ".tif"),
    "12 bits in a JPEG 2000": encode((RAMP * 4095).astype(np.uint16), ".jp2"),
    "12 bits in a PGM of 16": encode((RAMP * 4095).astype(np.uint16), ".pgm"),
    "16 bits": encode((RAMP * 65535).astype(np.uint16), ".png"),
    "signed 16 bits": encode((RAMP * 4000 - 1000).astype(np.int16), ".tif"),
    "32 bits": encode((RAMP * 1e6).astype(np.int32), ".tif"),
    "floats": encode(RAMP.astype(np.float32), ".tif"),
    "doubles": encode(RAMP * 1e-9, ".tif"),
    "a PFM": encode(RAMP.astype(np.float32), ".pfm"),
    "16 bits in colour": encode(colours(RAMP * 4095).astype(np.uint16), ".png"),
    "floats in colour": encode(colours(RAMP).astype(np.float32), ".tif"),
    "16 bits with alpha": encode(np.dstack([colours(RAMP * 4095), RAMP * 0 + 65535]).astype(np.uint16), ".png"),
    "a PPM of 16 bits": encode(colours(RAMP * 4095).astype(np.uint16), ".ppm"),
}
WITHOUT_RANGE = {"32 bits", "floats", "doubles", "a PFM", "floats in colour"}


@pytest.mark.parametrize("kind", DEEP)
def test_scaling_brings_the_range_that_is_used_to_8_bits(kind: str) -> None:
    header = parse_image_header(DEEP[kind])
    assert header.size_wh == (120, 60)
    assert header.samples.deep
    found = decode_image(DEEP[kind], "scale")
    expected = colours(BYTES) if "colour" in kind or "alpha" in kind or "PPM" in kind else np.dstack([BYTES] * 3)
    assert (found.dtype, found.shape) == (np.uint8, (60, 120, 3))
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", DEEP)
def test_what_is_trained_on_is_what_the_predictor_sees(kind: str) -> None:
    header = parse_image_header(DEEP[kind])
    copy = to_trainable("x.tif", DEEP[kind], header, "scale")
    assert parse_image_header(copy).format == "BMP"
    np.testing.assert_array_equal(decode_image(copy), decode_image(DEEP[kind], "scale"))


@pytest.mark.parametrize("kind", DEEP)
def test_without_scaling_16_bits_are_cut_and_others_refused(kind: str) -> None:
    content, header = DEEP[kind], parse_image_header(DEEP[kind])
    if kind in WITHOUT_RANGE:
        for read in (lambda: decode_image(content), lambda: to_trainable("x.tif", content, header, "cut")):
            with pytest.raises(NoRangeError, match=r"nothing tells which are black and which are white$"):
                read()
    elif header.format != "PPM":
        assert to_trainable("x.tif", content, header, "cut") is content
        expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(decode_image(content), expected)


def test_images_of_8_bits_are_never_scaled() -> None:
    content = encode((RAMP * 40).astype(np.uint8), ".png")
    header = parse_image_header(content)
    assert to_trainable("x.png", content, header, "scale") is content
    assert decode_image(content, "scale").max() == 40


def test_a_hot_pixel_does_not_make_the_rest_dark_and_a_small_marker_counts() -> None:
    values = np.zeros((200, 200), np.uint16)
    values[5:9, 5:9] = 900
    values[100, 100] = 65535
    scaled = scale_to_8_bits(values)
    assert set(np.unique(scaled)) == {0, 255}
    assert scaled[6, 6] == 255


def test_numbers_that_are_none() -> None:
    values = np.array([[np.nan, 0.0], [np.inf, 2.0], [-np.inf, 1.0]])
    assert scale_to_8_bits(values).tolist() == [[0, 0], [255, 255], [0, 128]]
    assert not scale_to_8_bits(np.full((4, 4), np.nan)).any()
    assert not scale_to_8_bits(np.full((4, 4), 7, np.uint16)).any()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["PNG", "TIFF"])
def test_deep_images_are_upright(suffix: str, orientation: int) -> None:
    buffer = io.BytesIO()
    pixels = np.arange(40 * 20, dtype=np.uint16).reshape(20, 40)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(buffer, suffix, exif=exif)
    found = decode_image(buffer.getvalue(), "scale")
    assert found.shape[1::-1] == parse_image_header(buffer.getvalue()).size_wh
    turned = decode_image(buffer.getvalue()).astype(int)  # OpenCV's own way with the upper 8 bits
    assert turned.shape == found.shape
    expected = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert found[expected[orientation]].tolist() == [0, 0, 0]


def test_equal_pixels_give_equal_bytes() -> None:
    grey = np.rint(BYTES).astype(np.uint8)
    content = encode_bmp(grey)
    assert len(content) == 54 + 4 * 256 + 60 * 120
    np.testing.assert_array_equal(decode_image(content)[..., 0], grey)
    assert len(encode_bmp(colours(grey))) == 54 + 60 * 360


def test_formats_that_pillow_and_opencv_both_read() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((80, 60))
    for image_format in ("AVIF", "JPEG2000", "PPM"):
        buffer = io.BytesIO()
        picture.save(buffer, image_format)
        header = parse_image_header(buffer.getvalue())
        assert (header.format, header.size_wh, header.suffix in IMAGE_SUFFIXES) == (image_format, (80, 60), True)
        found = decode_image(buffer.getvalue())[..., ::-1].astype(int)
        assert np.abs(found - np.asarray(picture)).mean() < 12  # lossy formats
        copy = to_trainable(f"x{header.suffix}", buffer.getvalue(), header, "cut")
        assert (copy is buffer.getvalue() or parse_image_header(copy).format == "BMP") == (image_format == "PPM") or (
            copy == buffer.getvalue()
        )
        np.testing.assert_array_equal(decode_image(copy), decode_image(buffer.getvalue()))


def test_avif_is_turned_upright_as_ultralytics_does(tmp_path: Path) -> None:
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    from ultralytics.utils.patches import imread

    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / "x.avif"
    Image.fromarray((RAMP * 255).astype(np.uint8)).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path), imread(str(path)))
    assert parse_image_header(path.read_bytes()).size_wh == (60, 120)
    header = parse_image_header(path.read_bytes())
    assert to_trainable("x.avif", path.read_bytes(), header, "cut") == path.read_bytes()
    copy = to_trainable("x.jpg", path.read_bytes(), header, "cut")  # by such a name Ultralytics would not turn it
    np.testing.assert_array_equal(decode_image(copy), read_image(path))


def thumbnail(tag: int | None) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (160, 120)).save(buffer, "TIFF", **({"tiffinfo": {tag: b"\1\4\0\0"}} if tag else {}))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 2000, "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + b"\0" * 2000, "HEIC"),
        (b"\xff\x0a" + b"\0" * 200, "JPEG XL"),
        (b"\0" * 128 + b"DICM" + b"\0" * 200, "DICOM"),
        (encode(colours(RAMP * 255).astype(np.uint8), ".gif"), "GIF"),
        (encode(colours(RAMP).astype(np.float32), ".hdr"), "Radiance HDR"),
        (thumbnail(50706), "a camera's RAW"),
    ],
)
def test_a_format_that_is_not_read_is_called_that(content: bytes, name: str) -> None:
    with pytest.raises(UnreadFormatError, match=rf"^its format, {name}, is not read$"):
        parse_image_header(content)


def test_a_raw_file_is_not_the_thumbnail_in_it(tmp_path: Path) -> None:
    (tmp_path / "x.NEF").write_bytes(thumbnail(None))
    with pytest.raises(AnnotationError, match=r"x.NEF: its format, a camera's RAW"):
        read_image(tmp_path / "x.NEF")
    (tmp_path / "x.tif").write_bytes(thumbnail(None))
    assert read_image(tmp_path / "x.tif").shape == (120, 160, 3)


def test_no_suffix_is_both_read_and_not_read() -> None:
    assert not set(IMAGE_SUFFIXES) & UNREAD_SUFFIXES.keys()


def test_a_tiff_of_many_channels_is_called_that() -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs tifffile to write one: pip install tifffile")
    buffer = io.BytesIO()
    values = np.zeros((60, 80, 5), np.uint16)
    tifffile.imwrite(buffer, values, photometric="minisblack", planarconfig="contig", metadata=None)
    with pytest.raises(AnnotationError, match="a TIFF of 5 channels of 16 bits, in a form that is not read"):
        parse_image_header(buffer.getvalue())
