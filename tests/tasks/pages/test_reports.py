from __future__ import annotations

import json
from pathlib import Path

import pytest

from keypipe.errors import DatasetError
from keypipe.report.page import Report
from tasks.pages.reports import FORMAT, parse_report, write_report

OLD = Path(__file__).parents[1] / "workspace" / "made_by_4f2f3e5" / "export_report.json"
PAGE = Report("Title", "headline", [], [], "split")


def test_a_report_is_written_with_its_format_and_read_again(tmp_path: Path) -> None:
    write_report(tmp_path, {"headline": "h", "figures": {"b": 1.5, "a": None}}, PAGE)
    content = (tmp_path / "report.json").read_bytes()
    assert parse_report(content) == {"headline": "h", "figures": {"b": 1.5, "a": None}, "format": FORMAT}
    assert "headline" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_report_of_the_first_format_is_read() -> None:
    found = parse_report(OLD.read_bytes())
    assert found["headline"].startswith("ONNX")
    assert "format" not in found


def test_a_report_of_a_newer_format_is_refused() -> None:
    content = json.dumps({"format": FORMAT + 1, "headline": 3}).encode()
    with pytest.raises(DatasetError, match=r"^r.json: written by a newer keypipe \(format 3, known up to 2\)"):
        parse_report(content, "r.json")


@pytest.mark.parametrize("stage", ["convert", "split", "validate", "export"])
def test_every_stage_numbers_its_report(trained_once: Path, stage: str) -> None:
    assert parse_report((trained_once / "reports" / stage / "report.json").read_bytes())["format"] == FORMAT
