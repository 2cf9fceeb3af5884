"""H.264 in MP4 by PyAV, with every frame at its own time."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from keypipe.errors import PoseError, needs_extra
from keypipe.images.media import BgrImage

NO_H264 = "no H.264 encoder here: the video plays in VLC and mpv, not in browsers; pip install 'keypipe[video]'"
"""What people are told where PyAV is not installed."""

_TICKS = 90_000  # a second, as MPEG has them
_OPTIONS = {
    "preset": "veryfast",
    "crf": "21",
    # Pieces are joined without a look into them: no frame waits for a later one.
    "bf": "0",
    # The colours as swscale converts them; players would guess otherwise for large frames.
    "x264-params": "colormatrix=smpte170m",
}
_THREADS = 1  # with more of them the same frames make other bytes now and then, and a resumed video is not the same


def has_h264() -> bool:
    """Tell whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


class H264Writer:
    """Writes a video frame by frame."""

    def __init__(self, path: Path, size_wh: tuple[int, int], fps: float) -> None:
        """Open the file.

        Args:
            path: the file to write, ending in ``.mp4``.
            size_wh: width and height of a frame, pixels; odd ones grow by a pixel, for the format has none.
            fps: frames a second, about.

        Raises:
            PoseError: PyAV is not installed, or the file cannot be written.
        """
        with needs_extra("PyAV", "video"):
            import av
            import av.video.reformatter
        self._av: Any = av
        self._odd = size_wh[0] % 2, size_wh[1] % 2
        self._last = -1
        try:
            self._file: Any = av.open(str(path), "w", options={"movflags": "+faststart"})
            stream: Any = self._file.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=_OPTIONS)
        except (OSError, ValueError) as error:
            raise PoseError(f"{path}: this video cannot be written ({error})") from error
        stream.width, stream.height = size_wh[0] + self._odd[0], size_wh[1] + self._odd[1]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, _TICKS)
        stream.codec_context.thread_count = _THREADS
        self._stream = stream

    def write(self, frame_bgr: BgrImage, seconds: float) -> None:
        """Add a frame.

        Args:
            frame_bgr: uint8 (height, width, 3), BGR, of the size that was announced.
            seconds: since the first frame.
        """
        if any(self._odd):
            frame_bgr = np.pad(frame_bgr, ((0, self._odd[1]), (0, self._odd[0]), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_bgr), format="bgr24")
        self._last = max(round(seconds * _TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        # As with the encoder: more threads, other colours now and then.
        exact = self._av.video.reformatter.Interpolation
        frame = frame.reformat(format="yuv420p", threads=1, interpolation=exact.BILINEAR | exact.ACCURATE_RND)
        for packet in self._stream.encode(frame):
            self._file.mux(packet)

    def close(self) -> None:
        """Write what is left, and close the file."""
        for packet in self._stream.encode():
            self._file.mux(packet)
        self._file.close()

    def __enter__(self) -> H264Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()


def join_pieces(pieces: Sequence[tuple[Path, float]], path: Path) -> None:
    """Join pieces of a video that were written alike; nothing is encoded again.

    Args:
        pieces: files of ``H264Writer``, and the seconds at which each begins.
        path: the file to write, ending in ``.mp4``.
    """
    import av

    with av.open(str(path), "w", options={"movflags": "+faststart"}) as joined:
        stream: Any = None
        for piece, start_s in pieces:
            with av.open(str(piece)) as source:
                video: Any = source.streams.video[0]
                if stream is None:
                    stream = joined.add_stream_from_template(video)
                    stream.time_base = Fraction(1, _TICKS)
                for packet in source.demux(video):
                    if packet.dts is None:
                        continue
                    shift = round(Fraction(round(start_s * _TICKS), _TICKS) / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    joined.mux(packet)
