from __future__ import annotations

import pytest

from keypipe.wording import format_count, format_seconds


def test_counts() -> None:
    assert [format_count(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert format_count(2, "box", "boxes") == "2 boxes"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.84, "0.8 s"), (12.4, "12 s"), (99.4, "99 s"), (100, "2 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
