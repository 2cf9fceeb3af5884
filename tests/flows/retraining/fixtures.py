"""Workspaces that can be retrained in seconds, and the flow run in this process."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flows.outcome import Outcome
from tests.flows.toy import Api
from tests.retrained import make_retrainable


class Farm:
    """A workspace, and the retraining flow run in it."""

    def __init__(self, root: Path, api: Api) -> None:
        self.root = root
        self.api = api
        self.state: Any = None

    def retrain(self, asked: str = "", pull: bool | None = None) -> Outcome:
        """Run the flow in this process."""
        from flows.retraining.flow import retraining_flow

        self.state = retraining_flow(str(self.root), asked, pull, return_state=True)
        found = self.state.result(raise_on_failure=False)
        if isinstance(found, BaseException):
            raise found
        return msgspec.convert(found, Outcome)


@pytest.fixture(scope="session")
def untrained_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which nothing has run."""
    return make_retrainable(tmp_path_factory.mktemp("untrained") / "farm")


@pytest.fixture(scope="session")
def first_champion(
    untrained_template: Path, tmp_path_factory: pytest.TempPathFactory, api: Api
) -> tuple[Farm, Outcome]:
    """A workspace in which the first champion was made, and what its retraining came to; not to be changed."""
    before = dict(os.environ)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    root = tmp_path_factory.mktemp("champion") / "farm"
    shutil.copytree(untrained_template, root, symlinks=True)
    farm = Farm(root, api)
    outcome = farm.retrain()
    os.environ.clear()
    os.environ.update(before)
    return farm, outcome


@pytest.fixture
def untrained(untrained_template: Path, tmp_path: Path, api: Api) -> Farm:
    """A copy of a workspace in which nothing has run."""
    root = tmp_path / "farm"
    shutil.copytree(untrained_template, root, symlinks=True)
    return Farm(root, api)


@pytest.fixture
def farm(first_champion: tuple[Farm, Outcome], tmp_path: Path, api: Api) -> Farm:
    """A copy of a workspace with a champion."""
    made, outcome = first_champion
    assert outcome.kind == "promoted", outcome
    return copy_farm(made.root, tmp_path / "farm", api)


def copy_farm(source: Path, root: Path, api: Api) -> Farm:
    """Copy a workspace; its MLflow database names absolute paths, which are turned to the copy."""
    shutil.copytree(source, root, symlinks=True)
    with sqlite3.connect(root / "mlflow.db") as database:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        ):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(source), str(root)))
    return Farm(root, api)
