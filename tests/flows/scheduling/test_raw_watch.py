"""When changes of the raw data have come to rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.scheduling.raw_watch import RawWatch

QUIET = 10.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "a.json", '{"shapes": []}')
    write(tmp_path, "herd/b.json", '{"shapes": []}')
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / "data/raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    if path.stat().st_mtime_ns == before:  # a clock that is coarser than this test is fast
        os.utime(path, ns=(before + 1, before + 1))


def at_rest(root: Path) -> RawWatch:
    watch = RawWatch(root, QUIET)
    watch.look(0)
    watch.tell()
    return watch


def test_a_link_to_nothing_hides_no_other_file(root: Path) -> None:
    for number in range(9):
        (root / f"data/raw/{number}").symlink_to("nowhere")
    watch = at_rest(root)
    for number, name in enumerate(("a.json", "herd/b.json", "z.json"), start=1):
        write(root, name, '{"shapes": [1]}')
        assert not watch.look(100 * number)
        assert watch.look(100 * number + QUIET)
        watch.tell()


def test_the_first_look_is_an_event_and_none_is_told_twice(root: Path) -> None:
    watch = RawWatch(root, QUIET)
    assert not watch.look(0)
    assert watch.look(QUIET)
    watch.tell()
    assert not watch.look(100)


def test_saves_in_a_row_are_one_event(root: Path) -> None:
    watch = at_rest(root)
    for second in range(20, 60, 5):
        write(root, "a.json", f'{{"shapes": [], "n": {second}}}')
        assert not watch.look(second)
    assert not watch.look(55 + QUIET - 1)
    assert watch.look(55 + QUIET)
    watch.tell()
    assert not watch.look(200)


@pytest.mark.parametrize("change", ["new", "gone", "moved", "image"])
def test_every_kind_of_change_counts(root: Path, change: str) -> None:
    watch = at_rest(root)
    raw = root / "data/raw"
    if change == "new":
        write(root, "c.json", "{}")
    elif change == "gone":
        (raw / "a.json").unlink()
    elif change == "moved":
        (raw / "a.json").rename(raw / "herd/a.json")
    else:
        (raw / "a.png").write_bytes(b"\x89PNG")
    watch.look(20)
    assert watch.look(20 + QUIET)


def test_what_people_do_beside_their_data_does_not_count(root: Path) -> None:
    watch = at_rest(root)
    (root / "data/raw/.a.json.swp").write_text("x")
    watch.look(20)
    assert not watch.look(100)


@pytest.mark.parametrize("half", ["", '{"shapes": [{"label": "no', '{"shapes": [], "imageData": '])
def test_a_half_written_file_is_waited_for(root: Path, half: str) -> None:
    said: list[str] = []
    watch = RawWatch(root, QUIET, said.append)
    watch.look(0)
    watch.tell()
    write(root, "a.json", half)
    for second in (20, 20 + QUIET, 25 + QUIET):
        assert not watch.look(second)
    assert said == ["data/raw/a.json: not a whole JSON yet; waiting for it"]
    write(root, "a.json", '{"shapes": [1]}')
    assert not watch.look(50)
    assert watch.look(50 + QUIET)


def test_a_file_that_stays_broken_is_left_to_the_run_to_name(root: Path) -> None:
    watch = at_rest(root)
    write(root, "a.json", '{"shapes": ')
    watch.look(20)
    assert not watch.look(20 + 9 * QUIET)
    assert watch.look(20 + 10 * QUIET)


@pytest.mark.parametrize(
    "content",
    ['{"label": "牛"}'.encode("gb18030"), '{"a": 1}'.encode("utf-16"), b'\xef\xbb\xbf{"a": 1}', b'{"a": NaN}'],
)
def test_other_encodings_are_whole(root: Path, content: bytes) -> None:
    watch = at_rest(root)
    (root / "data/raw/c.json").write_bytes(content)
    watch.look(20)
    assert watch.look(20 + QUIET)


def test_a_later_watch_knows_what_was_told(root: Path) -> None:
    at_rest(root)
    later = RawWatch(root, QUIET)
    assert not later.look(0)
    assert not later.look(100)
    write(root, "a.json", '{"shapes": [2]}')
    changed = RawWatch(root, QUIET)
    assert not changed.look(0)
    assert changed.look(QUIET)


def test_no_raw_data_is_no_reason_to_stop(tmp_path: Path) -> None:
    watch = RawWatch(tmp_path, QUIET)
    watch.look(0)
    watch.look(QUIET)
