from __future__ import annotations

from tasks.progress import follow


def test_items_are_followed_from_none_to_all() -> None:
    told: list[tuple[str, int, int]] = []
    seen = [(item, len(told)) for item in follow("abc", "reading", lambda *now: told.append(now))]
    assert seen == [("a", 1), ("b", 2), ("c", 3)]
    assert told == [("reading", done, 3) for done in range(4)]


def test_nothing_to_follow_is_done_at_once() -> None:
    told: list[tuple[str, int, int]] = []
    assert list(follow([], "reading", lambda *now: told.append(now))) == []
    assert told == [("reading", 0, 0)]
