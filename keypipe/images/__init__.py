"""Image files and their pixels: headers, decoding, videos, damage and likeness."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.images.header import ImageHeader, parse_image_header
    from keypipe.images.media import VideoWriter, decode_image, open_video, read_image
    from keypipe.images.pixels import PixelFacts, hash_image, read_pixels
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        header=("ImageHeader", "parse_image_header"),
        media=("VideoWriter", "decode_image", "open_video", "read_image"),
        pixels=("PixelFacts", "hash_image", "read_pixels"),
    )

__all__ = [
    "ImageHeader",
    "PixelFacts",
    "VideoWriter",
    "decode_image",
    "hash_image",
    "open_video",
    "parse_image_header",
    "read_image",
    "read_pixels",
]
