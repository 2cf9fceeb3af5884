"""The sweep flow: trials one after the other or side by side, each a task, until there are as many as asked for.

Prefect reads its settings when it is imported: call ``flows.services.server.configure`` before this module is.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Completed, Failed

from flows.services.presence import Presence, Unsettled, note_end, tell_ends, watched
from flows.sweeping.outcome import SweepOutcome, describe, to_markdown
from flows.sweeping.study import Study, find_best, held, load_study
from flows.sweeping.trial import (
    Pruned,
    Stopped,
    forget_training,
    prepare_tree,
    read_progress,
    release_tree,
    run_trial,
    threads_for,
)
from flows.system.state_files import read_record, write_record
from keypipe.errors import PoseError
from tasks.commands.writing.set_params import set_params
from tasks.engine.door.training import FITNESS
from tasks.tracking.beside import sweeps
from tasks.tracking.client import tracking_uri
from tasks.tracking.history import try_tag_run
from tasks.tracking.outbox import describe_waiting
from tasks.tracking.runs import PARENT_VARIABLE, TRIAL_VARIABLE
from tasks.versions import snapshots
from tasks.workspace.places import PARAMS_FILE

FLOW_NAME = "keypipe-sweep"
STATE_TAG = "keypipe.trial.state"
_PARENT = "mlflow.json"
_FAILURES = 3  # one after the other: the next would fail as well
_LOOK_SECONDS = 2.0


def flow_run_name() -> str:
    """Return the name of the run: that of the sweep."""
    return f"sweep {flow_run.parameters['name']}"


@flow(name=FLOW_NAME, flow_run_name=flow_run_name, validate_parameters=False, persist_result=False)
def sweep_flow(root: str, name: str, trials: int, workers: int = 1) -> Any:
    """Run a sweep, or go on with it, until it has so many trials.

    Args:
        root: the workspace.
        name: of the sweep, whose plan is written down.
        trials: how many, the earlier ones included.
        workers: how many trainings at a time.

    Returns:
        A state whose data is a ``SweepOutcome`` as plain JSON values.
    """
    workspace = Path(root).resolve()
    with watched(flow_run.id or None, str(get_current_settings().api.url or "")) as presence:
        message = ""
        try:
            tell_ends(workspace)
            with held(workspace, name):
                sweep = _Sweep(workspace, load_study(workspace, name), presence, workers)
                sweep.run(trials)
        except PoseError as error:
            get_run_logger().error("%s", error)
            message = str(error)
        outcome = _to_outcome(workspace, name, trials, message, presence)
        if presence.leave() and flow_run.id:
            note_end(workspace, Unsettled(str(flow_run.id), "FAILED" if message else "COMPLETED", message))
    data = msgspec.to_builtins(outcome)
    if message:
        return Failed(message=message, data=data)
    if presence.cancelled:
        return Cancelled(message="cancelled in Prefect; `keypipe sweep` goes on with it", data=data)
    return Completed(message=describe(outcome), data=data)


def _to_outcome(root: Path, name: str, asked: int, message: str, presence: Presence) -> SweepOutcome:
    found = load_study(root, name)
    unrecorded = [*describe_waiting(root), *presence.describe()]
    return SweepOutcome(name, found.plan.by, found.plan.space, found.list_trials(), asked, message, unrecorded)


class _Sweep:
    """A sweep at work."""

    def __init__(self, root: Path, study: Study, presence: Presence, workers: int) -> None:
        self._root, self._study, self._presence, self._workers = root, study, presence, workers
        self._log = get_run_logger()
        self._stopping = threading.Event()
        self._places = [study.folder / f"tree{number}" for number in range(workers)]
        self._parent = ""
        self._params = ""
        self._failures: list[str] = []
        by = study.plan.by
        self._figure = "val_ultralytics/fitness" if by == FITNESS else f"val_epoch/{by}"

    def run(self, trials: int) -> None:
        """Run trials until there are so many.

        Raises:
            PoseError: the data are gone, MLflow's database cannot be used, or one trial after the other fails.
        """
        self._study.begin()
        if taken := self._study.take_up():
            self._log.info("going on with %d %s that ended on the way", taken, "trial" if taken == 1 else "trials")
        if self._study.n_begun() >= trials and not taken:
            return
        trees = self._prepare()
        self._open_parent()
        status = "KILLED"
        try:
            self._go_through(trees, trials)
            if len(self._failures) >= _FAILURES:
                raise PoseError(f"{_FAILURES} trials failed one after the other; the last: {self._failures[-1]}")
            status = "KILLED" if self._stopping.is_set() else "FINISHED"
        except PoseError:
            status = "FAILED"
            raise
        finally:
            self._stopping.set()
            self._note()
            self._warn(sweeps.try_end(self._root, self._parent, status))
        if status == "FINISHED":
            for place in self._places:
                release_tree(self._root, place)

    def _prepare(self) -> list[Path]:
        plan, threads = self._study.plan, threads_for(self._workers)
        trees = [prepare_tree(self._root, place, plan.commit, threads, self._log.info) for place in self._places]
        text = (snapshots.read_file(self._root, plan.commit, PARAMS_FILE) or b"").decode("utf-8")
        (trees[0] / PARAMS_FILE).write_text(text, encoding="utf-8")
        set_params(trees[0], plan.fixed)
        self._params = (trees[0] / PARAMS_FILE).read_text(encoding="utf-8")
        return trees

    def _open_parent(self) -> None:
        place = self._study.folder / _PARENT
        plan = self._study.plan
        params = {"space": "\n".join(plan.space), "fixed": "\n".join(plan.fixed), "by": plan.by}
        self._parent, why = sweeps.try_open(self._root, self._study.name, params, read_record(place, str) or "")
        if why and not tracking_uri(self._root).startswith("http"):  # a trial would make the database, in its tree
            raise PoseError(f"the sweep cannot be recorded: {why}")
        self._warn(why)
        if self._parent:
            write_record(place, self._parent)

    def _go_through(self, trees: list[Path], trials: int) -> None:
        free = list(range(self._workers))
        running: dict[Future[None], int] = {}
        with ThreadPoolExecutor(self._workers, thread_name_prefix="trial") as pool:
            try:
                while True:
                    while free and self._is_more(trials):
                        worker = self._choose(free)
                        trial, values, goes_on = self._study.next(worker)
                        if not goes_on:
                            forget_training(trees[worker])
                        job = contextvars.copy_context()
                        running[pool.submit(job.run, self._run_as_task, trees[worker], trial, values)] = worker
                    if not running:
                        return
                    for done in wait(running, _LOOK_SECONDS, FIRST_COMPLETED).done:
                        free.append(running.pop(done))
                        done.result()
                        self._note()
                    if self._presence.gone:
                        self._presence.leave()
                    if self._presence.cancelled:
                        self._stopping.set()
            finally:
                if running:  # Ctrl-C, or an error: the trainings end, and go on with the sweep
                    self._stopping.set()

    def _is_more(self, trials: int) -> bool:
        return not self._stopping.is_set() and self._study.n_begun() < trials

    def _choose(self, free: list[int]) -> int:
        """Take a free worker: who has begun the next trial, where somebody has."""
        preferred = self._study.preferred_worker()
        worker = preferred if preferred in free else free[0]
        free.remove(worker)
        return worker

    def _run_as_task(self, tree: Path, trial: Any, values: dict[str, Any]) -> None:
        """Run a trial as a task; without one where Prefect's server does not answer.

        Raises:
            Exception: what the trial ended with that is no failure of its training, such as a full disk.
        """
        begun: list[int] = []
        errors: list[Exception] = []

        def work() -> Any:
            begun.append(trial.number)
            try:
                return self._run(tree, trial, values)
            except Exception as error:
                errors.append(error)
                raise

        if not self._presence.away:
            shown = {"name": "trial", "task_run_name": f"trial {trial.number}", "persist_result": False}
            one: Any = task(cache_policy=NO_CACHE, **shown)(work)  # type: ignore[call-overload]
            try:
                one(return_state=True)
            except Exception:  # of the engine, whose server went away; the trial's own are in ``errors``
                if not self._presence.away:
                    raise
        if not begun:
            work()
        if errors:
            raise errors[0]

    def _run(self, tree: Path, trial: Any, values: dict[str, Any]) -> Any:
        """Run a trial and record its end; returns the state that Prefect shows."""
        shown = ", ".join(f"{key}={value}" for key, value in values.items())
        log = get_run_logger()  # the task's
        say = _prefixed(log.info, f"trial {trial.number}: ")
        say(shown)
        names = {TRIAL_VARIABLE: f"{self._study.name}/{trial.number}"}
        names |= {PARENT_VARIABLE: self._parent} if self._parent else {}
        try:
            found = run_trial(self._root, tree, self._params, values, trial, self._figure, names, say, self._stopping)
        except Stopped:
            return Cancelled(message="stopped; it goes on with the sweep")  # it stays RUNNING in the study
        except Pruned:
            progress = read_progress(tree)
            run = progress.run_id if progress else ""
            forget_training(tree)
            self._study.tell(trial, "pruned", run=run)
            self._tag(run, "pruned")
            say("left behind: it ends here")
            return Completed(name="Pruned", message=shown)
        except (PoseError, RuntimeError) as error:  # the latter where the stage was killed, as by a lack of memory
            self._failures.append(str(error))
            self._study.tell(trial, "failed", message=str(error))
            log.error("trial %d: %s", trial.number, error)
            if len(self._failures) >= _FAILURES:
                self._stopping.set()
            return Failed(message=str(error))
        self._failures.clear()
        self._study.tell(trial, "complete", found.figure, run=found.run, message=found.note)
        self._tag(found.run, "complete")
        say(f"{self._study.plan.by} {found.figure:.4f}{', from the cache' if found.cached else ''}")
        return Completed(name="Cached" if found.cached else "Completed", message=f"{found.figure:.4f}: {shown}")

    def _tag(self, run: str, state: str) -> None:
        if run:
            self._warn(try_tag_run(self._root, run, {STATE_TAG: state}))

    def _note(self) -> None:
        """Say in MLflow how the sweep stands."""
        trials = self._study.list_trials()
        ended = [trial for trial in trials if trial.state not in {"running", "waiting"}]
        best = find_best(trials)
        metrics = {f"sweep/{self._study.plan.by}": best.figure} if best and best.figure is not None else {}
        plan = self._study.plan
        text = to_markdown(SweepOutcome(self._study.name, plan.by, plan.space, trials, len(trials)))
        with suppress(Exception):  # whatever MLflow makes of it, the study has it
            self._warn(sweeps.try_note(self._root, self._parent, metrics, len(ended), text))

    def _warn(self, why: str) -> None:
        if why:
            self._log.warning("MLflow was not told: %s", why)


def _prefixed(say: Callable[..., None], prefix: str) -> Callable[[str], None]:
    return lambda line: say("%s%s", prefix, line)
