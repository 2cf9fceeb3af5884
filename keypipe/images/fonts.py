"""A font that draws Latin and Chinese."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def font_path() -> Path | None:
    """Return Noto Sans SC (SIL OFL 1.1) from the package ``pylopdf-fonts-zh-cn``, or None without it."""
    spec = find_spec("pylopdf_fonts_zh_cn")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name("NotoSansSC-Regular.otf")
    return path if path.is_file() else None


@cache
def load_font(size_px: int) -> Font:
    """Return the font at a size; Pillow's own, which has no Chinese, when Noto Sans SC is not installed.

    Args:
        size_px: height of the em square, pixels.

    Returns:
        The font, shared between callers.
    """
    path = font_path()
    return ImageFont.load_default(size_px) if path is None else ImageFont.truetype(str(path), size_px)
