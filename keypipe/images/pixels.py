"""The pass over the pixels: which images are damaged, and which show the same picture."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

CHANGED = "the file has other content than was said"
"""The error of a file that is not the one that was meant: known to be wrong, never remembered."""

_HASH_PX = 32
_DECODE_PX = 2 * _HASH_PX  # decode at least this; with less, copies of another size hash differently
_MAX_PX = 512  # enough for a hash; keeps the matrices small
_MIN_AMPLITUDE = 0.5  # grey levels of the strongest low frequency; below this a hash is made of noise
_VERSION = 1  # of what is computed from the pixels; other versions' cache lines are passed over
_CHUNK = 64  # files a task; also what an interruption loses at most, a process
_FILES_PER_PROCESS = 200  # below this a pool costs more than it saves
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF 2.32, tag 0x0112


class PixelFacts(msgspec.Struct, frozen=True, gc=False):
    """What one look at an image's pixels tells.

    Attributes:
        md5: hash of the file's bytes.
        phash: 64-bit perceptual hash of the upright image (``imagehash.phash``), most significant bit first; 0 for
            an image that is one even area, whose hash would mean nothing; None when it cannot be decoded.
        error: why pixels are missing or damaged; "" when whole.
    """

    md5: str
    phash: int | None
    error: str


class _CacheLine(msgspec.Struct, array_like=True):
    version: int
    facts: PixelFacts


def read_pixels(
    files: Mapping[str, str | Path],
    cache: Path,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    folder: Path = Path(),
) -> dict[str, PixelFacts]:
    """Decode images, as small as their format allows, and remember what was found.

    A file is known by its content: what was found once is taken from the cache, whatever the file is called. The
    cache is a file of lines to which processes only ever append; a torn line is passed over.

    Args:
        files: md5 of the content -> path.
        cache: file that remembers; it and its folder are made.
        processes: at most this many; default all cores.
        progress: called with the number of files decoded and to decode.
        folder: where paths start.

    Returns:
        md5 -> facts, for every file; a file that is not there or has other content has an ``error``.
    """
    found = _read_cache(cache, files)
    todo = sorted((md5, str(path)) for md5, path in files.items() if md5 not in found)
    if todo:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with cache.open("ab") as memory:
            _end_torn_line(cache, memory.write)
            for chunk in _look_at_all(folder, todo, processes):
                lines = [_CacheLine(_VERSION, facts) for facts, lasting in chunk if lasting]
                memory.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
                memory.flush()
                found |= {facts.md5: facts for facts, _ in chunk}
                if progress:
                    progress(len(found) - len(files) + len(todo), len(todo))
    facts = ((md5, found[md5]) for md5 in files)
    return {md5: PixelFacts(md5, fact.phash, fact.error) for md5, fact in facts}  # with the caller's own string


def _read_cache(cache: Path, wanted: Collection[str]) -> dict[str, PixelFacts]:
    known: dict[str, PixelFacts] = {}
    if not (wanted and cache.exists()):
        return known
    decode = msgspec.json.Decoder(_CacheLine).decode
    with cache.open("rb") as file:
        for line in file:
            try:
                entry = decode(line)
            except msgspec.DecodeError:
                continue
            if entry.version == _VERSION and entry.facts.md5 in wanted:
                known[entry.facts.md5] = entry.facts
    return known


def _end_torn_line(cache: Path, write: Callable[[bytes], object]) -> None:
    with cache.open("rb") as file:
        if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) is not None and file.read(1) != b"\n":
            write(b"\n")


def _look_at_all(
    folder: Path, todo: Sequence[tuple[str, str]], processes: int | None
) -> Iterator[list[tuple[PixelFacts, bool]]]:
    chunks = [todo[start : start + _CHUNK] for start in range(0, len(todo), _CHUNK)]
    workers = min(processes or os.cpu_count() or 1, max(1, len(todo) // _FILES_PER_PROCESS))
    look = partial(_look_at_chunk, folder)
    if workers == 1:
        yield from map(look, chunks)
        return
    from concurrent.futures import ProcessPoolExecutor  # takes a while, and is seldom needed

    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(look, chunks)


def _look_at_chunk(folder: Path, chunk: Sequence[tuple[str, str]]) -> list[tuple[PixelFacts, bool]]:
    with _quiet():
        return [_look_at(md5, folder / path) for md5, path in chunk]


def _look_at(md5: str, path: Path) -> tuple[PixelFacts, bool]:
    """Return a file's facts, and whether they hold for its content for ever."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return PixelFacts(md5, None, f"cannot be read ({error.strerror or error})"), False
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        return PixelFacts(md5, None, CHANGED), False
    try:
        return PixelFacts(md5, hash_image(content), ""), True
    except _PIXEL_ERRORS as error:
        return PixelFacts(md5, None, _say(error)), True


_PIXEL_ERRORS = (OSError, ValueError, SyntaxError, IndexError, ImportError, Image.DecompressionBombError)
"""What Pillow's decoders raise for bytes that are no image or not a whole one. Ultralytics, once imported, makes Pillow
ask for a HEIF plugin whenever it does not know a file."""


def _say(error: Exception) -> str:
    if isinstance(error, (UnidentifiedImageError, ImportError)):
        return "not an image, or one that is damaged at its start"
    return f"the image is truncated or damaged ({error})"


def hash_image(content: bytes) -> int:
    """Compute the perceptual hash of an image file, that of ``imagehash.phash`` but for its rounding in between.

    Signs of the lowest frequencies of the picture at 32x32 against their median
    (https://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html).
    A JPEG is decoded at a fraction of its size; all of its data are read, so that missing ones are noticed.

    Args:
        content: the whole file.

    Returns:
        64 bits, most significant first; 0 for an image that is one even area.

    Raises:
        ValueError: pixels are missing. Pillow's decoders also raise the others of ``_PIXEL_ERRORS``.
    """
    image = Image.open(io.BytesIO(content))
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    picture = _decode_grey(image, content)
    if orientation in _TRANSPOSE:
        picture = picture.transpose(_TRANSPOSE[orientation])
    if max(picture.size) > _MAX_PX:
        picture = picture.resize([min(side, _MAX_PX) for side in picture.size], Image.Resampling.LANCZOS)
    grey = np.asarray(picture)
    height, width = grey.shape
    frequencies = (_frequency_rows(height) @ grey @ _frequency_rows(width).T).ravel()
    if np.abs(frequencies[1:]).max() < _MIN_AMPLITUDE * _HASH_PX**2 / 2:
        return 0
    low, high = np.sort(frequencies)[31:33]
    return int.from_bytes(np.packbits(frequencies > (low + high) / 2).tobytes(), "big")


@lru_cache(maxsize=256)
def _frequency_rows(n_pixels: int) -> NDArray[np.float32]:
    """Return the matrix, float32 (8, n_pixels), that shrinks n pixels to 32 as Pillow does, and takes the DCT-II."""
    each = Image.fromarray(np.eye(n_pixels, dtype=np.float32))
    shrink = np.asarray(each.resize((n_pixels, _HASH_PX), Image.Resampling.LANCZOS))
    cosines = np.cos(np.pi / (2 * _HASH_PX) * np.outer(np.arange(8), 2 * np.arange(_HASH_PX) + 1))
    rows: NDArray[np.float32] = (cosines @ shrink).astype(np.float32)
    return rows


def _decode_grey(image: Image.Image, content: bytes) -> Image.Image:
    if image.format in {"JPEG", "MPO"} and image.mode in {"L", "RGB"}:
        # Pillow and OpenCV fill missing data with grey when an end marker follows; simplejpeg passes libjpeg's word on.
        import simplejpeg

        pixels = simplejpeg.decode_jpeg(content, "GRAY", min_height=_DECODE_PX, min_width=_DECODE_PX)
        return Image.fromarray(pixels[..., 0])
    if not image.mode.startswith(("I", "F")):
        return image.convert("L")
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))  # Pillow would clip 16 bits to 8
    low, high = values.min(), values.max()
    return Image.fromarray(((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of odd EXIF blocks and large images; the pixels are right all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
