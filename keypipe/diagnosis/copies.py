"""Copies of an image in two splits that were mirrored, turned or relit, which no plain likeness finds."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations, product

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from keypipe.diagnosis.findings import Finding
from keypipe.images.pixels import PixelFacts
from keypipe.keypoints.instances import AnnotatedImage

_MAX_DISTANCE = 10
"""Bits between a perceptual hash and that of a copy. Of copies of 60 drawings, 60 photos and 60 diagrams, mirrored or
turned and in JPEG of quality 85, 97 to 100 % are within it; of those brightened by 40 %, 95 to 98 %."""
_LIKENESS = 0.92
"""Correlation of the pixels of two thumbnails. Of the pairs of 300 drawings, of 215 photos and of 300 diagrams that are
within 10 bits when one is mirrored or turned, none exceeds 0.9; of the copies above one in a hundred is below 0.99, of
brightened ones below 0.929."""
_THUMBNAIL_PX = 64
_LOOKED_AT = 3  # nearest candidates of an image whose pixels are compared
_ROWS = 1000  # hashes compared at once with all others


class Turn(msgspec.Struct, frozen=True):
    """One of the eight ways to mirror and turn a picture: rows and columns exchanged first, then reversed."""

    transposed: bool
    rows_reversed: bool
    columns_reversed: bool

    def __str__(self) -> str:
        n_mirrors = self.transposed + self.rows_reversed + self.columns_reversed
        if self.transposed:
            return "a copy turned by a quarter" if n_mirrors == 2 else "a copy turned by a quarter and mirrored"
        return ("a relit copy", "a mirrored copy", "a copy turned by half")[n_mirrors]

    def apply(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mirror and turn a picture, float32 (n, n)."""
        picture = picture.T if self.transposed else picture
        picture = picture[::-1] if self.rows_reversed else picture
        return picture[:, ::-1] if self.columns_reversed else picture

    def apply_to_hashes(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return about the hashes that mirrored and turned pictures have: odd frequencies change their sign."""
        bits = np.unpackbits(hashes.astype(">u8").reshape(-1, 1).view(np.uint8), axis=1).reshape(-1, 8, 8)
        bits = bits.transpose(0, 2, 1) if self.transposed else bits
        signs = np.zeros((8, 8), np.uint8)
        signs[1::2] ^= self.rows_reversed
        signs[:, 1::2] ^= self.columns_reversed
        packed = np.packbits((bits ^ signs).reshape(-1, 64), axis=1)
        return np.ascontiguousarray(packed).view(">u8").ravel().astype(np.uint64)


TURNS = tuple(Turn(*choice) for choice in product((False, True), repeat=3))


def find_copies(
    images: Sequence[AnnotatedImage],
    facts: Mapping[str, PixelFacts],
    splits: Mapping[str, str],
    clusters: Sequence[Sequence[str]],
    read: Callable[[str], bytes],
) -> list[Finding]:
    """Find images that are a mirrored, turned or relit copy of one in another split.

    Args:
        images: all of them, in any order.
        facts: of their pixels, by md5.
        splits: split of each image, by its path; images without one take no part.
        clusters: md5s of images that look the same as they are, which are told already.
        read: returns the bytes of an image, by its path.

    Returns:
        A finding for each such image, in the split that is less learnt from.
    """
    cluster_of = {md5: number for number, cluster in enumerate(clusters) for md5 in cluster}
    usable = [image for image in sorted(images, key=lambda item: item.path) if splits.get(image.path)]
    usable = [image for image in usable if facts[image.md5].phash]
    thumbnail = lru_cache(maxsize=512)(lambda path: _to_thumbnail(read(path)))
    found: dict[str, Finding] = {}
    for one, other, turn in _find_candidates(usable, facts, splits):
        known = one.md5 == other.md5 or cluster_of.get(one.md5, -1) == cluster_of.get(other.md5, -2)
        if known or other.path in found:
            continue
        likeness = float((turn.apply(thumbnail(one.path)) * thumbnail(other.path)).mean())
        if likeness >= _LIKENESS:
            found[other.path] = _to_finding(other, one, splits, turn)
    return list(found.values())


def _find_candidates(
    images: Sequence[AnnotatedImage], facts: Mapping[str, PixelFacts], splits: Mapping[str, str]
) -> Iterator[tuple[AnnotatedImage, AnnotatedImage, Turn]]:
    """Yield pairs in two splits whose hashes are near when one is turned, the few nearest ones of each image."""
    by_split: dict[str, list[AnnotatedImage]] = defaultdict(list)
    for image in images:
        by_split[splits[image.path]].append(image)
    order = sorted(by_split, key=lambda split: (split == "test", split == "val", split))
    for first, second in combinations(order, 2):
        ones, others = by_split[first], by_split[second]
        hashes = np.array([facts[image.md5].phash for image in ones], np.uint64)
        turned = [turn.apply_to_hashes(hashes) for turn in TURNS]
        for start in range(0, len(others), _ROWS):
            rows = others[start : start + _ROWS]
            theirs = np.array([facts[image.md5].phash for image in rows], np.uint64)[:, None]
            nearest: list[list[tuple[int, int, int]]] = [[] for _ in rows]
            for number, hashes_of_turn in enumerate(turned):
                distances = np.bitwise_count(theirs ^ hashes_of_turn)
                columns = distances.argmin(axis=1)
                for row, (column, distance) in enumerate(
                    zip(columns.tolist(), distances.min(axis=1).tolist(), strict=True)
                ):
                    nearest[row].append((distance, number, column))
            for row, found in enumerate(nearest):
                for distance, number, column in sorted(found)[:_LOOKED_AT]:
                    if distance <= _MAX_DISTANCE:
                        yield ones[column], rows[row], TURNS[number]


def _to_thumbnail(content: bytes) -> NDArray[np.float32]:
    """Return a small square picture in grey, float32 (64, 64), of mean 0 and deviation 1."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("L")
    small = np.asarray(picture.resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX), np.float32)
    scaled: NDArray[np.float32] = (small - small.mean()) / (small.std() + np.float32(1e-6))
    return scaled


def _to_finding(image: AnnotatedImage, first: AnnotatedImage, splits: Mapping[str, str], turn: Turn) -> Finding:
    name, split, other = first.path.partition("/")[2], splits[image.path], splits[first.path]
    return Finding(
        kind="transformed-copy-across-sides",
        severity="warning",
        file=image.source,
        message=f"{turn} of {name}, which is in {other}, while this one is in {split}",
        fix="leave one of the two out, or put both in one split",
        split=split,
        image=image.path,
        others=(first.source, first.path),
    )
