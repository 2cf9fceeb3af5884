"""``keypipe init`` and ``keypipe use``, as a script and as a person in a terminal go through them."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from flows.cli import cli
from keypipe.errors import ConfigError
from tasks.check import check_workspace
from tests.conftest import point, rectangle
from tests.patience import PATIENCE
from tests.workspace import environment, make_workspace, set_params

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("template") / "workspace")


@pytest.fixture
def fresh(template: Path, tmp_path: Path) -> Path:
    """A workspace in which nothing has run."""
    return Path(shutil.copytree(template, tmp_path / "workspace", symlinks=True))


@pytest.fixture
def own(tmp_path: Path, write_labelme: Write) -> Path:
    """A user's folder: beetles upright and mirrored, whose L1 and R1 may be a pair, from eight videos."""
    for number in range(24):
        places = {"head": (30, 20), "L1": (20, 60), "R1": (60, 62), "tip": (32, 90)}
        shapes = [rectangle("beetle", (10, 10, 80, 95))]
        for name, (x, y) in places.items():
            shapes.append(point(name, 90 - x if number % 3 == 0 else x, y))
        write_labelme(f"clip{number % 8}_{number:04}.jpg", shapes, folder=tmp_path / "own")
    return tmp_path / "own"


def run(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["init", "--offline", *arguments], obj=root, catch_exceptions=False)


def read_params(root: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((root / "params.yaml").read_text()))


def test_a_script_gets_what_is_sure_and_what_a_run_will_cost(fresh: Path, own: Path) -> None:
    done = run(fresh, str(own), "--yes", "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    params = read_params(fresh)
    text = (fresh / "params.yaml").read_text()
    by_key = {proposal["key"]: proposal for proposal in told["proposals"]}
    assert told["written"]
    assert list(params["schema"]["classes"]) == ["beetle"] == list(told["classes"])
    assert len(params["schema"]["classes"]["beetle"]["skeleton"]) == 3
    assert params["split"]["group_by"] == by_key["split.group_by"]["proposed"]
    assert f"group_by: {yaml.safe_dump(params['split']['group_by']).splitlines()[0]}  # 8 groups" in text.replace(
        "'", ""
    )
    # what is not sure is a comment, and nobody said yes
    assert {"schema.classes.beetle.pairs", "train.symmetric"} <= {item["key"] for item in told["questions"]}
    assert "pairs: auto # left and right perhaps, if so write [[L1, R1]]" in text
    assert params["train"]["symmetric"] is False
    # a person's values stay, which the fixture's are
    assert (by_key["train.imgsz"]["owner"], by_key["train.imgsz"]["written"]) == ("user", False)
    assert (params["train"]["imgsz"], params["train"]["epochs"]) == (96, 2)
    # the cost goes by what stands there now
    cost = told["cost"]
    assert (cost["imgsz"], cost["batch"], cost["epochs"]) == (96, 8, 2)
    assert 0 < cost["step_seconds"] < cost["epoch_seconds"] < cost["total_seconds"]
    assert Image.open(fresh / told["picture"]).size[0] > 1000
    assert "skeleton" in (fresh / told["page"]).read_text().lower()
    assert (fresh / told["replaced"] / "params.yaml").exists()
    assert not list((fresh / ".keypipe/tmp").glob("*/cost*"))
    check_workspace(fresh)


def test_looking_changes_nothing(fresh: Path, own: Path) -> None:
    before = {path: path.read_bytes() for path in fresh.rglob("*") if path.is_file() and ".keypipe" not in path.parts}
    for arguments in (["--dry-run"], ["--json"], ["--dry-run", "--yes"]):
        done = run(fresh, str(own), "--no-time", *arguments)
        assert done.exit_code == 0
    assert {path: path.read_bytes() for path in before} == before
    assert not (fresh / ".keypipe/replaced").exists()
    assert not (fresh / ".keypipe/proposed.json").exists()


def test_without_a_terminal_somebody_has_to_say_yes(fresh: Path, own: Path) -> None:
    with pytest.raises(ConfigError, match="there is no terminal to ask in: `--yes` writes what is sure"):
        run(fresh, str(own))


def test_what_was_proposed_last_is_nobodys_own(fresh: Path) -> None:
    for key, value in {"imgsz": 160, "epochs": 70, "batch": 16, "nbs": 16}.items():
        set_params(fresh, **{f"train.{key}": value})
    first = json.loads(run(fresh, "--yes", "--json", "--no-time").stdout)
    assert all(proposal["owner"] == "nobody" for proposal in first["proposals"])
    assert not first["schema_is_new"]  # the demo's own, with the same names
    assert (fresh / "data/raw").exists()
    set_params(fresh, **{"train.imgsz": 512})
    again = json.loads(run(fresh, "--yes", "--json", "--no-time").stdout)
    assert [item["key"] for item in again["proposals"] if item["owner"] == "user"] == ["train.imgsz"]
    assert read_params(fresh)["train"]["imgsz"] == 512
    run(fresh, "--yes", "--overwrite", "--no-time")
    assert read_params(fresh)["train"]["imgsz"] == first["proposals"][2]["proposed"] != 512


def test_a_schema_of_ones_own_stays_where_it_reads_the_data_otherwise(fresh: Path) -> None:
    set_params(fresh, **{"schema.classes": {"cow": {"keypoints": ["nose", "tail_base"], "pairs": []}}})
    told = json.loads(run(fresh, "--yes", "--json", "--no-time").stdout)
    assert "schema.classes" in {item["key"] for item in told["questions"]}
    assert read_params(fresh)["schema"]["classes"] == {"cow": {"keypoints": ["nose", "tail_base"], "pairs": []}}
    assert told["classes"]["cow"]["keypoints"] == ["nose", "tail_base"]


def test_a_person_is_asked_and_answered(fresh: Path, own: Path) -> None:
    """In a terminal of its own: yes to the pair, no to mirroring, then one value by one."""
    shown, code = converse(fresh, own, {"left and the right of one thing?": "y", "name in a mirror?": "n"}, last="y")
    assert code == 0, shown
    assert "imgsz" in shown
    assert "(yours stays)" in shown
    params = read_params(fresh)
    assert params["schema"]["classes"]["beetle"]["pairs"] == [["L1", "R1"]]
    assert params["train"]["fliplr"] == 0.5


def test_a_no_at_the_end_changes_nothing(fresh: Path, own: Path) -> None:
    before = (fresh / "params.yaml").read_bytes()
    shown, code = converse(fresh, own, {"left and the right of one thing?": "n", "name in a mirror?": "n"}, last="n")
    assert code == 1, shown
    assert "nothing was changed" in shown
    assert (fresh / "params.yaml").read_bytes() == before
    assert not (fresh / ".keypipe/replaced").exists()


def converse(root: Path, folder: Path, answers: dict[str, str], last: str) -> tuple[str, int]:
    """Run the command in a terminal, and answer each question when it is asked; return what was shown, and the code."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "keypipe", "init", str(folder), "--offline", "--no-time"]
    env = environment(TERM="dumb", COLUMNS="200")
    process = subprocess.Popen(command, cwd=root, env=env, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    todo = {**answers, "choose one by one": last}
    shown, patience = "", time.monotonic() + PATIENCE
    while time.monotonic() < patience:
        if not select.select([ours], [], [], 1.0)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            shown += os.read(ours, 65536).decode(errors="replace")
        except OSError:  # the other end is closed
            break
        for question in [question for question in todo if question in shown.rpartition("\r\n")[2]]:
            os.write(ours, f"{todo.pop(question)}\n".encode())
    os.close(ours)
    return shown, process.wait(PATIENCE)


@pytest.mark.parametrize("command", ["init", "use"])
def test_no_name_reaches_the_terminal_as_a_command(
    fresh: Path, tmp_path: Path, write_labelme: Write, command: str
) -> None:
    for number in range(4):
        shapes = [rectangle("be\x1b[31metle", (10, 10, 80, 95)), point("he\x07ad", 30, 20), point("tip", 50, 40)]
        write_labelme(f"{number}.jpg", shapes, folder=tmp_path / "odd")
    write_labelme("bad\x1b[2J.jpg", [rectangle("beetle", (5, 5, 5, 5))], folder=tmp_path / "odd")
    arguments = ["init", "--offline", "--no-time", "--yes"] if command == "init" else ["use"]
    done = CliRunner().invoke(cli, [*arguments, str(tmp_path / "odd")], obj=fresh, catch_exceptions=False)
    assert done.exit_code == 0
    assert r"be\x1b[31metle" in done.output
    assert not {"\x07", "\x1b"} & {*done.output}
