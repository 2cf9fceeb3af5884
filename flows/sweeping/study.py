"""The record of a sweep on the disk: what it tries, on what, and its trials, as Optuna keeps them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from flows.sweeping.space import SECTION, Dimension, Value, draw, find_present, parse_space
from flows.system.locks import LockedError, held_lock, is_held
from flows.system.state_files import read_record, write_record
from keypipe.errors import ConfigError, PoseError
from tasks.workspace.places import STATE

SWEEPS = STATE / "sweeps"
Sampler = Literal["tpe", "random"]
_PLAN, _TRIALS, _LOCK = "sweep.json", "trials.log", "lock"
_STARTUP = 4  # trials that run to their end before others are measured by them
_WORKER = "worker"
_RUN = "run"
_AGAIN = "again"


class Plan(msgspec.Struct, frozen=True):
    """What a sweep was started with; it stays.

    Attributes:
        space: what is tried, as it was written.
        fixed: assignments that all trials have, such as ``train.epochs=20``.
        by: the figure of the validation split that trials are compared by.
        present: the values that ``params.yaml`` had, where they are among what is tried.
        commit: git's commit of the files that the trials are made of.
        sampler: how values are chosen.
        seed: of what is random in choosing.
        pruned: trials that are worse than half of the others at the same epoch end there.
        warmup: epochs before which none ends so.
    """

    space: tuple[str, ...]
    fixed: tuple[str, ...]
    by: str
    present: dict[str, Value] | None
    commit: str
    sampler: Sampler = "tpe"
    seed: int = 0
    pruned: bool = True
    warmup: int = 2

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What is tried."""
        return parse_space(self.space)


class Trial(msgspec.Struct, frozen=True):
    """A trial as people see it.

    Attributes:
        number: from 0.
        state: ``complete``, ``pruned``, ``failed``, ``running`` or ``waiting``.
        values: by key.
        figure: its figure; of one that is not complete, that of its last epoch; None before its first.
        epochs: how many were trained.
        run: MLflow run of the training; "" where none is known.
        seconds: how long it took.
        message: why it failed, or what was not as its values say; "" where there is nothing to say.
    """

    number: int
    state: str
    values: dict[str, Value]
    figure: float | None = None
    epochs: int = 0
    run: str = ""
    seconds: float = 0.0
    message: str = ""


_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


class Study:
    """A sweep: its plan, and its trials.

    Attributes:
        name: of the sweep.
        folder: where all of it is.
        plan: what it was started with.
    """

    def __init__(self, root: Path, name: str, plan: Plan) -> None:
        self.name, self.folder, self.plan = name, folder_of(root, name), plan
        self._space = plan.dimensions
        self._study = self._open()

    def _open(self) -> Any:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = JournalStorage(JournalFileBackend(str(self.folder / _TRIALS)))
        if self.name in optuna.get_all_study_names(
            storage
        ):  # made anew where it is there, it would be written each time
            study = optuna.load_study(study_name=self.name, storage=storage)
        else:
            study = optuna.create_study(study_name=self.name, storage=storage, direction="maximize")
        # A sampler that goes on with the same seed would draw the same values again.
        seed = self.plan.seed + len(study.get_trials(deepcopy=False))
        samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        study.sampler = samplers[self.plan.sampler](seed=seed)
        study.pruner = optuna.pruners.NopPruner()
        if self.plan.pruned:
            study.pruner = optuna.pruners.MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=self.plan.warmup)
        return study

    def take_up(self) -> int:
        """Put trials that a killed process left running first in the line again; returns how many there were."""
        from optuna.trial import TrialState

        left = self._study.get_trials(states=(TrialState.RUNNING,))
        known = {trial.user_attrs.get(_AGAIN) for trial in self._study.get_trials(deepcopy=False)}
        for trial in left:
            values = trial.system_attrs.get("fixed_params", {}) | trial.params  # the latter lack what was not yet drawn
            if trial.number not in known:  # first, so that a kill in between loses none
                self._study.enqueue_trial(values, {_WORKER: trial.user_attrs.get(_WORKER), _AGAIN: trial.number})
            self._study.tell(trial.number, state=TrialState.FAIL)
        return len(left)

    def begin(self) -> None:
        """Have the present values tried first, so that what comes out is never worse than what was there."""
        if not self._study.get_trials(deepcopy=False) and self.plan.present is not None:
            self._study.enqueue_trial(dict(self.plan.present))

    def next(self, worker: int) -> tuple[Any, dict[str, Value], bool]:
        """Return Optuna's next trial, its values, and whether this worker has begun it before.

        Args:
            worker: number of who is going to run it.
        """
        trial = self._study.ask()
        values = draw(trial, self._space)
        goes_on = _AGAIN in trial.user_attrs and trial.user_attrs.get(_WORKER) == worker
        trial.set_user_attr(_WORKER, worker)
        return trial, values, goes_on

    def preferred_worker(self) -> int | None:
        """Return who has begun the trial that is next in the line; None where nobody has."""
        from optuna.trial import TrialState

        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return waiting[0].user_attrs.get(_WORKER) if waiting else None

    def tell(self, trial: Any, state: str, figure: float | None = None, *, run: str = "", message: str = "") -> None:
        """Record the end of a trial."""
        from optuna.trial import TrialState

        if run:
            trial.set_user_attr(_RUN, run)
        if message:
            trial.set_user_attr("message", message)
        known = {shown: name for name, shown in _STATES.items()}
        value = figure if state == "complete" else None
        if value is not None and not math.isfinite(value):
            raise ValueError(f"trial {trial.number}: {self.plan.by} is {value}")
        self._study.tell(trial, value, TrialState[known[state]])

    def list_trials(self) -> list[Trial]:
        """Return all trials, in their order; of one that was taken up again, the newer alone."""
        trials = self._study.get_trials(deepcopy=False)
        again = {trial.user_attrs.get(_AGAIN) for trial in trials}
        return [_to_trial(trial) for trial in trials if trial.number not in again]

    def n_begun(self) -> int:
        """Return how many trials have begun, each counted once."""
        return sum(trial.state != "waiting" for trial in self.list_trials())


def _to_trial(trial: Any) -> Trial:
    values = trial.params or trial.system_attrs.get("fixed_params", {})
    last = trial.intermediate_values.get(trial.last_step) if trial.last_step is not None else None
    duration = trial.duration.total_seconds() if trial.duration else 0.0
    attributes = trial.user_attrs
    return Trial(
        trial.number,
        _STATES[trial.state.name],
        dict(values),
        trial.value if trial.state.name == "COMPLETE" else last,
        (trial.last_step or 0),
        attributes.get(_RUN, ""),
        duration,
        attributes.get("message", ""),
    )


def find_best(trials: Sequence[Trial]) -> Trial | None:
    """Return the complete trial with the highest figure, the first of equal ones; None where none is complete."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.figure is not None]
    return max(complete, key=lambda trial: trial.figure or 0.0, default=None)


def is_name(text: str) -> bool:
    """Tell whether a sweep may be called so."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}", text) is not None


def folder_of(root: Path, name: str) -> Path:
    """Return the folder of a sweep."""
    return root / SWEEPS / name


def list_names(root: Path) -> list[str]:
    """Return the names of all sweeps."""
    return sorted(path.parent.name for path in (root / SWEEPS).glob(f"*/{_PLAN}"))


def read_plan(root: Path, name: str) -> Plan | None:
    """Return what a sweep was started with; None where there is none of this name."""
    if not is_name(name):  # a path could lead elsewhere
        return None
    return read_record(folder_of(root, name) / _PLAN, Plan)


def write_plan(root: Path, name: str, plan: Plan) -> None:
    """Write down what a sweep is started with."""
    write_record(folder_of(root, name) / _PLAN, plan)


def load_study(root: Path, name: str) -> Study:
    """Open a sweep that is there.

    Raises:
        ConfigError: there is none of this name.
    """
    plan = read_plan(root, name)
    if plan is None:
        known = ", ".join(list_names(root)) or "none yet"
        raise ConfigError(f"no sweep is called {name} (there are: {known}); start it with what it is to try")
    return Study(root, name, plan)


@contextmanager
def held(root: Path, name: str) -> Iterator[None]:
    """Hold a sweep.

    Raises:
        PoseError: another process is at work on it.
    """
    try:
        with held_lock(folder_of(root, name) / _LOCK):
            _drop_torn_line(folder_of(root, name) / _TRIALS)
            yield
    except LockedError as error:
        raise PoseError(f"sweep {name} is at work in another process; wait for it, or end that one") from error


def _drop_torn_line(path: Path) -> None:
    """Take a line back that a full disk or a power cut has left unfinished: one more behind it could not be read."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def is_at_work(root: Path, name: str) -> bool:
    """Tell whether some process is at work on a sweep."""
    return is_held(folder_of(root, name) / _LOCK)


def make_plan(space: Sequence[str], fixed: Sequence[str], train: dict[str, Any], commit: str, **settings: Any) -> Plan:
    """Make the plan of a new sweep.

    Args:
        space: what is tried, as it was written.
        fixed: assignments that all trials have.
        train: the section ``train`` with these and the defaults.
        commit: of the files that the trials are made of.
        settings: sampler, seed, pruned.
    """
    dimensions = parse_space(space)
    present = find_present(dimensions, train)
    epochs = [one.choices or (one.low,) for one in dimensions if one.key == f"{SECTION}.epochs"] or [(train["epochs"],)]
    settings["warmup"] = max(2, min(int(number) for number in epochs[0] if isinstance(number, int)) // 4)
    return Plan(tuple(map(str, dimensions)), tuple(fixed), str(train["best_by"]), present, commit, **settings)
