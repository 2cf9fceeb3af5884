"""The gate: may the challenger take the champion's place, by which rules, and how sure is that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from keypipe.evaluation.keypoint_errors import measure_reliability
from keypipe.gate.comparison import Comparison, Measures, Scored, Units, compare, measure
from keypipe.gate.noninferiority import Bounds, find_bounds, find_levels, standard_errors
from keypipe.gate.rules import Rules
from keypipe.gate.vetoes import Veto, find_vetoes
from keypipe.keypoints.boxes import Array
from keypipe.splits.power import (
    AP,
    CLOSE,
    HEADLINES,
    JOINT_POWER,
    LEVEL,
    MIN_GROUPS,
    TYPICAL_SPREADS,
    decidable_margin,
    groups_needed,
)

Outcome = Literal["promoted", "rejected", "undecided"]
State = Literal["passed", "failed", "undecided"]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What else is known of the challenger; None: not measured.

    Attributes:
        parity: whether the exported file says what the trained model says.
        latency_ms: median time of an image.
        size_mb: size of the exported file, 10^6 bytes.
        doctor_errors: errors that the doctor found in the data.
        judged: how often this test split has judged a challenger before.
    """

    parity: bool | None = None
    latency_ms: float | None = None
    size_mb: float | None = None
    doctor_errors: int | None = None
    judged: int = 0


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one rule.

    Attributes:
        name: such as ``oks_AP`` or ``latency``.
        against: ``champion``, ``best``, ``floor`` or ``limit``.
        state: whether it is kept.
        text: what was found, as a sentence.
        value: the challenger's figure.
        reference: the figure that it is compared with, or the limit.
        difference: value less reference, with its bounds; None where nothing is drawn.
        limit: what the difference, or the value, must not cross.
        p: level at which the rule would just be kept; small is good.
        suffices: groups that would decide it; None: decided, or no number would.
    """

    name: str
    against: str
    state: State
    text: str
    value: float | None = None
    reference: float | None = None
    difference: Bounds | None = None
    limit: float | None = None
    p: float | None = None
    suffices: int | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate says.

    Attributes:
        outcome: ``promoted``, ``rejected``, or ``undecided``, which keeps the champion.
        needs_approval: whether a person is asked before anything moves.
        reason: why, as a sentence.
        rules: every rule with its figures.
        vetoes: every keypoint and class that was looked at.
        unit: ``image`` or ``group``.
        units: how many there are.
        images: how many there are.
        suffices: units that would decide all that is undecided; None: nothing is, or no number would.
        decidable: by figure the margin that a test split like this one decides for an equal challenger.
        level: chance that a bound is taken to have.
        judged: how often this test split has judged before.
        stale: whether that is too often.
        left_out: classes and keypoints that not all models have.
    """

    outcome: Outcome
    needs_approval: bool
    reason: str
    rules: list[Rule]
    vetoes: list[Veto]
    unit: str
    units: int
    images: int
    suffices: int | None
    decidable: dict[str, float]
    level: float
    judged: int
    stale: bool
    left_out: list[str]

    @property
    def moves(self) -> bool:
        """Whether the challenger becomes the champion now, without anybody's word."""
        return self.outcome == "promoted" and not self.needs_approval


def decide(
    rules: Rules,
    units: Units,
    challenger: Scored,
    champion: Scored | None = None,
    best: Scored | None = None,
    *,
    facts: Facts | None = None,
    left_out: Sequence[str] = (),
    seed: int = 0,
    elsewhere: tuple[Units, Scored] | None = None,
) -> Verdict:
    """Apply the rules.

    Args:
        rules: the section ``retrain.gate``.
        units: of the test images.
        challenger: its predictions of the test images, matched.
        champion: the same of the model in use; None: there is none.
        best: the same of the best model that was ever champion; None: the champion is it.
        facts: what else is known of the challenger.
        left_out: classes and keypoints that not all models have.
        seed: of the resamples.
        elsewhere: units, and the challenger's predictions, of the images that the best model is judged by, where these
            are others.

    Returns:
        The verdict; the same for the same values.

    Raises:
        DatasetError: no image holds an object with a labelled keypoint.
    """
    facts = facts or Facts()
    mine = measure(challenger, units)
    found: list[Rule] = []
    vetoes: list[Veto] = []
    if champion is None:
        found += _keep_floors(rules, mine, units, seed)
        decidable: dict[str, float] = {}
    else:
        comparison = compare(mine, measure(champion, units))
        found += _keep_margins(rules, comparison, units, "champion", seed)
        decidable = _decidable(comparison, units)
        if best is not None and rules.no_creep:
            theirs, there = (units, mine) if elsewhere is None else (elsewhere[0], measure(elsewhere[1], elsewhere[0]))
            found += _keep_margins(rules, compare(there, measure(best, theirs)), theirs, "best", seed)
        if rules.veto_drop is not None and units.count >= MIN_GROUPS:
            vetoes = find_vetoes(comparison, [n for n in comparison.names if n not in HEADLINES], rules.veto_drop, seed)
        found += _keep_calibration(rules, challenger, champion, units)
    found += _keep_limits(rules, facts)
    outcome, reason = _sum_up(found, vetoes, units)
    asks = outcome == "promoted" and rules.approval == "required"
    return Verdict(
        outcome=outcome,
        needs_approval=asks or (outcome == "undecided" and bool(rules.approvers)),
        reason=reason,
        rules=found,
        vetoes=vetoes,
        unit=units.name,
        units=units.count,
        images=len(units.of_image),
        suffices=_largest([rule for rule in found if rule.state == "undecided"]),
        decidable=decidable,
        level=LEVEL,
        judged=facts.judged,
        stale=facts.judged >= rules.stale_after,
        left_out=list(left_out),
    )


def _keep_margins(rules: Rules, comparison: Comparison, units: Units, against: str, seed: int) -> list[Rule]:
    """Compare the headline figures with those of another model."""
    superior = rules.test == "superior" and against == "champion"
    margins = dict.fromkeys(HEADLINES, 0.0) if superior else {AP: rules.margin_ap, CLOSE: rules.margin_close}
    columns = [comparison.names.index(name) for name in margins]
    return _test_headlines(
        values=comparison.differences[columns],
        pulls=comparison.pulls[:, columns],
        limits=-np.array([*margins.values()]),
        references=comparison.reference[columns],
        units=units,
        against=against,
        seed=seed,
    )


def _keep_floors(rules: Rules, mine: Measures, units: Units, seed: int) -> list[Rule]:
    """Compare the headline figures of a first model with the floors."""
    columns = [mine.names.index(name) for name in HEADLINES]
    floors = np.array([rules.floor_ap, rules.floor_close])
    return _test_headlines(
        values=mine.values[columns] - floors,
        pulls=mine.pulls[:, columns],
        limits=np.zeros(len(HEADLINES)),
        references=floors,
        units=units,
        against="floor",
        seed=seed,
    )


def _test_headlines(
    *,
    values: Array,
    pulls: Array,
    limits: Array,
    references: Array,
    units: Units,
    against: str,
    seed: int,
) -> list[Rule]:
    enough = units.count >= MIN_GROUPS
    bounds = find_bounds(values, pulls, seed) if enough else [Bounds(float(value)) for value in values]
    tests = find_levels(limits, values, pulls, seed) if enough else None
    rules: list[Rule] = []
    for index, (name, bound) in enumerate(zip(HEADLINES, bounds, strict=True)):
        state: State = "undecided"
        if tests is not None:
            state = "passed" if tests.above[index] <= LEVEL else "failed" if tests.below[index] <= LEVEL else state
        limit, reference = float(limits[index]), float(references[index])
        undecided = state == "undecided"
        rules.append(
            Rule(
                name=name,
                against=against,
                state=state,
                text=_say_difference(against, bound, reference, limit),
                value=reference + bound.value,
                reference=reference,
                difference=bound,
                limit=limit,
                p=None if tests is None else float(tests.above[index]),
                suffices=_suffices(name, pulls[:, index], bound.value, limit) if undecided else None,
            )
        )
    return rules


def _suffices(name: str, pulls: Array, value: float, limit: float) -> int | None:
    """Return how many groups would decide: as it looks, or for a challenger as good as the champion if that is sooner.

    A spread that was measured on few groups is none; then it is the typical one.
    """
    spread = _spread(pulls) if len(pulls) >= MIN_GROUPS else TYPICAL_SPREADS[name]
    return groups_needed(spread, max(-limit, abs(value - limit)), JOINT_POWER)


def _spread(pulls: Array) -> float:
    return float(standard_errors(pulls) * np.sqrt(len(pulls)))


def _decidable(comparison: Comparison, units: Units) -> dict[str, float]:
    if units.count < MIN_GROUPS:
        return {name: decidable_margin(TYPICAL_SPREADS[name], max(units.count, 2), JOINT_POWER) for name in HEADLINES}
    return {
        name: decidable_margin(_spread(comparison.pulls[:, comparison.names.index(name)]), units.count, JOINT_POWER)
        for name in HEADLINES
    }


def _say_difference(against: str, bound: Bounds, reference: float, limit: float) -> str:
    value = reference + bound.value
    if against == "floor":
        low = "" if bound.low is None else f", above {reference + bound.low:.3f} beyond doubt"
        return f"{value:.3f}{low}; the floor is {reference:.3f}"
    between = "" if bound.low is None or bound.high is None else f" ({bound.low:+.3f} to {bound.high:+.3f})"
    wanted = "it must be above 0" if limit == 0 else f"it may lose up to {-limit:.3f}"
    return f"{value:.3f}, the {against} {reference:.3f}: {bound.value:+.3f}{between}; {wanted}"


def _keep_calibration(rules: Rules, challenger: Scored, champion: Scored, units: Units) -> list[Rule]:
    """Compare how well the keypoint confidence keeps its word; a figure of few groups decides nothing."""
    if rules.ece_rise is None:
        return []
    value, reference = (measure_reliability(scored.tables).ece_labelled for scored in (challenger, champion))
    if value is None or reference is None:
        return [_not_measured("calibration", "champion")]
    state: State = "passed" if value - reference <= rules.ece_rise else "failed"
    state = state if units.count >= MIN_GROUPS else "undecided"
    text = f"calibration error {value:.3f}, the champion {reference:.3f}; it may rise by {rules.ece_rise:.3f}"
    return [
        Rule(
            name="calibration",
            against="champion",
            state=state,
            text=text,
            value=value,
            reference=reference,
            limit=rules.ece_rise,
        )
    ]


def _keep_limits(rules: Rules, facts: Facts) -> list[Rule]:
    """Compare with what needs no other model."""
    found: list[Rule] = []
    if rules.parity:
        texts = {
            True: "the export says what the trained model says",
            False: "the export differs from the trained model",
        }
        found.append(_to_rule("parity", facts.parity, facts.parity is True, texts.get(bool(facts.parity), "")))
    if rules.doctor:
        errors = facts.doctor_errors
        found.append(_to_rule("doctor", errors, errors == 0, f"{errors} errors in the data"))
    for name, value, limit, unit in (
        ("latency", facts.latency_ms, rules.latency_ms, "ms"),
        ("size", facts.size_mb, rules.size_mb, "MB"),
    ):
        if limit is not None:
            kept = value is not None and value <= limit
            text = "" if value is None else f"{value:.1f} {unit}, at most {limit:g} {unit}"
            found.append(_to_rule(name, value, kept, text, limit))
    return found


def _to_rule(name: str, value: float | None, kept: bool, text: str, limit: float | None = None) -> Rule:
    if value is None:
        return _not_measured(name, "limit")
    return Rule(
        name=name,
        against="limit",
        state="passed" if kept else "failed",
        text=text,
        value=float(value),
        limit=limit,
    )


def _not_measured(name: str, against: str) -> Rule:
    return Rule(name=name, against=against, state="undecided", text="was not measured")


def _sum_up(rules: Sequence[Rule], vetoes: Sequence[Veto], units: Units) -> tuple[Outcome, str]:
    """Weigh everything: what fails rejects, what is undecided keeps the champion."""
    failed = [f"{rule.name}: {rule.text}" for rule in rules if rule.state == "failed"]
    failed += [f"{veto.name} fell from {veto.champion:.3f} to {veto.challenger:.3f}" for veto in vetoes if veto.vetoed]
    if failed:
        return "rejected", "; ".join(failed)
    undecided = [rule for rule in rules if rule.state == "undecided"]
    if not undecided:
        return "promoted", "every rule is kept"
    if units.count < MIN_GROUPS:
        return "undecided", f"{units.count} {units.name}s are too few to tell; nothing is decided below {MIN_GROUPS}"
    missing = [rule.name for rule in undecided if rule.difference is None]
    open_ = [rule for rule in undecided if rule.difference is not None]
    reasons = [f"{', '.join(missing)}: not measured"] if missing else []
    if open_:
        names = ", ".join(f"{rule.name} against the {rule.against}" for rule in open_)
        wanted = _largest(open_)
        more = f"about {wanted} {units.name}s would tell" if wanted else "the difference lies at the limit"
        reasons.append(f"{units.count} {units.name}s are too few to tell ({names}); {more}")
    return "undecided", "; ".join(reasons)


def _largest(rules: Sequence[Rule]) -> int | None:
    """Return how many units all rules want; None if a number does not help some of them."""
    wanted = [rule.suffices for rule in rules if rule.difference is not None]
    numbers = [number for number in wanted if number is not None]
    return max(numbers) if numbers and len(numbers) == len(wanted) else None
