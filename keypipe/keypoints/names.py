"""Names of classes and keypoints: the one form in which they are compared, and which of them look like one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_BETWEEN_WORDS = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W_])")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[\s_-]+(?=\d)")


@lru_cache(maxsize=1 << 12)
def normal_form(text: str) -> str:
    """Return a name as it is compared everywhere: NFKC, one blank between words, and none around them.

    NFKC makes full width letters ordinary ones, and joins letters with their accents. What cannot be seen (byte order
    marks, zero-width blanks) is cut off at both ends; inside, some scripts need it.
    """
    name = " ".join(unicodedata.normalize("NFKC", text).split())
    if name.isascii():
        return name
    start, end = 0, len(name)
    while start < end and _is_unseen(name[start]):
        start += 1
    while end > start and _is_unseen(name[end - 1]):
        end -= 1
    return name if end - start == len(name) else normal_form(name[start:end])


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or character.isspace()


OWN_NAMES = (
    "a keypoint needs a name of its own, such as nose or tail, that says which it is in every object; rename the points"
)
"""What to do where all points have the same name."""


def spelling_key(name: str) -> str:
    """Return what names have in common that differ only by letter case, width, or blanks, hyphens and underscores.

    ``Left Ear``, ``left_ear`` and ``ｌｅｆｔear`` are ``leftear``; ``-1`` is not ``1``, and ``1-2`` is not ``12``.
    """
    seen = "".join(character for character in normal_form(name) if not _is_unseen(character) or character == " ")
    return _BETWEEN_WORDS.sub("", _BETWEEN_DIGITS.sub(".", seen.casefold()))


def find_look_alikes(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the names that look like one, together, in the order in which they come."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        found.setdefault(spelling_key(name), []).append(name)
    return [tuple(alike) for alike in found.values() if len(alike) > 1]
