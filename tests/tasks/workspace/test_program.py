"""What every stage program shares."""

from __future__ import annotations

import pytest

from tasks.workspace.program import format_seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.84, "0.8 s"), (12.4, "12 s"), (99.4, "99 s"), (100, "2 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
