from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from keypipe.demo.scene import write_demo
from keypipe.errors import ConfigError, DatasetError, FaultsError
from tasks.check import check_workspace
from tasks.commands.sigma_estimation import estimate
from tasks.grading.sigmas import read_sigmas
from tests.second_opinion import shake
from tests.workspace import environment, set_params

N_IMAGES = 24


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of the same images, annotated by people whose hands shake by one pixel; not to be changed."""
    base = tmp_path_factory.mktemp("people")
    write_demo(base / "anna", N_IMAGES, seed=5, size_wh=(160, 120))
    shutil.copytree(base / "anna", base / "ben")
    for seed, name in enumerate(("anna", "ben")):
        shake(base / name, 1.0, seed)
    return base / "anna", base / "ben"


@pytest.fixture
def others(people: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the two folders that a test may change."""
    for folder in people:
        shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / "anna", tmp_path / "ben"


def test_sigmas_of_two_people(drawn: Path, people: tuple[Path, Path]) -> None:
    found = estimate(drawn, people)
    assert (found.images, found.alone) == (N_IMAGES, 0)
    assert {entry.keypoint for entry in found.sigmas if entry.sigma} == {entry.keypoint for entry in found.sigmas}
    medians = [entry.median_px for entry in found.sigmas if entry.median_px is not None]
    # The distance of two points that are off by 1 px in both coordinates has the median 2 * sqrt(ln 2) = 1.67.
    assert np.median(medians) == pytest.approx(2 * np.sqrt(np.log(2)), rel=0.15)
    measured = read_sigmas(drawn)
    assert measured is not None
    assert (measured.area_rule, measured.area_factor) == ("box", 0.53)
    assert measured.sigmas == {entry.keypoint: pytest.approx(entry.sigma, abs=1e-4) for entry in found.sigmas}
    set_params(drawn, **{"validate.sigma": "data/sigmas.yaml"})
    check_workspace(drawn)


def test_the_file_can_be_pasted(drawn: Path, people: tuple[Path, Path], tmp_path: Path) -> None:
    estimate(drawn, people, tmp_path / "other.yaml")
    assert read_sigmas(drawn) is None
    mapping = yaml.safe_load((tmp_path / "other.yaml").read_text(encoding="utf-8"))["sigmas"]
    set_params(drawn, **{"validate.sigma": mapping})
    check_workspace(drawn)


def test_a_setting_without_its_file_is_refused_before_anything_starts(drawn: Path) -> None:
    set_params(drawn, **{"validate.sigma": "data/sigmas.yaml"})
    with pytest.raises(ConfigError, match=r"params.yaml:\d+: validate.sigma: data/sigmas.yaml holds no sigmas"):
        check_workspace(drawn)


def test_a_file_that_is_none(drawn: Path) -> None:
    (drawn / "data/sigmas.yaml").write_text("area_rule: round\narea_factor: 1.0\nsigmas: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"data/sigmas.yaml: .*round.*; make it anew with `keypipe sigmas"):
        check_workspace(drawn)


def test_the_area_rule_is_the_workspaces(drawn: Path, people: tuple[Path, Path]) -> None:
    box = estimate(drawn, people)
    set_params(drawn, **{"validate.area_rule": "coco"})
    whole = estimate(drawn, people)
    assert whole.area_rule == "coco"
    for first, second in zip(box.sigmas, whole.sigmas, strict=True):
        assert first.sigma is not None
        assert second.sigma == pytest.approx(first.sigma * np.sqrt(0.53))


def test_copies_and_few_repetitions(drawn: Path, people: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give two folders or more, a different one for each person"):
        estimate(drawn, [people[0], people[0]])
    with pytest.raises(ConfigError, match="give two folders or more"):
        estimate(drawn, people[:1])
    shutil.copytree(people[0], tmp_path / "copy")
    with pytest.raises(DatasetError, match="they look like copies"):
        estimate(drawn, [people[0], tmp_path / "copy"])
    for path in sorted(people[1].rglob("*.json"))[3:]:
        (tmp_path / "copy" / path.relative_to(people[1])).unlink()
    shake(tmp_path / "copy", 1.0, seed=2)
    warnings = "\n".join(estimate(drawn, [people[0], tmp_path / "copy"]).warnings)
    assert "fewer than 30 repetitions: nose (" in warnings


def test_a_slip_is_pointed_out(drawn: Path, others: tuple[Path, Path]) -> None:
    for path in sorted(others[1].rglob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        boxes = [shape for shape in document["shapes"] if shape["shape_type"] == "rectangle"]
        noses = [shape for shape in document["shapes"] if shape["label"] == "nose"]
        if len(boxes) == len(noses) == 1:
            break
    corners = np.array(boxes[0]["points"])
    far = corners[np.abs(corners - noses[0]["points"][0]).sum(1).argmax()]
    noses[0]["points"] = [(far + 0.1 * (corners.mean(0) - far)).tolist()]  # a corner of the box, almost
    path.write_text(json.dumps(document), encoding="utf-8")
    (slip,) = [warning for warning in estimate(drawn, others).warnings if "slip" in warning]
    assert slip.startswith("nose: the largest distance is ")
    assert path.stem in slip


def test_faulty_annotations_are_named(drawn: Path, others: tuple[Path, Path]) -> None:
    path = sorted(others[0].rglob("*.json"))[0]
    path.write_text("{", encoding="utf-8")
    with pytest.raises(FaultsError, match="1 fault in 1 file"):
        estimate(drawn, others)


def test_what_is_set_aside_is_counted(drawn: Path, others: tuple[Path, Path]) -> None:
    sorted(others[0].rglob("*.json"))[0].write_text("{", encoding="utf-8")
    set_params(drawn, **{"convert.on_error": "quarantine"})
    found = estimate(drawn, others)
    assert (found.images, found.set_aside) == (N_IMAGES - 1, 1)


def test_another_encoding_can_be_named(drawn: Path, others: tuple[Path, Path]) -> None:
    for path in others[0].rglob("*.json"):
        document = json.loads(path.read_text(encoding="utf-8")) | {"otherData": "\u725b"}
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="gb18030")
    with pytest.raises(FaultsError, match="fits UTF-8 and gb18030 alike"):
        estimate(drawn, others)
    assert estimate(drawn, others, encoding="gb18030").images == N_IMAGES


def test_the_command_prints_a_table_and_what_to_do(drawn: Path, people: tuple[Path, Path]) -> None:
    command = [sys.executable, "-m", "keypipe", "sigmas", *map(str, people)]
    env = environment(COLUMNS="160")
    done = subprocess.run(command, cwd=drawn, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nose" in done.stdout
    assert f"{N_IMAGES} images and" in done.stdout
    assert "data/sigmas.yaml written; `keypipe run --set validate.sigma=data/sigmas.yaml`" in done.stdout
