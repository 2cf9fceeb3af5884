"""The retraining flow: up to date, decided, examined, trained, judged, registered and committed, one after the other.

Prefect reads its settings when it is imported: call ``flows.services.server.configure`` before this module is.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from prefect import flow, get_run_logger
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Completed, Failed
from prefect.utilities.annotations import allow_failure, quote

from flows.outcome import Kind, Outcome
from flows.pipeline import lease
from flows.pipeline.flow import is_superseded, run_to_state, training_flow
from flows.pipeline.run_result import RunResult
from flows.pipeline.steps import run_page
from flows.retraining import steps
from flows.retraining.crash import tell_crash
from flows.retraining.record import read_outcome, to_rows, write_outcome
from flows.services.late_runs import SUPERSEDED_NAME
from flows.services.presence import Presence, Unsettled, note_end, tell_ends, watched
from flows.system.process import Tree
from keypipe.addresses import hide_password
from keypipe.errors import PoseError
from tasks.registry.moves import aliases, history
from tasks.registry.moves.history import CHAMPION
from tasks.registry.moves.lease import HeldError, Lease, LostError, hold
from tasks.retraining.settings import read_settings
from tasks.retraining.start import starts_from_champion
from tasks.tracking.client import AwayError
from tasks.workspace.places import ONNX
from tasks.workspace.program import USER_ERROR

FLOW_NAME = "keypipe-retraining"
BUG = 1
CANCELLED = "retraining was cancelled"
PURPOSE = "retraining"
"""Of the lease in the registry: one retraining at a time, among all machines that share it."""


def flow_run_name() -> str:
    """Return the name of a run that starts now."""
    return f"retraining {datetime.now():%Y-%m-%d %H:%M:%S}"


@flow(name=FLOW_NAME, flow_run_name=flow_run_name, validate_parameters=False, on_crashed=[tell_crash])
def retraining_flow(root: str, asked: str = "", pull: bool | None = None) -> Any:
    """Retrain if there is a reason, and put the new model into use if it keeps the rules.

    Args:
        root: the workspace.
        asked: why a person asks for it; "" where nobody does.
        pull: whether to bring code and data up to date first; None: as ``retrain.pull`` says.

    Returns:
        A state whose name is the outcome's kind, and whose data are an ``Outcome`` as plain JSON values.
    """
    if is_superseded():
        return Cancelled(name=SUPERSEDED_NAME, message="a later run of the same schedule is due")
    workspace = Path(root).resolve()
    flow_run = _flow_run()
    with watched(flow_run.id if flow_run else None, _api_url()) as presence:
        run = _Run(workspace, asked, presence)
        try:
            tell_ends(workspace)
            outcome = run.go(pull)
        except _EndedElsewhere as error:
            return run.ended(error.outcome)
        except lease.RunCancelled as error:
            outcome = run.end("failed", CANCELLED, str(error), exit_code=BUG)
            write_outcome(workspace, outcome)  # who cancelled it knows
            return run.ended(outcome)
        except _StepError as error:
            outcome = run.fail(error.title, str(error), error.exit_code)
        except AwayError as error:
            outcome = run.fail("MLflow does not answer", str(error), USER_ERROR)
        except PoseError as error:
            outcome = run.fail("retraining failed", str(error), USER_ERROR)
        except Exception as error:
            outcome = run.fail("retraining failed", f"a bug: {type(error).__name__}: {error}", BUG)
            run.tell(outcome)
            run.ended(outcome)
            raise
        run.tell(outcome)
        return run.ended(outcome)


def to_state(outcome: Outcome) -> Any:
    """Return the state that a run with this outcome ends in."""
    data = msgspec.to_builtins(outcome)
    if outcome.title == CANCELLED:
        return Cancelled(message=outcome.reason, data=data)
    if outcome.kind == "failed":
        return Failed(message=outcome.reason, data=data)
    return Completed(name=outcome.kind.capitalize(), message=outcome.reason, data=data)


class _StepError(Exception):
    """A step failed; says which, and the exit code it stands for."""

    def __init__(self, step: str, message: str, exit_code: int, *, away: bool = False) -> None:
        super().__init__(message)
        self.title = f"{step}: MLflow does not answer" if away else f"{step} failed"
        self.exit_code = exit_code


class _EndedElsewhere(Exception):  # noqa: N818 - no error
    """Another process went on with the code that was pulled, and this is what came of it."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class _Run:
    """A run of the flow: its steps one after the other, and what is known so far."""

    def __init__(self, root: Path, asked: str, presence: Presence) -> None:
        self.root = root
        self.presence = presence
        self.asked = asked
        self.model = root.name
        self.remarks: list[str] = []
        self.champion: str | None = None
        """Number of the version in use as the run began, "" for none; None: not known yet."""
        self._turn: Lease | None = None
        self._last: Any = None
        self._kept: list[Any] = []
        """What steps came to: Prefect knows it by its place in memory, which nothing else may take."""

    # ------------------------------------------------------------------------------------------------ the course

    def go(self, pull: bool | None) -> Outcome:
        """Go through the steps."""
        settings = read_settings(self.root)
        registry = aliases.open_registry(self.root)
        self.model = registry.name
        with self._holding_workspace():
            pulled = self._do(steps.update, str(self.root), settings.pull if pull is None else pull)
        self.remarks += pulled.remarks
        if pulled.code_changed:
            get_run_logger().info("code changed (%s): the rest runs in a new process", pulled.text)
            raise _EndedElsewhere(go_on_in_new_process(self.root, self.asked))
        try:
            with hold(registry, PURPOSE, history.me(), patience=0) as self._turn:
                return self._decided()
        except HeldError as error:
            return self.end("skipped", "another retraining is under way", str(error))

    def _decided(self) -> Outcome:
        decision, over = self._do(steps.decide, str(self.root), self.asked)
        self.champion = decision.champion
        self.remarks += decision.notes
        if over is not None:
            reason = f"nobody answered until {over.until}; the gate had said: {over.reason}"
            title = f"v{over.version} waited for a person's word in vain, {_stays(decision.champion)}"
            self._send(self.end("undecided", title, reason, version=over.version, champion=decision.champion))
        if not decision.train:
            return self.end("skipped", "nothing to train", decision.reason, champion=decision.champion)
        examined = self._do(steps.examine, str(self.root))
        if starts_from_champion(self.root):
            with self._holding_workspace():
                self._do(steps.start_from_champion, str(self.root))
        trained = self._train()
        if self._is_champion():
            reason = f"the training gave the model that is in use, byte for byte ({decision.reason})"
            with self._holding_workspace():
                self._note_same(decision.champion, trained.raw_version)
                self._commit("the model in use is up to date", reason)
            return self.end(
                "skipped", "nothing to train", reason, champion=decision.champion, training=trained.training
            )
        with self._holding_workspace():
            return self._judged(examined.errors, decision.reasons, trained)

    def _train(self) -> RunResult:
        """Run the training flow; without its server its stages run as those of this run, which nobody watches."""
        self._check_cancelled()

        def run() -> Any:
            if self.presence.leave():
                return training_flow.fn(str(self.root))
            return training_flow(str(self.root), return_state=True, wait_for=self.last)

        state = run_to_state(self.root, run)
        self._last = state
        found = state.result(raise_on_failure=False)
        if isinstance(found, BaseException):
            raise _StepError("training", f"{type(found).__name__}: {found}", BUG)
        result = msgspec.convert(found, RunResult)
        # what Prefect was not told is said of the whole retraining, at its end
        self.remarks += [line for line in result.unrecorded if line not in self.presence.describe()]
        if result.state == "Cancelled":
            raise lease.RunCancelled(result.message)
        if result.state != "Completed":
            raise _StepError("training", result.message, result.exit_code or BUG)
        return result

    def _is_champion(self) -> bool:
        """Tell whether the exported model is the one in use, byte for byte."""
        state = aliases.read_state(self.root)
        number = state.aliases.get(CHAMPION)
        path = self.root / ONNX
        if number is None or not path.is_file():
            return False
        same = hashlib.sha256(path.read_bytes()).hexdigest()
        return any(v.number == number and v.tags.get("keypipe.onnx_sha256") == same for v in state.versions)

    def _judged(self, errors: int, reasons: tuple[str, ...], trained: RunResult) -> Outcome:
        judgement = self._do(steps.judge, str(self.root), errors)
        if isinstance(judgement, PoseError):
            settled = self._do(steps.settle_unjudged, str(self.root), "; ".join(reasons), str(judgement))
            return self._committed(settled, str(judgement), (), "", trained)
        self.presence.leave()  # the next steps show things in Prefect
        page = self._do(steps.gate, str(self.root), quote(judgement), reasons)
        settled = self._do(steps.settle, str(self.root), quote(judgement), reasons)
        verdict = judgement.verdict
        return self._committed(settled, verdict.reason, to_rows(verdict), page, trained)

    def _committed(
        self, settled: steps.Settled, reason: str, rows: tuple[Any, ...], page: str, trained: RunResult
    ) -> Outcome:
        kind: Any = settled.kind
        title = _to_title(kind, settled.registered.version, settled.champion)
        self._commit(title, reason)
        return self.end(
            kind,
            title,
            reason,
            rows=rows,
            version=settled.registered.version,
            champion=settled.champion,
            report=page,
            training=trained.training,
        )

    def _note_same(self, champion: str, data: str) -> None:
        try:
            self._do(steps.note_same, str(self.root), champion, data)
        except _StepError as error:
            self.remarks.append(f"the next run may train on the same data again: {error}")

    def _commit(self, title: str, reason: str) -> None:
        try:
            self._do(steps.commit, str(self.root), f"Retraining: {title}", reason)
        except (_StepError, LostError) as error:
            self.remarks.append(f"the results were not committed or pushed: {error}")

    # ------------------------------------------------------------------------------------------- how it is done

    @property
    def last(self) -> list[Any] | None:
        """What the next step hangs on in Prefect's graph; one that failed does not keep people from being told."""
        return None if self._last is None else [allow_failure(self._last)]

    def _do(self, step: Any, *given: Any) -> Any:
        """Run a step after the one before it; what it came to, or an error that says which step failed."""
        self._check_cancelled()
        if self._turn is not None:
            self._turn.confirm()
        state = step(*given, return_state=True, wait_for=self.last)
        self._last = state
        found = state.result(raise_on_failure=False)
        self._kept.append(found)
        if not state.is_completed():
            fault = isinstance(found, PoseError)
            message = str(found) if isinstance(found, BaseException) and str(found) else str(state.message)
            raise _StepError(str(step.name), message, USER_ERROR if fault else BUG, away=isinstance(found, AwayError))
        return found

    def _check_cancelled(self) -> None:
        if self.presence.cancelled:
            raise lease.RunCancelled("the run was cancelled in Prefect")

    @contextmanager
    def _holding_workspace(self) -> Iterator[None]:
        run = _flow_run()
        own = lease.new_lease(str(run.id) if run else "", str(run.name) if run else "", hide_password(_api_url()))
        with lease.hold(self.root, own, get_run_logger().info):
            yield

    def tell(self, outcome: Outcome) -> None:
        """Write the outcome down, and tell people."""
        write_outcome(self.root, outcome)
        self._send(outcome)

    def _send(self, outcome: Outcome) -> None:
        steps.tell(str(self.root), quote(outcome), return_state=True, wait_for=self.last)

    def fail(self, title: str, reason: str, exit_code: int) -> Outcome:
        """Return the outcome of a run that ended with an error, with the version that is in use now."""
        try:
            registry = aliases.open_registry(self.root)
            champion = "" if registry.untouched else registry.aliases().get(CHAMPION, "")
        except PoseError:
            where = "`keypipe models` says which version is in use, once MLflow answers"
            return self.end("failed", title, f"{reason}\n{where}", exit_code=exit_code)
        in_use = _stays(champion) if self.champion in (None, champion) else f"v{champion} is in use"
        return self.end("failed", f"{title}, {in_use}", reason, champion=champion, exit_code=exit_code)

    def ended(self, outcome: Outcome) -> Any:
        """Return the state to end in; where the server is gone, a later run tells it."""
        state = to_state(outcome)
        run = _flow_run()
        if self.presence.leave() and run is not None:
            note_end(self.root, Unsettled(str(run.id), state.type.value, outcome.reason))
        return state

    def end(self, kind: Kind, title: str, reason: str, **more: Any) -> Outcome:
        """Return the outcome."""
        run = _flow_run()
        self.presence.leave()  # people may be told through Prefect
        return Outcome(
            kind=kind,
            title=title,
            reason=reason,
            model=self.model,
            run_url=run_page(self.root, run),
            workspace=str(self.root),
            finished=datetime.now().astimezone().isoformat(timespec="seconds"),
            flow_run=str(run.name) if run else "",
            remarks=(*self.remarks, *self.presence.describe()),
            **more,
        )


def _to_title(kind: str, version: str, champion: str) -> str:
    stays = _stays(champion)
    return {
        "promoted": f"v{version} is in use",
        "rejected": f"v{version} rejected, {stays}",
        "undecided": f"v{version} undecided, {stays}",
        "approval wanted": f"v{version} waits for a person's word, {stays}",
    }[kind]


def _stays(champion: str) -> str:
    return f"v{champion} stays in use" if champion else "no model is in use"


def go_on_in_new_process(root: Path, asked: str) -> Outcome:
    """Run the flow in a process that has the code as it is now, and return what came of it.

    Raises:
        PoseError: it ended without an outcome.
    """
    log = get_run_logger()
    before = read_outcome(root)
    repository = Path(__file__).resolve().parents[2]
    home = root if (root / "flows" / "retraining" / "program.py").exists() else repository
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")}
    paths = [str(home), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-P", str(home / "flows" / "retraining" / "program.py"), str(root), asked]
    tree = Tree(command, cwd=root, env=env, grace=30.0)
    try:
        for line in tree.lines():
            log.info("%s", line)
        code = tree.wait()
    finally:
        tree.end()
    outcome = read_outcome(root)
    if outcome is None or outcome == before:
        raise PoseError(f"the process with the pulled code ended with exit code {code}; its last lines are in the log")
    return outcome


def _flow_run() -> Any:
    context = FlowRunContext.get()
    return context.flow_run if context else None


def _api_url() -> str:
    from prefect.settings import get_current_settings

    return str(get_current_settings().api.url or "")
