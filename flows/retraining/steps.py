"""The steps of a retraining as Prefect tasks: each does one thing, and its state says in words what came of it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec
from prefect import get_run_logger
from prefect.states import Completed, Failed

from flows.drift.record import reason_to_retrain
from flows.notifications.delivery import notify
from flows.notifications.notice import from_outcome
from flows.outcome import Outcome
from flows.pipeline.stages.task import while_busy
from flows.pipeline.steps import step
from flows.retraining.answer import find_page
from flows.retraining.record import to_rows, to_table
from flows.services.board import opened
from flows.services.presence import is_cut_off
from keypipe.errors import PoseError
from keypipe.gate.telling import to_markdown, to_tags
from tasks.progress import tell_in_lines
from tasks.registry.moves import aliases, approvals
from tasks.registry.moves.history import CHALLENGER, CHAMPION
from tasks.registry.registration import Registered, mark_settled, register, tag_gate
from tasks.retraining import made_of, start, upstream
from tasks.retraining.decision import Decision, decide_in
from tasks.retraining.settings import RetrainParams, read_notify, read_settings
from tasks.tracking.history import try_show
from tasks.tracking.tags import JUDGED_AGAINST
from tasks.workspace.places import RAW


class Examination(msgspec.Struct, frozen=True):
    """What the doctor found: in a few words, the number of errors, and how many findings stop the pipeline."""

    headline: str
    errors: int
    stops: int


class Settled(msgspec.Struct, frozen=True):
    """What became of a challenger.

    Attributes:
        kind: as an outcome has it.
        registered: the version.
        champion: number of the version in use now; "" where none is.
    """

    kind: str
    registered: Registered
    champion: str


@step("bring up to date")
def update(root: str, wanted: bool) -> Any:
    """Version what people have in ``data/raw``, and pull what others have pushed."""
    log = get_run_logger()
    tell = tell_in_lines(str(RAW), log.info)
    workspace, settings = Path(root), read_settings(Path(root))
    raw, pulled = while_busy(lambda: upstream.bring_up_to_date(workspace, tell, wanted=wanted))
    log.info("%s; %s: %d files, version %s", pulled.text, RAW, raw.files, raw.md5[:8])
    late = while_busy(lambda: upstream.push_late(workspace, settings.branch)) if settings.push else ""
    pulled = msgspec.structs.replace(pulled, remarks=tuple(filter(None, [late, upstream.tell_uncommitted(workspace)])))
    for remark in pulled.remarks:
        log.warning("%s", remark)
    name = "Up to date" if not pulled.files else "Pulled"
    return Completed(name=name, message=pulled.text, data=pulled)


@step("decide")
def decide(root: str, asked: str) -> Any:
    """Decide whether to train, and say why; ends the waiting of a version that nobody has answered."""
    from tasks.commands.accept import same_param
    from tasks.retraining.pictures import expire

    log = get_run_logger()
    workspace = Path(root)
    over: approvals.Waiting | None = None
    if not aliases.open_registry(workspace).untouched and aliases.read_state(workspace).versions:
        over = approvals.expire(workspace)
        if over is not None:
            log.warning("v%s waited for a person's word until %s; the champion stays", over.version, over.until)
    if expire(workspace, read_settings(workspace).pictures.keep_days):
        log.info("the pictures of an earlier retraining are removed: they were kept for their time")
    drifted = functools.partial(reason_to_retrain, workspace)
    found: Decision = while_busy(lambda: decide_in(workspace, read_settings(workspace), same_param, asked, drifted))
    log.info("%s: %s", "train" if found.train else "nothing to train", found.reason)
    for note in found.notes:
        log.warning("%s", note)
    return Completed(name="Train" if found.train else "Nothing to do", message=found.reason, data=(found, over))


@step("start from the champion")
def start_from_champion(root: str) -> Any:
    """Put the weights of the version in use where the training starts from them."""
    found = while_busy(lambda: start.fetch_champion(Path(root)))
    what = "are put there now" if found.changed else "lie there already"
    message = f"the training starts from v{found.version}, whose weights {what} ({start.PLACE})"
    get_run_logger().info("%s", message)
    return Completed(name="In place", message=message, data=found)


@step("doctor")
def examine(root: str) -> Any:
    """Have the doctor look at annotations and images."""
    from keypipe.diagnosis.findings import count_findings
    from tasks.commands.doctor import examine as look

    log = get_run_logger()
    found = look(Path(root), progress=tell_in_lines("doctor", log.info))
    log.info("%s", found.headline)
    errors = sum(count_findings(found.findings).get("error", {}).values())
    page = found.page.relative_to(root) if found.page.is_relative_to(root) else found.page
    if found.stops:
        message = f"the doctor found what spoils a training: {found.headline}; see {page}"
        return Failed(name="Stopped", message=message, data=PoseError(message))
    name = "Findings" if found.findings else "In order"
    return Completed(name=name, message=found.headline, data=Examination(found.headline, errors, found.stops))


@step("judge")
def judge(root: str, errors: int) -> Any:
    """Compare challenger and champion on the test images that neither has learnt from."""
    from tasks.retraining.judging import CannotJudgeError
    from tasks.retraining.judging import judge as compare

    log = get_run_logger()
    workspace = Path(root)
    state = aliases.read_state(workspace)
    try:
        found = compare(workspace, state, read_settings(workspace).gate, errors, tell_in_lines("judge", log.info))
    except CannotJudgeError as error:
        log.warning("%s", error)
        return Completed(name="Cannot judge", message=str(error), data=error)
    for why, count in found.left_out.items():
        log.info("%d test images do not judge: %s", count, why)
    for part in found.parts:
        for model, figures in part.figures.items():
            values = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
            log.info("%s (%d): %s: %s", part.title, part.images, model, values)
    against = f"v{found.champion}" if found.champion else "the floors"
    return Completed(name="Judged", message=f"on {found.verdict.images} images, against {against}", data=found)


@step("gate")
def gate(root: str, judgement: Any, reasons: tuple[str, ...]) -> Any:
    """Say what the gate found: as a table and a text of Prefect's, and as a page."""
    from tasks.retraining.page import write_page

    workspace = Path(root)
    verdict = judgement.verdict
    model = aliases.open_registry(workspace).name
    about = {"registered model": model, "in use": f"v{judgement.champion}" if judgement.champion else "none"}
    page = write_page(workspace, judgement, reasons, about, _draw(workspace, judgement.champion))
    with opened() as board:
        board.show_table(f"gate {model}", to_table(to_rows(verdict)), verdict.reason)
        board.show_markdown(f"verdict {model}", f"{to_markdown(verdict)}{_say_where_to_answer(workspace, verdict)}")
    get_run_logger().info("%s: %s", verdict.outcome, verdict.reason)
    return Completed(name=verdict.outcome.capitalize(), message=verdict.reason, data=page.as_posix())


def _draw(root: Path, champion: str) -> list[Any]:
    """Draw where the models differ; whatever keeps that from being done, the verdict stands."""
    from tasks.retraining.pictures import draw_differences

    settings = read_settings(root).pictures
    used = next((v for v in aliases.read_state(root).versions if v.number == champion), None)
    if used is None or not settings.gate:
        return []
    try:
        sha256 = used.tags.get("keypipe.onnx_sha256", "")
        return draw_differences(root, sha256, settings.gate, settings.budget_mb)
    except (PoseError, OSError, ValueError) as error:
        get_run_logger().warning("there is no page of pictures: %s", error)
        return []


def _say_where_to_answer(root: Path, verdict: Any) -> str:
    """Link to the deployment by which a person answers, where one is asked; "" where Prefect has none, or is away."""
    if not verdict.needs_approval or is_cut_off():
        return ""
    try:
        page = find_page(root)
    except Exception:  # noqa: BLE001 - whatever keeps Prefect from showing it, the verdict stands
        return ""
    return f"\n\n**A person has to say.** [Approve or reject it]({page}): run that deployment." if page else ""


@step("register")
def settle(root: str, judgement: Any, reasons: tuple[str, ...]) -> Any:
    """Register the challenger, and move the alias or keep the champion."""
    workspace = Path(root)
    settings = read_settings(workspace)
    verdict = judgement.verdict
    tags = {name.removeprefix("gate."): text for name, text in to_tags(verdict).items()}
    made = _register(workspace, reasons, tags)
    version = next(v for v in aliases.read_state(workspace).versions if v.number == made.version)
    run = {f"keypipe.gate.{name}": text for name, text in tags.items()} | {"keypipe.version": f"v{made.version}"}
    run[JUDGED_AGAINST] = f"v{judgement.champion} of {made.name}" if judgement.champion else "the floors alone"
    if silent := try_show(workspace, version.tags.get("keypipe.run", ""), run):
        get_run_logger().warning("the training's run was not told of the gate: %s", silent)
    told = f"{verdict.outcome}: {verdict.reason}"
    approvals.note_verdict(workspace, made.version, told, judgement.draw)
    kind = _move(workspace, settings, judgement, made.version, told)
    mark_settled(workspace, made.version)
    champion = aliases.read_state(workspace).aliases.get(CHAMPION, "")
    get_run_logger().info("v%s of %s: %s; in use: %s", made.version, made.name, kind, champion or "none")
    return Completed(
        name=kind.capitalize(), message=f"v{made.version} of {made.name}", data=Settled(kind, made, champion)
    )


def _register(root: Path, reasons: tuple[str, ...], tags: dict[str, str]) -> Registered:
    """Register the challenger with what the gate found.

    That counts when it has been carried out: a retraining that ends before leaves a version that the next one judges
    again, without a second training.
    """
    made = register(root, why="; ".join(reasons)[:500], gate=tags)
    if not made.new:
        tag_gate(root, made.version, tags)
    return made


def _move(root: Path, settings: RetrainParams, judgement: Any, version: str, told: str) -> str:
    """Move the alias as the verdict says; returns the kind of outcome."""
    verdict = judgement.verdict
    if verdict.moves:
        aliases.promote(root, version, told[:900], instead_of=judgement.champion)
        return "promoted"
    if verdict.needs_approval:
        approvals.ask(root, version, told, settings.approval_days, settings.gate.approvers)
        return "approval wanted"
    if verdict.outcome == "rejected" and aliases.read_state(root).aliases.get(CHALLENGER) == version:
        aliases.dismiss(root, told[:900])
    return str(verdict.outcome)


@step("register")
def settle_unjudged(root: str, why: str, reason: str) -> Any:
    """Register a challenger that nothing can be compared with; a person has to say what becomes of it."""
    workspace = Path(root)
    settings = read_settings(workspace)
    made = _register(workspace, (why,), {"outcome": "undecided", "reason": reason})
    kind = "undecided"
    if settings.gate.approvers:
        approvals.ask(workspace, made.version, f"undecided: {reason}", settings.approval_days, settings.gate.approvers)
        kind = "approval wanted"
    mark_settled(workspace, made.version)
    champion = aliases.read_state(workspace).aliases.get(CHAMPION, "")
    return Completed(name=kind.capitalize(), message=reason, data=Settled(kind, made, champion))


@step("note the same model")
def note_same(root: str, number: str, data: str) -> Any:
    """Write down that what is here gives the model in use, so that nothing trains on it again."""
    made_of.note_same(Path(root), number, data)
    return Completed(name="Noted", message=f"the data of this training give v{number}", data=number)


@step("commit results")
def commit(root: str, title: str, text: str) -> Any:
    """Commit what keypipe wrote, and push it where that is asked for."""
    workspace = Path(root)
    settings = read_settings(workspace)
    made = while_busy(lambda: upstream.commit_results(workspace, title, text, settings.branch))
    told = f"committed {made[:12]}" if made else "nothing to commit"
    if settings.push:
        told += f"; {while_busy(lambda: upstream.push(workspace, settings.branch))}"
    get_run_logger().info("%s", told)
    return Completed(name="Committed" if made else "Nothing to commit", message=told, data=told)


@step("notify")
def tell(root: str, outcome: Outcome) -> Any:
    """Tell people what became of it, by the ways that they named; one that fails fails nothing."""
    workspace = Path(root)
    params = read_notify(workspace)
    found = notify(workspace, params, from_outcome(outcome), get_run_logger().info)
    arrived = sum(delivery.arrived for delivery in found)
    told = f"told by {arrived} of {len(found)} ways" if found else "nobody is told of this"
    return Completed(name="Told" if arrived else "Nobody told", message=told, data=told)
