"""The training flow over real DVC and Prefect: what runs, what does not, and what a failure leaves."""

from __future__ import annotations

import pickle
import stat
from pathlib import Path

import pytest

from flows.pipeline.run_result import LAST_RUN, RunResult
from flows.system.state_files import write_record
from tests.flows.fixtures import FirstRun
from tests.flows.toy import STAGES, Toy, dvc, run, write_raw

MODEL = "models/best.pt"
METRICS = "metrics/validate.json"


def test_a_run_leaves_dvc_nothing_to_do_and_the_next_run_is_cached(first_run: FirstRun, ran: Toy) -> None:
    first = first_run.outcome
    assert first.states == ["Ran"] * 5
    assert first.result.raw_version.endswith(".dir")
    assert first_run.ran == STAGES
    assert "up to date" in dvc(ran.root, "status")
    assert "Running stage" not in dvc(ran.root, "repro")
    names = ran.api.task_states(first.result.flow_run_id)
    assert names == {"version raw data": ("Completed", 1), **dict.fromkeys(STAGES, ("Completed", 1))}
    assert list((first_run.root / ".keypipe" / "prefect-results").iterdir())

    second = ran.flow()
    assert second.states == ["Cached"] * 5
    assert ran.ran() == []
    states = ran.api.task_states(second.result.flow_run_id)
    assert {states[stage][0] for stage in STAGES} == {"Cached"}


def test_after_dvc_repro_everything_is_cached(fresh: Toy) -> None:
    dvc(fresh.root, "repro")
    outcome = fresh.flow()
    assert outcome.states == ["Cached"] * 5
    states = fresh.api.task_states(outcome.result.flow_run_id)
    assert {states[stage][0] for stage in STAGES} == {"Cached"}


def test_an_edit_reruns_convert_and_what_changes_after_it(ran: Toy) -> None:
    ran.edit(label="cow0", comment="the annotator's")
    assert ran.flow().states == ["Ran", "Cached", "Cached", "Cached", "Cached"]
    ran.edit(label="calf")
    assert ran.flow().states == ["Ran"] * 5
    assert "calf" in ran.text(MODEL)


def test_a_deleted_output_comes_back_without_a_run(ran: Toy) -> None:
    before = ran.text(MODEL)
    dvc_remove(ran.root / MODEL)
    dvc_remove(ran.root / "data/coco/keypoints.json")
    outcome = ran.flow()
    assert outcome.states == ["Restored", "Cached", "Restored", "Cached", "Cached"]
    assert ran.ran() == []
    assert ran.text(MODEL) == before
    states = ran.api.task_states(outcome.result.flow_run_id)
    assert states["train"][0] == "Restored"


def test_an_edit_that_is_taken_back_brings_the_old_results_back(ran: Toy) -> None:
    before = ran.text(MODEL)
    ran.edit(label="calf")
    ran.flow()
    assert ran.text(MODEL) != before
    ran.ran()
    ran.edit(label="cow0")
    outcome = ran.flow()
    assert "Cached" not in outcome.states
    assert outcome.states[2] == "Restored"
    assert ran.text(MODEL) == before
    assert "train" not in ran.ran()
    assert "up to date" in dvc(ran.root, "status")


def test_a_machine_setting_leaves_everything_cached(ran: Toy) -> None:
    (ran.root / "local.yaml").write_text("workers: 0\ndevice: cpu\n")
    assert ran.flow(OMP_NUM_THREADS="1").states == ["Cached"] * 5


def test_a_fault_of_the_input_is_told_once_and_leaves_the_last_good_outputs(ran: Toy) -> None:
    before = {place: ran.text(place) for place in (MODEL, METRICS, "exports/best.onnx")}
    ran.edit(label="calf")
    outcome = ran.flow(TOY_FAULT="train")
    assert outcome.states == ["Ran", "Ran", "Failed", "Skipped", "Skipped"]
    assert outcome.result.message == "train: 3 images are too few to split"
    assert outcome.result.exit_code == 2
    assert ran.ran() == ["convert", "split", "train"]
    assert {place: ran.text(place) for place in before} == before
    assert ran.api.task_states(outcome.result.flow_run_id)["train"] == ("Failed", 1)
    assert ran.flow().states == ["Cached", "Cached", "Ran", "Ran", "Ran"]


def test_uncached_outputs_come_back_after_a_failure(ran: Toy) -> None:
    before = ran.text(METRICS)
    outcome = ran.flow(force=["validate"], TOY_FAULT="validate")
    assert outcome.states == ["Cached", "Cached", "Cached", "Failed", "Skipped"]
    assert ran.text(METRICS) == before


def test_a_manifest_survives_a_failing_split(ran: Toy) -> None:
    manifest = ran.text("data/dataset/manifest.csv")
    ran.edit(label="calf")
    assert ran.flow(TOY_BUG="split").result.exit_code == 1
    assert ran.text("data/dataset/manifest.csv") == manifest
    assert (ran.root / "data/dataset/annotations").is_dir()


def test_a_failing_first_run_leaves_nothing_half_written(fresh: Toy) -> None:
    outcome = fresh.flow(TOY_FAULT="convert")
    assert outcome.states == ["Failed", "Skipped", "Skipped", "Skipped", "Skipped"]
    assert not (fresh.root / "data/coco/keypoints.json").exists()
    assert not list((fresh.root / ".keypipe" / "aside").glob("*"))


def test_a_bug_is_not_tried_again(ran: Toy) -> None:
    outcome = ran.flow(force=["train"], TOY_BUG="train")
    assert outcome.result.exit_code == 1
    assert "train: failed to run: python -m tasks.train, exited with 1" in outcome.result.message
    assert ran.ran() == ["train"]


def test_a_crash_is_tried_again(ran: Toy) -> None:
    outcome = ran.flow(force=["train"], TOY_CRASH_TRAIN="1")
    assert outcome.states == ["Cached", "Cached", "Ran", "Cached", "Cached"]
    assert ran.ran() == ["train", "train"]
    assert ran.api.task_states(outcome.result.flow_run_id)["train"] == ("Completed", 2)


def test_a_crash_is_not_tried_for_ever(ran: Toy) -> None:
    before = ran.text(MODEL)
    outcome = ran.flow(force=["train"], TOY_CRASH_TRAIN="9")
    assert outcome.states[2] == "Failed"
    assert outcome.result.exit_code == 1
    assert "SIGKILL" in outcome.result.message
    assert ran.ran() == ["train"] * 3
    assert ran.text(MODEL) == before


def test_until_and_force(ran: Toy) -> None:
    assert ran.flow(until="split", force=["split"]).states == ["Cached", "Ran"]
    assert ran.flow().states == ["Cached"] * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until": "trian"}, "trian: no such stage; there are convert, split, train, validate, export"),
        ({"until": "split", "force": ["train"]}, "--force train: comes after --until split"),
    ],
)
def test_a_stage_that_is_not_there_is_refused(ran: Toy, options: dict, message: str) -> None:
    outcome = ran.flow(**options)
    assert (outcome.result.exit_code, outcome.result.message) == (2, message)


def test_wrong_parameters_are_told_before_anything_runs(ran: Toy) -> None:
    params = ran.root / "params.yaml"
    params.write_text(params.read_text().replace("train: 0.7", "trian: 0.7").replace("seed: 42", "seed: many"))
    outcome = ran.flow()
    assert outcome.result.exit_code == 2
    assert "split.trian" in outcome.result.message
    assert "seed" in outcome.result.message
    assert ran.ran() == []


def test_raw_files_stay_ordinary_writable_files(ran: Toy) -> None:
    dvc_remove(ran.root / "data/raw/1.json")
    dvc(ran.root, "checkout")
    for path in (ran.root / "data/raw").iterdir():
        found = path.lstat()
        assert stat.S_ISREG(found.st_mode)
        assert found.st_mode & stat.S_IWUSR
        assert found.st_nlink == 1
    write_raw(ran.root, "1.json", label="opened and saved by labelme")
    assert ran.flow().states == ["Ran"] * 5
    assert dvc(ran.root, "status", "data/raw.dvc").strip().endswith("up to date.")


def make_missing(root: Path) -> None:
    run(["rm", "-r", "data/raw"], root)


def make_empty(root: Path) -> None:
    run(["sh", "-c", "rm data/raw/*"], root)


def make_link(root: Path) -> None:
    run(["sh", "-c", "mv data/raw ../elsewhere && ln -s ../../elsewhere data/raw"], root)


def make_tracked(root: Path) -> None:
    run(["git", "add", "-f", "data/raw/0.json"], root)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (make_missing, "data/raw: not there"),
        (make_empty, "data/raw: empty"),
        (make_link, "data/raw: is a link"),
        (make_tracked, "data/raw: git tracks 1 of its files"),
    ],
)
def test_a_raw_folder_that_cannot_be_used(ran: Toy, spoil, message: str) -> None:
    spoil(ran.root)
    outcome = ran.flow()
    assert outcome.result.exit_code == 2
    assert outcome.result.message.startswith(message)
    assert (ran.root / MODEL).exists()


def dvc_remove(path: Path) -> None:
    path.chmod(0o644)
    path.unlink()


def test_a_run_without_its_server_takes_its_own_record_and_no_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.pipeline.flow import run_to_state

    monkeypatch.setattr("flows.pipeline.flow.is_cut_off", lambda: True)
    write_record(tmp_path / LAST_RUN, RunResult("earlier", "1", "2026-01-01T10:00:00+00:00"))

    def die() -> None:
        raise OSError("no space left on device")

    def end_without_server() -> None:
        write_record(tmp_path / LAST_RUN, RunResult("this", "2", "2026-01-01T11:00:00+00:00"))
        raise ConnectionError

    with pytest.raises(OSError, match="no space left"):
        run_to_state(tmp_path, die)
    assert run_to_state(tmp_path, end_without_server).data["name"] == "this"


def test_a_run_that_a_schedule_starts_says_that_it_left_the_work_to_a_later_one(
    ran: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect hands a flow to its process as a copy, which has values of its module that are not the module's own."""
    from prefect.utilities.callables import cloudpickle_wrapped_call

    from flows.pipeline.flow import training_flow

    monkeypatch.setattr("flows.pipeline.flow.is_superseded", lambda: True)
    call = cloudpickle_wrapped_call(training_flow, str(ran.root), return_state=True)
    state = pickle.loads(call())  # as its process does
    assert (state.name, state.message) == ("Superseded", "a later run of the same schedule is due")
    assert ran.ran() == []
