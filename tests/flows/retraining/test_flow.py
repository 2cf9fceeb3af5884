"""A retraining from the first champion on: promoted, skipped, rejected, undecided, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.outcome import Outcome
from flows.services.schedule_record import deployment_name
from tasks.registry.moves.aliases import MovedError, read_state, rollback
from tasks.registry.moves.approvals import approve, ask, find_waiting
from tasks.tracking.client import AwayError
from tests.flows.notifications.receivers import receiving
from tests.flows.retraining.fixtures import Farm
from tests.flows.toy import read_artifacts
from tests.retrained import add_images, edit, labels_of, move_a_little, set_gate, spoil
from tests.workspace import git, set_params

STEPS = ["bring up to date", "decide", "doctor", "judge", "gate", "register", "commit results", "notify"]


def aliases(farm: Farm) -> dict[str, str]:
    return read_state(farm.root).aliases


def test_the_first_champion_has_to_rise_above_the_floors(first_champion: tuple[Farm, Outcome]) -> None:
    farm, outcome = first_champion
    assert (outcome.kind, outcome.title, outcome.exit_code) == ("promoted", "v1 is in use", 0)
    assert farm.state.name == "Promoted"
    assert {row.rule: row.verdict for row in outcome.rows} == {
        "oks_AP against the floor": "passed",
        "within_0.1_diagonals against the floor": "passed",
        "parity": "passed",
        "doctor": "passed",
    }
    state = read_state(farm.root)
    assert state.aliases == {"champion": "1"}
    (version,) = state.versions
    assert version.tags["keypipe.gate.outcome"] == "promoted"
    assert float(version.tags["keypipe.gate.floor.oks_AP.value"]) > 0.9
    assert [entry.what for entry in state.entries] == ["register", "judge", "promote"]
    page = (farm.root / outcome.report).read_text()
    assert "no model is in use yet" in page
    assert "within_0.1_diagonals" in page
    report = json.loads((farm.root / "reports/retraining/report.json").read_text())
    assert report["verdict"]["outcome"] == "promoted"


def test_the_page_of_the_run_in_prefect_has_the_gates_table(first_champion: tuple[Farm, Outcome]) -> None:
    farm, outcome = first_champion
    found = read_artifacts(str(farm.state.state_details.flow_run_id))
    rows = json.loads(found["gate-farm"].data)
    assert {row["rule"]: row["verdict"] for row in rows} == {row.rule: row.verdict for row in outcome.rows}
    assert found["gate-farm"].description == outcome.reason
    assert found["verdict-farm"].type == "markdown"


def test_what_keypipe_wrote_is_committed_and_nothing_is_left_unclean(first_champion: tuple[Farm, Outcome]) -> None:
    farm, _ = first_champion
    assert git(farm.root, "log", "-1", "--format=%an %s").strip() == "keypipe Retraining: v1 is in use"
    assert git(farm.root, "status", "--porcelain") == ""
    committed = git(farm.root, "show", "--format=", "--name-only", "HEAD").split()
    assert {"dvc.lock", "data/raw.dvc", "data/dataset/manifest.csv", "metrics/validate.json"} <= set(committed)


def test_the_steps_are_a_chain_in_prefects_graph(first_champion: tuple[Farm, Outcome]) -> None:
    farm, _ = first_champion
    flow_run_id = str(farm.state.state_details.flow_run_id)
    after = edges(farm, flow_run_id)
    order = [*STEPS[:3], "keypipe-training", *STEPS[3:]]
    assert after == dict(zip(order, [[], *([name] for name in order[:-1])], strict=True))
    stages = ["version raw data", "convert", "split", "train", "validate", "export"]
    (subflow,) = subflows(farm, flow_run_id)
    assert edges(farm, subflow) == dict(zip(stages, [[], *([name] for name in stages[:-1])], strict=True))
    states = {name: state for name, (state, _) in farm.api.task_states(flow_run_id).items()}
    assert (states["decide"], states["doctor"], states["gate"], states["notify"]) == (
        "Train", "In order", "Promoted", "Nobody told",
    )  # fmt: skip


def edges(farm: Farm, flow_run_id: str) -> dict[str, list[str]]:
    """Return for each task run of a flow run the names of those that it hangs on."""
    farm.api.task_states(flow_run_id)  # all of it has arrived
    runs = farm.api._read("read_task_runs", flow_run_id)
    names = {str(run.id): _name(run) for run in runs}
    return {
        _name(run): sorted(
            {
                names[str(source.id)]
                for sources in run.task_inputs.values()
                for source in sources
                if hasattr(source, "id")
            }
        )
        for run in sorted(runs, key=lambda run: run.expected_start_time)
    }


def _name(run: Any) -> str:
    """Return a task run's name; of the one that stands for a flow, without its number."""
    return str(run.name).removesuffix("-0")


def subflows(farm: Farm, flow_run_id: str) -> list[str]:
    runs = farm.api._read("read_task_runs", flow_run_id)
    children = [run.state.state_details.child_flow_run_id for run in runs if run.state is not None]
    return [str(child) for child in children if child is not None]


def artifacts(farm: Farm) -> dict[str, Any]:
    """Return the artifacts of the last run by their keys."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    flow_run_id = farm.state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        only = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        return {artifact.key: artifact.data for artifact in client.read_artifacts(artifact_filter=only)}


@pytest.mark.timeout(3600)
def test_a_season(farm: Farm) -> None:
    """Nothing, little, honest data, harmful labels, the same again, and a rollback."""
    skipped = farm.retrain()
    assert (skipped.kind, farm.state.name, farm.state.type.value) == ("skipped", "Skipped", "COMPLETED")
    assert skipped.reason == "nothing that a training learns from changed since v1"

    add_images(farm.root, range(500, 504))
    few = farm.retrain()
    assert (few.kind, few.reason) == ("skipped", "only 4 of 120 images or labels changed (3%) since v1")
    assert git(farm.root, "log", "-1", "--format=%s").strip() == "Retraining: v1 is in use"

    add_images(farm.root, range(504, 516))
    better = farm.retrain()
    assert (better.kind, better.champion) == ("promoted", "2"), better
    assert aliases(farm) == {"champion": "2", "previous": "1"}
    report = json.loads((farm.root / "reports/retraining/report.json").read_text())
    assert [part["title"].split(":")[0] for part in report["parts"]] == [
        "images that judge",
        "images that came to the test split since",
        "both together",
    ]
    assert report["parts"][0]["images"] + report["parts"][1]["images"] == report["parts"][2]["images"]
    assert report["reasons"] == ["16 images or labels changed since the champion's 120 (13%; trained from 10 on)"]

    assert spoil(farm.root) >= 10
    worse = farm.retrain()
    assert (worse.kind, worse.version, worse.champion) == ("rejected", "3", "2"), worse
    assert worse.title == "v3 rejected, v2 stays in use"
    assert {row.rule: row.verdict for row in worse.rows}["within_0.1_diagonals against the champion"] == "failed"
    assert aliases(farm) == {"champion": "2", "previous": "1"}
    table = artifacts(farm)["gate-farm"]
    rows = {row["rule"]: row["verdict"] for row in (json.loads(table) if isinstance(table, str) else table)}
    assert rows["within_0.1_diagonals against the champion"] == "failed"
    state = read_state(farm.root)
    assert [entry.what for entry in state.entries[-3:]] == ["register", "judge", "dismiss"]
    assert state.versions[0].tags["keypipe.gate.outcome"] == "rejected"

    again = farm.retrain()
    assert again.kind == "skipped"
    assert again.reason.startswith("v3 was trained on what is here and was rejected; nothing that a training learns")

    rollback(farm.root, why="misses calves")
    assert farm.retrain().kind == "skipped"
    assert aliases(farm)["champion"] == "1"


@pytest.mark.timeout(3600)
def test_a_person_is_asked_and_the_same_model_is_not_judged_twice(farm: Farm) -> None:
    from flows.retraining.answer import approval_flow

    page = approval_flow.to_deployment(name=deployment_name(farm.root)).apply()
    set_gate(farm.root, approval="required")
    for path in labels_of(farm.root, "train")[:12]:
        edit(path, move_a_little)
    asked = farm.retrain()
    assert (asked.kind, asked.version, farm.state.name) == ("approval wanted", "2", "Approval wanted"), asked
    assert aliases(farm) == {"champion": "1", "challenger": "2"}
    assert f"/deployments/deployment/{page}" in artifacts(farm)["verdict-farm"]
    waiting = find_waiting(read_state(farm.root).entries)
    assert waiting is not None
    assert waiting.version == "2"
    assert farm.retrain().kind == "skipped"  # and the version goes on waiting
    approve(farm.root, why="looked at the pictures", who="anna@desk")
    assert aliases(farm) == {"champion": "2", "previous": "1"}

    same = farm.retrain("once more")
    assert same.kind == "skipped"  # the same data, parameters and code give the same model
    assert "byte for byte (asked for: once more)" in same.reason
    assert git(farm.root, "status", "--porcelain") == ""


@pytest.mark.timeout(3600)
def test_a_verdict_that_was_not_carried_out_is_carried_out_the_next_night(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_images(farm.root, range(500, 516))

    def fail(*_args: object, **_options: object) -> None:
        raise MovedError("the registry went away")

    with monkeypatch.context() as patch:
        patch.setattr("flows.retraining.steps.aliases.promote", fail)
        failed = farm.retrain()
    assert (failed.kind, failed.title) == ("failed", "register failed, v1 stays in use")
    assert aliases(farm) == {"champion": "1", "challenger": "2"}
    outcome = farm.retrain()
    assert (outcome.kind, outcome.version, outcome.champion) == ("promoted", "2", "2"), outcome
    assert farm.retrain().kind == "skipped"


@pytest.mark.timeout(3600)
def test_a_failure_just_after_the_move_says_what_is_in_use(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    add_images(farm.root, range(500, 516))

    def fail(*_args: object, **_options: object) -> None:
        raise AwayError(farm.root, "the connection was reset")

    def refuse(*_args: object, **_options: object) -> None:
        raise ConnectionError("Prefect takes no artifact")

    monkeypatch.setattr("flows.retraining.steps.mark_settled", fail)
    monkeypatch.setattr("flows.services.board.Board._send", refuse)  # which changes no verdict
    failed = farm.retrain()
    assert (failed.kind, failed.title) == ("failed", "register: MLflow does not answer, v2 is in use"), failed
    assert failed.champion == "2"
    assert "the connection was reset" in failed.reason
    assert aliases(farm) == {"champion": "2", "previous": "1"}
    states = farm.api.task_states(str(farm.state.state_details.flow_run_id))
    assert states["gate"][0] == "Promoted"
    assert farm.retrain().kind == "skipped"


def test_mlflow_away_is_told_as_that(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    failed = farm.retrain()
    assert (failed.kind, failed.title, failed.exit_code) == ("failed", "MLflow does not answer", 2)
    assert "`keypipe models` says which version is in use, once MLflow answers" in failed.reason


@pytest.mark.timeout(3600)
def test_other_data_that_give_the_same_model_are_not_trained_on_twice(farm: Farm) -> None:
    for path in labels_of(farm.root, "test")[:12]:
        edit(path, move_a_little)
    same = farm.retrain()
    assert (same.kind, same.title) == ("skipped", "nothing to train")
    assert "the training gave the model that is in use, byte for byte" in same.reason
    again = farm.retrain()
    assert again.reason == "nothing that a training learns from changed since v1"
    for path in labels_of(farm.root, "test")[:9]:
        edit(path, move_a_little)
    assert farm.retrain().reason == "only 9 of 120 images or labels changed (8%) since v1"


def test_people_are_told_of_a_version_that_waited_in_vain_and_of_parameters_that_nobody_committed(farm: Farm) -> None:
    ask(farm.root, "1", "undecided: 12 images are too few", 0, ["anna"])
    with receiving() as told:
        set_params(farm.root, **{"retrain.notify.webhooks": [{"url": told.url}]})
        outcome = farm.retrain()
    (post,) = told.posts
    body = json.loads(post.body)
    assert (body["event"], body["title"]) == (
        "undecided", "v1 waited for a person's word in vain, v1 stays in use",
    )  # fmt: skip
    assert "nobody answered until 20" in body["reason"]
    assert "12 images are too few" in body["reason"]
    assert outcome.kind == "skipped"
    (remark,) = outcome.remarks
    assert remark.startswith("params.yaml has edits that are not committed")


def test_a_turn_that_another_took_is_noticed_before_the_next_step(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.retraining.flow import PURPOSE
    from tasks.registry.moves.aliases import open_registry

    registry = open_registry(farm.root)

    def lose(_root: Path) -> bool:
        registry.delete_named(f"{registry.name}.lease.{PURPOSE}")
        return True  # one step more

    monkeypatch.setattr("flows.retraining.flow.starts_from_champion", lose)
    outcome = farm.retrain("now")
    assert outcome.kind == "failed"
    assert "another process took the turn of this one" in outcome.reason
    assert aliases(farm) == {"champion": "1"}


def test_what_the_doctor_stops_is_not_trained(farm: Farm) -> None:
    for path in labels_of(farm.root, "train")[:12]:
        path.write_text("{")
    failed = farm.retrain()
    assert (failed.kind, failed.title, failed.exit_code) == ("failed", "doctor failed, v1 stays in use", 2)
    assert failed.champion == "1"
    assert "12 errors" in failed.reason
    assert farm.state.type.value == "FAILED"
    assert aliases(farm) == {"champion": "1"}


def test_one_retraining_at_a_time(farm: Farm) -> None:
    from flows.retraining.flow import PURPOSE
    from tasks.registry.moves.aliases import open_registry
    from tasks.registry.moves.lease import hold

    with hold(open_registry(farm.root), PURPOSE, "night@barn"):
        outcome = farm.retrain("now")
    assert (outcome.kind, outcome.title) == ("skipped", "another retraining is under way")
    assert "night@barn holds" in outcome.reason


def test_a_retraining_starts_from_the_version_in_use(farm: Farm) -> None:
    set_params(farm.root, **{"train.model": "data/weights/champion.pt"})
    git(farm.root, "commit", "--quiet", "--all", "--message", "start from the champion")
    weights = (farm.root / "models/best.pt").read_bytes()
    add_images(farm.root, range(500, 516))
    outcome = farm.retrain()
    assert outcome.kind == "promoted", outcome
    assert (farm.root / "data/weights/champion.pt").read_bytes() == weights
    states = farm.api.task_states(str(farm.state.state_details.flow_run_id))
    assert states["start from the champion"][0] == "In place"
    assert "path: data/weights" in (farm.root / "dvc.lock").read_text()
    committed = git(farm.root, "show", "--format=", "--name-only", "HEAD").split()
    assert "data/weights/champion.pt.dvc" in committed
    assert git(farm.root, "status", "--porcelain") == ""
