"""Bytes made from real files: what editors, scripts and damage do to them, and what would hurt a reader most."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS = (
    *(
        "nan",
        "NaN",
        "inf",
        "-inf",
        "Infinity",
        "1e999",
        "-1e308",
        "1e-320",
        "-0",
        "0",
        "-1",
        "3",
        "0.5",
        "1.5",
        "1_000",
    ),
    *(
        "99999999999999999999",
        "9" * 400,
        "9" * 5000,
        "0x10",
        "12:30",
        "true",
        "null",
        '""',
        '"1"',
        "[]",
        "{}",
        "[[1]]",
        "",
    ),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1e308, float("nan"), float("inf"), 10**30, 0.5, "", "1", "nan", "x" * 5000),
    *([], {}, [[]], [None], [[1, 2]], {"a": 1}, [1] * 2000, "牛", "\ud800", "\x00", "é", "nose", "cow"),
)
WORDS = (
    *(
        "",
        "nose",
        "NaN",
        "null",
        "~",
        "yes",
        "- a",
        "a: b",
        "*a",
        "&a [*a, *a]",
        "!!python/object/apply:os.system [ls]",
    ),
    *(
        "<<: *a",
        "? x",
        "%YAML",
        "---",
        "'",
        '"',
        "\x00",
        "\ufeff",
        "牛头",
        "\u2028",
        "x" * 5000,
        "../../etc/passwd",
        "#",
        "|",
    ),
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_WORD = re.compile(rb"[^\W\d_]\w*")
_ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "gb18030", "cp1252", "utf-8-sig")


def mutate(seeds: Sequence[bytes], number: int) -> bytes:
    """Return one of the real files as some mutations leave it.

    Args:
        seeds: real files of one kind.
        number: which of all mutated files; equal numbers give equal bytes.
    """
    chance = random.Random(number)
    content = chance.choice(seeds)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        content = chance.choice(_MUTATIONS)(content, chance, seeds)
    return content[: 1 << 20]


def _flip(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    data = bytearray(content or b"x")
    for _ in range(chance.choice((1, 1, 4, 64))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def _cut(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    start, end = _range(content, chance)
    return content[:start] + content[end:]


def _truncate(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _repeat(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    start, end = _range(content, chance)
    return content[:end] + content[start:end] * chance.choice((1, 2, 50)) + content[end:]


def _insert(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(content) + 1)
    piece = chance.choice(
        (b"[", b"{", b"]", b"}", b",", b"\n", b"\0", b"\t", b'"', b"\xff\xfe", b"\xc5\xa3", b"(", b"-")
    )
    return content[:at] + piece * chance.choice((1, 1, 2, 3000)) + content[at:]


def _splice(content: bytes, chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    other = chance.choice(seeds)
    return content[: chance.randrange(len(content) + 1)] + other[chance.randrange(len(other) + 1) :]


def _number(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    return _replace(content, _NUMBER, chance.choice(NUMBERS), chance)


def _word(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    return _replace(content, _WORD, chance.choice(WORDS), chance)


def _encode(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    try:
        return content.decode().encode(chance.choice(_ENCODINGS), "replace")
    except UnicodeDecodeError:
        return content


def _node(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    """Put something else in the place of a value of a JSON; of what is no JSON a number."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return _replace(content, _NUMBER, chance.choice(NUMBERS), chance)
    places = _list_places(document)
    if not places:
        return json.dumps(chance.choice(VALUES)).encode()
    for _ in range(chance.choice((1, 1, 2, 5))):
        parent, key = chance.choice(places)
        if chance.random() < 0.2 and isinstance(parent, dict):
            parent.pop(key, None)
        elif isinstance(parent, dict) or key < len(parent):
            parent[key] = chance.choice(VALUES)
    return json.dumps(document).encode()


def _list_places(document: Any) -> list[tuple[Any, Any]]:
    places: list[tuple[Any, Any]] = []
    todo = [document]
    while todo:
        node = todo.pop()
        keys = list(node) if isinstance(node, dict) else range(min(len(node), 200)) if isinstance(node, list) else ()
        places += [(node, key) for key in keys]
        todo += [node[key] for key in keys]
    return places


def _replace(content: bytes, pattern: re.Pattern[bytes], text: str, chance: random.Random) -> bytes:
    found = list(pattern.finditer(content))
    if not found:
        return content + text.encode("utf-8", "replace")
    match = chance.choice(found)
    return content[: match.start()] + text.encode("utf-8", "replace") + content[match.end() :]


def _range(content: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(content) + 1)
    return start, min(len(content), start + chance.choice((1, 2, 8, 100, 1000)))


_MUTATIONS: tuple[Callable[[bytes, random.Random, Sequence[bytes]], bytes], ...] = (
    *(_flip, _cut, _truncate, _repeat, _insert, _splice, _encode),
    *(_number, _word, _node) * 3,
)
