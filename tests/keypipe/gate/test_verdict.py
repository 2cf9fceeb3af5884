from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from keypipe.gate.comparison import Scored, Units, number_units
from keypipe.gate.rules import Rules
from keypipe.gate.verdict import Facts, Verdict, decide
from keypipe.splits.power import AP, CLOSE, JOINT_POWER, decidable_margin, groups_needed
from tests.keypipe.gate.models import draw_truth, images_of, scored

SOUND = Facts(parity=True, doctor_errors=0)
RULES = Rules(margin_ap=0.05, margin_close=0.05, ece_rise=None)
TRUTH = draw_truth(400)
UNITS = images_of(TRUTH)
CHAMPION = scored(TRUTH, 15, seed=1)
EQUAL = scored(TRUTH, 15, seed=2)
BETTER = scored(TRUTH, 8, seed=3)
WORSE = scored(TRUTH, 25, seed=4)


def states(verdict: Verdict) -> dict[str, str]:
    return {f"{rule.name}/{rule.against}": rule.state for rule in verdict.rules}


def test_an_equal_challenger_is_promoted() -> None:
    verdict = decide(RULES, UNITS, EQUAL, CHAMPION, facts=SOUND)
    assert (verdict.outcome, verdict.moves, verdict.suffices) == ("promoted", True, None)
    assert set(states(verdict)) == {f"{AP}/champion", f"{CLOSE}/champion", "parity/limit", "doctor/limit"}
    assert len(verdict.vetoes) == 4
    for rule in verdict.rules[:2]:
        assert rule.difference is not None
        assert rule.difference.low is not None
        assert -0.05 < rule.difference.low < rule.difference.value < (rule.difference.high or 0)
        assert rule.p is not None
        assert rule.p < verdict.level
    assert verdict.decidable.keys() == {AP, CLOSE}
    assert all(0.02 < margin < 0.2 for margin in verdict.decidable.values())


def test_a_worse_one_is_rejected() -> None:
    verdict = decide(RULES, UNITS, WORSE, CHAMPION, facts=SOUND)
    assert (verdict.outcome, verdict.moves) == ("rejected", False)
    assert "oks_AP" in verdict.reason


def test_a_harmful_keypoint_is_a_veto_though_the_whole_keeps_its_margin() -> None:
    challenger = scored(TRUTH, 15, seed=2, thrown={"nose": 0.3})
    verdict = decide(replace(RULES, margin_ap=0.5, margin_close=0.5), UNITS, challenger, CHAMPION, facts=SOUND)
    assert {rule.state for rule in verdict.rules} == {"passed"}
    assert verdict.outcome == "rejected"
    assert verdict.reason.startswith("cow nose fell from ")
    off = replace(RULES, margin_ap=0.5, margin_close=0.5, veto_drop=None)
    assert decide(off, UNITS, challenger, CHAMPION, facts=SOUND).outcome == "promoted"


def small(n_images: int) -> tuple[Units, Scored, Scored]:
    truth = draw_truth(n_images)
    return images_of(truth), scored(truth, 15, seed=1), scored(truth, 15, seed=2)


def test_few_images_are_undecided_and_the_number_that_would_do_is_said() -> None:
    units, champion, challenger = small(40)
    verdict = decide(RULES, units, challenger, champion, facts=SOUND)
    assert (verdict.outcome, verdict.moves, verdict.needs_approval) == ("undecided", False, False)
    assert verdict.suffices is not None
    assert verdict.suffices > 40
    assert f"about {verdict.suffices} images would tell" in verdict.reason
    more, champion, challenger = small(round(verdict.suffices * 1.5))
    assert decide(RULES, more, challenger, champion, facts=SOUND).outcome == "promoted"


def test_a_difference_that_lies_at_the_margin_still_gets_a_number() -> None:
    """It is what an equal challenger wants: the difference that was measured may be chance."""
    seen = decide(RULES, UNITS, scored(TRUTH, 17, seed=2), CHAMPION, facts=SOUND).rules[0].difference
    assert seen is not None
    assert seen.value < 0
    rules = replace(RULES, margin_ap=0.0005 - seen.value)
    rule = decide(rules, UNITS, scored(TRUTH, 17, seed=2), CHAMPION, facts=SOUND).rules[0]
    assert rule.state == "undecided"
    assert seen.standard_error is not None
    assert rule.suffices == groups_needed(seen.standard_error * 20, rules.margin_ap, JOINT_POWER)


@pytest.mark.parametrize("n_images", [1, 2, 19])
def test_below_twenty_groups_nothing_is_decided(n_images: int) -> None:
    units, champion, _ = small(n_images)
    lenient = Rules(margin_ap=0.9, margin_close=0.9)
    verdict = decide(lenient, units, champion, champion, facts=SOUND)
    assert verdict.outcome == "undecided"
    assert "nothing is decided below 20" in verdict.reason
    assert not verdict.vetoes
    assert verdict.suffices is not None
    first = decide(Rules(floor_ap=0, floor_close=0), units, champion, facts=SOUND)
    assert first.outcome == "undecided"


def test_a_thousand_images_of_nineteen_animals_are_nineteen() -> None:
    units = number_units([str(index % 19) for index in range(400)], "group")
    verdict = decide(Rules(margin_ap=0.9, margin_close=0.9), units, EQUAL, CHAMPION, facts=SOUND)
    assert (verdict.outcome, verdict.unit, verdict.units, verdict.images) == ("undecided", "group", 19, 400)


def test_the_first_model_needs_the_floors() -> None:
    assert decide(RULES, UNITS, EQUAL, facts=SOUND).outcome == "promoted"
    high = Rules(floor_ap=0.99, floor_close=0.99)
    assert decide(high, UNITS, EQUAL, facts=SOUND).outcome == "rejected"
    value = decide(RULES, UNITS, EQUAL, facts=SOUND).rules[0].value
    assert value is not None
    near = decide(Rules(floor_ap=value - 0.001, floor_close=0.1), UNITS, EQUAL, facts=SOUND)
    assert states(near) == {
        f"{AP}/floor": "undecided",
        f"{CLOSE}/floor": "passed",
        "parity/limit": "passed",
        "doctor/limit": "passed",
    }


def test_superiority_wants_more_than_equality() -> None:
    superior = replace(RULES, test="superior")
    assert decide(superior, UNITS, EQUAL, CHAMPION, facts=SOUND).outcome == "undecided"
    assert decide(superior, UNITS, BETTER, CHAMPION, facts=SOUND).outcome == "promoted"
    # The best model that ever was need not be beaten.
    assert decide(superior, UNITS, EQUAL, WORSE, CHAMPION, facts=SOUND).outcome == "promoted"


def test_a_champion_that_crept_down_does_not_lower_the_bar() -> None:
    crept = scored(TRUTH, 18, seed=5)
    challenger = scored(TRUTH, 17, seed=6)
    assert decide(replace(RULES, margin_ap=0.2), UNITS, challenger, crept, facts=SOUND).outcome == "promoted"
    rules = replace(RULES, margin_ap=0.2)
    verdict = decide(rules, UNITS, challenger, crept, BETTER, facts=SOUND)
    assert verdict.outcome == "rejected"
    assert states(verdict)[f"{AP}/champion"] == "passed"
    assert states(verdict)[f"{AP}/best"] == "failed"
    without = replace(rules, no_creep=False)
    assert decide(without, UNITS, challenger, crept, BETTER, facts=SOUND).outcome == "promoted"


@pytest.mark.parametrize(
    ("rules", "facts", "state"),
    [
        ({}, {"parity": False}, "failed"),
        ({"parity": False}, {"parity": False}, None),
        ({}, {"parity": None}, "undecided"),
        ({}, {"doctor_errors": 3}, "failed"),
        ({"doctor": False}, {"doctor_errors": 3}, None),
        ({"latency_ms": 20.0}, {"latency_ms": 25.0}, "failed"),
        ({"latency_ms": 20.0}, {"latency_ms": 20.0}, "passed"),
        ({"latency_ms": 20.0}, {}, "undecided"),
        ({"size_mb": 10.0}, {"size_mb": 12.5}, "failed"),
        ({"size_mb": 10.0}, {"size_mb": 9.0}, "passed"),
    ],
)
def test_side_facts(rules: dict[str, Any], facts: dict[str, Any], state: str | None) -> None:
    name = next(iter({**rules, **facts})).partition("_")[0]
    known = msgspec.structs.replace(SOUND, **facts)
    verdict = decide(replace(RULES, **rules), UNITS, EQUAL, CHAMPION, facts=known)
    assert states(verdict).get(f"{name}/limit") == state
    assert verdict.outcome == {"failed": "rejected", "undecided": "undecided"}.get(state or "", "promoted")
    if state == "undecided":
        assert "not measured" in verdict.reason


def test_confidence_that_no_longer_keeps_its_word_is_rejected() -> None:
    rules = replace(RULES, ece_rise=0.05)
    unsure = scored(TRUTH, 15, seed=2, confidence=0.5)
    assert decide(rules, UNITS, EQUAL, CHAMPION, facts=SOUND).outcome == "promoted"
    verdict = decide(rules, UNITS, unsure, CHAMPION, facts=SOUND)
    assert (verdict.outcome, states(verdict)["calibration/champion"]) == ("rejected", "failed")


@pytest.mark.parametrize(("n_images", "state"), [(19, "undecided"), (20, "failed")])
def test_the_confidence_of_few_images_rejects_nothing(n_images: int, state: str) -> None:
    truth = draw_truth(n_images)
    units, unsure = images_of(truth), scored(truth, 15, seed=2, confidence=0.5)
    lenient = Rules(margin_ap=0.9, margin_close=0.9, ece_rise=0.05)
    verdict = decide(lenient, units, unsure, scored(truth, 15, seed=1), facts=SOUND)
    assert states(verdict)["calibration/champion"] == state
    assert verdict.outcome == {"undecided": "undecided", "failed": "rejected"}[state]


def test_approval() -> None:
    required = decide(replace(RULES, approval="required"), UNITS, EQUAL, CHAMPION, facts=SOUND)
    assert (required.outcome, required.needs_approval, required.moves) == ("promoted", True, False)
    rejected = decide(replace(RULES, approval="required"), UNITS, WORSE, CHAMPION, facts=SOUND)
    assert not rejected.needs_approval
    units, champion, challenger = small(40)
    named = decide(replace(RULES, approvers=("anna",)), units, challenger, champion, facts=SOUND)
    assert (named.outcome, named.needs_approval, named.moves) == ("undecided", True, False)


def test_a_test_split_grows_stale() -> None:
    for judged, stale in ((49, False), (50, True)):
        facts = msgspec.structs.replace(SOUND, judged=judged)
        assert decide(RULES, UNITS, EQUAL, CHAMPION, facts=facts).stale is stale


def test_it_is_the_same_each_time_and_goes_through_json() -> None:
    first, second = (decide(RULES, UNITS, EQUAL, CHAMPION, BETTER, facts=SOUND) for _ in range(2))
    assert first == second
    assert msgspec.json.decode(msgspec.json.encode(first), type=Verdict) == first


def test_what_can_be_decided_is_what_the_power_calculation_says() -> None:
    verdict = decide(RULES, UNITS, EQUAL, CHAMPION, facts=SOUND)
    error = verdict.rules[0].difference
    assert error is not None
    assert error.standard_error is not None
    assert verdict.decidable[AP] == pytest.approx(decidable_margin(error.standard_error * 20, 400, 0.9))
