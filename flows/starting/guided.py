"""The command init, as a person goes through it in a terminal, and as a script does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from flows.system.json_output import echo_json
from flows.system.progress_bar import Shown, progress_bar
from flows.system.tables import print_table
from keypipe.errors import ConfigError, format_count
from keypipe.printable import to_printable

if TYPE_CHECKING:
    from keypipe.proposal.values import Proposal
    from tasks.starting.choices import Choice
    from tasks.starting.looking import Source
    from tasks.starting.start import Start, Taken

DECLINED = 1
"""Exit code where somebody said no."""

_WRITE, _LEAVE, _CHOOSE = "y", "n", "c"


class Wishes(msgspec.Struct, frozen=True):
    """How the command is to go.

    Attributes:
        yes: ask nothing.
        overwrite: a person's values are replaced too.
        dry_run: change nothing.
        timed: time a training step.
        offline: do not ask the network.
        as_json: print JSON; asks nothing, and changes nothing without ``yes``.
    """

    yes: bool = False
    overwrite: bool = False
    dry_run: bool = False
    timed: bool = True
    offline: bool = False
    as_json: bool = False

    @property
    def asks(self) -> bool:
        """Whether a person is asked."""
        return not (self.yes or self.dry_run or self.as_json)


def init_main(
    root: Path,
    source: Source,
    wishes: Wishes,
    changing: Callable[[Path], AbstractContextManager[None]],
) -> int:
    """Look at a folder, tell what is proposed and what it will cost, ask, and take it.

    Args:
        root: the workspace.
        source: the folder.
        wishes: how it is to go.
        changing: holds the workspace while it is changed.

    Returns:
        The exit code: 0, or 1 where somebody said no.

    Raises:
        ConfigError: somebody would have to be asked, and there is no terminal.
        PoseError: the folder cannot be taken, or the parameters are wrong.
    """
    from tasks.starting.looking import Weights
    from tasks.starting.machine import find_weights
    from tasks.starting.page import write_page
    from tasks.starting.start import by_default, decline, measure, propose, take

    if wishes.asks and not sys.stdin.isatty():
        raise ConfigError(
            "there is no terminal to ask in: `--yes` writes what is sure, `--dry-run` tells and changes nothing"
        )
    offline = Weights(published=False, why_not="the network was not asked (--offline)")
    weights = offline if wishes.offline else find_weights(root)
    with progress_bar("reading annotations") as progress:
        start = propose(root, source, weights, _ask_person(progress) if wishes.asks else decline, progress)
        picked = by_default(start.choices, overwrite=wishes.overwrite)
        if wishes.timed:
            measure(root, start, picked, progress)
        page = write_page(root, start.found, start.choices, start.cost, start.why_no_cost)
    taken: Taken | None = None
    if not wishes.as_json:
        _show(root, start, page, overwrite=wishes.overwrite)
    if wishes.asks:
        said = _ask_to_write(start.choices, picked)
        if said is None:
            click.echo("nothing was changed")
            return DECLINED
        picked = said
    if wishes.asks or (wishes.yes and not wishes.dry_run):
        with changing(root), progress_bar("copying files") as progress:
            taken = take(root, start, picked, progress)
    if wishes.as_json:
        echo_json(to_json(root, start, taken, page))
    elif taken is not None:
        _tell_taken(root, taken)
    return 0


def _ask_person(progress: Shown) -> Callable[[Proposal], bool]:
    def ask(proposal: Proposal) -> bool:
        progress.pause()
        return click.confirm(to_printable(proposal.question), default=False)

    return ask


def _show(root: Path, start: Start, page: Path, *, overwrite: bool) -> None:
    """Print what was found, what is proposed, and what it will cost."""
    from rich.console import Console
    from rich.markup import escape

    from tasks.starting.page import PICTURE, format_any, tell_cost

    console = Console(highlight=False)
    found = start.found
    images = found.images.train + found.images.val
    for name, skeleton in found.schema.classes.items():
        pairs = ", ".join(f"{a}/{b}" for a, b in skeleton.pairs) or "none"
        count = format_count(len(found.objects[name]), "object")
        line = f"{name}: {count}; {', '.join(skeleton.keypoints)}; left/right: {pairs}"
        console.print(to_printable(line), markup=False, soft_wrap=True)
    console.print(f"{format_count(images, 'image')} to train on and to choose the best epoch by", markup=False)
    for note in [*found.notes, *(proposal.question for proposal in found.declined)]:
        console.print(f"- {to_printable(note)}", markup=False, soft_wrap=True)
    rows: list[list[str]] = []
    for choice in start.choices:
        proposed = escape(format_any(choice.proposal.value))
        if not choice.is_new:
            proposed = "as it is"
        elif choice.is_overriding:
            proposed = f"[yellow]{proposed}{'' if overwrite else ' (yours stays)'}[/]"
        else:
            proposed = f"[green]{proposed}[/]"
        rows.append([choice.proposal.key, escape(format_any(choice.now)), proposed, escape(choice.proposal.why)])
    print_table(console, ("key", "now", "proposed", "why"), rows)
    for what, told in tell_cost(start.cost, start.why_no_cost):
        console.print(to_printable(f"{what}: {told}"), markup=False, soft_wrap=True)
    console.print(f"skeletons as a picture: {(page.parent / PICTURE).relative_to(root)}", markup=False, soft_wrap=True)


def _ask_to_write(choices: Sequence[Choice], picked: Sequence[Choice]) -> list[Choice] | None:
    """Ask which values are written; None: nothing at all."""
    said = click.prompt(
        "Take the data and write these into params.yaml? y: yes, n: no, c: choose one by one",
        type=click.Choice([_WRITE, _LEAVE, _CHOOSE]),
        default=_WRITE,
        show_choices=False,
    )
    if said == _LEAVE:
        return None
    if said == _WRITE:
        return list(picked)
    kept = [choice for choice in choices if not choice.is_new]
    for choice in choices:
        if choice.is_new:
            text = f"{choice.proposal.key}: {choice.now} -> {choice.proposal.value} ({choice.proposal.why})"
            if click.confirm(to_printable(text), default=choice in picked):
                kept.append(choice)
    return kept


def _tell_taken(root: Path, taken: Taken) -> None:
    from tasks.workspace.places import PARAMS_FILE

    for choice in taken.kept:
        yours = f"{choice.proposal.key}: {choice.now} is yours and stays; {choice.proposal.value} was proposed"
        click.echo(to_printable(yours))
    replaced = ", ".join([*taken.adopted.moved, PARAMS_FILE])
    click.echo(f"{PARAMS_FILE} is written, with a reason beside every value; what was there before is in")
    click.echo(to_printable(f"{taken.adopted.aside}: {replaced}"))
    click.echo(f"the page: {taken.page.relative_to(root)}; next: `keypipe doctor`, then `keypipe run`")


def to_json(root: Path, start: Start, taken: Taken | None, page: Path) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    from tasks.starting.choices import ABSENT
    from tasks.starting.page import PICTURE

    found = start.found
    picture = page.parent / PICTURE
    return {
        "written": taken is not None,
        "images": {"train": found.images.train, "val": found.images.val},
        "classes": {
            name: {
                "objects": len(found.objects[name]),
                "keypoints": skeleton.keypoints,
                "skeleton": skeleton.edges,
                "pairs": skeleton.pairs,
            }
            for name, skeleton in found.schema.classes.items()
        },
        "schema_is_new": found.is_drafted,
        "notes": found.notes,
        "questions": [{"key": item.key, "value": item.value, "question": item.question} for item in found.declined],
        "proposals": [
            {
                "key": choice.proposal.key,
                "now": None if choice.now == ABSENT else choice.now,
                "proposed": choice.proposal.value,
                "why": choice.proposal.why,
                "owner": choice.owner,
                "written": taken is not None and choice.proposal.key in taken.written,
            }
            for choice in start.choices
        ],
        "cost": start.cost,
        "why_no_cost": None if start.cost else start.why_no_cost,
        "picture": str(picture.relative_to(root)) if picture.exists() else None,
        "page": str(page.relative_to(root)),
        "replaced": str(taken.adopted.aside) if taken else None,
    }
