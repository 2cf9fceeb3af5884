"""Prefect's server away in the middle of a retraining: it goes on, is right, and its end is told afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from flows.retraining.record import read_outcome
from flows.services import server
from tasks.registry.moves.aliases import read_state
from tests.flows.retraining.fixtures import Farm
from tests.flows.services.test_presence import AWAY, Watched, running_server, strike, wait_for_flow_state
from tests.flows.toy import Toy
from tests.retrained import add_images
from tests.workspace import git

TRAINED = "Finished in state Completed('5 ran')"
UNSETTLED = ".keypipe/unsettled"

frozen = pytest.param(psutil.Process.suspend, marks=pytest.mark.faults)


def check_promoted(farm: Farm, run: Watched, output: str) -> None:
    """Check that a retraining did all that it does with a server, and says what the server does not know."""
    assert run.process.returncode == 0, output
    assert "promoted   v2 is in use" in output
    assert "note: Prefect (" in output
    assert "Traceback" not in output
    assert read_state(farm.root).aliases == {"champion": "2", "previous": "1"}
    assert git(farm.root, "log", "-1", "--format=%s").strip() == "Retraining: v2 is in use"
    assert git(farm.root, "status", "--porcelain") == ""
    outcome = read_outcome(farm.root)
    assert outcome is not None
    assert (outcome.kind, outcome.version) == ("promoted", "2")


def check_told(farm: Farm, toy: Toy, folder: Path, at_least: int) -> None:
    """Check that a later run tells a server, which has the same database, how the runs have ended."""
    unsettled = [path.stem for path in (farm.root / UNSETTLED).glob("*.json")]
    assert len(unsettled) >= at_least
    with running_server(folder) as (_, url), server.pointed_to(url):
        assert {wait_for_flow_state(toy, run) for run in unsettled} == {"Running"}, "nobody has told it yet"
        assert "skipped" in toy.keypipe("retrain", PREFECT_API_URL=url)
        assert {wait_for_flow_state(toy, run) for run in unsettled} == {"Completed"}
    assert not list((farm.root / UNSETTLED).iterdir())


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("act", [psutil.Process.kill, frozen], ids=["gone", "frozen"])
def test_a_server_that_goes_away_in_the_training(
    farm: Farm, tmp_path: Path, act: Callable[[psutil.Process], None]
) -> None:
    add_images(farm.root, range(500, 516))
    toy = Toy(farm.root, farm.api)
    folder = tmp_path / "server"
    with running_server(folder) as (tree, url):
        run = Watched(toy, "train", url, 14, "retrain")
        strike(tree, act)
        output = run.end()
        strike(tree, psutil.Process.kill)
    assert AWAY in output
    check_promoted(farm, run, output)
    check_told(farm, toy, folder, at_least=2)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("act", [psutil.Process.kill, frozen], ids=["gone", "frozen"])
def test_a_server_that_goes_away_before_the_gate(
    farm: Farm, tmp_path: Path, act: Callable[[psutil.Process], None]
) -> None:
    add_images(farm.root, range(500, 516))
    toy = Toy(farm.root, farm.api)
    folder = tmp_path / "server"
    with running_server(folder) as (tree, url):
        run = Watched(toy, "train", url, 1, "retrain")
        run.wait_for(TRAINED)
        strike(tree, act)
        output = run.end()
        strike(tree, psutil.Process.kill)
    check_promoted(farm, run, output)
    check_told(farm, toy, folder, at_least=1)


def test_a_retraining_that_is_cancelled_in_prefect_ends_in_its_training(farm: Farm) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    add_images(farm.root, range(500, 516))
    run = Watched(Toy(farm.root, farm.api), "train", farm.api.url, 3600, "retrain")
    (outer,) = [run for run in farm.api.open_flow_runs(farm.root) if run.name.startswith("retraining")]
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(outer.id, Cancelling(), force=True)
    output = run.end()
    assert run.process.returncode == 1, output
    assert "keypipe: retraining was cancelled: the run was cancelled in Prefect" in output
    assert "Traceback" not in output
    assert read_state(farm.root).aliases == {"champion": "1"}
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(outer.id).state_name == "Cancelled"
    assert farm.api.open_runs(farm.root) == []
