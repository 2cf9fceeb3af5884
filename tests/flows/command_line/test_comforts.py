"""What makes commands pleasant: JSON for programs, completion, any subfolder, and what was probably meant."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flows.cli import cli
from flows.command_line.menu import Group
from flows.history import comparison, reproduction, retention
from flows.pipeline.run_result import RunResult
from keypipe.errors import ConfigError
from tests.imports import ROOT
from tests.workspace import make_workspace

REPORTING = {
    ("run",), ("status",), ("retrain",), ("notify",), ("models",), ("drift",), ("doctor",), ("init",), ("runs",),
    ("runs", "compare"), ("runs", "gc"), ("runs", "report"), ("up",), ("runs", "reproduce"), ("predict",), ("sweep",),
}  # fmt: skip
"""Commands that have ``--json``: all that report what there is, or what became of something."""


def test_every_command_that_reports_has_json() -> None:
    found: set[tuple[str, ...]] = set()
    for command in cli.commands.values():
        if any(param.name == "as_json" for param in command.params):
            found.add(tuple(command.full.split()[1:]) if hasattr(command, "full") else (str(command.name),))
        if isinstance(command, Group):
            for sub in command.commands.values():
                if any(param.name == "as_json" for param in sub.params):
                    found.add((str(command.name), str(sub.name)))
    assert {names[1:] if names[0] in {"data"} else names for names in found} == REPORTING


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which nothing has run."""
    return make_workspace(tmp_path_factory.mktemp("comforts") / "workspace", n_images=2)


def keypipe(folder: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1", **extra}
    command = [sys.executable, "-P", "-m", "keypipe", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        (["status"], lambda found, root: found["workspace"] == str(root)),
        (["models"], lambda found, root: found["model"] == root.name and found["versions"] == []),
        (["runs"], lambda found, _: found == []),
        (["notify"], lambda found, _: found == {"ways": [], "last": None}),
        (["doctor"], lambda found, _: "counts" in found),
        (["retrain", "--dry-run"], lambda found, _: found["train"] is True and found["reasons"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_from_any_subfolder_json_is_all_that_is_printed(root: Path, arguments: list[str], known: Any) -> None:
    done = keypipe(root / "data" / "raw", *arguments, "--json")
    assert done.returncode in {0, 2}, done.stderr
    assert known(json.loads(done.stdout), root)


def test_what_is_printed_as_json_can_be() -> None:
    """Of commands that need trainings to report on."""
    msgspec.json.schema_components(
        [retention.Verdict, retention.Pruned, comparison.Comparison, reproduction.Reproduction, RunResult],
        schema_hook=lambda _: {"type": "string"},
    )


def test_json_of_a_retraining_itself_is_refused(root: Path) -> None:
    done = keypipe(root, "retrain", "--json")
    assert done.returncode == 2
    assert "--json goes with --dry-run" in done.stderr


def ask(root: Path, words: str, position: int, folder: str = ".") -> list[str]:
    done = keypipe(root / folder, _KEYPIPE_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(position))
    assert done.returncode == 0
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_commands_options_choices_and_stages_are_completed(root: Path) -> None:
    assert ask(root, "keypipe sta", 1, "data/raw") == ["status"]
    assert ask(root, "keypipe runs rep", 2) == ["report", "reproduce"]
    assert ask(root, "keypipe run --un", 2) == ["--until"]
    assert ask(root, "keypipe run --until ", 3) == ["convert", "split", "train", "validate", "export"]
    assert ask(root, "keypipe accept tr", 2) == ["train"]
    assert ask(root, "keypipe import c", 2) == ["coco"]


def test_outside_a_workspace_nothing_lands_in_the_prompt(tmp_path: Path) -> None:
    assert ask(tmp_path, "keypipe sta", 1) == []


def test_bash_completes(root: Path, tmp_path: Path) -> None:
    program = tmp_path / "keypipe"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m keypipe "$@"\n')
    program.chmod(0o755)
    code = (
        'eval "$(keypipe completion bash)"; COMP_WORDS=(keypipe sta); COMP_CWORD=1;'
        ' _keypipe_completion keypipe; echo "${COMPREPLY[@]}"; complete -p keypipe'
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", code], cwd=root, env=env, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "status"
    assert "_keypipe_completion" in second


@pytest.mark.parametrize(("shell", "expected"), [("zsh", "compdef _keypipe"), ("fish", "complete --no-files")])
def test_other_shells_get_their_script(root: Path, shell: str, expected: str) -> None:
    script = keypipe(root, "completion", shell).stdout
    assert expected in script
    assert "_KEYPIPE_COMPLETE" in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("assignment", "meant"),
    [
        ("convert.ocluded=ignore", "occluded"),
        ("train.epocs=3", "epochs"),
        ("retrain.gate.margin_app=0.1", "margin_ap"),
        ("registri.model=cow", "registry"),
    ],
)
def test_a_misspelt_parameter_is_told_with_what_is_like_it(root: Path, assignment: str, meant: str) -> None:
    from tasks.commands.writing.set_params import set_params

    with pytest.raises(ConfigError, match=f"did you mean {meant}\\?"):
        set_params(root, [assignment])
