"""``keypipe retrain`` as people type it: what is decided, what is refused, and what they are shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli import cli
from flows.commands.retraining import next_step, show_outcome
from flows.commands.status import read_status, show_status
from flows.outcome import Outcome, RuleRow
from flows.retraining.record import write_outcome
from tests.flows.retraining.fixtures import Farm
from tests.imports import ROOT
from tests.retrained import add_images
from tests.workspace import git, set_params


def retrain(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["retrain", *arguments], obj=root, catch_exceptions=False)


def test_a_dry_run_decides_with_nothing_heavy_and_changes_nothing(farm: Farm) -> None:
    def decide() -> str:
        code = (
            "import sys; from pathlib import Path; from flows.commands.retraining import show_decision;"
            "show_decision(Path(sys.argv[1]), '');"
            "heavy = {'torch', 'ultralytics', 'onnxruntime', 'prefect'};"
            "print(*heavy & {name.partition('.')[0] for name in sys.modules})"
        )
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "PREFECT"))}
        command = [sys.executable, "-c", code, str(farm.root)]
        done = subprocess.run(
            command,
            cwd=farm.root,
            env=environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert decide() == "skip: nothing that a training learns from changed since v1\n\n"
    add_images(farm.root, range(700, 712))
    set_params(farm.root, **{"train.epochs": 3})
    before = git(farm.root, "status", "--porcelain")
    said = decide()
    assert said.startswith("train: 12 images or labels changed since the champion's 120 (10%; trained from 10 on);")
    assert said.endswith("parameters changed since the champion: train.epochs: 2 -> 3\n\n")
    assert git(farm.root, "status", "--porcelain") == before


def test_force_wants_a_reason(farm: Farm) -> None:
    for arguments in (["--force"], ["--why", "new camera"]):
        done = retrain(farm.root, *arguments)
        assert done.exit_code == 2
        assert "--force and --why go together" in done.output
    said = retrain(farm.root, "--dry-run", "--force", "--why", "new camera").output
    assert said == "train: asked for: new camera\n"


def test_the_command_runs_and_status_tells_of_it(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    done = retrain(farm.root, "--no-pull")
    assert done.exit_code == 0
    assert "skipped    nothing to train" in done.output
    assert "nothing that a training learns from changed since v1" in done.output
    show_status(read_status(farm.root))
    told = capsys.readouterr().out
    assert "retraining skipped, 20" in told
    last = json.loads((farm.root / ".keypipe/last-retraining.json").read_text())
    assert last["kind"] == "skipped"


def test_an_outcome_is_shown_with_its_rules_and_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    row = RuleRow(
        rule="oks_AP against the champion", champion=0.71, challenger=0.65, interval=(-0.1, -0.02), verdict="failed"
    )
    outcome = Outcome(
        kind="approval wanted", title="v4 waits", reason="too few", rows=(row,), version="4", remarks=("not pushed",)
    )
    show_outcome(outcome)
    told = capsys.readouterr()
    for text in ("oks_AP against the champion", "0.710", "0.650", "-0.100 to -0.020", "failed", "keypipe approve 4"):
        assert text in told.out, text
    assert "note: not pushed" in told.err
    assert next_step(Outcome(kind="promoted", title="", reason="")).startswith("keypipe rollback")
    failed = Outcome(kind="failed", title="doctor failed", reason="2 errors")
    show_outcome(failed)
    assert "keypipe: doctor failed: 2 errors" in capsys.readouterr().err
    write_outcome(tmp_path, failed)
