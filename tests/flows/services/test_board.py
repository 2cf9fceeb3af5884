"""Artifacts on a run's page: they are there, and a server that is away costs the run nothing."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from PIL import Image
from prefect import flow, task

from flows.pipeline.stages import shown
from flows.services import board as boards
from flows.services.server import free_port, pointed_to
from tasks.workspace.places import PROGRESS, metrics_file, report_folder
from tasks.workspace.program import write_json
from tests.flows.toy import Api, read_artifacts

METRICS = {
    "val": {"coco": {"oks_AP": 0.5, "oks_AP50": 0.7}, "interval": {}},
    "test": {"coco": {"oks_AP": 0.4}, "interval": {"oks_AP_low": 0.3, "oks_AP_high": 0.5}},
}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """What a validation leaves."""
    folder = tmp_path / report_folder("validate") / "gallery" / "test" / "random"
    folder.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (900, 400), (number, 90, 90)).save(folder / f"{number}.jpg")
    (tmp_path / metrics_file("validate")).parent.mkdir()
    write_json(tmp_path / metrics_file("validate"), METRICS)
    return tmp_path


def test_what_a_training_shows(api: Api, workspace: Path) -> None:
    @task
    def train() -> str:
        from prefect.context import TaskRunContext

        with boards.opened() as board:
            tell = shown.progress_teller(workspace, board)
            tell()  # nothing says anything yet
            for done in (1, 2, 2, 3):
                (workspace / PROGRESS).parent.mkdir(exist_ok=True)
                state = {"stage": "train", "done": done, "total": 4, "unit": "epochs"}
                write_json(workspace / PROGRESS, state)
                tell()
        return str(TaskRunContext.get().task_run.id)

    @flow
    def run() -> tuple[str, str]:
        from prefect.context import FlowRunContext

        task_run = train()
        with boards.opened() as board:
            shown.show_results(workspace, board, "OKS AP50 0.700")
            shown.show_pictures(workspace, board, 2, 30.0)
            board.show_link("mlflow", "http://127.0.0.1:5000/#/experiments/1", "Training", "there")
        return str(FlowRunContext.get().flow_run.id), task_run

    with pointed_to(api.url):
        flow_run, task_run = run()
        found = read_artifacts(flow_run)
    name = boards.to_key(workspace.name)
    assert set(found) == {f"epochs-{name}", f"results-{name}", f"predictions-{name}", "mlflow"}
    progress = found[f"epochs-{name}"]
    assert (progress.type, progress.data, str(progress.task_run_id)) == ("progress", 75.0, task_run)
    assert progress.description == "`train`: 3 of 4 epochs"
    rows = msgspec.json.decode(found[f"results-{name}"].data)
    assert rows[0] == {"figure": "OKS AP", "on test": "0.400 (0.300 to 0.500)", "on val": "0.500"}
    assert rows[1] == {"figure": "OKS AP50", "on test": "not measured", "on val": "0.700"}
    pictures = found[f"predictions-{name}"].data
    assert pictures.count("](data:image/jpeg;base64,") == 2
    assert len(pictures) < 40_000, "made small: they lie in Prefect's database"
    assert found["mlflow"].data == "[Training](http://127.0.0.1:5000/#/experiments/1)"


def test_a_server_that_is_away_is_not_waited_for(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uuid import uuid4

    sent: list[str] = []
    send = boards.Board._send

    def counting(self: boards.Board, item: boards.Item) -> None:
        sent.append(item.key)
        send(self, item)

    monkeypatch.setattr(boards.Board, "_send", counting)
    with pointed_to(f"http://127.0.0.1:{free_port()}/api"), boards.opened() as board:
        board._flow_run = uuid4()
        for _ in range(50):
            board.show_progress("epochs", 0.5, "half")
        deadline = time.monotonic() + 120
        while not board._queue.empty() and time.monotonic() < deadline:
            time.sleep(0.05)
        shown.show_results(workspace, board, "")
        thread = board._thread
    assert len(sent) == 1, "after one that fails the rest is left out"
    assert thread is not None
    thread.join(120)
    assert not thread.is_alive()


def test_without_a_run_nothing_is_shown(workspace: Path) -> None:
    with boards.opened() as board:
        shown.show_pictures(workspace, board, 2, 30.0)
        assert board._thread is None


@pytest.mark.parametrize(("text", "key"), [("results My Cows", "results-my-cows"), ("牛", "keypipe"), ("a_b", "a-b")])
def test_keys_are_what_prefect_takes(text: str, key: str) -> None:
    assert boards.to_key(text) == key
