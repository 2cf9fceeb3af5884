"""SLEAP's own files; where sleap-io is not installed, the message that says how it is."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keypipe.errors import AnnotationError, PoseError
from tasks.commands.label_import import ImportOptions, import_labels
from tasks.commands.sources.sleap_source import read_skeleton
from tests.workspace import run_stages, set_params

PLACES = [[10.0, 20.0], [30.0, 40.0], [np.nan, np.nan]]


def write_slp(folder: Path, *, embed: bool, second: str = "") -> Path:
    """Write a project of three frames as SLEAP does; ``second``: a node of another skeleton of the same name."""
    sleap_io: Any = pytest.importorskip("sleap_io", reason="needs sleap-io: pip install 'keypipe[sleap]'")
    folder.mkdir()
    paths = [str(folder / f"f{number}.png") for number in range(3)]
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number).integers(0, 255, (80, 100, 3), np.uint8)
        Image.fromarray(noise).save(path)
    skeleton = sleap_io.Skeleton(
        nodes=["nose", "left_ear", "right_ear"],
        edges=[("nose", "left_ear")],
        symmetries=[("left_ear", "right_ear")],
        name="mouse",
    )
    video = sleap_io.Video.from_filename(paths)
    frames = []
    for number in range(3):
        instance = sleap_io.Instance.from_numpy(np.array(PLACES), skeleton=skeleton)
        instance.points["visible"][1] = number != 1
        guess = sleap_io.PredictedInstance.from_numpy(np.array(PLACES), skeleton=skeleton, score=0.9)
        instances = [instance, guess] if number < 2 else [guess]
        frames.append(sleap_io.LabeledFrame(video=video, frame_idx=number, instances=instances))
    path = folder / ("project.pkg.slp" if embed else "project.slp")
    labels = sleap_io.Labels(labeled_frames=frames, videos=[video], skeletons=[skeleton])
    if second:
        labels.skeletons.append(sleap_io.Skeleton(nodes=[second, "nose"], name="mouse"))
    labels.save(str(path), **({"embed": True} if embed else {}))
    return path


@pytest.mark.parametrize("embed", [False, True])
def test_a_project_of_sleap_arrives(empty: Path, tmp_path: Path, *, embed: bool) -> None:
    path = write_slp(tmp_path / "sleap", embed=embed)
    told = import_labels(empty, "sleap", path, ImportOptions(name="mice", box_margin=0.5, write_schema=True))
    assert "2 images, 2 objects, 4 keypoints (1 occluded); classes mouse" in told
    assert "predicted instances (3)" in told
    assert "skeleton: [[nose, left_ear]]" in told
    written = sorted((empty / "data/raw/mice").rglob("*.json"))
    assert len(written) == 2
    shapes = json.loads(written[0].read_text(encoding="utf-8"))["shapes"]
    assert [(shape["label"], shape["points"]) for shape in shapes] == [
        ("mouse", [[0, 10], [40, 50]]),
        ("nose", [[10, 20]]),
        ("left_ear", [[30, 40]]),
    ]
    set_params(empty, **{"convert.on_error": "fail"})
    run_stages(empty, "convert")


def test_a_frame_whose_video_is_gone_is_told(empty: Path, tmp_path: Path) -> None:
    path = write_slp(tmp_path / "sleap", embed=False)
    for image in path.parent.glob("*.png"):
        image.unlink()
    with pytest.raises(PoseError, match=r"project\.slp: .*f0\.png"):
        import_labels(empty, "sleap", path)
    assert not (empty / "data/raw/project").exists()


def test_a_name_twice_is_told_with_file_and_name() -> None:
    skeleton = SimpleNamespace(node_names=["nose", "nose "], edge_names=[], symmetry_names=[])
    with pytest.raises(AnnotationError, match=r"a\.slp: the skeleton 'mouse' has 2 nodes called 'nose'"):
        read_skeleton(skeleton, "mouse", "a.slp")


def test_skeletons_of_one_name_are_one_class(empty: Path, tmp_path: Path) -> None:
    told = import_labels(
        empty, "sleap", write_slp(tmp_path / "sleap", embed=False, second="tail"), ImportOptions(name="mice")
    )
    assert "mouse:\n      keypoints: [nose, left_ear, right_ear, tail]" in told


@pytest.mark.skipif(importlib.util.find_spec("sleap_io") is not None, reason="sleap-io is installed")
def test_without_sleap_io_the_message_says_how_to_install_it(empty: Path, tmp_path: Path) -> None:
    (tmp_path / "a.slp").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 200)
    with pytest.raises(PoseError, match=r"sleap-io is not installed: pip install 'keypipe\[sleap\]'"):
        import_labels(empty, "sleap", tmp_path / "a.slp")


def test_a_damaged_file_is_refused(empty: Path, tmp_path: Path) -> None:
    pytest.importorskip("sleap_io")
    (tmp_path / "a.slp").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 200)
    with pytest.raises(PoseError, match=r"a\.slp: cannot be read as a file of SLEAP"):
        import_labels(empty, "sleap", tmp_path / "a.slp")


def test_another_file_is_called_what_it_is(empty: Path, tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(PoseError, match="keypipe import coco"):
        import_labels(empty, "sleap", tmp_path / "coco.json")
