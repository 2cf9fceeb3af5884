from __future__ import annotations

import pytest

from tasks.progress import follow, tell_in_lines


def test_items_are_followed_from_none_to_all() -> None:
    told: list[tuple[str, int, int]] = []
    seen = [(item, len(told)) for item in follow("abc", "reading", lambda *now: told.append(now))]
    assert seen == [("a", 1), ("b", 2), ("c", 3)]
    assert told == [("reading", done, 3) for done in range(4)]


def test_nothing_to_follow_is_done_at_once() -> None:
    told: list[tuple[str, int, int]] = []
    assert list(follow([], "reading", lambda *now: told.append(now))) == []
    assert told == [("reading", 0, 0)]


def test_lines_tell_now_and_then_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    tell_in_lines("convert", every_s=60)("files read", 1, 8)
    assert capsys.readouterr().out == "", "a minute has not gone by"
    tell = tell_in_lines("convert", every_s=0)
    tell("files read", 4, 8)
    assert capsys.readouterr().out == "convert: ██████████░░░░░░░░░░ 4 of 8 files read, 0 s left\n"
    tell("files read", 0, 8)  # nothing to reckon with yet
    tell("files read", 8, 8)
    assert capsys.readouterr().out == ""


def test_what_is_left_is_reckoned_anew_for_another_task() -> None:
    import time

    lines: list[str] = []
    tell = tell_in_lines("data/raw", lines.append, every_s=0)
    tell("files hashed", 1, 1000)
    time.sleep(0.05)
    tell("files hashed", 1, 1000)
    assert int(lines[1].split()[-3]) >= 50, "one of a thousand took so long"
    tell("new files kept", 1, 1000)
    assert lines[2] == "data/raw: ░░░░░░░░░░░░░░░░░░░░ 1 of 1000 new files kept, 0 s left"
