"""What follows from the moves of aliases."""

from __future__ import annotations

import pytest

from keypipe.errors import ConfigError
from tasks.registry.moves.history import (
    MAX_WHY,
    Entry,
    Move,
    champions,
    find_moves,
    fold,
    last_champion_move,
    new_entry,
    parse,
    to_text,
    versions_of,
)


def story(*events: str) -> list[Entry]:
    """Return entries that move ``champion``: ``p3`` promotes version 3, ``r2`` rolls back to 2, ``f`` is found."""
    entries: list[Entry] = []
    now: str | None = None
    kinds = {"p": "promote", "r": "rollback", "f": "found"}
    for event in events:
        after = event[1:] or None
        entries.append(new_entry(kinds[event[0]], "anna", moves=[Move("champion", now, after)]))  # type: ignore[arg-type]
        now = after
    return entries


@pytest.mark.parametrize(
    ("events", "stack"),
    [
        ([], ""),
        (["p1"], "1"),
        (["p1", "p2", "p3"], "123"),
        (["p1", "p2", "p3", "r2"], "12"),
        (["p1", "p2", "p3", "r2", "r1"], "1"),
        (["p1", "p2", "p3", "r2", "p4"], "124"),  # 3 failed: a rollback from 4 leads to 2
        (["p1", "p2", "p3", "p1"], "231"),
        (["p1", "f2"], "12"),
        (["p1", "p2", "f"], "12"),  # deleted in MLflow; what stood behind it still does
        (["p1", "p2", "f", "r1"], "1"),
        (["p1", "p2", "p3", "r4"], "124"),  # somebody pointed `previous` at 4
    ],
)
def test_what_stands_behind_the_version_in_use(events: list[str], stack: str) -> None:
    assert "".join(champions(story(*events))) == stack


def test_moves_lead_from_one_state_to_the_other() -> None:
    before, after = {"champion": "1", "mine": "2"}, {"champion": "3", "previous": "1"}
    moves = find_moves(before, after)
    assert [str(move) for move in moves] == ["champion v1 -> v3", "mine v2 -> none", "previous none -> v1"]
    first = new_entry("found", "anna", moves=find_moves({}, before))
    second = new_entry("found", "anna", moves=moves)
    assert fold([first]) == before
    assert fold([first, second]) == after
    assert versions_of([second]) == {"1", "2", "3"}
    assert find_moves(after, after) == ()


def test_an_entry_keeps_what_it_says() -> None:
    entry = new_entry("promote", "安娜@barn", 'mehr "Hufe"\n|', [Move("champion", None, "1")], "a note")
    assert parse(to_text(entry)) == entry
    assert '"from":null' in to_text(entry)
    assert last_champion_move([entry, new_entry("prune", "ben")]) == entry
    with pytest.raises(ConfigError, match="1001 characters"):
        new_entry("promote", "anna", "x" * (MAX_WHY + 1))


def test_the_longest_entry_fits_where_it_is_kept() -> None:
    """MLflow takes 6000 characters as a parameter, and 5000 as a tag of a registered model."""
    moves = [Move(alias * 10, "123456", "123457") for alias in ("champion", "previous", "challenger")]
    assert len(to_text(new_entry("promote", "x" * 200, '"' * MAX_WHY, moves, "y" * 500))) < 4000
