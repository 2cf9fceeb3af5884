"""How people name trainings on the command line."""

from __future__ import annotations

from typing import Any

import pytest

from flows.history.known_runs import Child, Run, find_run
from keypipe.errors import PoseError


def training(name: str, started: float, status: str = "FINISHED", **extra: Any) -> Run:
    return Run(id=name, status=status, started=started, fingerprint=f"of {name}", **extra)


def test_names_of_runs() -> None:
    runs = [
        training("abcd1", 2, "RUNNING"),
        training("abcd2", 1, children=(Child("child", "validate", "FINISHED", 1),)),
    ]
    assert find_run(runs, "ABCD1").id == "abcd1"
    assert find_run(runs, "child").id == "abcd2"
    assert find_run(runs, "latest").id == "abcd2"
    for name, message in [("abcd", "begins the ids of abcd1, abcd2"), ("abc", "no training's id"), ("nope", "abcd1")]:
        with pytest.raises(PoseError, match=message):
            find_run(runs, name)
    with pytest.raises(PoseError, match="no training has finished"):
        find_run([], "latest")
