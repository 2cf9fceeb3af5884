"""What an image file says of itself in its header, and how to mend one with bytes behind its end."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import msgspec
from PIL import ExifTags, Image, UnidentifiedImageError

from keypipe.errors import AnnotationError
from keypipe.images.formats import SUFFIXES_BY_FORMAT, UnreadFormatError, identify
from keypipe.images.samples import DNG_VERSION, HEIGHT, WIDTH, Samples, find_samples, read_tiff_tags

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
        complete: False when the end marker is not where it should be.
        samples: their bits and their kind.
    """

    format: str
    size_wh: tuple[int, int]
    complete: bool
    samples: Samples = Samples()

    @property
    def suffix(self) -> str:
        """The usual suffix of the format."""
        return SUFFIXES_BY_FORMAT[self.format][0]


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
        return ImageHeader("JPEG", size_wh, content.endswith(_JPEG_END))
    known = identify(content)
    tags = read_tiff_tags(content) if known == "TIFF" else {}
    if known not in {"", "TIFF"} or DNG_VERSION in tags:
        raise UnreadFormatError("a camera's RAW" if known == "TIFF" else known)
    image_format, (width, height), orientation, mode = _open(content, tags)
    if image_format not in SUFFIXES_BY_FORMAT:
        raise UnreadFormatError(image_format)
    _check_size((width, height))
    # Pillow states a TIFF's size upright already, and labelme shows it so.
    transposed = orientation in _TRANSPOSING and image_format != "TIFF"
    size_wh = (height, width) if transposed else (width, height)
    samples = find_samples(content, image_format, mode, tags)
    return ImageHeader(image_format, size_wh, _is_complete(content, image_format), samples)


TOO_LARGE_FIX = "cut it into tiles, or make it smaller, and annotate those"


class TooLargeError(AnnotationError):
    """An image of more pixels than Pillow opens."""

    def __init__(self) -> None:
        super().__init__(f"image of more than {_MAX_PIXELS // 1_000_000} megapixels")


def _open(content: bytes, tags: Mapping[int, Any]) -> tuple[str, tuple[int, int], int, str]:
    """Return format, size, orientation and mode as Pillow has them; of a TIFF that it does not know, by the tags."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF blocks; the size is right all the same
            image = Image.open(io.BytesIO(content))
            # A camera's preview orientation lives in the same tag for every format that carries EXIF.
            return image.format or "unknown", image.size, image.getexif().get(ExifTags.Base.Orientation, 1), image.mode
    except Image.DecompressionBombError as error:
        raise TooLargeError from error
    # Ultralytics, once imported, makes Pillow ask for a HEIF plugin whenever it does not know a file.
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, ImportError) as error:
        return _open_tiff(tags, error)


def _open_tiff(tags: Mapping[int, Any], error: Exception) -> tuple[str, tuple[int, int], int, str]:
    """Describe a TIFF that Pillow does not know, such as one of floating point colours."""
    width, height = tags.get(WIDTH), tags.get(HEIGHT)
    if not isinstance(width, int) or not isinstance(height, int):
        raise AnnotationError("not an image, or one that is damaged at its start") from error
    samples = find_samples(b"", "TIFF", "", tags)
    if not samples.without_range or samples.channels > 4:
        found = f"a TIFF of {samples.channels} channels of {samples.bits} bits"
        raise AnnotationError(f"{found}, in a form that is not read; save it as PNG") from error
    orientation = tags.get(ExifTags.Base.Orientation, 1)
    return "TIFF", (height, width) if orientation in _TRANSPOSING else (width, height), orientation, ""


def _size_of_plain_jpeg(content: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG whose header holds neither EXIF nor further images; None: ask Pillow.

    Opening an image is what Pillow is slow at, and nearly every image of a large dataset is such a JPEG.
    """
    position = 2 if content.startswith(b"\xff\xd8\xff") else 0
    while position and content[position : position + 1] == b"\xff":
        if position + 4 > len(content):
            return None
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
        raise TooLargeError


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
