"""The record of a sweep, by Optuna itself and without trainings."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from flows.sweeping.outcome import SweepOutcome, describe, to_markdown, to_rows
from flows.sweeping.study import Plan, Study, find_best, held, list_names, load_study, make_plan, write_plan
from flows.sweeping.trial import Pruned, Stopped, _Watch, read_progress
from keypipe.errors import ConfigError

SPACE = ("train.lr0=log:0.001..0.1", "train.batch=8|16")
FIGURE = "val_epoch/oks_AP"


def start(root: Path, **settings: Any) -> Study:
    train = {"lr0": 0.003, "batch": 16, "best_by": "oks_AP", "epochs": 12}
    write_plan(root, "rates", make_plan(SPACE, ["train.epochs=2"], train, "c0ffee", **settings))
    return load_study(root, "rates")


def test_the_present_values_are_tried_first(tmp_path: Path) -> None:
    study = start(tmp_path)
    study.begin()
    trial, values, goes_on = study.next(0)
    assert values == {"train.lr0": 0.003, "train.batch": 16}
    assert not goes_on
    study.tell(trial, "complete", 0.5, run="r0")
    study.begin()
    assert study.next(0)[1] != values, "once"


def test_another_process_finds_the_trials_and_draws_others(tmp_path: Path) -> None:
    study = start(tmp_path, sampler="random", seed=3)
    drawn: list[dict[str, Any]] = []
    for _ in range(4):
        trial, values, _ = study.next(0)
        study.tell(trial, "complete", 0.1)
        drawn.append(values)
        study = load_study(tmp_path, "rates")
    assert len({json.dumps(values) for values in drawn}) == 4
    assert [trial.values for trial in study.list_trials()] == drawn
    assert list_names(tmp_path) == ["rates"]


def test_a_trial_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    study = start(tmp_path)
    study.begin()
    study.tell(study.next(0)[0], "complete", 0.5)
    _, killed, _ = study.next(1)
    again = load_study(tmp_path, "rates")
    assert again.take_up() == 1
    assert again.preferred_worker() == 1
    trial, values, goes_on = again.next(1)
    assert (values, goes_on) == (killed, True)
    again.tell(trial, "complete", 0.7)
    assert [one.state for one in again.list_trials()] == ["complete", "complete"]
    assert again.n_begun() == 2
    assert again.take_up() == 0


def test_a_trial_is_not_taken_up_twice_nor_lost_by_another_kill(tmp_path: Path) -> None:
    study = start(tmp_path)
    study.begin()
    study._study.ask()  # killed before its values, which are those of params.yaml, were drawn
    again = load_study(tmp_path, "rates")
    again._study.enqueue_trial({"train.lr0": 0.003, "train.batch": 16}, {"worker": 0, "again": 0})  # killed here
    again = load_study(tmp_path, "rates")
    assert again.take_up() == 1
    assert [trial.state for trial in again.list_trials()] == ["waiting"]
    assert again.next(0)[1] == {"train.lr0": 0.003, "train.batch": 16}


def test_values_that_were_not_drawn_yet_are_taken_up(tmp_path: Path) -> None:
    study = start(tmp_path)
    study.begin()
    study._study.ask()
    again = load_study(tmp_path, "rates")
    again.take_up()
    assert again.next(0)[1] == {"train.lr0": 0.003, "train.batch": 16}


def test_a_trial_that_was_killed_begins_anew_with_another_worker(tmp_path: Path) -> None:
    study = start(tmp_path)
    study.next(1)
    again = load_study(tmp_path, "rates")
    again.take_up()
    assert again.next(0)[2] is False


def test_what_came_out_is_ranked_and_told(tmp_path: Path) -> None:
    study = start(tmp_path)
    study.begin()
    ends = [("complete", 0.5, ""), ("failed", None, "diverged"), ("complete", 0.75, ""), ("complete", 0.75, "")]
    for number, (state, figure, message) in enumerate(ends):
        study.tell(study.next(0)[0], state, figure, run=f"run{number}", message=message)
    trials = study.list_trials()
    best = find_best(trials)
    assert best is not None
    assert best.number == 2, "the first of equal ones"
    outcome = SweepOutcome("rates", "oks_AP", SPACE, trials)
    assert describe(outcome) == "4 trials, 3 complete, 1 failed; the best is 2: oks_AP 0.7500 (the first: 0.5000)"
    heads, rows = to_rows(outcome)
    assert heads[:3] == ["trial", "state", "oks_AP"]
    assert [row[0] for row in rows] == ["2", "3", "0", "1"]
    assert trials[1].message == "diverged"
    assert "| 2 | complete | 0.7500 |" in to_markdown(outcome)
    with pytest.raises(ValueError, match="oks_AP is nan"):
        study.tell(study.next(0)[0], "complete", float("nan"))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    start(tmp_path)
    program = (
        "import sys; from pathlib import Path; from flows.sweeping.study import held\n"
        "with held(Path(sys.argv[1]), 'rates'): pass"
    )
    with held(tmp_path, "rates"):
        done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)
    assert "sweep rates is at work in another process" in done.stderr


def test_a_line_that_a_full_disk_has_torn_is_taken_back(tmp_path: Path) -> None:
    study = start(tmp_path)
    study.tell(study.next(0)[0], "complete", 0.5)
    log = tmp_path / ".keypipe/sweeps/rates/trials.log"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"op_code":4,"worker_id":"x","tri')
    assert len(load_study(tmp_path, "rates").list_trials()) == 1
    assert log.read_bytes().startswith(whole + b'{"op_code":4'), "who only looks writes nothing"
    with held(tmp_path, "rates"):
        assert log.read_bytes() == whole
        again = load_study(tmp_path, "rates")
        again.tell(again.next(0)[0], "complete", 0.6)
    assert [trial.figure for trial in load_study(tmp_path, "rates").list_trials()] == [0.5, 0.6]


def test_a_sweep_that_is_not_there(tmp_path: Path) -> None:
    start(tmp_path)
    with pytest.raises(ConfigError, match=r"no sweep is called rate \(there are: rates\)"):
        load_study(tmp_path, "rate")
    with pytest.raises(ConfigError, match="no sweep is called"):
        load_study(tmp_path, "../sweeps/rates")


def write_progress(tree: Path, figures: list[float]) -> None:
    folder = tree / ".keypipe/train/0123"
    folder.mkdir(parents=True, exist_ok=True)
    progress = {"run_id": "abc", "epochs": [{FIGURE: value, "train/box_loss": 1.0} for value in figures]}
    (folder / "state.json").write_text(json.dumps(progress))


def go(study: Study, tree: Path, figures: list[float]) -> int:
    """Let a trial have these figures, epoch by epoch; return after how many it was left behind, or 0."""
    trial, _, _ = study.next(0)
    watch = _Watch(tree, trial, FIGURE, threading.Event())
    for number in range(1, len(figures) + 1):
        write_progress(tree, figures[:number])
        try:
            watch.look()
        except Pruned:
            study.tell(trial, "pruned", run="abc")
            return number
    study.tell(trial, "complete", max(figures))
    return 0


@pytest.mark.parametrize("pruned", [True, False])
def test_a_trial_that_is_left_behind_ends(tmp_path: Path, pruned: bool) -> None:
    study = start(tmp_path, pruned=pruned)
    good = [0.1, 0.3, 0.5, 0.6, 0.7]
    assert [go(study, tmp_path, [value + 0.01 * n for value in good]) for n in range(4)] == [0] * 4, "none before four"
    assert go(study, tmp_path, [0.0, 0.1, 0.2, 0.3, 0.4]) == (3 if pruned else 0)
    assert go(study, tmp_path, [0.0, 0.6, 0.1, 0.7, 0.8]) == 0, "the best epoch so far counts"
    assert [trial.state for trial in study.list_trials()][4] == ("pruned" if pruned else "complete")
    assert study.list_trials()[4].epochs == (3 if pruned else 5)


def test_a_sweep_that_ends_ends_its_trainings(tmp_path: Path) -> None:
    study = start(tmp_path)
    stopping = threading.Event()
    watch = _Watch(tmp_path, study.next(0)[0], FIGURE, stopping)
    watch.look()  # nothing is there yet
    assert read_progress(tmp_path) is None
    stopping.set()
    with pytest.raises(Stopped):
        watch.look()


def test_a_plan_says_what_was_written(tmp_path: Path) -> None:
    plan = start(tmp_path, seed=7, pruned=False).plan
    assert plan == Plan(
        SPACE,
        ("train.epochs=2",),
        "oks_AP",
        {"train.lr0": 0.003, "train.batch": 16},
        "c0ffee",
        seed=7,
        pruned=False,
        warmup=3,
    )
    assert [one.key for one in plan.dimensions] == ["train.lr0", "train.batch"]
