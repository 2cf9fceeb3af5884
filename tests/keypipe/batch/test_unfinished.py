from __future__ import annotations

from pathlib import Path

import pytest

from keypipe.batch.unfinished import WORK, Workbench, begin_work, end_work, is_unfinished
from keypipe.errors import ConfigError


def test_a_source_is_known_again_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_work(tmp_path / "out", str(tmp_path / "film.mp4"))
    monkeypatch.chdir(tmp_path)
    assert is_unfinished(tmp_path / "out", "film.mp4")
    assert not is_unfinished(tmp_path / "out", "other.mp4")
    end_work(tmp_path / "out")
    assert not (tmp_path / "out" / WORK).exists()
    assert not is_unfinished(tmp_path / "out", "film.mp4")


def test_what_holds_is_kept_and_what_does_not_goes(tmp_path: Path) -> None:
    bench = Workbench(tmp_path / "bench")

    def left() -> list[str]:
        return sorted(
            path.name for path in (bench.journal, bench.pieces / "0.mp4", bench.results / "a") if path.exists()
        )

    def leave() -> None:
        for path in (bench.journal, bench.pieces / "0.mp4", bench.results / "a"):
            path.write_text("")

    with bench.held():
        bench.take_up(("model", 1), "wish")
        leave()
        bench.take_up(("model", 1), "wish")
        assert left() == ["0.mp4", "frames.jsonl"]  # half-written results never hold
        leave()
        bench.take_up(("model", 1), "another wish")
        assert left() == ["frames.jsonl"]
        leave()
        bench.take_up(("model", 2), "another wish")
        assert left() == []


def test_an_outcome_is_handed_over_with_its_files(tmp_path: Path) -> None:
    bench = Workbench(tmp_path / "out/.tracking/film")
    with bench.held():
        bench.take_up("model", "wish")
        assert bench.read_outcome(dict) is None
        (bench.results / "film.csv").write_text("table")
        bench.hand_over(tmp_path / "out", [Path("sub/film.csv")], {"n": 3})
    assert (tmp_path / "out/sub/film.csv").read_text() == "table"
    with bench.held():
        bench.take_up("model", "wish")
        assert bench.read_outcome(dict) == {"n": 3}
        bench.take_up("model", "another wish")
        assert bench.read_outcome(dict) is None


def test_only_one_holds_it(tmp_path: Path) -> None:
    with (
        Workbench(tmp_path / "bench").held(),
        pytest.raises(ConfigError, match="another process"),
        Workbench(tmp_path / "bench").held(),
    ):
        pass
    with Workbench(tmp_path / "bench").held():
        pass
