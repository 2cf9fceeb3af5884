"""One Prefect server for all tests of flows, and workspaces of tiny stages under real DVC."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

# Prefect reads its settings when it is imported, which test modules do.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="keypipe-prefect-home-")
os.environ["PREFECT_TASKS_DEFAULT_RETRY_DELAY_SECONDS"] = "0"
os.environ["DO_NOT_TRACK"] = "true"
os.environ.pop("PREFECT_API_URL", None)
os.environ.pop("MLFLOW_TRACKING_URI", None)
# A shell's background job ignores SIGINT, and so would every run that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from tests.flows.recorded import copy_recorded, edit_data, make_recorded, set_epochs
from tests.flows.toy import Api, Outcome, Toy, dvc, make_workspace

atexit.register(shutil.rmtree, os.environ["PREFECT_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def server_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that the session's Prefect server keeps its database in."""
    from flows.services import server

    root = tmp_path_factory.mktemp("server")
    server.configure(root)
    return root


@pytest.fixture(scope="session")
def api(server_root: Path) -> Iterator[Api]:
    """The session's Prefect API."""
    from flows.services import server

    server.START_SECONDS = 600  # a busy machine takes longer than a user would wait
    with server.running_server(server_root, temporary=False) as url, server.pointed_to(url):
        yield Api(url)
        server.settle()


@pytest.fixture(scope="session")
def fresh_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which nothing has run."""
    return make_workspace(tmp_path_factory.mktemp("fresh") / "toy")


class FirstRun(NamedTuple):
    """The first run of a workspace: where, what came of it, and the stages whose programs it started."""

    root: Path
    outcome: Outcome
    ran: list[str]


@pytest.fixture(scope="session")
def first_run(fresh_template: Path, tmp_path_factory: pytest.TempPathFactory, api: Api) -> FirstRun:
    root = tmp_path_factory.mktemp("ran") / "toy"
    shutil.copytree(fresh_template, root, symlinks=True)
    toy = Toy(root, api)
    return FirstRun(root, toy.flow(), toy.ran())


@pytest.fixture(scope="session")
def ran_template(first_run: FirstRun) -> Path:
    """A workspace in which everything has run once."""
    assert first_run.outcome.states == ["Ran"] * 5
    return first_run.root


@pytest.fixture
def fresh(fresh_template: Path, tmp_path: Path, api: Api) -> Toy:
    return _copy(fresh_template, tmp_path, api)


@pytest.fixture
def ran(ran_template: Path, tmp_path: Path, api: Api) -> Toy:
    return _copy(ran_template, tmp_path, api)


def _copy(template: Path, folder: Path, api: Api) -> Toy:
    root = folder / "toy"
    shutil.copytree(template, root, symlinks=True)
    return Toy(root, api)


@pytest.fixture(scope="session")
def history_template(tmp_path_factory: pytest.TempPathFactory, api: Api) -> Path:
    """Trainings with other parameters, with other data, one that failed, and the workspace's own."""
    before = dict(os.environ)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    root = make_recorded(tmp_path_factory.mktemp("history") / "workspace")
    toy = Toy(root, api)
    for epochs in (2, 3):
        set_epochs(root, epochs)
        assert toy.flow(until="validate").result.exit_code == 0
    (root.parent / "edited.json").write_text(json.dumps(edit_data(root)))
    dvc(root, "add", "-q", "data/raw")
    dvc(root, "repro", "-q", "validate")  # without Prefect: settled by whoever comes next
    set_epochs(root, 4)
    assert toy.flow(TOY_FAULT="train").result.exit_code == 1
    assert toy.flow().result.exit_code == 0
    os.environ.clear()
    os.environ.update(before)
    return root


@pytest.fixture
def history(history_template: Path, tmp_path: Path, api: Api) -> Toy:
    shutil.copy(history_template.parent / "edited.json", tmp_path)
    return copy_recorded(history_template, tmp_path / "workspace", api)
