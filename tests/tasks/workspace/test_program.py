from __future__ import annotations

import pytest

from tasks.workspace.program import tell_progress


def test_progress_is_told_now_and_then_with_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tell = tell_progress("convert", "files read")
    tell(1, 8)
    assert capsys.readouterr().out == ""  # less than two seconds have gone by
    monkeypatch.setattr("tasks.workspace.program._SAY_EVERY_S", 0.0)
    tell(4, 8)
    assert capsys.readouterr().out == "convert: ██████████░░░░░░░░░░ 4 of 8 files read, 0 s left\n"
    tell(0, 8)  # nothing to reckon with yet
    tell(8, 8)
    assert capsys.readouterr().out == ""

    lines: list[str] = []
    tell_progress("data/raw", "files hashed", lines.append)(4, 8)
    assert lines == ["data/raw: ██████████░░░░░░░░░░ 4 of 8 files hashed, 0 s left"]
