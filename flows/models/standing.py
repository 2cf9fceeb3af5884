"""Which model is in use and what the next one has to stand: the part of a status that is about models, not stages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from ruamel.yaml.comments import CommentedMap

from keypipe.errors import PoseError
from keypipe.splits.power import AP, CLOSE, SHIPPED_MARGINS, Power, find_power
from tasks.registry.glance import glance
from tasks.registry.moves.approvals import Waiting, find_waiting
from tasks.registry.moves.history import CHAMPION, PREVIOUS, Entry, last_champion_move
from tasks.retraining.settings import read_settings
from tasks.workspace.places import REPORT_JSON, report_folder


class InUse(msgspec.Struct):
    """The registered model.

    Attributes:
        model: its name; empty where the registry could not be read.
        champion: number of the version in use; None where none is.
        since: since when, ISO 8601, UTC; None where nobody knows, since it was not keypipe that moved the alias.
        who: who put it into use.
        why: the reason.
        headline: its figures, with intervals, and on how many images.
        data: DVC's name for the version of ``data/raw`` that it was made of.
        previous: number of the version that a rollback leads to.
        waiting: the version that waits for a person's word.
        remark: what could not be read, or is not as it should be.
    """

    model: str
    champion: str | None = None
    since: str | None = None
    who: str = ""
    why: str = ""
    headline: str = ""
    data: str = ""
    previous: str | None = None
    waiting: Waiting | None = None
    remark: str = ""


def read_in_use(root: Path, document: CommentedMap | None = None) -> InUse | None:
    """Read which version is in use; None where nothing was ever registered.

    Args:
        root: the workspace.
        document: ``params.yaml``, where it has been read.
    """
    try:
        state = glance(root, document)
    except PoseError as error:
        return InUse("", remark=str(error))
    if not state.versions and not state.entries:
        return None
    number = state.aliases.get(CHAMPION)
    move = _find_move(state.entries, number)
    tags = next((version.tags for version in state.versions if version.number == number), {})
    return InUse(
        model=state.name,
        champion=number,
        since=move.at if move else None,
        who=move.who if move else "",
        why=move.why if move else "",
        headline=tags.get("keypipe.headline", ""),
        data=tags.get("keypipe.data", ""),
        previous=state.aliases.get(PREVIOUS),
        waiting=find_waiting(state.entries),
        remark=state.remark,
    )


def _find_move(entries: Sequence[Entry], number: str | None) -> Entry | None:
    """Return the entry that put this version into use; None where the last one speaks of another."""
    last = last_champion_move(entries)
    moved = {move.alias: move.after for move in last.moves} if last else {}
    return last if number is not None and moved.get(CHAMPION) == number else None


def describe_in_use(found: InUse, raw_version: str | None) -> list[tuple[str, str]]:
    """Return what there is to say, as pairs of heading and line; "" goes on with the line before.

    Args:
        found: the registered model.
        raw_version: DVC's name for the last version of ``data/raw``.
    """
    lines: list[tuple[str, str]] = []
    if found.champion is not None:
        since = f" since {_to_local(found.since)}, by {found.who}" if found.since else ""
        why = f": {found.why}" if found.why else ""
        lines.append(("in use", f"{found.model} v{found.champion}{since}{why}"))
        if found.headline:
            lines.append(("", found.headline))
        if found.data:
            same = found.data == raw_version
            other = "" if raw_version is None else ", as it is here" if same else f"; here it is {raw_version[:8]}"
            lines.append(("", f"made of data version {found.data[:8]}{other}"))
    elif found.model:
        lines.append(("in use", f"no version of {found.model}; `keypipe promote VERSION --why …` puts one into use"))
    if found.waiting is not None:
        wait = found.waiting
        end = "was to be answered by" if wait.is_over() else "until"
        asked = f", of {wait.approvers}" if wait.approvers else ""
        lines.append(("waiting", f"v{wait.version} for approval{asked}, {end} {_to_local(wait.until)}: {wait.reason}"))
        lines.append(("", "`keypipe models approve` puts it into use, `keypipe models reject --why …` does not"))
    if found.remark:
        lines.append(("" if lines else "registry", found.remark.splitlines()[0]))
    return lines


def _to_local(time: str) -> str:
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")


class _Divided(msgspec.Struct):
    power: Power | None = None


def read_power(root: Path, document: CommentedMap | None = None) -> Power | None:
    """Return what the test split can decide about two models, by the margins of ``retrain.gate``.

    Args:
        root: the workspace.
        document: ``params.yaml``, where it has been read.

    Returns:
        None before split has run, or without a test split.
    """
    try:
        found = msgspec.json.decode((root / report_folder("split") / REPORT_JSON).read_bytes(), type=_Divided).power
    except (OSError, msgspec.DecodeError):  # none yet, or of another version
        return None
    if found is None:
        return None
    try:
        gate = read_settings(root, document).gate
    except PoseError:  # told by whoever needs it
        return found
    margins = {AP: gate.margin_ap, CLOSE: gate.margin_close}
    return found if margins == SHIPPED_MARGINS else find_power(found.units, found.unit, margins)
