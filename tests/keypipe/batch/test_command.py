"""What the command of the installed package says while it works."""

from __future__ import annotations

import pytest

from keypipe.batch import command
from keypipe.batch.command import estimate_left


@pytest.mark.parametrize(
    ("done", "seconds", "left", "text"),
    [
        (0, 5.0, 100, ""),
        (10, 5.0, -1, ""),
        (10, 5.0, 0, ", 0 s left"),
        (10, 5.0, 60, ", 30 s left"),
        (10, 60.0, 25, ", 2 min left"),
        (10, 60.0, 620, ", 1 h 2 min left"),
    ],
)
def test_the_time_left(done: int, seconds: float, left: int, text: str) -> None:
    assert estimate_left(done, seconds, left) == text


def test_a_line_says_how_far_it_is_and_a_resumed_run_counts_from_where_it_began(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(command.time, "monotonic", lambda: now[0])
    tell = command._tell_on_stderr()
    for second, done in ((1, 1000), (6, 1100), (7, 1120), (12, 1220)):
        now[0] = float(second)
        tell("frames predicted", done, 3220)
    tell("frames drawn", 0, 0)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "1100 of 3220 frames predicted, 2 min left",
        "1220 of 3220 frames predicted, 2 min left",
    ]
