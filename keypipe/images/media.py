"""Pictures and videos as arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.errors import AnnotationError, PoseError
from keypipe.images.header import parse_image_header, repair_image
from keypipe.images.opencv import import_cv2

BgrImage = NDArray[np.uint8]

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
_DEFAULT_FPS = 25.0  # for files that do not state their rate


def read_image(path: Path) -> BgrImage:
    """Read an image upright, whatever its name and suffix.

    Args:
        path: the file.

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
        return decode_image(content)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error


def decode_image(content: bytes) -> BgrImage:
    """Decode the bytes of an image file upright.

    Args:
        content: the whole file.

    Returns:
        uint8 (height, width, 3), BGR, with the EXIF orientation applied.

    Raises:
        AnnotationError: not an image, or pixels are missing.
    """
    cv2 = import_cv2()
    try:
        header = parse_image_header(content)
    except ImportError as error:
        # Ultralytics, once imported, makes Pillow ask for a HEIF plugin whenever it does not know a file.
        raise AnnotationError("not an image, or one that is damaged at its start") from error
    if not header.complete:
        # OpenCV fills the missing part of a truncated image with grey and says nothing to the program.
        repair_image(content)
    image: BgrImage | None = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise AnnotationError(f"the {header.format} image is damaged: its header can be read, its pixels cannot")
    return image


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
def open_video(path: Path) -> Iterator[tuple[Video, Iterator[BgrImage]]]:
    """Open a video for reading.

    Args:
        path: the file.

    Yields:
        Its facts, and its frames as uint8 (height, width, 3), BGR, upright.

    Raises:
        AnnotationError: there is no such file, or it holds no frame that can be read.
    """
    cv2 = import_cv2()
    capture = cv2.VideoCapture(str(path)) if path.is_file() else None
    try:
        found, first = capture.read() if capture is not None else (False, None)
        if capture is None or first is None or not found:
            raise AnnotationError(f"{path}: not a video that OpenCV can read")
        fps = capture.get(cv2.CAP_PROP_FPS)
        fps = fps if math.isfinite(fps) and fps > 0 else _DEFAULT_FPS
        # Containers without an index state a negative number.
        n_frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        yield Video((first.shape[1], first.shape[0]), fps, n_frames), _frames(capture, first)
    finally:
        if capture is not None:
            capture.release()


def _frames(capture: Any, first: BgrImage) -> Iterator[BgrImage]:
    yield first
    while True:
        found, frame = capture.read()
        if not found:
            return
        yield frame


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
