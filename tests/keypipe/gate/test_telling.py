from __future__ import annotations

from keypipe.gate.rules import Rules
from keypipe.gate.telling import TAG_LENGTH, to_headline, to_markdown, to_sections, to_tags
from keypipe.gate.verdict import Facts, decide
from keypipe.report.page import Report, render_report
from tests.keypipe.gate.models import draw_truth, images_of, scored

TRUTH = draw_truth(60)
VERDICT = decide(
    Rules(approvers=("anna",)),
    images_of(TRUTH),
    scored(TRUTH, seed=1),
    scored(TRUTH, seed=2),
    facts=Facts(parity=True, doctor_errors=0, judged=60),
    left_out=["cow ear: unknown to the champion"],
)


def test_every_figure_stands_in_the_tags() -> None:
    tags = to_tags(VERDICT)
    assert tags["gate.outcome"] == "undecided"
    assert tags["gate.needs_approval"] == "true"
    assert tags["gate.units"] == "60 images"
    assert int(tags["gate.suffices"]) > 60
    for rule in VERDICT.rules:
        assert tags[f"gate.{rule.against}.{rule.name}"] == rule.state
    difference = VERDICT.rules[0].difference
    assert difference is not None
    assert float(tags["gate.champion.oks_AP.difference"]) == float(f"{difference.value:.6g}")
    assert "gate.champion.oks_AP.low" in tags
    assert tags["gate.vetoes"] == "none"
    assert tags["gate.stale"] == "true"
    assert all(isinstance(value, str) and len(value) <= TAG_LENGTH for value in tags.values())


def test_the_artifact_and_the_page_hold_every_rule_and_the_error_rates() -> None:
    markdown = to_markdown(VERDICT)
    page = render_report(Report("The gate", to_headline(VERDICT), to_sections(VERDICT)))
    for text in (markdown, page):
        assert "undecided" in text
        assert "too few to tell" in text
        for rule in VERDICT.rules:
            assert rule.name in text
        for veto in VERDICT.vetoes:
            assert veto.name in text
        assert "decide margins of" in text
        assert "has judged 60 challengers before" in text
        assert "stale" in text
        assert "left out: cow ear" in text
        assert "loss seen in 80 %" in text
        assert "in 5 % of comparisons at most" in text
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in rows} <= {10, 8, 4}
