"""``keypipe register``, ``models``, ``promote`` and ``rollback``, as people type them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli import cli
from keypipe.errors import PoseError
from tasks.registry.glance import glance
from tasks.registry.moves.aliases import challenge, dismiss, open_registry, read_state
from tasks.registry.moves.approvals import ask
from tests.imports import ROOT
from tests.registered import make_registrable, train_again


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which every stage has run."""
    return make_registrable(tmp_path_factory.mktemp("registered") / "farm")


def keypipe(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments], obj=root, catch_exceptions=False, terminal_width=120)


def test_a_model_s_way_into_use_and_back(farm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert "farm has no version yet; `keypipe register` makes the first" in keypipe(farm, "models").output
    done = keypipe(farm, "register", "--why", "new barn")
    assert "v1 of farm: OKS AP 0." in done.output
    assert "put it into use with `keypipe promote 1 --why …`" in done.output
    assert keypipe(farm, "promote", "challenger", "--why", "the first").output.split("\n")[:2] == [
        "champion none -> v1",
        "challenger v1 -> none",
    ]
    train_again(farm, 3)
    assert "v2 of farm" in keypipe(farm, "register").output
    assert "v1 of farm, which was registered before" in keypipe(farm, "models", "register", first_run(farm)).output
    open_registry(farm)._client.set_registered_model_alias("farm", "champion", "2")
    shown = keypipe(farm, "models").output
    assert "v2 since 20" in shown
    assert "by not keypipe" in shown
    keypipe(farm, "promote", "v1", "--why", "calves")
    assert "before     v2; `keypipe rollback` puts it into use again" in keypipe(farm, "models").output
    assert "champion v1 -> v2" in keypipe(farm, "rollback", "--why", "worse").output
    told = keypipe(farm, "models", "--history").output
    for text in ("new barn", "the first", "calves", "worse", "not keypipe", "champion v1 -> v2"):
        assert text in told, text


def test_status_tells_which_version_is_in_use(farm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    keypipe(farm, "promote", "1", "--why", "told in the status")
    told = keypipe(farm, "status").output
    tags = open_registry(farm).versions()[-1].tags
    in_use = json.loads(keypipe(farm, "status", "--json").output)["in_use"]
    since = in_use["since"]
    assert "in use     farm v1 since 20" in told
    assert ": told in the status" in told
    assert tags["keypipe.headline"] in told
    assert f"made of data version {tags['keypipe.data'][:8]}" in told
    assert in_use["model"] == "farm"
    assert (in_use["champion"], in_use["previous"]) == ("1", "2")
    assert (in_use["headline"], in_use["data"]) == (tags["keypipe.headline"], tags["keypipe.data"])
    assert since == read_state(farm).entries[-1].at
    keypipe(farm, "promote", "2", "--why", "back")


def test_a_version_that_waits_and_one_that_others_moved_are_told(farm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    challenge(farm, "1", "for the test")
    ask(farm, "1", "36 images are too few", 7, ["anna"])
    told = keypipe(farm, "status").output
    assert "waiting    v1 for approval, of anna, until 20" in told
    assert ": 36 images are too few" in told
    before = len(read_state(farm).entries)
    open_registry(farm)._client.set_registered_model_alias("farm", "champion", "1")
    told = keypipe(farm, "status").output
    assert "in use     farm v1\n" in told, "nobody knows since when"
    assert "not by keypipe, and not in the history yet: champion v2 -> v1" in told
    assert len(glance(farm).entries) == before, "a status records nothing"
    open_registry(farm)._client.set_registered_model_alias("farm", "champion", "2")
    dismiss(farm, "the test is over")


def test_a_glance_says_what_mlflow_says(farm: Path) -> None:
    assert glance(farm) == read_state(farm)


def test_a_status_loads_no_mlflow(farm: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from flows.commands.status import read_status\n"
        "status = read_status(pathlib.Path())\n"
        "assert status.in_use is not None and status.in_use.champion == '2'\n"
        "sys.exit('mlflow' in sys.modules or 'scipy' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=farm, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_version_that_waits_is_shown_and_answered(farm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(PoseError, match="no version waits for a person's word"):
        keypipe(farm, "approve")
    for answer in ("reject", "approve"):
        ask(farm, "1", "undecided: 40 images are too few", 7, ["anna"])
        shown = keypipe(farm, "models").output
        assert "waits      v1, for a person's word until 20" in shown
        assert "undecided: 40 images are too few" in shown
        if answer == "reject":
            assert keypipe(farm, "reject", "1", "--why", "misses calves").output == "v1 is not put into use\n"
            assert "waits" not in keypipe(farm, "models").output
    with pytest.raises(PoseError, match="v1 waits for a person's word, not 2"):
        keypipe(farm, "approve", "2")
    assert "champion v2 -> v1" in keypipe(farm, "approve", "1", "--why", "looked at the pictures").output
    told = keypipe(farm, "models", "--history").output
    for text in ("ask", "reject", "approve", "misses calves", "looked at the pictures"):
        assert text in told, text
    assert "champion v1 -> v2" in keypipe(farm, "rollback").output


def first_run(root: Path) -> str:
    """Return the start of the id of the training that v1 came of."""
    return open_registry(root).versions()[-1].tags["keypipe.run"][:8]


def test_programs_get_all_of_it(farm: Path) -> None:
    found = json.loads(keypipe(farm, "models", "--json").output)
    assert found["model"] == "farm"
    assert found["aliases"]["champion"] == "2"
    assert [version["version"] for version in found["versions"]] == ["2", "1"]
    assert found["versions"][0]["tags"]["keypipe.license"] == "AGPL-3.0-or-later"
    assert found["history"][0]["moves"] == [{"alias": "challenger", "from": None, "to": "1"}]


def test_a_reason_is_asked_for_and_what_is_unknown_is_said(farm: Path) -> None:
    done = CliRunner().invoke(cli, ["promote", "1"], obj=farm)
    assert done.exit_code == 2
    assert "Missing option '--why'" in done.output
    with pytest.raises(PoseError, match="9: farm has no such version"):
        keypipe(farm, "promote", "9", "--why", "x")


def test_trainings_start_from_the_version_in_use_by_command(farm: Path) -> None:
    done = keypipe(farm, "weights", "--champion")
    assert "data/weights/champion.pt: the weights of v2" in done.output
    assert "params.yaml: train.model: yolov8n-pose.yaml -> data/weights/champion.pt" in done.output
    assert "commit data/weights/champion.pt.dvc and params.yaml" in done.output
    assert (farm / "data/weights/champion.pt").read_bytes() == (farm / "models/best.pt").read_bytes()
    for arguments in (["weights"], ["weights", "--champion", "--teacher"]):
        assert CliRunner().invoke(cli, arguments, obj=farm).exit_code == 2
