"""Videos that are written: H.264, which browsers play, in pieces that a later run goes on from."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.videos.h264 import H264Writer, has_h264, join_pieces
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(__name__, h264=("H264Writer", "has_h264", "join_pieces"))

__all__ = ["H264Writer", "has_h264", "join_pieces"]
