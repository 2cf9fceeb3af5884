"""Pictures and videos as arrays."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from keypipe.errors import AnnotationError, PoseError
from keypipe.images.depth import Depth, check_range, decode_deep, encode_bmp, scale_to_8_bits
from keypipe.images.formats import check_suffix
from keypipe.images.header import ImageHeader, parse_image_header, repair_image
from keypipe.images.opencv import import_cv2

BgrImage = NDArray[np.uint8]

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
_DEFAULT_FPS = 25.0  # for files that do not state their rate


def read_image(path: Path, depth: Depth = "cut") -> BgrImage:
    """Read an image upright, whatever its name and suffix.

    Args:
        path: the file.
        depth: what becomes of samples of more than 8 bits.

    Returns:
        uint8 (height, width, 3), BGR, with the EXIF orientation applied.

    Raises:
        AnnotationError: there is no such file, or it is no image, or a truncated one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return decode_image(content, depth, path.name)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error


def decode_image(content: bytes, depth: Depth = "cut", name: str = "") -> BgrImage:
    """Decode the bytes of an image file upright.

    Args:
        content: the whole file.
        depth: what becomes of samples of more than 8 bits.
        name: of the file, where it is known: a camera's RAW opens as the TIFF of its thumbnail.

    Returns:
        uint8 (height, width, 3), BGR, with the EXIF orientation applied.

    Raises:
        AnnotationError: not an image, or pixels are missing.
    """
    header = parse_image_header(content)
    check_suffix(name, header.format)
    if not header.complete:
        # OpenCV fills the missing part of a truncated image with grey and says nothing to the program.
        repair_image(content)
    image = _decode(content, header, depth)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def to_trainable(name: str, content: bytes, header: ImageHeader, depth: Depth) -> bytes:
    """Return the bytes of a file that Ultralytics reads as ``decode_image`` does.

    Args:
        name: of the file.
        content: the whole file.
        header: of it.
        depth: what becomes of samples of more than 8 bits.

    Returns:
        The content as it is; mended, where bytes follow a JPEG's end; or as an 8-bit BMP.

    Raises:
        AnnotationError: pixels are missing, or the samples can be read by scaling alone.
    """
    scaled = header.samples.deep and depth == "scale"
    # Ultralytics refuses PPM. It turns AVIF upright by its suffix alone.
    refused = header.format == "PPM" or (header.format == "AVIF" and not name.lower().endswith(".avif"))
    if scaled or refused:
        return encode_bmp(_decode(content, header, depth))
    check_range(header)
    return content if header.complete else repair_image(content)


def _decode(content: bytes, header: ImageHeader, depth: Depth) -> BgrImage:
    """Decode to uint8 (height, width), or (height, width, 3), BGR; upright."""
    if header.samples.deep and depth == "scale":
        return scale_to_8_bits(decode_deep(content, header))
    check_range(header)
    if header.format in {"AVIF", "PPM"}:  # OpenCV knows neither AVIF's orientation nor the range that a PPM states
        return _decode_by_pillow(content)
    cv2 = import_cv2()
    image: BgrImage | None = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise AnnotationError(f"the {header.format} image is damaged: its header can be read, its pixels cannot")
    return image


def _decode_by_pillow(content: bytes) -> BgrImage:
    try:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        if picture.mode.startswith("I"):
            return (np.asarray(picture, np.int32) >> 8).astype(np.uint8)
        return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])
    except (OSError, ValueError, SyntaxError) as error:
        raise AnnotationError(f"the image is truncated or damaged ({error})") from error


def is_video(path: Path) -> bool:
    """Tell by its suffix whether a file is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


class Video(msgspec.Struct, frozen=True):
    """Facts of a video.

    Attributes:
        size_wh: width and height of a frame, pixels, upright.
        fps: frames a second.
        n_frames: number of frames as the file states it; 0 where it does not.
    """

    size_wh: tuple[int, int]
    fps: float
    n_frames: int


@contextmanager
def open_video(path: Path | str) -> Iterator[tuple[Video, Iterator[BgrImage]]]:
    """Open a video for reading.

    Args:
        path: the file; as a text the number of a camera, or the address of a stream.

    Yields:
        Its facts, and its frames as uint8 (height, width, 3), BGR, upright.

    Raises:
        AnnotationError: there is no such file, or it holds no frame that can be read.
    """
    with open_timed_video(path) as (video, frames):
        yield video, (image for _, image in frames)


@contextmanager
def open_timed_video(path: Path | str, skip: int = 0) -> Iterator[tuple[Video, Iterator[tuple[float, BgrImage]]]]:
    """Open a video for reading, with the time of every frame, as the file states it.

    Args:
        path: the file; as a text the number of a camera, or the address of a stream.
        skip: so many frames are passed over; they cost little.

    Yields:
        Its facts, and its frames: seconds since the first one, rising; and uint8 (height, width, 3), BGR, upright.

    Raises:
        AnnotationError: there is no such file, or it holds no frame that can be read.
    """
    cv2 = import_cv2()
    is_stream = isinstance(path, str)
    place = int(path) if isinstance(path, str) and path.isdecimal() else str(path)
    capture = cv2.VideoCapture(place) if is_stream or Path(path).is_file() else None
    try:
        found, first = capture.read() if capture is not None else (False, None)
        if capture is None or first is None or not found:
            camera = f"camera {path}: no camera has this number, or it is in use"
            stream = camera if isinstance(place, int) else f"{path}: no stream that OpenCV can open"
            raise AnnotationError(stream if is_stream else f"{path}: not a video that OpenCV can read")
        fps = capture.get(cv2.CAP_PROP_FPS)
        fps = fps if math.isfinite(fps) and fps > 0 else _DEFAULT_FPS
        # Containers without an index state a negative number.
        n_frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        yield Video((first.shape[1], first.shape[0]), fps, n_frames), _frames(capture, first, 1 / fps, skip)
    finally:
        if capture is not None:
            capture.release()


def _frames(capture: Any, first: BgrImage, step: float, skip: int) -> Iterator[tuple[float, BgrImage]]:
    position = import_cv2().CAP_PROP_POS_MSEC
    start, seconds = capture.get(position) / 1000, 0.0
    if not skip:
        yield 0.0, first
    number = 0
    while True:
        number += 1
        if not capture.grab():
            return
        stated = capture.get(position) / 1000 - start
        # Some containers and cameras state no times; then frames come at the rate.
        seconds = round(stated if stated > seconds else seconds + step, 6)
        if number >= skip:
            found, frame = capture.retrieve()
            if not found:
                return
            yield seconds, frame


class VideoWriter:
    """Writes an MP4 video frame by frame (MPEG-4 part 2: OpenCV's wheel has no H.264 encoder)."""

    def __init__(self, path: Path, size_wh: tuple[int, int], fps: float) -> None:
        """Open the file.

        Args:
            path: the file to write, ending in ``.mp4``.
            size_wh: width and height of a frame, pixels.
            fps: frames a second.

        Raises:
            PoseError: the file cannot be written.
        """
        cv2 = import_cv2()
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size_wh)
        if not self._writer.isOpened():
            raise PoseError(f"{path}: OpenCV cannot write this video ({size_wh[0]}x{size_wh[1]} px, {fps:g} fps)")

    def write(self, frame_bgr: BgrImage) -> None:
        """Add a frame, uint8 (height, width, 3), BGR, of the size that was announced."""
        self._writer.write(frame_bgr)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.release()
