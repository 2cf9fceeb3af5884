"""`keypipe run` answers without Prefect where nothing is to do, and only there; Prefect is told all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from flows.pipeline import lease
from flows.pipeline.run_result import LAST_RUN, RunResult
from flows.pipeline.unchanged.afterwards import FOLDER, Untold, describe_untold, list_untold
from flows.pipeline.unchanged.afterwards_program import main as tell_all
from flows.pipeline.unchanged.answer import find_nothing_to_do
from flows.system.locks import held_lock
from flows.system.state_files import read_record, write_record
from keypipe.errors import PoseError
from tests.flows.toy import REPOSITORY, STAGES, Toy, dvc, wait_until, write_raw

MAIN = """\
import atexit, sys
from pathlib import Path
atexit.register(lambda: print("prefect imported:", "prefect" in sys.modules))
from flows.cli import main
main(Path(sys.argv.pop(1)))
"""


def run_and_look(toy: Toy, *arguments: str, **extra: str) -> str:
    """Run ``keypipe run`` and return what it prints, and whether Prefect was imported."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TOY_LOG": str(toy.log), **extra}
    command = [sys.executable, "-P", "-c", MAIN, str(toy.root), "run", *arguments]
    return subprocess.run(command, cwd=toy.root, env=environment, capture_output=True, text=True, check=True).stdout


def last_run(toy: Toy) -> RunResult:
    found = read_record(toy.root / LAST_RUN, RunResult)
    assert found is not None
    return found


def test_the_answer_comes_without_prefect_which_is_told_afterwards(ran: Toy) -> None:
    told = run_and_look(ran)
    assert "prefect imported: False" in told
    assert told.count("Cached") == len(STAGES)
    assert ran.ran() == []
    answered = last_run(ran)
    assert (answered.state, [stage.stage for stage in answered.stages]) == ("Completed", STAGES)

    wait_until(lambda: not list_untold(ran.root), "Prefect to be told")
    wait_until(lambda: last_run(ran).flow_run_id, "the name of the run")
    recorded = last_run(ran)
    assert recorded.name == answered.name
    states = ran.api.task_states(recorded.flow_run_id)
    assert {name: state for name, (state, _) in states.items()} == {
        "version raw data": "Completed",
        **dict.fromkeys(STAGES, "Cached"),
    }
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(UUID(recorded.flow_run_id))
    assert flow_run.name == answered.name
    assert flow_run.state is not None
    assert flow_run.state.is_completed()
    assert flow_run.parameters == {"root": str(ran.root), "until": None, "force": []}


def test_without_a_server_nothing_is_started(ran: Toy) -> None:
    environment = dict(os.environ)
    os.environ.pop("PREFECT_API_URL", None)
    try:
        told = run_and_look(ran, "--until", "split")
    finally:
        os.environ.update(environment)
    assert "prefect imported: False" in told
    assert told.count("Cached") == 2
    assert not (ran.root / FOLDER).exists()
    assert last_run(ran).flow_run_id == ""


def test_a_configured_server_that_does_not_answer_is_told_as_always(ran: Toy) -> None:
    told = ran.keypipe("run", code=2, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert "the Prefect server at http://127.0.0.1:9/api does not answer" in told


def edit(toy: Toy) -> None:
    toy.edit(label="calf")


def comment(toy: Toy) -> None:
    toy.edit(label="cow0", comment="the annotator's")


def add(toy: Toy) -> None:
    write_raw(toy.root, "9.json", label="new")


def delete_output(toy: Toy) -> None:
    (toy.root / "models/best.pt").unlink()


def edit_output(toy: Toy) -> None:
    (toy.root / "metrics/validate.json").write_text("by hand")


def change_code(toy: Toy) -> None:
    code = toy.root / "tasks/export.py"
    code.write_text(code.read_text() + "\n# another\n")


def change_params(toy: Toy) -> None:
    params = toy.root / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 40", "epochs: 41"))


def change_stages(toy: Toy) -> None:
    stages = toy.root / "dvc.yaml"
    stages.write_text(stages.read_text().replace("python -m tasks.export", "python  -m tasks.export"))


def empty_cache(toy: Toy) -> None:
    shutil.rmtree(toy.root / ".dvc/cache")


def leave_nothing(_toy: Toy) -> None:
    pass


def run_by_dvc(toy: Toy) -> None:
    toy.edit(label="calf")
    dvc(toy.root, "repro")


@pytest.mark.parametrize(
    ("change", "nothing"),
    [
        (leave_nothing, True), (edit, False), (comment, False), (add, False), (delete_output, False),
        (edit_output, False), (change_code, False), (change_params, False), (change_stages, False),
        (empty_cache, False), (run_by_dvc, True),
    ],
)  # fmt: skip
def test_it_says_so_only_where_the_flow_would_find_every_stage_cached(
    ran: Toy, change: Callable[[Toy], None], nothing: bool
) -> None:
    change(ran)
    before = read_record(ran.root / LAST_RUN, RunResult)
    found = find_nothing_to_do(ran.root, STAGES)
    assert (found is not None) == nothing
    if found is None:
        assert read_record(ran.root / LAST_RUN, RunResult) == before
    states = ran.flow().states
    if nothing:
        assert states == ["Cached"] * 5
    assert find_nothing_to_do(ran.root, STAGES) is not None


def test_what_others_left_or_do_is_the_flows_to_see_to(ran: Toy) -> None:
    def is_left_to_the_flow() -> bool:
        return find_nothing_to_do(ran.root, STAGES) is None

    assert not is_left_to_the_flow()
    with held_lock(ran.root / lease.LOCK), ThreadPoolExecutor() as others:
        assert others.submit(is_left_to_the_flow).result()
    for place in (".keypipe/lease.json", ".keypipe/waiting/a.json", ".keypipe/being-written/dvc.lock",
                  ".keypipe/unsettled/a.json", ".keypipe/aside/train/x"):  # fmt: skip
        path = ran.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        assert is_left_to_the_flow(), place
        path.unlink()
        if "aside" in place:
            path.parent.rmdir()
    lock = ran.root / ".dvc/tmp/rwlock"
    lock.write_text("{half")
    assert is_left_to_the_flow()
    lock.unlink()
    assert not is_left_to_the_flow()


def test_a_training_that_mlflow_does_not_know_or_without_a_snapshot_is_left_to_the_flow(history: Toy) -> None:
    from tasks.versions import snapshots

    history.flow()
    found = find_nothing_to_do(history.root, STAGES)
    assert found is not None
    assert found[0].training
    snapshots.drop(history.root, found[0].training)
    assert find_nothing_to_do(history.root, STAGES) is None
    history.flow()
    assert find_nothing_to_do(history.root, STAGES) is not None
    (history.root / ".keypipe/recorded.json").unlink()
    assert find_nothing_to_do(history.root, STAGES) is None


def test_a_run_whose_teller_was_killed_is_told_once(ran: Toy) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Running

    found = find_nothing_to_do(ran.root, STAGES)
    assert found is not None
    with get_client(sync_client=True) as client:
        half = client.create_flow_run(flow(lambda: None, name="keypipe-training"), state=Running())
    path = ran.root / FOLDER / "half.json"
    write_record(path, Untold(*found, flow_run_id=str(half.id)))
    os.utime(path, (time.time() - 3600,) * 2)
    assert describe_untold(ran.root)[0].startswith("Prefect was not told of 1 run in which nothing was to do")
    assert "Prefect was not told" in ran.keypipe("status")
    tell_all(ran.root)
    assert list_untold(ran.root) == describe_untold(ran.root) == []
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(half.id).state
    assert state is not None
    assert state.is_completed()


def test_a_wrong_stage_is_refused_as_always(ran: Toy) -> None:
    from flows.pipeline.plan import check_start

    with pytest.raises(PoseError, match="no such stage"):
        check_start(Path(ran.root), until="trian")
    assert "trian: no such stage" in ran.keypipe("run", "--until", "trian", code=2)
