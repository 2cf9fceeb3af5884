"""``keypipe sweep``: started, gone on with, shown, and its best trial taken over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from flows.sweeping.kept import REFS
from flows.sweeping.outcome import SweepOutcome, describe, to_rows
from flows.sweeping.space import Dimension, parse_space
from flows.sweeping.study import Plan, Sampler, Trial, is_name, list_names, load_study, make_plan, read_plan, write_plan
from flows.system.json_output import echo_json
from flows.system.tables import print_table
from keypipe.errors import ConfigError
from tasks.commands.writing.params_text import assign
from tasks.commands.writing.set_params import parse_assignment, set_params
from tasks.train import TrainParams
from tasks.versions import git, snapshots
from tasks.workspace import params as read
from tasks.workspace.documents import decode_yaml, format_value, parse_document
from tasks.workspace.places import PARAMS_FILE
from tasks.workspace.program import USER_ERROR


class Wish(msgspec.Struct, frozen=True):
    """What is asked for.

    Attributes:
        name: of the sweep.
        space: what is tried; empty: as the sweep was started, or nothing is run.
        trials: how many there are to be, the earlier ones included; None: nothing is run where nothing is tried anew.
        workers: how many trainings at a time.
        fixed: assignments that all trials have.
        sampler: how values are chosen; None: as the sweep was started, else by the tree-structured Parzen estimator.
        seed: of what is random in choosing; None: as it was started, else 0.
        pruned: whether trials that are left behind end; None: as it was started, else they do.
        as_json: print JSON alone.
    """

    name: str
    space: Sequence[str] = ()
    trials: int | None = None
    workers: int = 1
    fixed: Sequence[str] = ()
    sampler: Sampler | None = None
    seed: int | None = None
    pruned: bool | None = None
    as_json: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What is asked for of how values are chosen, as a ``Plan`` has it."""
        given = {"sampler": self.sampler, "seed": self.seed, "pruned": self.pruned}
        return {name: value for name, value in given.items() if value is not None}


def sweep_main(root: Path, wish: Wish) -> int:
    """Run a sweep, go on with it, or show it; returns the exit code.

    Raises:
        PoseError: what is asked for cannot be read, or is not what the sweep was started with.
    """
    _check_name(wish.name)
    plan = read_plan(root, wish.name)
    if plan is None and not wish.space:
        load_study(root, wish.name)  # which says what sweeps there are
    if plan is not None:
        _check_same(plan, wish)
    if plan is not None and not wish.space and wish.trials is None:
        _show(_outcome(root, wish.name), as_json=wish.as_json)
        return 0
    if plan is None:
        code = _start(root, wish)
        if code:
            return code
    return _run(root, wish)


def _check_name(name: str) -> None:
    if not is_name(name):
        raise ConfigError(f"{name}: a sweep's name is of letters, digits, _ and -, 60 at most; values come after it")


def _check_same(plan: Plan, wish: Wish) -> None:
    space, fixed = tuple(map(str, parse_space(wish.space))), tuple(wish.fixed)
    same = (space, fixed) == (plan.space, plan.fixed) if space else fixed in ((), plan.fixed)
    if same and all(getattr(plan, name) == value for name, value in wish.settings.items()):
        return
    raise ConfigError(
        f"sweep {wish.name} was started with {' '.join(plan.space)}{''.join(f' --set {one}' for one in plan.fixed)}"
        f" --sampler {plan.sampler} --seed {plan.seed}{'' if plan.pruned else ' --no-pruning'}; go on with"
        f" `keypipe sweep {wish.name} --trials N`, or choose another name"
    )


def _start(root: Path, wish: Wish) -> int:
    """Write down what a new sweep tries, and on which files; returns an exit code where that cannot be."""
    from flows.commands.training import run_training

    if not git.is_repository(root):
        raise ConfigError("a sweep needs git: its trials are trained in working trees of their own")
    space = parse_space(wish.space)
    for assignment in wish.fixed:
        keys, _ = parse_assignment(assignment)
        if any(one.key == ".".join(keys) for one in space):
            raise ConfigError(f"--set {assignment}: the sweep tries other values of it")
        if keys[0] != "train":
            raise ConfigError(f"--set {assignment}: write it to params.yaml; a sweep sets keys of train alone")
    train = _read_train(root, space, wish.fixed)
    code = run_training(root, "split", [], as_json=False) if not wish.as_json else _split_quietly(root)
    if code:
        return code
    commit, skipped = snapshots.commit_files(root, f"{REFS}/{wish.name}", f"keypipe sweep {wish.name}\n")
    for name in skipped:
        click.echo(f"warning: {name} is untracked and too large for the trials' trees; they do without it", err=True)
    write_plan(root, wish.name, make_plan(wish.space, wish.fixed, train, commit, **wish.settings))
    return 0


def _split_quietly(root: Path) -> int:
    from contextlib import redirect_stdout
    from sys import stderr

    from flows.commands.training import run_training

    with redirect_stdout(stderr):
        return run_training(root, "split", [], as_json=False)


def _read_train(root: Path, space: Sequence[Dimension], fixed: Sequence[str]) -> dict[str, Any]:
    """Return the section ``train`` with what is fixed and all defaults, after trying the ends of the space on it.

    Raises:
        ConfigError: a value is none that a training takes.
    """
    from tasks.engine.door.training import engine

    read.read_params(root)
    text = decode_yaml((root / PARAMS_FILE).read_bytes(), PARAMS_FILE)
    for assignment in fixed:
        text = assign(text, *parse_assignment(assignment))
    params = _load(text)
    for one in space:
        for value in one.choices or (one.low, one.high):
            try:
                _load(assign(text, one.key.split("."), value))
            except ConfigError as error:  # names a line that params.yaml does not have
                raise ConfigError(re.sub(rf"^{PARAMS_FILE}(:\d+)?: ", "", str(error))) from error
    own = {key: value for key, value in params if key not in params.arguments}
    return {**engine().read_train_arguments(), **own, **params.arguments}


def _load(text: str) -> TrainParams:
    return read.load_section(parse_document(text.encode(), PARAMS_FILE), "train", TrainParams)


def _run(root: Path, wish: Wish) -> int:
    from flows.services import server

    trials = wish.trials or 20
    with server.connected(root, lambda text: click.echo(text, err=wish.as_json)):
        from flows.sweeping.flow import sweep_flow

        state: Any = sweep_flow(str(root), wish.name, trials, wish.workers, return_state=True)
        server.settle(state.state_details.flow_run_id)
        found = state.result(raise_on_failure=False)
    if isinstance(found, BaseException):
        raise found
    outcome = msgspec.convert(found, SweepOutcome)
    _show(outcome, as_json=wish.as_json)
    return USER_ERROR if outcome.message else 0


def _outcome(root: Path, name: str) -> SweepOutcome:
    study = load_study(root, name)
    return SweepOutcome(name, study.plan.by, study.plan.space, study.list_trials())


def _show(outcome: SweepOutcome, *, as_json: bool) -> None:
    if as_json:
        echo_json(outcome)
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    heads, rows = to_rows(outcome)
    if rows:
        print_table(console, list(map(escape, heads)), [[escape(cell) for cell in row] for row in rows])
    for trial in outcome.trials:
        if trial.message:
            console.print(f"trial {trial.number}: {trial.message}", markup=False, soft_wrap=True)
    for line in outcome.unrecorded:
        click.echo(f"not recorded: {line}", err=True)
    console.print(describe(outcome), markup=False, soft_wrap=True)
    if outcome.message:
        click.echo(f"keypipe: {outcome.message}", err=True)
    elif outcome.best is not None:
        console.print(f"next: keypipe sweep {outcome.name} --apply", markup=False, soft_wrap=True)


def list_sweeps(root: Path, *, as_json: bool) -> None:
    """Say which sweeps there are and how they stand."""
    outcomes = [_outcome(root, name) for name in list_names(root)]
    if as_json:
        echo_json(outcomes)
        return
    for outcome in outcomes:
        click.echo(f"{outcome.name}: {describe(outcome)}")
    if not outcomes:
        click.echo("no sweep yet; start one such as `keypipe sweep rates train.lr0=log:0.001..0.01`")


def apply_trial(root: Path, name: str, number: int | None) -> None:
    """Write the values of a sweep's best trial, or of another one, to ``params.yaml``.

    Raises:
        PoseError: there is no such sweep or trial, or a run holds the workspace.
    """
    from flows.pipeline import lease

    study = load_study(root, name)
    trial = _find(SweepOutcome(name, study.plan.by, study.plan.space, study.list_trials()), number)
    assignments = [*study.plan.fixed, *(f"{key}={format_value(value)}" for key, value in trial.values.items())]
    with lease.claim(root):
        lines = set_params(root, assignments)
    for line in lines:
        click.echo(line)
    if not lines:
        click.echo(f"params.yaml has the values of trial {trial.number} already")
    told = f"{study.plan.by} {trial.figure:.4f} on val" if trial.figure is not None else "no figure"
    click.echo(
        f"trial {trial.number} of {name}: {told}. next: keypipe run, which has its training from DVC's cache where data"
        " and code are those of the sweep"
    )


def _find(outcome: SweepOutcome, number: int | None) -> Trial:
    if number is None:
        if outcome.best is None:
            raise ConfigError(f"sweep {outcome.name}: no trial is complete; go on with `--trials N`")
        return outcome.best
    for trial in outcome.trials:
        if trial.number == number:
            return trial
    raise ConfigError(f"sweep {outcome.name} has no trial {number}")
