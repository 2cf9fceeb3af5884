"""The command weights: a file is put where DVC keeps it, and params.yaml names it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.cli import cli
from keypipe.errors import ConfigError, ModelError
from tasks.commands.weights import take_weights
from tasks.engine.settings import configure
from tasks.versions.weights import find_unkept
from tasks.workspace.params import read_params
from tests.flows.toy import dvc
from tests.pose_checkpoint import write_random_checkpoint
from tests.programs import write_program
from tests.workspace import git, make_workspace, set_params


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("made") / "workspace", n_images=0)


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "workspace", symlinks=True)
    return tmp_path / "workspace"


@pytest.fixture(scope="module")
def pose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights for 13 keypoints, as many as the demo's schema has; above 5 MB."""
    folder = tmp_path_factory.mktemp("elsewhere")
    configure(folder / "settings")
    names = [f"k{number}" for number in range(13)]
    return write_random_checkpoint(folder / "my pose.pt", ["cow"], names)


def keypipe(root: Path, *arguments: str) -> str:
    done = CliRunner().invoke(cli, list(arguments), obj=root, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def named(root: Path) -> dict[str, Any]:
    return dict(read_params(root)["train"])


def test_weights_get_a_place_and_params_yaml_names_them(root: Path, pose: Path) -> None:
    before = (root / "params.yaml").read_text()
    said = keypipe(root, "weights", str(pose)).splitlines()
    assert said == [
        "data/weights/my pose.pt: weights, 13.1 MB, for 13 keypoints",
        "params.yaml: train.model: yolov8n-pose.yaml -> data/weights/my pose.pt",
        "commit data/weights/my pose.pt.dvc and params.yaml; next: keypipe run",
    ]
    assert (root / "params.yaml").read_text() == before.replace("yolov8n-pose.yaml   ", "data/weights/my pose.pt   ", 1)
    assert (root / "data/weights/my pose.pt").read_bytes() == pose.read_bytes()
    assert find_unkept(root, named(root)) == []
    assert git(root, "status", "--short").splitlines() == [" M params.yaml", '?? "data/weights/my pose.pt.dvc"']

    lock = (root / "data/weights/my pose.pt.dvc").read_bytes()
    again = keypipe(root, "weights", str(root / "data/weights/my pose.pt"))
    assert "13 keypoints" in again
    assert (root / "data/weights/my pose.pt.dvc").read_bytes() == lock


def test_what_makes_a_training_stale_is_the_weights_themselves(root: Path, pose: Path) -> None:
    from tasks.versions.stages.state import stage_version

    keypipe(root, "weights", str(pose), "--name", "x.pt")
    assert "modified: data/weights" in stage_version(root, "train").changes
    assert dvc(root, "status", "data/weights/x.pt.dvc").strip() == "Data and pipelines are up to date."


def test_a_teacher_has_a_parameter_of_its_own(root: Path, pose: Path) -> None:
    said = keypipe(root, "weights", str(pose), "--teacher", "--name", "teacher.pt")
    assert "data/weights/teacher.pt: weights to learn from, 13.1 MB, state dict" in said
    assert "params.yaml: train.distill_model: (default) -> data/weights/teacher.pt" in said
    assert (named(root)["model"], named(root)["distill_model"]) == ("yolov8n-pose.yaml", "data/weights/teacher.pt")


def test_what_a_refusal_says_to_do_can_be_done_one_after_the_other(root: Path, pose: Path) -> None:
    """Both files lie elsewhere: mending one is not refused for the other."""
    shutil.copy(pose, root / "a.pt")
    shutil.copy(pose, root / "b.pt")
    set_params(root, **{"train.model": "a.pt", "train.distill_model": "b.pt"})
    assert len(find_unkept(root, named(root))) == 2
    keypipe(root, "weights", str(root / "a.pt"))
    keypipe(root, "weights", "--teacher", str(root / "b.pt"))
    assert find_unkept(root, named(root)) == []


def test_a_model_yaml_is_kept_by_git(root: Path, tmp_path: Path) -> None:
    from ultralytics.nn.tasks import yaml_model_load
    from ultralytics.utils import YAML

    YAML.save(tmp_path / "mine8.yaml", yaml_model_load("yolov8n-pose.yaml") | {"kpt_shape": [13, 3]})
    taken = take_weights(root, tmp_path / "mine8.yaml")
    assert (taken.name, taken.note) == ("data/weights/mine8.yaml", "data/weights/mine8.yaml")
    assert taken.about == "a model YAML for 13 keypoints"
    assert git(root, "status", "--short").split() == ["??", "data/weights/mine8.yaml"]
    with pytest.raises(ConfigError, match=r"expected \.pt"):
        take_weights(root, tmp_path / "mine8.yaml", teacher=True)


def test_other_keypoints_than_the_schemas_are_said(root: Path, tmp_path: Path) -> None:
    path = write_random_checkpoint(tmp_path / "three.pt")
    assert take_weights(root, path).about.endswith("for 3 keypoints (the schema has 13)")


def test_a_file_that_is_no_start_is_refused_and_nothing_is_copied(root: Path, pose: Path, tmp_path: Path) -> None:
    (tmp_path / "words.pt").write_text("words")
    write_program(tmp_path / "program.pt", tmp_path / "it ran")
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    (tmp_path / "words.yaml").write_text("nc: 1\n")
    with pytest.raises(ModelError, match=r"words\.pt: a text, not weights"):
        take_weights(root, tmp_path / "words.pt")
    with pytest.raises(ModelError, match=r"words\.pt: a text, not weights"):
        take_weights(root, tmp_path / "words.pt", teacher=True)
    with pytest.raises(ModelError, match=r"program\.pt: not loaded, since it could run any program"):
        take_weights(root, tmp_path / "program.pt")
    with pytest.raises(ModelError, match=r"words\.yaml: not the YAML of a model"):
        take_weights(root, tmp_path / "words.yaml")
    with pytest.raises(ConfigError, match=r"model\.onnx: expected \.pt or \.yaml or \.yml"):
        take_weights(root, tmp_path / "model.onnx")
    for name in ("a/b.pt", "x.onnx", "..", ".hidden.pt"):
        with pytest.raises(ConfigError, match="--name"):
            take_weights(root, pose, name)
    assert not (tmp_path / "it ran").exists()
    assert [path.name for path in (root / "data/weights").iterdir()] == [".gitignore"]


def test_weights_of_one_name_are_not_exchanged_in_silence(root: Path, pose: Path, tmp_path: Path) -> None:
    take_weights(root, pose, "x.pt")
    other = write_random_checkpoint(tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=r"data/weights/x\.pt: another file has this name; `--name`"):
        take_weights(root, other)
    (root / "data/weights/x.pt").unlink()  # as in a clone that has not been pulled
    with pytest.raises(ConfigError, match="another file has this name"):
        take_weights(root, other)
    take_weights(root, pose, "x.pt")
    assert find_unkept(root, {"model": "data/weights/x.pt"}) == []


@pytest.mark.parametrize(
    "name", ["a\nb.pt", "a\tb.pt", " a.pt", "a\0.pt", "../a.pt", ".a.pt", "a.onnx", "x" * 250 + ".pt"]
)
def test_names_that_no_file_should_have_are_refused(root: Path, pose: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a name on one line that ends in \.pt") as caught:
        take_weights(root, pose, name)
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in (root / "data/weights").iterdir()] == [".gitignore"]
