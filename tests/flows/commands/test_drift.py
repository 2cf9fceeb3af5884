"""``keypipe drift`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import cli
from flows.commands.drift import parse_moment, parse_window
from keypipe.errors import ConfigError
from tests.flows.drift.test_flow import log_fresh, log_strange
from tests.flows.retraining.fixtures import Farm


def test_a_look_says_what_came_of_it_and_ends_with_its_exit_code(
    farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    log_fresh(farm, tmp_path)
    log_strange(farm)
    done = CliRunner().invoke(cli, ["drift", "--window", "24h", "--fail", "--json"], obj=farm.root)
    assert done.exit_code == 1, done.output
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert (found["kind"], found["version"], found["images"]) == ("drift", "1", 20)
    done = CliRunner().invoke(cli, ["drift"], obj=farm.root)
    assert done.exit_code == 0, done.output
    lines = [line.split()[0] for line in done.stdout.splitlines() if line and not line[0].isdigit()]
    assert [word for word in lines if word in {"drift", "looked", "expected", "differs", "report"}][-5:] == [
        "drift",
        "looked",
        "expected",
        "differs",
        "report",
    ]


def test_times_are_read_or_refused() -> None:
    assert parse_window("24h") == 86400
    assert parse_window(None) is None
    assert parse_moment("1970-01-01T01:00+01:00") == 0
    for parse, text in ((parse_window, "soon"), (parse_window, "0h"), (parse_moment, "yesterday")):
        with pytest.raises(ConfigError, match="expected such as"):
            parse(text)
