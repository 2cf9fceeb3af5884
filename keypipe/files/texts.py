"""Text of people's files: UTF-8, or UTF-16 by its mark or its pattern; any other encoding only by its name.

Guessing goes wrong in silence: German text also fits GB18030, and Korean's cp949 takes most Chinese. So other bytes are
refused, with their first label as each likely encoding would have it, for a person to choose.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import unicodedata
from typing import Any

import msgspec

from keypipe.errors import AnnotationError, ConfigError

LIKELY_ENCODINGS = ("gb18030", "big5", "shift_jis", "cp949", "cp1252", "cp1250", "cp1251")
"""Encodings in which annotation files turn up: Chinese, Japanese, Korean, Western and Central European, Cyrillic."""

_DOUBLE_BYTE = {"gb18030", "gbk", "gb2312", "hz", "big5", "cp950", "shift_jis", "cp932", "cp949", "euc_kr", "euc_jp"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 1 << 20  # bytes that an encoding must fit before it is offered
_LABEL = re.compile(rb'"(?:label|name)"\s{0,9}:\s{0,9}"([^"\r\n]{0,200}[\x80-\xff][^"\r\n]{0,200})')
_BEYOND_PAIRS = re.compile("[\u0800-\U0010ffff]")
_LETTERS = re.compile("[A-Za-z\u00c0-\u07ff]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_FOREIGN = re.compile(rb"[\x80-\xff]")
_BETWEEN_WORDS = re.compile(rb"""[\s"',:]""")  # none of these is a trail byte of a likely encoding
_MAX_WORD = 60  # bytes

ADVICE = "name the right one with --encoding NAME, or save the file as UTF-8"
AS_UTF8 = "save it as UTF-8"
DOUBTFUL = (
    "a word in it fits UTF-8 and Chinese encodings alike; if it is Chinese, save the file as UTF-8, else as UTF-8 with"
    " a byte order mark"
)


def decode_text(content: bytes, name: str = "", encoding: str | None = None, advice: str = ADVICE) -> str:
    """Return the text of a file without its byte order mark.

    Args:
        content: the file's bytes.
        name: the file, for the message.
        encoding: what bytes are that are neither UTF-8 nor UTF-16; None: such bytes are refused. Bytes without a mark
            that fit UTF-8 in pairs alone, as two Chinese characters can by accident, are taken as an East Asian
            encoding where that is named.
        advice: what to do about an encoding that is not known; empty: the message ends without it.

    Raises:
        AnnotationError: the encoding is neither known nor named, or the bytes do not fit it.
    """
    known = _find_encoding(content, encoding)
    place, advice = f"{name}: " if name else "", f"; {advice}" if advice else ""
    try:
        text = content.decode(known).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if known != "utf-8":
            raise AnnotationError(f"{place}byte {error.start} is not {known}{advice}") from error
        raise AnnotationError(f"{place}{_offer_readings(content)}{advice}") from error
    is_marked = content.startswith(codecs.BOM_UTF8)
    if encoding is None and known == "utf-8" and not is_marked and (word := _find_doubtful(text)):
        raise AnnotationError(
            f"{place}fits UTF-8 and gb18030 alike; its first label is {word!r} (utf-8) or"
            f" {word.encode().decode('gb18030')!r} (gb18030){advice}"
        )
    return text


def is_doubtful(content: bytes) -> bool:
    """Tell whether bytes without a mark fit UTF-8, and are Chinese in another encoding all the same."""
    try:
        return (
            not (content.isascii() or content.startswith(codecs.BOM_UTF8))
            and _find_doubtful(content.decode("utf-8")) is not None
        )
    except UnicodeDecodeError:
        return False


def _find_doubtful(text: str) -> str | None:
    """Return the first word that no language would write, and that is Chinese by the bytes it has in UTF-8.

    Two bytes of GB18030 are by accident a letter of UTF-8 once in seven: short labels such as those of 牛头 fit both.
    """
    if text.isascii() or _BEYOND_PAIRS.search(text):
        return None
    words = (match[0] for match in _LETTERS.finditer(text))
    foreign = (word for word in words if not word.isascii())
    return next((word for word in foreign if _is_strange(_joined(word)) and _is_chinese(word)), None)


def _joined(word: str) -> str:
    """Join letters with their accents, which macOS keeps apart in the names of files."""
    return unicodedata.normalize("NFC", word)


def _is_strange(word: str) -> bool:
    letters = [letter for letter in word if not letter.isascii()]
    scripts = {unicodedata.name(letter, "NONE").partition(" ")[0] for letter in letters}
    alone = len(letters) == len(word) and all(letter >= "\u0100" for letter in letters)
    return len(scripts) > 1 or not scripts.isdisjoint({"NONE", "COMBINING"}) or (scripts == {"LATIN"} and alone)


def _is_chinese(word: str) -> bool:
    try:
        return all(letter.isascii() or "\u4e00" <= letter <= "\u9fff" for letter in word.encode().decode("gb18030"))
    except UnicodeDecodeError:
        return False


def _find_encoding(content: bytes, named: str | None) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    if b"\0" in content[:64]:
        encodings = [f"utf-16-{order}" for order, odd in (("le", 1), ("be", 0)) if _has_zeros_at(content, odd)]
        return encodings[0] if encodings else "utf-8"
    if named is None or content.isascii():
        return "utf-8"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return named
    # What fits UTF-8 in sequences of three bytes, or in pairs beside a single-byte encoding, is UTF-8.
    pairs_alone = all(character < "\u0800" for character in text)
    return named if pairs_alone and codecs.lookup(named).name in _DOUBLE_BYTE else "utf-8"


def _has_zeros_at(content: bytes, odd: int) -> bool:
    """Tell whether the start of a file holds ASCII in two bytes each: its zeros stand at odd, or at even, places."""
    start = content[: min(len(content) & ~1, 256)]
    zeros, others = start[odd::2], start[1 - odd :: 2]
    return len(start) > 0 and zeros.count(0) >= 0.4 * len(zeros) and others.count(0) == 0


def _find_word(content: bytes) -> bytes:
    """Return the first word with a byte beyond ASCII."""
    found = _FOREIGN.search(content)
    if not found:
        return b""
    before = _BETWEEN_WORDS.split(content[max(0, found.start() - _MAX_WORD) : found.start()])[-1]
    after = _BETWEEN_WORDS.split(content[found.start() : found.start() + _MAX_WORD])[0]
    return before + after


def _offer_readings(content: bytes) -> str:
    if _CONTROL.search(content[:_SAMPLE]):
        return "neither UTF-8 nor any other text"
    label = _LABEL.search(content)
    word = label[1] if label else _find_word(content)
    readings: dict[str, list[str]] = {}
    for encoding in LIKELY_ENCODINGS:
        try:
            codecs.getincrementaldecoder(encoding)().decode(content[:_SAMPLE])
            text = word.decode(encoding, "ignore")[:40]  # a long one is cut in the middle of a character
        except UnicodeDecodeError:
            continue
        if text.isprintable():
            readings.setdefault(text, []).append(encoding)
    offered = ", ".join(f"{text!r} ({' or '.join(names)})" for text, names in readings.items())
    return f"not UTF-8; its first label is {offered}" if offered else "neither UTF-8 nor any likely encoding"


def check_encoding(name: str) -> str:
    """Return the name of an encoding as Python has it.

    Raises:
        ConfigError: there is no such encoding of text.
    """
    try:
        "".encode(name)  # refuses what is no encoding of text, such as rot13
        return codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        raise ConfigError(f"no encoding is called {name!r}; likely ones: {', '.join(LIKELY_ENCODINGS)}") from error


def parse_csv(text: str, name: str, delimiter: str = ",") -> list[list[str]]:
    """Parse the rows of a table.

    Args:
        text: of the table.
        name: of its file, for messages.
        delimiter: what stands between values.

    Raises:
        AnnotationError: it is none, such as one with a NUL or a quote that never ends.
    """
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise AnnotationError(f"{name}: no table of values: {error}") from error


def parse_json(content: bytes, name: str, encoding: str | None = None) -> Any:
    """Parse the JSON of any tool; ``NaN`` and ``Infinity``, which scripts write, are taken as numbers.

    Args:
        content: the file's bytes.
        name: the file, for messages.
        encoding: see ``decode_text``.

    Raises:
        AnnotationError: no JSON, or in an unknown encoding.
    """
    text = decode_text(content, name, encoding)
    try:
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return json.loads(text)
    except RecursionError as error:
        raise AnnotationError(f"{name}: brackets in brackets by the hundred; this is no file of annotations") from error
    except ValueError as error:
        raise AnnotationError(f"{name}: broken JSON: {error}") from error
