"""Outputs that stay although keypipe's own code changed, on real DVC."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from keypipe.errors import PoseError
from tasks.versions.repository import bring_back_files
from tasks.versions.stages.acceptance import (
    Differences,
    earlier_fingerprints,
    find_differences,
    is_code,
    list_in_force,
    only_code_changed,
    read_accepted,
    take_as_is,
)
from tasks.versions.stages.lockfile import locked_fingerprint
from tasks.versions.stages.state import stage_fingerprint, stage_version
from tests.faults.kills import killed_at_steps, run_whole
from tests.flows.toy import Toy, dvc, write_raw

NOW, COMMIT = "2026-01-01T00:00:00+00:00", "0123456789abcdef"


def same(name: str, before: Any, now: Any) -> bool:
    return bool(before == now)


def edit_code(toy: Toy, stage: str) -> None:
    with (toy.root / "tasks" / f"{stage}.py").open("a") as file:
        file.write("# a comment more\n")


def test_code_is_told_from_data_parameters_and_outputs(ran: Toy) -> None:
    assert find_differences(ran.root, "train", same) == Differences("train")
    edit_code(ran, "train")
    assert find_differences(ran.root, "train", same) == Differences("train", code=("tasks/train.py",))
    (ran.root / "data/dataset/annotations/train.txt").write_text("other")
    (ran.root / "models/best.pt").write_text("other")
    found = find_differences(ran.root, "train", lambda *_: False)
    assert found.data == ("data/dataset/annotations",)
    assert found.params == ("seed", "train")
    assert found.outputs == ("models",)
    assert not found.only_code


def test_a_taking_that_is_killed_at_any_step_is_recorded_and_finished_by_the_next(ran: Toy, tmp_path: Path) -> None:
    edit_code(ran, "train")
    before = stage_fingerprint_in_lock(ran)

    def take(root: Path) -> None:
        if not stage_version(root, "train").clean:
            take_as_is(root, find_differences(root, "train", same), time=NOW, commit=COMMIT)

    for step, steps, root in killed_at_steps(ran.root, tmp_path / "killed", take, touching=("accepted", "dvc.lock")):
        bring_back_files(root)
        fingerprint = locked_fingerprint((root / "dvc.lock").read_text(), "train")
        if fingerprint != before:
            assert [one.after for one in list_in_force(root)] == [fingerprint], f"step {step} of {steps}: no record"
        run_whole(partial(take, root))
        (taken,) = list_in_force(root)
        assert read_accepted(root) == [taken], f"step {step} of {steps}"
        assert (taken.before, taken.after) == (before, stage_fingerprint(root, "train"))


def test_what_is_taken_is_up_to_date_and_recorded(ran: Toy) -> None:
    edit_code(ran, "train")
    before = stage_fingerprint_in_lock(ran)
    taken = take_as_is(ran.root, find_differences(ran.root, "train", same), time=NOW, commit=COMMIT)
    assert stage_version(ran.root, "train").clean
    assert dvc(ran.root, "status", "train").strip() == "Data and pipelines are up to date."
    assert (taken.before, taken.after) == (before, stage_fingerprint(ran.root, "train"))
    assert read_accepted(ran.root) == [taken]
    text = (ran.root / "accepted.yaml").read_text()
    assert text.startswith("#")
    assert yaml.safe_load(text)[0]["code"] == ["tasks/train.py"]
    assert earlier_fingerprints(ran.root, taken.after) == [before]
    edit_code(ran, "train")
    again = take_as_is(ran.root, find_differences(ran.root, "train", same), time=NOW, commit=COMMIT)
    assert earlier_fingerprints(ran.root, again.after) == [again.before, before]


def stage_fingerprint_in_lock(toy: Toy) -> str:
    from tasks.versions.stages.lockfile import locked_fingerprint

    return str(locked_fingerprint((toy.root / "dvc.lock").read_text(), "train"))


def test_more_than_code_is_refused(ran: Toy) -> None:
    edit_code(ran, "convert")
    write_raw(ran.root, "0.json", label="other")
    found = find_differences(ran.root, "convert", same)
    assert found.data == ("data/raw",)
    lock = (ran.root / "dvc.lock").read_bytes()
    with pytest.raises(PoseError, match="more than keypipe's own code"):
        take_as_is(ran.root, found, time=NOW, commit=COMMIT)
    assert (ran.root / "dvc.lock").read_bytes() == lock
    assert not (ran.root / "accepted.yaml").exists()


def test_a_stage_that_has_not_run_has_nothing_to_take(fresh: Toy) -> None:
    assert not find_differences(fresh.root, "train", same).known


def test_an_output_that_only_the_cache_has_is_intact(ran: Toy) -> None:
    shutil.rmtree(ran.root / "models")
    edit_code(ran, "train")
    assert find_differences(ran.root, "train", same).only_code


def test_a_record_that_is_none_of_keypipes_is_named(ran: Toy) -> None:
    (ran.root / "accepted.yaml").write_text("- words\n")
    with pytest.raises(PoseError, match=r"accepted\.yaml"):
        read_accepted(ran.root)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (("modified: keypipe/evaluation", "new: tasks/engine"), ["keypipe/evaluation", "tasks/engine"]),
        (("modified: keypipe/evaluation", "modified: params.yaml train"), []),
        (("modified: data/raw",), []),
        (("modified: dvc.yaml",), ["dvc.yaml"]),
        ((), []),
    ],
)
def test_changes_in_words(changes: tuple[str, ...], code: list[str]) -> None:
    assert only_code_changed(changes) == code


def test_what_code_is() -> None:
    assert is_code("keypipe/evaluation")
    assert not is_code("keypipe.txt")
    assert not is_code("data/tasks/x.py")


def add_place(toy: Toy, *files: str) -> None:
    """Let the train stage depend on a folder more, in which git keeps a file that DVC ignores."""
    from tests.flows.toy import run

    folder = toy.root / "data/weights"
    folder.mkdir(parents=True)
    for name in (".gitignore", *files):
        (folder / name).write_text("/*\n!.gitignore\n")
    with (toy.root / ".dvcignore").open("a") as file:
        file.write("/data/weights/.gitignore\n")
    path = toy.root / "dvc.yaml"
    path.write_text(path.read_text().replace("tasks/train.py]", "tasks/train.py, data/weights]"))
    run(["git", "add", "--all"], toy.root)


def test_a_place_that_is_new_and_empty_is_a_change_of_dvc_yaml(ran: Toy) -> None:
    add_place(ran)
    assert stage_version(ran.root, "train").changes == ("modified: dvc.yaml",)
    found = find_differences(ran.root, "train", same)
    assert found == Differences("train", code=("dvc.yaml",))
    take_as_is(ran.root, found, time=NOW, commit=COMMIT)
    assert stage_version(ran.root, "train").clean
    assert dvc(ran.root, "status", "train").strip() == "Data and pipelines are up to date."

    # From then on it is a dependency like any other, also while nothing else changes.
    (ran.root / "data/weights/x.pt").write_text("weights")
    assert stage_version(ran.root, "train").changes == ("modified: data/weights",)
    assert find_differences(ran.root, "train", same).data == ("data/weights",)
    (ran.root / "data/weights/x.pt").unlink()
    (ran.root / "data/weights/.gitignore").write_text("another line\n")
    assert stage_version(ran.root, "train").clean


def test_a_place_that_is_new_and_holds_something_is_refused(ran: Toy) -> None:
    add_place(ran, "x.pt")
    assert stage_version(ran.root, "train").changes == ("modified: data/weights",)
    assert find_differences(ran.root, "train", same).data == ("data/weights",)


def test_a_stage_that_has_not_run_has_no_place_that_is_new(fresh: Toy) -> None:
    add_place(fresh)
    assert "modified: dvc.yaml" not in stage_version(fresh.root, "train").changes
