from __future__ import annotations

import math
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypipe.errors import AnnotationError, ConfigError
from keypipe.files.texts import check_encoding, decode_text, is_doubtful, parse_json

JSON = '{"imagePath": "1.jpg", "shapes": [{"label": "牛头门"}]}'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("named", [None, "gb18030", "cp1252"])
def test_utf_8_and_utf_16_are_read_with_and_without_a_mark(encoding: str, named: str | None) -> None:
    for mark in ("", "\ufeff") if encoding.endswith("e") else ("",):
        assert decode_text((mark + JSON).encode(encoding), encoding=named) == JSON


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("牛头门", "gb18030"),
        ("牛頭門", "big5"),
        ("牛の頭", "shift_jis"),
        ("소머리", "cp949"),
        ("Größe", "cp1252"),
        ("głowa", "cp1250"),
        ("голова", "cp1251"),
    ],
)
def test_another_encoding_is_read_by_its_name_and_offered_without(text: str, encoding: str) -> None:
    content = f'{{"shapes": [{{"label": "{text}"}}]}}'.encode(encoding)
    assert text in decode_text(content, "a.json", encoding)
    with pytest.raises(AnnotationError, match=r"^a\.json: not UTF-8; its first label is ") as caught:
        decode_text(content, "a.json")
    assert f"{text!r} (" in str(caught.value)
    assert encoding in str(caught.value).partition(f"{text!r}")[2].partition(")")[0]
    assert "--encoding" in str(caught.value)


def test_the_label_is_shown_and_not_what_stands_before_it() -> None:
    content = '{"imagePath": "数据.jpg", "shapes": [{"label": "牛头门"}]}'.encode("gbk")
    with pytest.raises(AnnotationError, match=r"first label is '牛头门' \(gb18030\)"):
        decode_text(content)


@pytest.mark.parametrize("label", ["牛", "牛头", "图片", "cow牛头"])
def test_chinese_that_happens_to_fit_utf_8_is_not_read_in_silence(label: str) -> None:
    content = f'{{"shapes": [{{"label": "{label}"}}]}}'.encode("gb18030")
    content.decode("utf-8")  # it does fit
    with pytest.raises(AnnotationError, match=r"fits UTF-8 and gb18030 alike; .* \(utf-8\) or .*' \(gb18030\)"):
        decode_text(content)
    assert is_doubtful(content)
    assert label in decode_text(content, encoding="gb18030")
    assert decode_text(content, encoding="utf-8") == content.decode("utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "Größe",
        "à",
        "ÄÖÜ",
        "naïve café",
        "głowa",
        "țară",
        "голова",
        "Κεφαλή",
        "ראש",
        "رأس",
        "±5°",
        "10 µm",
        "½ × ³",
        "Þór",
        "e\u0301table",  # as macOS writes names of files
        "e\u0301",
        "n\u0303an\u0303o",
        "A\u030a",
    ],
)
def test_other_languages_in_utf_8_leave_no_doubt(text: str) -> None:
    assert decode_text(text.encode()) == text
    assert not is_doubtful(text.encode())
    assert not is_doubtful("ţͷ".encode("utf-8-sig"))
    assert decode_text("ţͷ".encode("utf-8-sig")) == "ţͷ"


def test_files_in_utf_8_stay_so_beside_others() -> None:
    """A folder may hold both; only pairs of bytes leave a doubt, and the name given decides it."""
    assert decode_text("牛头".encode(), encoding="gb18030") == "牛头"
    assert decode_text("Größe".encode(), encoding="cp1252") == "Größe"
    assert decode_text("牛".encode("gbk"), encoding="gb18030") == "牛"
    assert decode_text(b"plain", encoding="gb18030") == "plain"


@pytest.mark.parametrize("content", [b"\xff\xfeab\x00", b"\xff\xff\xff\x00\x00", bytes(range(256))])
def test_bytes_that_are_no_text_are_refused(content: bytes) -> None:
    with pytest.raises(AnnotationError, match=r"not utf-16-le|neither UTF-8 nor any other text"):
        decode_text(content)


def test_bytes_that_do_not_fit_the_encoding_that_was_named_are_refused() -> None:
    with pytest.raises(AnnotationError, match="byte 0 is not gb18030"):
        decode_text(b"\xff\xffa", encoding="gb18030")


@given(st.binary(max_size=200), st.sampled_from([None, "gb18030", "shift_jis", "cp1252"]))
def test_any_bytes_end_in_a_text_or_a_refusal(content: bytes, encoding: str | None) -> None:
    with suppress(AnnotationError):
        assert isinstance(decode_text(content, "a", encoding), str)


@pytest.mark.parametrize("name", ["gb18030", "GBK", "cp1252", "latin1", "utf-8"])
def test_encodings_have_names(name: str) -> None:
    assert "a".encode(check_encoding(name)) == b"a"


@pytest.mark.parametrize("name", ["gbq", "rot13", "hex", "", "a\0b"])
def test_what_is_no_encoding_of_text_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no encoding is called .*gb18030"):
        check_encoding(name)


def test_json_of_scripts() -> None:
    assert parse_json(JSON.encode("utf-16"), "a.json") == {"imagePath": "1.jpg", "shapes": [{"label": "牛头门"}]}
    assert math.isnan(parse_json(b"[NaN]", "a.json")[0])
    assert parse_json(b"[1e999, -Infinity]", "a.json") == [math.inf, -math.inf]
    for broken in (b"{", b"[" * 100_000, b"9" * 5000, b""):
        with pytest.raises(AnnotationError, match=r"^a\.json: "):
            parse_json(broken, "a.json")


@pytest.mark.parametrize(
    "content", [b"x" * 1_000_000, b"\xe9" * 1_000_000, b"x" * 500_000 + b"\xc5\xa3" + b"x" * 500_000]
)
def test_a_word_of_a_megabyte_takes_no_time(content: bytes) -> None:
    """A pattern that looks for its end from every letter would take hours."""
    started = time.process_time()
    with suppress(AnnotationError):
        decode_text(content + b"\xff")
    with suppress(AnnotationError):
        decode_text(content)
    assert time.process_time() - started < 2
