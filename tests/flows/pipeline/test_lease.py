"""Runs that are interrupted, ended or killed: nothing lives on, nothing is half written, no record says Running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.toy import REPOSITORY, STAGES, Toy, dvc, wait_until
from tests.patience import PATIENCE

MODEL = "models/best.pt"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.faults),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_a_run_that_is_ended_leaves_nothing_behind(ran: Toy, number: int, code: int) -> None:
    before = ran.text(MODEL)
    ran.edit(label="calf")
    process = ran.start("run", TOY_SLEEP_TRAIN="600")
    wait_until((ran.root / ".keypipe" / "asleep-train").exists, "train to be at work")
    if number == signal.SIGINT:
        assert_status_answers(ran)
        assert process.poll() is None  # nobody has waited for the training
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, output
    wait_until(lambda: not ran.processes(), f"{ran.processes()} to be gone")
    head, who = {signal.SIGINT: ("stopped", " by the user, "), signal.SIGTERM: ("stopped", " by SIGTERM, ")}.get(
        number, ("killed", "")
    )
    (told,) = [line for line in ran.keypipe("status").splitlines() if line.startswith(("stopped", "killed"))]
    assert re.fullmatch(rf"{head} +run training .*, pid {process.pid} since ..:..{who or ', '}in train", told), told
    if number != signal.SIGKILL:
        assert ran.text(MODEL) == before
    else:
        assert not (ran.root / MODEL).exists()

    outcome = ran.flow()
    assert outcome.states == ["Cached", "Cached", "Ran", "Ran", "Ran"]
    assert "calf" in ran.text(MODEL)
    assert ran.api.open_runs(ran.root) == []
    assert not list((ran.root / ".keypipe" / "aside").iterdir())
    assert not (ran.root / ".keypipe" / "lease.json").exists()


def assert_status_answers(toy: Toy) -> None:
    (toy.root / ".keypipe" / "progress.json").write_text('{"stage":"train","done":3,"total":40,"unit":"epoch"}')
    found = json.loads(toy.keypipe("status", "--json"))
    stages = {stage["stage"]: (stage["state"], stage["detail"]) for stage in found["stages"]}
    assert stages["split"] == ("up to date", "ran")
    assert stages["train"] == ("running", "epoch 3 of 40")
    assert stages["validate"] == ("waiting", "")
    assert found["running"]["stage"] == "train"


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.faults)])
def test_an_ended_run_loses_no_uncached_output_and_leaves_no_record_running(ran: Toy, number: int) -> None:
    before = ran.text("metrics/validate.json")
    ran.edit(label="calf")
    process = ran.start("run", TOY_SLEEP_VALIDATE="600")
    wait_until((ran.root / ".keypipe" / "asleep-validate").exists, "validate to be at work")
    tracked = start_tracked_run(ran)
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    wait_until(lambda: not ran.processes(), f"{ran.processes()} to be gone")
    assert (ran.root / "metrics/validate.json").exists() == (number == signal.SIGINT)
    if number == signal.SIGKILL:
        assert "in validate" in ran.keypipe("status").partition("killed     run training")[2]

    output = ran.keypipe("run", "--until", "validate", code=2, TOY_FAULT="validate")
    assert ran.text("metrics/validate.json") == before
    assert tracked_status(ran, tracked) == "KILLED", output
    if number == signal.SIGKILL:
        assert "validate: brought the last good outputs back after a run that was killed" in output
    assert ran.api.open_runs(ran.root) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("stage", ["train", pytest.param("validate", marks=pytest.mark.faults)])
def test_what_a_stage_has_finished_is_taken_up_though_dvc_had_not_taken_it(ran: Toy, stage: str, number: int) -> None:
    ran.edit(label="calf")
    process = ran.start("run", TOY_LINGER=stage)
    wait_until((ran.root / ".keypipe" / f"asleep-{stage}").exists, f"{stage} to have ended")
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    wait_until(lambda: not ran.processes(), f"{ran.processes()} to be gone")
    ran.ran()
    outcome = ran.flow()
    assert outcome.result.exit_code == 0
    assert stage not in ran.ran()
    assert outcome.states[STAGES.index(stage)] == "Cached"
    assert "calf" in ran.text(MODEL)
    assert "calf" in ran.text("metrics/validate.json")
    assert "up to date" in dvc(ran.root, "status")
    assert not list((ran.root / ".keypipe" / "finished").iterdir())
    ran.edit(label="cow0")
    ran.flow()
    ran.edit(label="calf")
    assert "Ran" not in ran.flow().states[2:], "DVC's cache of runs has it as well"


HALF = """\
import json, os, pathlib, signal, sys

def hook(event, arguments):
    name = os.environ.get("TOY_KILL_WHILE_WRITING", "")
    if event != "open" or not name or not str(arguments[0]).endswith(name) or "w" not in str(arguments[1]):
        return
    left = pathlib.Path(os.environ["TOY_WRITES"])  # how many writes go well
    count = int(left.read_text())
    left.write_text(str(count - 1))
    if count == 0:
        path = pathlib.Path(arguments[0])
        os.truncate(path, path.stat().st_size // 2)
        if "run" in os.environ["TOY_KILLED"]:
            os.kill(json.loads(pathlib.Path(".keypipe/lease.json").read_text())["pid"], signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
"""
"""Stands for the system that ends a process, or all of a run, at the moment when DVC has emptied a file to write it."""


def fault(toy: Toy, folder: Path, name: str, killed: str, writes: int) -> dict[str, str]:
    """Return an environment in which a write of a file is broken off in its middle by a kill."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HALF)
    (folder / "left").write_text(str(writes))
    path = os.pathsep.join([str(folder), str(REPOSITORY)])
    settings = {"TOY_KILL_WHILE_WRITING": name, "TOY_WRITES": str(folder / "left"), "TOY_KILLED": killed}
    return {"PYTHONPATH": path, **settings}


@pytest.mark.parametrize("killed", ["dvc", "run"])
def test_a_kill_while_dvc_writes_its_lock_file_loses_nothing(ran: Toy, tmp_path: Path, killed: str) -> None:
    ran.edit(label="calf")
    environment = fault(ran, tmp_path / "fault", "dvc.lock", killed, 2)  # the third, of train
    process = ran.start("run", **environment)
    output, _ = process.communicate(timeout=PATIENCE)
    assert (tmp_path / "fault/left").read_text().startswith("-"), output
    if killed == "run":
        assert process.returncode == -signal.SIGKILL
        wait_until(lambda: not ran.processes(), f"{ran.processes()} to be gone")
        assert ran.ran() == ["convert", "split", "train"]
        output = ran.keypipe("run")
        assert ran.ran() == ["validate", "export"]
    else:
        assert process.returncode == 0, output
        assert ran.ran() == ["convert", "split", "train", "validate", "export"]
    assert "up to date" in dvc(ran.root, "status")
    assert "calf" in ran.text(MODEL)
    assert not list((ran.root / ".keypipe/being-written").rglob("*.*"))


@pytest.mark.parametrize("name", ["raw.dvc", "rwlock"])
def test_a_kill_while_dvc_writes_another_file_is_cleared_up(ran: Toy, tmp_path: Path, name: str) -> None:
    ran.edit(label="calf")
    environment = fault(ran, tmp_path / "fault", name, "run", 0)
    process = ran.start("run", **environment)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL, output
    wait_until(lambda: not ran.processes(), f"{ran.processes()} to be gone")
    output = ran.keypipe("run")
    assert ("data/raw.dvc: brought back" in output) == (name == "raw.dvc")
    assert "up to date" in dvc(ran.root, "status")
    assert "calf" in ran.text(MODEL)


def test_a_lock_file_that_a_killed_dvc_repro_has_left_is_said_to_be_one(ran: Toy) -> None:
    text = ran.text("dvc.lock")
    (ran.root / "dvc.lock").write_text(text[: text.index("split:") + 3])
    output = ran.keypipe("run", code=2)
    assert "`git checkout dvc.lock` brings the last committed one back" in output
    (ran.root / "dvc.lock").write_text("")
    assert "`git checkout dvc.lock` brings" in ran.flow().result.message
    (ran.root / "dvc.lock").unlink()  # none is committed here
    ran.ran()
    outcome = ran.flow()
    assert outcome.result.exit_code == 0
    assert "train" not in ran.ran(), "DVC's cache of runs had it"


def test_what_was_finished_of_other_parameters_is_not_taken_up(ran: Toy) -> None:
    before = ran.text(MODEL)
    params = ran.root / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("epochs: 40", "epochs: 41"))
    process = ran.start("run", TOY_LINGER="train")
    wait_until((ran.root / ".keypipe" / "asleep-train").exists, "train to have ended")
    process.kill()
    process.communicate(timeout=PATIENCE)
    wait_until(lambda: not ran.processes(), f"{ran.processes()} to be gone")
    params.write_text(text)
    assert ran.flow().states == ["Cached"] * 5
    assert ran.text(MODEL) == before


def start_tracked_run(toy: Toy) -> str:
    """Open an MLflow run as the stage that is running would."""
    from tasks.tracking.client import experiment_id, open_client
    from tasks.tracking.runs import LEASE

    lease = json.loads(toy.text(".keypipe/lease.json"))
    client = open_client(toy.root)
    experiment = experiment_id(client, toy.root)
    return str(client.create_run(experiment, tags={LEASE: lease["id"]}).info.run_id)


def tracked_status(toy: Toy, run_id: str) -> str:
    from tasks.tracking.client import open_client

    return str(open_client(toy.root).get_run(run_id).info.status)


def test_a_run_that_is_cancelled_in_prefect_ends(ran: Toy) -> None:
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    before = ran.text(MODEL)
    ran.edit(label="calf")
    process = ran.start("run", TOY_SLEEP_TRAIN="600")
    wait_until((ran.root / ".keypipe" / "asleep-train").exists, "train to be at work")
    flow_run_id = UUID(json.loads(ran.text(".keypipe/lease.json"))["flow_run_id"])
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id, Cancelling())
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, output
    assert "cancelled in Prefect" in output
    assert "killed" not in ran.keypipe("status")
    assert ran.text(MODEL) == before
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(flow_run_id).state_name == "Cancelled"
    assert not ran.processes()


def test_two_runs_take_turns(ran: Toy) -> None:
    ran.edit(label="calf")
    first = ran.start("run", TOY_SLEEP_TRAIN="4")
    wait_until((ran.root / ".keypipe" / "asleep-train").exists, "train to be at work")
    second = ran.start("run")
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert "waiting for run training" in outputs[1]
    assert f"pid {first.pid} since" in outputs[1]
    assert outputs[1].count("Cached") >= 5
    assert ran.ran() == ["convert", "split", "train", "validate", "export"]


def test_a_run_waits_for_a_dvc_command_by_hand(ran: Toy) -> None:
    ran.edit(label="calf")
    command = [sys.executable, "-m", "dvc", "repro"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CI": "1"}
    by_hand = subprocess.Popen(command, cwd=ran.root, env={**environment, "TOY_SLEEP_TRAIN": "5"})
    wait_until((ran.root / ".keypipe" / "asleep-train").exists, "train to be at work")
    outcome = ran.flow()
    assert by_hand.wait(PATIENCE) == 0
    assert outcome.states[:3] == ["Cached"] * 3
    assert "calf" in ran.text(MODEL)


def test_a_killed_run_takes_its_temporary_server_with_it(fresh: Toy) -> None:
    process = fresh.start("run", own_server=True, TOY_SLEEP_CONVERT="600")
    wait_until((fresh.root / ".keypipe" / "asleep-convert").exists, "convert to be at work")
    assert any("uvicorn" in line for line in fresh.processes())
    process.kill()
    process.communicate(timeout=PATIENCE)
    wait_until(lambda: not fresh.processes(), f"{fresh.processes()} to be gone")
    assert (fresh.root / ".keypipe" / "prefect.db").exists()


def test_a_run_that_is_refused_is_not_called_killed(ran: Toy) -> None:
    """As by a schedule at night: the process stays, and nothing is left to clear up."""
    params = ran.root / "params.yaml"
    params.write_text(params.read_text().replace("train: 0.7", "trian: 0.7"))
    assert ran.flow().result.exit_code == 2
    assert not (ran.root / ".keypipe" / "lease.json").exists()
    output = ran.keypipe("status")
    assert "killed" not in output
    assert "last run   failed" in output
