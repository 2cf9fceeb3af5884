"""What an image file says of itself in its header, and how to mend one with bytes behind its end."""

from __future__ import annotations

import io
import warnings

import msgspec
from PIL import ExifTags, Image, UnidentifiedImageError

from keypipe.errors import AnnotationError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".mpo")
"""Suffixes that are looked for beside a JSON; a subset of what Ultralytics reads."""

_FORMAT_SUFFIX = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif"}
_JPEG_END = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_APP_EXIF_AND_MPF = (0xE1, 0xE2)  # XMP and colour profiles stand in such segments as well
_PNG_END = b"IEND\xaeB`\x82"
_MIN_SIDE_PX = 10  # Ultralytics refuses anything smaller (ultralytics.data.utils.check_image)
_MAX_PIXELS = 178_956_970  # where Pillow takes an image for a decompression bomb; a JPEG's header is read without it
_TRANSPOSING = {5, 6, 7, 8}  # EXIF 2.32, tag 0x0112: row and column exchanged


class ImageHeader(msgspec.Struct, frozen=True):
    """Facts from the header, without decoding pixels.

    Attributes:
        format: Pillow's name of the format in the bytes, whatever the file is called.
        size_wh: width and height in pixels with the EXIF orientation applied, as labelme shows the image.
        suffix: the usual suffix of that format.
        complete: False when the end marker is not where it should be.
    """

    format: str
    size_wh: tuple[int, int]
    suffix: str
    complete: bool


def parse_image_header(content: bytes) -> ImageHeader:
    """Read format, size and orientation from the bytes of an image file.

    Args:
        content: the whole file.

    Returns:
        The header's facts.

    Raises:
        AnnotationError: not an image that YOLO can be trained on.
    """
    if size_wh := _size_of_plain_jpeg(content):
        _check_size(size_wh)
        return ImageHeader("JPEG", size_wh, ".jpg", content.endswith(_JPEG_END))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF blocks; the size is right all the same
            image = Image.open(io.BytesIO(content))
            width, height = image.size
            # A camera's preview orientation lives in the same tag for every format that carries EXIF.
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Image.DecompressionBombError as error:
        raise AnnotationError(f"image of more than {_MAX_PIXELS // 1_000_000} megapixels") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise AnnotationError("not an image, or one that is damaged at its start") from error
    image_format = image.format or "unknown"
    if image_format not in _FORMAT_SUFFIX:
        raise AnnotationError(f"image format {image_format} is not one of {', '.join(sorted(_FORMAT_SUFFIX))}")
    _check_size((width, height))
    # Pillow states a TIFF's size upright already, and labelme shows it so.
    transposed = orientation in _TRANSPOSING and image_format != "TIFF"
    size_wh = (height, width) if transposed else (width, height)
    return ImageHeader(image_format, size_wh, _FORMAT_SUFFIX[image_format], _is_complete(content, image_format))


def _size_of_plain_jpeg(content: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG whose header holds neither EXIF nor further images; None: ask Pillow.

    Opening an image is what Pillow is slow at, and nearly every image of a large dataset is such a JPEG.
    """
    position = 2 if content.startswith(b"\xff\xd8\xff") else 0
    while position and content[position : position + 1] == b"\xff":
        marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == _START_OF_SCAN:
            import simplejpeg

            try:
                height, width, *_ = simplejpeg.decode_jpeg_header(content)
            except ValueError:
                return None
            return width, height
        if marker in _APP_EXIF_AND_MPF or length < 2:
            return None
        position += 2 + length
    return None


def _check_size(size_wh: tuple[int, int]) -> None:
    if min(size_wh) < _MIN_SIDE_PX:
        raise AnnotationError(f"image of {size_wh[0]}x{size_wh[1]} px is smaller than {_MIN_SIDE_PX} px")
    if size_wh[0] * size_wh[1] > _MAX_PIXELS:
        raise AnnotationError(f"image of more than {_MAX_PIXELS // 1_000_000} megapixels")


def _is_complete(content: bytes, image_format: str) -> bool:
    if image_format in {"JPEG", "MPO"}:
        return content.endswith(_JPEG_END)
    if image_format == "PNG":
        return _PNG_END in content[-1024:]
    return True


def repair_image(content: bytes) -> bytes:
    """Mend a JPEG whose end marker is followed by other bytes, as some phones write them.

    Ultralytics takes such a file for damaged and encodes it anew, with a loss; here the coded pixels stay.

    Args:
        content: the whole file.

    Returns:
        The same JPEG ending in its end marker.

    Raises:
        AnnotationError: the file ends before its end marker.
    """
    try:
        Image.open(io.BytesIO(content)).load()
    except (OSError, ValueError, SyntaxError) as error:
        raise AnnotationError(f"the image is truncated or damaged ({error})") from error
    # Decoders stop at the first marker.
    return content + _JPEG_END
