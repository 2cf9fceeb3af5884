"""Equal weights hash equally, whatever else their files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keypipe.errors import ModelError
from keypipe.keypoints.skeleton import parse_schema
from tasks.engine.settings import configure
from tests.pose_checkpoint import write_random_checkpoint
from tests.programs import PROGRAMS, write_program


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path) -> None:
    configure(tmp_path / "settings")


def checkpoint(path: Path, *, date: str, key: str = "model", change: Any = None) -> Path:
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).half()
    with torch.no_grad():
        if change is not None:
            change(model)
    torch.save({"date": date, "model": None, "ema": None, key: model}, path)
    return path


def test_equal_weights_in_files_that_differ(tmp_path: Path) -> None:
    from tasks.engine.weights import hash_weights

    one = checkpoint(tmp_path / "one.pt", date="today")
    two = checkpoint(tmp_path / "two.pt", date="tomorrow", key="ema")
    assert one.read_bytes() != two.read_bytes()
    assert hash_weights(one) == hash_weights(two)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model[0].weight[0, 0, 0, 0].add_(0.001),
        lambda model: model[1].running_mean[3].add_(0.001),
        lambda model: model.float(),
    ],
    ids=["a weight", "a buffer", "the type"],
)
def test_every_tensor_counts(tmp_path: Path, change: Any) -> None:
    from tasks.engine.weights import hash_weights

    one, two = checkpoint(tmp_path / "one.pt", date=""), checkpoint(tmp_path / "two.pt", date="", change=change)
    assert hash_weights(one) != hash_weights(two)


@pytest.mark.parametrize("content", [b"", b"words", None])
def test_a_file_without_weights_is_refused(tmp_path: Path, content: bytes | None) -> None:
    from tasks.engine.weights import hash_weights

    path = tmp_path / "model.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match="not weights"):
        hash_weights(path)


def load_to_start(path: Path) -> Any:
    from tasks.engine.training.run import load_start

    return load_start(str(path), parse_schema({"classes": {"cow": {"keypoints": ["a", "b", "c"]}}}), new_head=True)


def export(path: Path) -> Any:
    from tasks.engine.exporting.files import export

    (path.parent / "scratch").mkdir()
    return export(path, "onnx", None, {}, {}, path.parent / "data.yaml", path.parent / "scratch")


def validate(path: Path) -> Any:
    from tasks.engine.inference import validate

    return validate(path, path.parent / "data.yaml", "val", {}, batch=1, imgsz=None, scratch=path.parent)


def write_anew(path: Path) -> None:
    from tasks.engine.weights import write_checkpoint

    write_checkpoint(path, path.with_name("copy.pt"), {})


def hashed(path: Path) -> str:
    from tasks.engine.weights import hash_weights

    return hash_weights(path)


def load_to_predict(path: Path) -> Any:
    from tasks.engine.inference import load_torch_model

    return load_torch_model(path, "cpu")


DOORS = [load_to_start, load_to_predict, export, validate, write_anew, hashed]
"""Every way in which a checkpoint comes in."""


@pytest.mark.parametrize("load", DOORS)
def test_a_sound_checkpoint_goes_in_by_every_way_but_a_missing_dataset(tmp_path: Path, load: Any) -> None:
    path = write_random_checkpoint(tmp_path / "model.pt")
    if load is validate:
        with pytest.raises(FileNotFoundError, match=r"data\.yaml"):
            load(path)
    else:
        load(path)


@pytest.mark.parametrize("load", DOORS)
@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_checkpoint_that_would_run_a_program_is_refused_in_one_line(
    tmp_path: Path, kind: str, load: Any, recwarn: pytest.WarningsRecorder
) -> None:
    configure(tmp_path / "settings")  # again, since pytest brings the filters of warnings back before each test
    mark = tmp_path / "it ran"
    path = write_program(tmp_path / "model.pt", mark, kind)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert not mark.exists()
    said, asked = str(caught.value), PROGRAMS[kind][1]
    assert "\n" not in said
    assert "model.pt" in said
    assert f"asks for {asked}" in said if asked else "not weights that Ultralytics can load" in said
    assert [str(warning.message) for warning in recwarn] == []


def test_the_program_of_the_tests_would_run(tmp_path: Path) -> None:
    import pickle

    pickle.loads(write_program(tmp_path / "model.pt", tmp_path / "it ran", "a plain pickle").read_bytes())
    assert (tmp_path / "it ran").exists()


def test_a_state_that_would_run_a_program_is_not_gone_on_from(tmp_path: Path) -> None:
    from tasks.engine.training.run import read_reached_epoch

    write_program(tmp_path / "state.pt", tmp_path / "it ran")
    assert read_reached_epoch(tmp_path) == 0
    assert not (tmp_path / "it ran").exists()


def test_other_loads_of_ultralytics_run_no_program_either(tmp_path: Path) -> None:
    """Such as the teacher of a distillation, or stripping the optimizer from a file."""
    from ultralytics.nn.tasks import load_checkpoint
    from ultralytics.utils.torch_utils import strip_optimizer

    path = write_program(tmp_path / "model.pt", tmp_path / "it ran")
    with pytest.raises(TypeError, match="outside the supported"):
        load_checkpoint(path)
    strip_optimizer(path)
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pt", b"these are words\n", "a text, not weights"),
        ("a.pt", b"", "an empty file, not weights"),
        ("a.pt", b"<!DOCTYPE html><html>", "a web page, not weights"),
        ("a.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS"),
        ("c.yaml", b"names: [cow]\nkpt_shape: [3, 3]\n", "the YAML of a dataset, not of a model"),
        ("c.yaml", b"words", "not the YAML of a model: a model's has `backbone` and `head`"),
        ("a.pt", None, "no network of Ultralytics in it"),
    ],
)
def test_what_is_no_weights_is_called_what_it_is(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    import torch

    from tasks.engine.weights import load_weights

    path = tmp_path / name
    if content is None:
        torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    else:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_weights(path)
