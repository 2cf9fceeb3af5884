"""What is checked before a run, and how often."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.pipeline.plan import FILES, check_start
from keypipe.errors import ConfigError
from keypipe.evaluation.sigmas import SIGMAS_FILE
from tasks.workspace.places import GROUPS, LOCAL_FILE, PARAMS_FILE, WEIGHTS
from tests.flows.toy import REPOSITORY, STAGES, Toy

HEAVY = ("pydantic", "numpy", "mlflow", "torch", "ultralytics", "tasks.check", "prefect")


def modules_of_a_check(root: Path) -> set[str]:
    """Check in a process of its own; return the heavy modules that it has imported."""
    code = (
        "import sys; from pathlib import Path; from flows.pipeline.plan import check_start;"
        f"check_start(Path({str(root)!r}));"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_parameters_are_checked_once_for_the_same_files(fresh: Toy) -> None:
    assert {"tasks.check", "pydantic"} <= modules_of_a_check(fresh.root)
    assert modules_of_a_check(fresh.root) == set()
    (fresh.root / "local.yaml").write_text("threads: 1\n")
    assert "tasks.check" in modules_of_a_check(fresh.root)
    assert modules_of_a_check(fresh.root) == set()


def test_what_is_wrong_is_told_every_time(fresh: Toy) -> None:
    assert check_start(fresh.root) == STAGES
    (fresh.root / "local.yaml").write_text("threads: none\n")
    for _ in range(2):
        with pytest.raises(ConfigError, match="threads"):
            check_start(fresh.root)


def test_all_that_the_check_reads_is_among_the_files() -> None:
    names = {PARAMS_FILE, LOCAL_FILE, "dvc.yaml", str(GROUPS), str(SIGMAS_FILE), f"{WEIGHTS}/.gitignore"}
    assert names == {str(path) for path in FILES}
