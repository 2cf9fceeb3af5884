"""The command label, with a model that sees the same animal everywhere."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from flows.cli import cli
from keypipe.demo.scene import SCHEMA
from keypipe.keypoints.skeleton import parse_schema
from tasks.labelling.next_images import LIST
from tests.onnx_files import metadata_of, raw_output, write_constant_model
from tests.workspace import make_workspace, run_stages, set_params

LABELLED = 4
COW = parse_schema({"classes": SCHEMA["classes"]})
FOUND = (
    "cow",
    0.9,
    [80.0, 80.0, 60.0, 40.0],
    {name: (60.0 + 5 * i, 70.0 + i, 0.4 if i == 1 else 0.9) for i, name in enumerate(COW.slots)},
)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of ten images, of which four are annotated, with an exported model and without a display."""
    root = make_workspace(tmp_path / "w", n_images=10)
    for path in sorted((root / "data/raw").rglob("*.json"))[LABELLED:]:
        path.unlink()
    output = raw_output(COW, [FOUND])
    write_constant_model(root / "exports/model.onnx", output, metadata_of(COW, 160), 160)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return root


def label(root: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(cli, ["label", *arguments], obj=root, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def jsons(root: Path) -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in sorted((root / "data/raw").rglob("*.json"))}


def listed(root: Path) -> list[str]:
    return [entry["image"] for entry in json.loads((root / LIST).read_text())]


def test_images_without_labels_are_drawn_on_and_the_command_is_printed(workspace: Path) -> None:
    before = jsons(workspace)
    told = label(workspace, "--next", "3").output
    assert "3 images of 6 without labels, 3 of them drawn by the model" in told
    assert "labelme data/raw --config .keypipe/labelling/labelme.yaml" in told
    after = jsons(workspace)
    assert {name: after[name] for name in before} == before  # a person's
    new = set(after) - set(before)
    assert {Path(name).with_suffix(".jpg").as_posix() for name in new} == {
        (workspace / "data/raw" / name).as_posix() for name in listed(workspace)
    }
    document = json.loads(after[new.pop()])
    assert document["flags"] == {"confirmed": False}
    assert [shape["flags"].get("occluded") for shape in document["shapes"]][:4] == [None, False, True, False]


def test_what_waits_is_told_and_not_given_out_again(workspace: Path) -> None:
    label(workspace, "--next", "4")
    first = listed(workspace)
    told = label(workspace, "--next", "4").output
    assert "2 images, 2 of them drawn" in told
    assert "4 images of earlier lists nobody has confirmed yet" in told
    assert not set(first) & set(listed(workspace))
    assert "no image in data/raw is without labels" in label(workspace).output


def test_predict_correct_convert(workspace: Path) -> None:
    label(workspace, "--next", "6")
    for name in listed(workspace)[:2]:
        path = (workspace / "data/raw" / name).with_suffix(".json")
        document = json.loads(path.read_text())
        document["shapes"][1]["points"] = [[5.0, 6.0]]
        path.write_text(json.dumps(document | {"flags": {"confirmed": True}}))
    run_stages(workspace, "convert")
    report = json.loads((workspace / "reports/convert/report.json").read_text())
    assert report["images"] == LABELLED + 2
    assert len(report["unconfirmed"]) == 4


def test_without_a_model_looks_decide(workspace: Path) -> None:
    (workspace / "exports/model.onnx").unlink()
    before = jsons(workspace)
    told = label(workspace, "--next", "2").output
    assert "2 images of 6 without labels, 0 of them drawn by the model" in told
    assert "no model yet" in told
    assert jsons(workspace) == before


def test_the_first_images_of_all(workspace: Path) -> None:
    for path in (workspace / "data/raw").rglob("*.json"):
        path.unlink()
    assert "5 images of 10 without labels" in label(workspace, "--next", "5").output


def test_frames_of_a_film_become_images_of_the_dataset(workspace: Path, tmp_path: Path) -> None:
    film = tmp_path / "gate.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120))
    rng = np.random.default_rng(0)
    for _ in range(6):
        scene = cv2.resize(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8), (160, 120))
        for _ in range(10):
            writer.write(scene)
    writer.release()
    told = label(workspace, str(film), "--next", "3").output
    assert "3 images of 12 without labels" in told  # four times as many frames are looked at
    frames = sorted((workspace / "data/raw/gate").glob("*.jpg"))
    assert len({int(path.stem.removeprefix("frame_")) // 10 for path in frames}) == 3  # of three scenes
    assert all(path.with_suffix(".json").exists() for path in frames)
    assert not list((workspace / ".keypipe/tmp").rglob("*.jpg"))
    label(workspace, str(film), "--next", "3")
    assert len(list((workspace / "data/raw/gate").glob("*.jpg"))) == 6


def test_images_from_elsewhere_come_along(workspace: Path, tmp_path: Path) -> None:
    for number in range(3):
        path = tmp_path / f"new/{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(path)
    label(workspace, str(tmp_path / "new"), "--next", "2")
    assert len(listed(workspace)) == 2
    assert all((workspace / "data/raw" / name).exists() for name in listed(workspace))
    assert all(name.startswith("new/") for name in listed(workspace))


def test_a_part_of_the_dataset(workspace: Path) -> None:
    folder = sorted(path for path in (workspace / "data/raw").iterdir() if path.is_dir())[-1]
    label(workspace, str(folder), "--next", "9")
    assert listed(workspace)
    assert all(name.startswith(f"{folder.name}/") for name in listed(workspace))


def test_a_model_of_an_older_schema_draws_what_still_has_a_name(workspace: Path) -> None:
    names = [name for name in COW.slots if name != "nose"]
    set_params(workspace, **{"schema.classes": {"cow": {"keypoints": names}}})
    label(workspace, "--next", "1")
    document = json.loads((workspace / "data/raw" / listed(workspace)[0]).with_suffix(".json").read_text())
    assert "nose" not in {shape["label"] for shape in document["shapes"]}
    assert len(document["shapes"]) == len(names) + 1


@pytest.mark.skipif(sys.platform == "win32", reason="a script stands for labelme")
def test_labelme_is_opened_where_there_is_a_display(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that confirms the first image takes labelme's place, since no test has a screen."""
    program = workspace / ".venv-labelme/bin/labelme"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib\n"
        "first = json.loads(pathlib.Path('.keypipe/labelling/list.json').read_text())[0]['image']\n"
        "path = pathlib.Path('data/raw', first).with_suffix('.json')\n"
        "path.write_text(path.read_text().replace('\"confirmed\": false', '\"confirmed\": true'))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("DISPLAY", ":99")
    assert "1 of 3 images done; next: keypipe run" in label(workspace, "--next", "3").output
    assert "to work through them" in label(workspace, "--next", "3", "--no-open").output


def test_numbers_that_make_no_sense(workspace: Path) -> None:
    done = CliRunner().invoke(cli, ["label", "--next", "0"], obj=workspace)
    assert "--next and --among should be 1 or more" in str(done.exception)
