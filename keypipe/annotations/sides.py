"""Which keypoint names are the left and the right of one thing, in the spellings that people use.

A draft of a schema is looked over by a person, so more is taken here than ``pairs: auto`` takes without asking. What
may as well mean something else, such as ``L1`` and ``R1`` in a circuit diagram, is told and not taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from keypipe.keypoints.skeleton import find_pairs

_WORDS = (
    ("links", "rechts"), ("linkes", "rechtes"), ("linker", "rechter"), ("linke", "rechte"), ("gauche", "droite"),
    ("gauche", "droit"), ("izquierda", "derecha"), ("izquierdo", "derecho"),
)  # fmt: skip
_LETTERS = (
    r"^(?P<side>[LlRr])(?=[_\-. ])",  # L_ear, l-ear; at the front
    r"[_\-. ](?P<side>[LlRr])(?![^\W\d_])",  # ear_L, ear-l, ear_L_2; at the end, or before a number
    r"(?<=[a-z])(?P<side>[LR])$",  # earL
    r"^(?P<side>[LRlr])(?=[A-Z][a-z])",  # LEar, lEar
    r"^(?P<side>[LR])(?=[A-Z]{1,2}\d*$)",  # LH, RH: left and right hind
    r"(?<=^[A-Z])(?P<side>[LR])(?=\d*$)",  # FL, FR: front left and front right
)
_UNSURE = (
    r"^(?P<side>[LRlr])(?=\d+$)",  # L1 and R1, or an inductor and a resistor
    r"(?<=\d)(?P<side>[LRlr])$",
    r"^(?P<side>[LRlr])$",
)


class Sides(NamedTuple):
    """Names that are left and right of one thing.

    Attributes:
        pairs: two names each, in the order of their first member.
        doubts: pairs of names that may be.
    """

    pairs: tuple[tuple[str, str], ...]
    doubts: tuple[tuple[str, str], ...] = ()


def find_sides(keypoints: Sequence[str]) -> Sides:
    """Pair the names that differ only in their side, if in nothing else they are alike.

    Args:
        keypoints: names in schema order. One that could be paired with several is paired with none, but told.
    """
    sure = set(find_pairs(keypoints)) | _pair(keypoints, _LETTERS) | _pair_words(keypoints)
    paired = [name for pair in sure for name in pair]
    pairs = {pair for pair in sure if not any(paired.count(name) > 1 for name in pair)}
    taken = {name for pair in pairs for name in pair}
    doubts = (sure - pairs) | {pair for pair in _pair(keypoints, _UNSURE) if not taken & {*pair}}
    return Sides(_in_order(pairs, keypoints), _in_order(doubts, keypoints))


def _in_order(pairs: set[tuple[str, str]], keypoints: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(pairs, key=lambda pair: tuple(map(keypoints.index, pair))))


def _pair(keypoints: Sequence[str], patterns: Sequence[str]) -> set[tuple[str, str]]:
    """Return the pairs of which one name becomes the other when one letter of a pattern changes its side."""
    found: set[tuple[str, str]] = set()
    for name in keypoints:
        for pattern in patterns:
            for match in re.finditer(pattern, name):
                at = match.start("side")
                other = name[:at] + "RrLl"["LlRr".index(name[at])] + name[at + 1 :]
                if other in keypoints:
                    found.add(_as_pair(name, other, keypoints))
    return found


def _pair_words(keypoints: Sequence[str]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    lower = {name.lower(): name for name in keypoints}
    for left, right in _WORDS:
        for name in keypoints:
            other, replaced = re.subn(rf"(?<![^\W\d_]){left}(?![^\W\d_])", right, name.lower())
            if replaced and other in lower:
                found.add(_as_pair(name, lower[other], keypoints))
    for name in keypoints:
        other = re.sub(r"(?<=[a-z])Left(?![a-z])", "Right", name)  # EarLeft
        if other != name and other in keypoints:
            found.add(_as_pair(name, other, keypoints))
    return found


def _as_pair(one: str, other: str, keypoints: Sequence[str]) -> tuple[str, str]:
    return (one, other) if keypoints.index(one) < keypoints.index(other) else (other, one)
