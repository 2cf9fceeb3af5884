"""What is told: JSON, text and HTML."""

from __future__ import annotations

import json
import re

from flows.notifications.notice import from_outcome, to_body, to_html, to_text
from flows.outcome import Outcome, RuleRow
from tasks.retraining.notification import EVENTS
from tests.flows.notifications.samples import sample
from tests.imports import ROOT


def test_the_body_is_what_the_docs_say() -> None:
    notice = sample(id="a-b", rows=[sample().rows[0]], report="/w/report.html", todo="`keypipe approve 7`")
    assert json.loads(to_body(notice)) == {
        "kind": "keypipe.notification",
        "version": 1,
        "id": "a-b",
        "at": "2026-11-30T03:12:44+00:00",
        "event": "promoted",
        "test": False,
        "title": "v7 is in use",
        "reason": "Every rule is kept.",
        "workspace": "cows",
        "host": "barn",
        "model": {"version": "7", "champion": "7"},
        "rules": [
            {
                "rule": "oks_AP",
                "champion": 0.7412,
                "challenger": 0.7536,
                "interval": [-0.0061, 0.0309],
                "verdict": "passed",
            }
        ],
        "run_url": notice.run_url,
        "report": "/w/report.html",
        "todo": "`keypipe approve 7`",
    }


def test_the_text_has_the_table_in_columns() -> None:
    lines = to_text(sample()).splitlines()
    assert lines[0] == "v7 is in use"
    header = next(line for line in lines if line.startswith("rule"))
    row = next(line for line in lines if line.startswith("oks_AP against the best"))
    assert header.index("champion") == row.index("0.750")
    assert header.index("difference") == row.index("-0.011 to +0.019")
    assert next(line for line in lines if line.startswith("latency")).split() == ["latency", "25", "14.2", "passed"]
    assert lines[-1].startswith("keypipe ")


def test_the_page_shows_every_event_and_takes_no_markup_from_outside() -> None:
    for event in EVENTS:
        page = to_html(sample(event=event, reason="<script>alert(1)</script>", rows=[RuleRow(rule="<b>x</b>")]))
        assert "<script" not in page
        assert "<b>" not in page
        assert "src=" not in page, "a mail reader would have to fetch it"
    assert "nothing happened" in to_html(sample(is_test=True))
    assert "http://127.0.0.1:4200/runs/flow-run/" in to_html(sample())


def test_a_subject_is_one_line() -> None:
    assert sample(title="failed:\nBcc: all@example.org").subject == "[cows] failed: Bcc: all@example.org"
    assert len(sample(title="x" * 500).subject) == 180
    assert sample(is_test=True).subject == "[cows] (test) v7 is in use"


def test_the_docs_show_every_field() -> None:
    page = (ROOT / "docs/retraining.md").read_text(encoding="utf-8")
    shown = json.loads(re.search(r"```json\n(\{.*?\n\})\n```", page, flags=re.DOTALL)[1])  # type: ignore[index]
    sent = json.loads(to_body(sample()))
    assert list(shown) == list(sent)
    assert shown["rules"][0].keys() == sent["rules"][0].keys()
    assert shown["version"] == sent["version"]


def test_what_became_of_a_retraining_is_told() -> None:
    outcome = Outcome(
        kind="approval wanted",
        title="v4 waits",
        reason="36 images are too few to tell",
        rows=sample().rows,
        version="4",
        champion="3",
        report="reports/retrain/report.html",
        workspace="/srv/cows",
        remarks=("the results were not pushed: no route to host",),
    )
    notice = from_outcome(outcome)
    assert (notice.event, notice.workspace, notice.run_url) == ("approval", "cows", None)
    assert (notice.model_version, notice.champion_version) == ("4", "3")
    assert notice.report == "/srv/cows/reports/retrain/report.html"
    assert "keypipe approve 4" in to_text(notice)
    assert notice.reason.splitlines()[1] == "the results were not pushed: no route to host"
    assert from_outcome(Outcome(kind="failed", title="x", reason="", workspace="/srv/cows")).event == "failed"
