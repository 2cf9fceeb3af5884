"""A version waits for a person's word: until it is given, its time is over, or the champion is another one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from keypipe.errors import ConfigError
from tasks.registry.moves import history
from tasks.registry.moves.aliases import challenge, dismiss, holding, promote, read_state, rollback
from tasks.registry.moves.approvals import approve, ask, expire, find_waiting, note_verdict, reject
from tasks.tracking.models.registry import Registry


@pytest.fixture
def waiting(registry: Registry) -> Registry:
    """Version 1 is in use, version 2 waits."""
    promote(registry.root, "1", why="the first")
    challenge(registry.root, "2", why="new data")
    ask(registry.root, "2", "undecided: 40 images are too few", 7, ["anna", "bob"], who="night@barn")
    return registry


def aliases(registry: Registry) -> dict[str, str]:
    return read_state(registry.root).aliases


def test_it_waits_without_a_process_and_is_approved(waiting: Registry) -> None:
    found = find_waiting(read_state(waiting.root).entries)
    assert found is not None
    assert (found.version, found.reason, found.approvers) == ("2", "undecided: 40 images are too few", "anna, bob")
    assert not found.is_over()
    left = datetime.fromisoformat(found.until) - datetime.fromisoformat(found.since)
    assert left == timedelta(days=7)
    assert waiting.read_named(f"{waiting.name}.lease.moves") is None  # nobody holds anything
    entry = approve(waiting.root, "v2", why="looked at the pictures", who="anna@desk")
    assert (entry.what, entry.version, entry.who) == ("approve", "2", "anna@desk")
    assert aliases(waiting) == {"champion": "2", "previous": "1"}
    assert find_waiting(read_state(waiting.root).entries) is None
    rollback(waiting.root)
    assert aliases(waiting)["champion"] == "1"
    with pytest.raises(ConfigError, match="no version waits"):
        approve(waiting.root)


def test_it_is_rejected(waiting: Registry) -> None:
    with pytest.raises(ConfigError, match="v2 waits for a person's word, not 3"):
        reject(waiting.root, "3", why="no")
    reject(waiting.root, "2", why="misses calves")
    assert aliases(waiting) == {"champion": "1"}
    last = read_state(waiting.root).entries[-1]
    assert (last.what, last.version, last.why) == ("reject", "2", "misses calves")
    assert find_waiting(read_state(waiting.root).entries) is None


def test_its_time_ends(waiting: Registry) -> None:
    assert expire(waiting.root) is None
    ask(waiting.root, "2", "again", 0, [])
    with pytest.raises(ConfigError, match="nobody answered; `keypipe retrain --force"):
        approve(waiting.root)
    over = expire(waiting.root)
    assert over is not None
    assert over.version == "2"
    assert aliases(waiting) == {"champion": "1"}
    assert expire(waiting.root) is None


def test_another_champion_or_challenger_ends_it(waiting: Registry) -> None:
    challenge(waiting.root, "3", why="newer data")
    assert find_waiting(read_state(waiting.root).entries) is None
    ask(waiting.root, "3", "undecided", 7, [])
    promote(waiting.root, "4", why="by hand")
    assert find_waiting(read_state(waiting.root).entries) is None
    challenge(waiting.root, "2", why="once more")
    ask(waiting.root, "2", "undecided", 7, [])
    dismiss(waiting.root, why="no")
    assert find_waiting(read_state(waiting.root).entries) is None
    ask(waiting.root, "2", "undecided", 7, [])
    promote(waiting.root, "2", why="by hand")
    assert find_waiting(read_state(waiting.root).entries) is None


def test_a_promotion_takes_the_place_of_the_version_that_it_was_compared_with(waiting: Registry) -> None:
    from tasks.registry.moves.aliases import MovedError

    promote(waiting.root, "3", why="by hand")
    with pytest.raises(MovedError, match=r"champion v1 -> v3"):
        promote(waiting.root, "2", why="every rule is kept", instead_of="1")
    assert aliases(waiting)["champion"] == "3"
    promote(waiting.root, "2", why="every rule is kept", instead_of="3")
    assert aliases(waiting)["champion"] == "2"


def test_verdicts_are_counted_by_the_draw_of_the_splits(registry: Registry) -> None:
    for version, draw in (("1", 1), ("2", 1), ("3", 2)):
        note_verdict(registry.root, version, "rejected: oks_AP", draw)
    entries = read_state(registry.root).entries
    assert [history.count_judgements(entries, draw) for draw in (1, 2, 3)] == [2, 1, 0]
    assert (entries[0].what, entries[0].version, entries[0].why) == ("judge", "1", "rejected: oks_AP")
    promote(registry.root, "2", why="a")
    promote(registry.root, "1", why="b")
    rollback(registry.root)
    assert history.ever_champions(read_state(registry.root).entries) == ["2", "1"]


def test_entries_of_before_are_read(registry: Registry) -> None:
    with holding(registry, "old@barn") as held:
        entry = history.new_entry("register", "old@barn", "before approvals")
        kept = msgspec.to_builtins(entry)
        text = msgspec.json.encode({key: kept[key] for key in ("id", "at", "who", "what", "why", "moves", "note")})
        assert registry.add_history(f"{len(held.entries) + 1:06d}", text.decode())
    (found,) = read_state(registry.root).entries
    assert (found.version, found.until, found.draw) == ("", "", 0)
    assert datetime.fromisoformat(found.at) <= datetime.now(UTC)
