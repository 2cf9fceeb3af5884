"""What people are told: one value for every way, and its JSON, subject and texts."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from flows.outcome import Outcome, RuleRow
from keypipe import __version__
from tasks.retraining.notification import Event

COLUMNS = ("rule", "champion", "challenger", "difference", "verdict")
BODY_VERSION = 1
"""Of the JSON; a later one may add fields to it, and gets another number if one changes its meaning or goes."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something that people are told.

    Attributes:
        event: what kind of thing happened.
        title: it, in one line.
        reason: why, in a sentence or a few lines.
        workspace: name of the registered model, or of the folder.
        rows: every rule with its figures; empty where nothing was judged.
        model_version: number of the version that it is about.
        champion_version: number of the version in use now.
        run_url: page of the run.
        report: the report page, a file of this machine.
        todo: what somebody is to do, such as a command.
        id: the same for all ways and tries, so that who gets it twice can tell.
        at: when, ISO 8601.
        host: name of the machine.
        is_test: nothing happened; somebody tries the ways out.
    """

    event: Event
    title: str
    reason: str = ""
    workspace: str = ""
    rows: Sequence[RuleRow] = ()
    model_version: str | None = None
    champion_version: str | None = None
    run_url: str | None = None
    report: str | None = None
    todo: str = ""
    id: str = msgspec.field(default_factory=lambda: str(uuid.uuid4()))
    at: str = msgspec.field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    host: str = msgspec.field(default_factory=socket.gethostname)
    is_test: bool = False

    @property
    def subject(self) -> str:
        """One line, for a mail and a chat."""
        line = " ".join(f"[{self.workspace or 'keypipe'}] {'(test) ' if self.is_test else ''}{self.title}".split())
        return line if len(line) <= 180 else f"{line[:179]}…"


def from_outcome(outcome: Outcome) -> Notice:
    """Return what people are told of a retraining."""
    return Notice(
        event="approval" if outcome.kind == "approval wanted" else outcome.kind,
        title=outcome.title,
        reason="\n".join([outcome.reason, *outcome.remarks]),
        workspace=outcome.model or Path(outcome.workspace).name,
        rows=outcome.rows,
        model_version=outcome.version or None,
        champion_version=outcome.champion or None,
        run_url=outcome.run_url or None,
        report=str(Path(outcome.workspace, outcome.report)) if outcome.report else None,
        todo=_TODO.format(version=outcome.version) if outcome.kind == "approval wanted" else "",
    )


_TODO = """\
keypipe approve {version} --why "…" puts it into use;
keypipe reject {version} --why "…" keeps the one that is in use."""


def to_body(notice: Notice) -> bytes:
    """Return the JSON that webhooks get; docs/retraining.md describes it."""
    body = {
        "kind": "keypipe.notification",
        "version": BODY_VERSION,
        "id": notice.id,
        "at": notice.at,
        "event": notice.event,
        "test": notice.is_test,
        "title": notice.title,
        "reason": notice.reason,
        "workspace": notice.workspace,
        "host": notice.host,
        "model": {"version": notice.model_version, "champion": notice.champion_version},
        "rules": notice.rows,
        "run_url": notice.run_url,
        "report": notice.report,
        "todo": notice.todo,
    }
    return msgspec.json.encode(body)


def to_text(notice: Notice) -> str:
    """Return it as plain text: the reason, the table, what is to do, the links."""
    parts = [notice.title, notice.reason]
    if notice.rows:
        table = [COLUMNS, *map(_to_cells, notice.rows)]
        widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
        parts.append("\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in table))
    if notice.todo:
        parts.append(notice.todo)
    links = [f"Run: {notice.run_url}"] if notice.run_url else []
    if notice.report:
        links.append(f"Report on {notice.host}: {notice.report}")
    parts += ["\n".join(links), _from(notice)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def to_html(notice: Notice, *, attached: bool = False) -> str:
    """Return it as a page for mail readers: tables and inline styles, no script, nothing fetched.

    Args:
        notice: what is told.
        attached: the report comes with it.
    """
    word, ink, wash = _TONES[notice.event]
    return _template().render(
        notice=notice,
        attached=attached,
        word=word,
        ink=ink,
        wash=wash,
        columns=COLUMNS,
        rows=[_to_cells(row) for row in notice.rows],
        sender=_from(notice),
    )


_TONES: dict[Event, tuple[str, str, str]] = {
    "promoted": ("Promoted", "#2b7a3d", "#edf7ee"),
    "rejected": ("Rejected", "#b8322a", "#fcefee"),
    "undecided": ("Undecided", "#a86400", "#fdf5e6"),
    "failed": ("Failed", "#b8322a", "#fcefee"),
    "drift": ("Drift", "#a86400", "#fdf5e6"),
    "approval": ("Approval wanted", "#2a6fb0", "#edf4fb"),
    "skipped": ("Skipped", "#5d666f", "#f1f2ee"),
}
"""Word, ink and wash of each event; the colours of the report pages."""


def _from(notice: Notice) -> str:
    when = datetime.fromisoformat(notice.at)
    return f"keypipe {__version__} on {notice.host}, {when:%Y-%m-%d %H:%M} {when.tzname() or ''}".rstrip()


def _to_cells(row: RuleRow) -> tuple[str, ...]:
    """Return a rule as a table shows it; what was drawn from a sample has three decimals, a limit as many as it has."""
    if row.interval is None:
        return row.rule, _plain(row.champion), _plain(row.challenger), "", row.verdict
    low, high = row.interval
    figures = ["" if value is None else f"{value:.3f}" for value in (row.champion, row.challenger)]
    return row.rule, *figures, f"{low:+.3f} to {high:+.3f}", row.verdict


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("mail.html.j2")
