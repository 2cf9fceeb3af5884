"""What trainings of earlier versions left stays readable."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from keypipe.errors import DatasetError, ModelError
from tasks.engine.door.training import LEARNS
from tasks.pages.training import to_report
from tasks.workspace.models import FORMAT, read_record, read_run_id
from tasks.workspace.places import BEST, MODELS, RECORD

OLD = Path(__file__).parent / "made_by_4f2f3e5" / "train.json"
"""Of the first format, which has no number; a training on the set squares."""


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    (tmp_path / MODELS).mkdir()
    (tmp_path / BEST).write_bytes(b"")
    (tmp_path / RECORD).write_bytes(OLD.read_bytes())
    return tmp_path


def test_a_file_of_the_first_format_is_read(trained: Path) -> None:
    written = json.loads(OLD.read_text(encoding="utf-8"))
    assert "format" not in written
    summary = read_record(trained)
    assert (summary.format, summary.learns) == (1, 1)
    assert msgspec.to_builtins(summary) == {**written, "format": 1, "learns": 1, "batches": [], "averaged": 0}
    assert read_run_id(trained) == written["run_id"]
    assert to_report(summary).sections


def test_a_file_of_now_says_its_format_and_what_is_learnt(trained_once: Path) -> None:
    written = json.loads((trained_once / RECORD).read_text(encoding="utf-8"))
    assert (written["format"], written["learns"]) == (FORMAT, LEARNS) == (2, 1)
    assert msgspec.to_builtins(read_record(trained_once)) == written


def test_a_file_of_a_newer_format_is_refused_in_one_line(trained: Path) -> None:
    newer = {"format": FORMAT + 1, "run_id": "of the newer one", "run": {"all": "else"}}
    (trained / RECORD).write_text(json.dumps(newer), encoding="utf-8")
    with pytest.raises(DatasetError) as raised:
        read_record(trained)
    assert str(raised.value) == (
        f"models/train.json: written by a newer keypipe (format {FORMAT + 1}, known up to {FORMAT}); update keypipe"
    )
    assert read_run_id(trained) == "of the newer one"


@pytest.mark.parametrize("content", ["{", "[]", '{"run_id": 3}', ""])
def test_without_a_readable_file_there_is_no_run(trained: Path, content: str) -> None:
    (trained / RECORD).write_text(content, encoding="utf-8")
    assert read_run_id(trained) == ""
    (trained / BEST).unlink()
    with pytest.raises(ModelError, match="no trained model"):
        read_record(trained)


def test_a_damaged_file_is_named(trained: Path) -> None:
    (trained / RECORD).write_text("{", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"models/train.json: damaged \("):
        read_record(trained)


def test_a_figure_that_was_not_a_number_is_left_out(trained: Path) -> None:
    """Trainings of before wrote them as null; validate, export and what resumes must read them."""
    written = json.loads(OLD.read_text(encoding="utf-8"))
    name, *others = written["record"]["epochs"][0]
    written["record"]["epochs"][0][name] = None
    (trained / RECORD).write_text(json.dumps(written), encoding="utf-8")
    summary = read_record(trained)
    assert list(summary.record.epochs[0]) == others
    assert to_report(summary).sections


def test_a_file_that_is_no_record_is_named(trained: Path) -> None:
    (trained / RECORD).write_text('{"headline": 3}', encoding="utf-8")
    with pytest.raises(DatasetError, match=r"models/train.json: damaged \("):
        read_record(trained)
