"""Whether to train anew, and why: a matter of seconds, with nothing heavy imported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from tasks.registry.moves.aliases import State, open_registry, read_state
from tasks.registry.moves.history import CHAMPION
from tasks.retraining.made_of import Change, SameParam, find_change, judged_last, settled_at
from tasks.retraining.settings import RetrainParams


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Whether to train.

    Attributes:
        train: whether.
        reasons: why, a phrase each; of one that is not to train, why not.
        notes: what could not be told, or is to be known.
        champion: number of the version in use; "" where none is.
    """

    train: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    champion: str = ""

    @property
    def reason(self) -> str:
        """All of why."""
        return "; ".join(self.reasons)


Drifted = Callable[[str], str]
"""Says of the version in use why drift that was seen of it is a reason to train anew; "" where it is none."""


def decide_in(
    root: Path,
    settings: RetrainParams,
    same_param: SameParam,
    asked: str = "",
    drifted: Drifted = lambda _version: "",
) -> Decision:
    """Decide for a workspace as it is now.

    Args:
        root: the workspace.
        settings: the section ``retrain``.
        same_param: see ``find_change``.
        asked: why a person asks for it; "" where nobody does.
        drifted: asked where ``retrain.drift`` is on.

    Raises:
        PoseError: the registry does not answer.
    """
    state = read_state(root)
    champion, last = _find(root, state, same_param)
    drift = drifted(champion.version) if settings.drift and champion else ""
    return decide(settings, champion, last, asked, drift)


def _find(root: Path, state: State, same_param: SameParam) -> tuple[Change | None, Change | None]:
    registry = open_registry(root)
    number = state.aliases.get(CHAMPION)
    champion = next((version for version in state.versions if version.number == number), None)
    last = judged_last(state.versions)
    if last is not None and champion is not None and (last is champion or settled_at(last) <= champion.created):
        last = None
    return (
        find_change(root, registry, champion, same_param) if champion else None,
        find_change(root, registry, last, same_param) if last else None,
    )


def decide(
    settings: RetrainParams, champion: Change | None, last: Change | None, asked: str = "", drift: str = ""
) -> Decision:
    """Decide.

    A version that was judged since the champion counts as well: what it learnt from is not worth a second training.
    Drift is a reason as soon as there is anything new to learn from, however little: the same data give the same model.

    Args:
        settings: the section ``retrain``.
        champion: how the workspace differs from what the version in use was made of; None: none is in use.
        last: the same of the version that was judged last, if that was after the champion; None: none.
        asked: why a person asks for it; "" where nobody does.
        drift: what was seen of the version in use; "" for nothing.
    """
    number = champion.version if champion else ""
    notes = [note for change in (champion, last) if change for note in _notes(change)]
    if asked:
        return Decision(train=True, reasons=(f"asked for: {asked}",), notes=tuple(notes), champion=number)
    if champion is None:
        reasons = ["no model is in use yet"]
    else:
        reasons = find_reasons(settings, champion, "the champion", drift)
        if drift and champion.none:
            notes.append(f"{drift}; there is nothing new to learn from yet: label some of the new images")
    if reasons and last is not None and not find_reasons(settings, last, f"v{last.version}", drift):
        told = f"v{last.version} was trained on what is here and was {last.gate}; {tell_little(last)} since"
        return Decision(train=False, reasons=(told,), notes=tuple(notes), champion=number)
    if reasons:
        return Decision(train=True, reasons=tuple(reasons), notes=tuple(notes), champion=number)
    assert champion is not None
    return Decision(
        train=False, reasons=(f"{tell_little(champion)} since v{number}",), notes=tuple(notes), champion=number
    )


def find_reasons(settings: RetrainParams, change: Change, whose: str, drift: str = "") -> list[str]:
    """Return the reasons to train anew that lie in how a version differs from the workspace, and in drift."""
    reasons: list[str] = []
    if change.images is None:
        reasons.append(f"what changed since {whose}'s data cannot be told")
    elif change.images:
        share = change.images / max(change.of, 1)
        by_number = settings.changed_images is not None and change.images >= settings.changed_images
        by_share = settings.changed_share is not None and share >= settings.changed_share
        if by_number or by_share:
            limits = [f"{settings.changed_images}"] if settings.changed_images is not None else []
            limits += [f"{settings.changed_share:.0%}"] if settings.changed_share is not None else []
            reasons.append(
                f"{change.images} images or labels changed since {whose}'s {change.of} ({share:.0%}; trained from"
                f" {' or '.join(limits)} on)"
            )
    if change.params:
        reasons.append(f"parameters changed since {whose}: {_few(change.params)}")
    if change.code:
        reasons.append(f"what a training reads beside the data changed since {whose}: {_few(change.code)}")
    old = settings.max_age_days is not None and change.age_days >= settings.max_age_days
    if old and not change.none:
        reasons.append(f"{whose} is {change.age_days:.1f} days old (trained from {settings.max_age_days:g} on)")
    if drift and not change.none:
        reasons.append(drift)
    return reasons


def tell_little(change: Change) -> str:
    """Say how little differs."""
    if change.images:
        share = change.images / max(change.of, 1)
        return f"only {change.images} of {change.of} images or labels changed ({share:.0%})"
    return "nothing that a training learns from changed"


def _notes(change: Change) -> list[str]:
    notes = [f"the data of v{change.version} are not at hand (neither DVC's cache nor its remote has their list)"]
    unknown = [f"parameters and code of v{change.version} are not at hand, and were not compared"]
    return (notes if change.images is None else []) + (unknown if change.code is None else [])


def _few(names: tuple[str, ...], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
