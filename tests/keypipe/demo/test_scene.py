"""The demo dataset: what is drawn, what is written, and that labelme itself would have written the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import LABELME_VERSION, LabelmeOptions
from keypipe.demo import scene as demo
from keypipe.demo.animal import KEYPOINT_NAMES, AnimalPainter, View
from keypipe.demo.canvas import SUPERSAMPLING, Canvas
from keypipe.demo.places import PLACES
from keypipe.errors import PoseError
from keypipe.keypoints.skeleton import parse_schema

SMALL_WH = (128, 96)
SHAPE_KEYS = ("label", "points", "group_id", "description", "shape_type", "flags", "mask")
PAIRS = [(name, name.replace("left", "right")) for name in KEYPOINT_NAMES if "left" in name]


def draw(seed: int, **given: Any) -> demo.Scene:
    return demo.draw_scene(np.random.default_rng(seed), **given)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    folder = tmp_path_factory.mktemp("demo") / "raw"
    return folder, demo.write_demo(folder, n_images=24, seed=3, size_wh=(160, 120))


@pytest.fixture(scope="module")
def scenes() -> list[demo.Scene]:
    return [draw(seed) for seed in range(40)]


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


def test_schema_names_every_keypoint_of_the_skeleton_once() -> None:
    (cow,) = demo.SCHEMA["classes"].values()
    assert len(set(cow["keypoints"])) == len(cow["keypoints"]) == 13
    assert {name for edge in cow["skeleton"] for name in edge} == set(cow["keypoints"])
    assert len(PAIRS) == 5
    assert parse_schema(demo.SCHEMA).classes[demo.CLASS_NAME].pairs == tuple(PAIRS)


def test_same_seed_same_scene_and_another_seed_another() -> None:
    first, again, other = draw(1), draw(1), draw(2)
    assert np.array_equal(first.image, again.image)
    assert first.animals == again.animals
    assert not np.array_equal(first.image, other.image)


def test_same_seed_same_files_and_more_images_leave_the_first_ones_alone(tmp_path: Path) -> None:
    first = demo.write_demo(tmp_path / "a", n_images=3, seed=5, size_wh=SMALL_WH)
    more = demo.write_demo(tmp_path / "b", n_images=4, seed=5, size_wh=SMALL_WH)
    assert digest(tmp_path / "a") != digest(tmp_path / "b")
    for path, twin in zip(first, more[:3], strict=True):
        assert path.read_bytes() == twin.read_bytes()
        assert path.with_suffix(".json").read_text() == twin.with_suffix(".json").read_text()
    demo.write_demo(tmp_path / "c", n_images=3, seed=5, size_wh=SMALL_WH)
    assert digest(tmp_path / "a") == digest(tmp_path / "c")


@pytest.mark.parametrize("size_wh", [(64, 64), (128, 96), (90, 160)])
def test_image_has_the_size_asked_for(size_wh: tuple[int, int]) -> None:
    scene = draw(0, size_wh=size_wh)
    assert scene.image.shape == (size_wh[1], size_wh[0], 3)
    assert scene.image.dtype == np.uint8
    assert scene.size_wh == size_wh


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_number_of_animals_is_kept_where_there_is_room(count: int) -> None:
    found = [len(draw(seed, n_animals=count).animals) for seed in range(10)]
    assert max(found) == count
    assert min(found) >= min(count, 1)


def test_points_lie_in_their_box_and_boxes_in_the_image(scenes: list[demo.Scene]) -> None:
    for scene in scenes:
        width, height = scene.size_wh
        for animal in scene.animals:
            x1, y1, x2, y2 = animal.box_xyxy_px
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            names = [point.name for point in animal.keypoints]
            assert names == [name for name in KEYPOINT_NAMES if name in names]
            assert len(names) >= 4
            for point in animal.keypoints:
                assert x1 <= point.xy_px[0] <= x2
                assert y1 <= point.xy_px[1] <= y2


def test_box_is_tight_around_what_was_drawn() -> None:
    """The picture of a lone animal differs from the one without it inside the box only, and up to its edges."""
    view = View(facing=1, turn=0.2, tilt=0.2, unit_px=70.0, feet_px=(150.0, 180.0))
    canvas = Canvas((320, 240))
    painter = AnimalPainter(canvas, np.random.default_rng(0), view)
    painter.paint()
    rows, columns = np.nonzero(np.asarray(canvas.layers) > 0)
    drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(np.array(painter.bounds_xyxy_px()) - np.array(drawn) / SUPERSAMPLING).max() < 1.0


@pytest.mark.parametrize(("facing", "near", "far"), [(1, "right", "left"), (-1, "left", "right")])
def test_the_near_side_is_the_side_an_animal_shows(facing: int, near: str, far: str) -> None:
    """Whoever faces right shows the right side: its feet stand lower in the picture and are not hidden."""
    view = View(facing=facing, turn=0.0, tilt=0.25, unit_px=60.0, feet_px=(100.0, 100.0))
    sides = {"left": 0.17, "right": -0.17}
    (_, near_y), (_, far_y) = view.project([(0.3, sides[near], 0.0), (0.3, sides[far], 0.0)])
    assert near_y > far_y
    nose, tail = view.project([(1.0, 0.0, 1.0), (-0.6, 0.0, 1.0)])
    assert (nose[0] > tail[0]) == (facing > 0)
    canvas = Canvas((200, 160))
    painter = AnimalPainter(canvas, np.random.default_rng(1), view)
    painter.paint()
    points = painter.keypoints_px()
    assert not any(
        canvas.covered(points[f"{near}_{part}"], painter.layer_of[f"{near}_{part}"]) for part in ("ear", "front_hoof")
    )
    assert painter.layer_of[f"{near}_front_hoof"] > painter.layer_of[f"{far}_front_hoof"]


def test_what_is_drawn_over_a_point_hides_it() -> None:
    canvas = Canvas((40, 40))
    layer = canvas.next_layer()
    canvas.ellipse((20, 20), (5, 5), (255, 0, 0))
    assert not canvas.covered((20, 20), layer)
    canvas.next_layer()
    canvas.ellipse((24, 20), (3, 3), (0, 255, 0))
    assert not canvas.covered((18, 20), layer)
    assert canvas.covered((24, 20), layer)


def test_the_mix_has_occlusions_overlaps_groups_and_several_animals(scenes: list[demo.Scene]) -> None:
    points = [point for scene in scenes for animal in scene.animals for point in animal.keypoints]
    assert 0.08 < np.mean([point.occluded for point in points]) < 0.4
    assert {len(scene.animals) for scene in scenes} == {1, 2, 3}
    assert 0.35 < np.mean([scene.grouped for scene in scenes]) < 0.65
    assert {scene.place for scene in scenes} == set(PLACES)


def test_without_group_ids_the_boxes_are_apart(scenes: list[demo.Scene]) -> None:
    loose = [scene for scene in scenes if not scene.grouped and len(scene.animals) > 1]
    assert loose
    for scene in loose:
        for animal in scene.animals:
            others = [other.box_xyxy_px for other in scene.animals if other is not animal]
            for x, y in (point.xy_px for point in animal.keypoints):
                assert not any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in others)


def test_annotation_reads_as_labelme_writes_it() -> None:
    scene = draw(4, n_animals=2)
    content = demo.to_labelme(scene, "cow.jpg")
    assert list(content) == ["version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"]
    assert content["imageData"] is None
    assert (content["imageWidth"], content["imageHeight"]) == scene.size_wh
    for shape in content["shapes"]:
        assert tuple(shape) == SHAPE_KEYS
        if shape["shape_type"] == "rectangle":
            assert (shape["label"], len(shape["points"]), shape["flags"]) == ("cow", 2, {})
        else:
            assert (shape["shape_type"], len(shape["points"]), list(shape["flags"])) == ("point", 1, ["occluded"])


def test_files_lie_in_a_folder_for_each_place(written: tuple[Path, list[Path]]) -> None:
    folder, paths = written
    assert {path.relative_to(folder).parts[0] for path in paths} == {"pasture", "barn"}
    assert len({path.name for path in paths}) == len(paths) == 24
    assert sorted(folder.rglob("*.json")) == sorted(path.with_suffix(".json") for path in paths)
    assert [path.name for path in folder.parent.iterdir()] == ["raw"], "no scratch folder stays behind"
    for path in paths:
        content = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert content["imagePath"] == path.name
        with Image.open(path) as image:
            assert image.size == (content["imageWidth"], content["imageHeight"]) == (160, 120)
    empty = [path for path in paths if not json.loads(path.with_suffix(".json").read_text())["shapes"]]
    assert {path.parent.name for path in empty} == {"pasture", "barn"}


def test_keypipe_reads_the_folder_without_a_fault_and_every_point_at_its_animal(
    written: tuple[Path, list[Path]],
) -> None:
    folder, paths = written
    read = read_folder(folder, parse_schema(demo.SCHEMA), LabelmeOptions(occluded_flag="occluded"), processes=1)
    assert (read.faults, read.unlabelled, dict(read.ignored)) == ([], [], {})
    assert len(read.files) == len(paths)
    for file in read.files:
        assert file.image is not None
        assert (file.by_list_order, file.clipped) == ([], 0)
        shapes = json.loads((folder / file.source).read_text(encoding="utf-8"))["shapes"]
        starts = [i for i, shape in enumerate(shapes) if shape["shape_type"] == "rectangle"]
        stops = [*starts[1:], len(shapes)][: len(starts)]
        for instance, start, stop in zip(file.image.instances, starts, stops, strict=True):
            points = {
                shape["label"]: (*shape["points"][0], shape["flags"]["occluded"]) for shape in shapes[start + 1 : stop]
            }
            assert {name: (k.x, k.y, k.visibility == 1) for name, k in instance.keypoints.items()} == points


def test_labelme_loads_every_file_and_saves_the_same_bytes(
    written: tuple[Path, list[Path]], labelme_files: Any, tmp_path: Path
) -> None:
    for path in written[1]:
        source = path.with_suffix(".json")
        loaded = labelme_files.load(source)
        assert save_by_labelme(labelme_files, loaded, loaded.shapes, tmp_path / source.name) == source.read_text(
            encoding="utf-8"
        )


def test_labelme_s_window_would_save_the_same_bytes(
    written: tuple[Path, list[Path]], labelme_files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same through the shapes of labelme's canvas, where the Qt libraries can be loaded."""
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    name = "labelme._app" if labelme_files.VERSION >= "7" else "labelme.app"
    app = pytest.importorskip(name, exc_type=ImportError)
    for path in written[1]:
        source = path.with_suffix(".json")
        loaded = labelme_files.load(source)
        on_canvas = app._shapes_from_dicts(shape_dicts=loaded.shapes, label_flags={"^(?!cow)": ["occluded"]})
        shapes = [{"other_data": {}} | app._shape_to_dict(shape) for shape in on_canvas]
        assert save_by_labelme(labelme_files, loaded, shapes, tmp_path / source.name) == source.read_text(
            encoding="utf-8"
        )


def save_by_labelme(labelme_files: Any, loaded: Any, shapes: list[dict[str, Any]], target: Path) -> str:
    """Return what labelme saves, as if it were the version that we name."""
    saved = labelme_files.save(loaded, shapes, target).read_text(encoding="utf-8")
    return saved.replace(f'"version": "{labelme_files.VERSION}"', f'"version": "{LABELME_VERSION}"', 1)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    assert len(demo.write_demo(folder, n_images=1, size_wh=SMALL_WH)) == 1


def test_a_link_to_an_empty_folder_is_filled_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "raw").symlink_to(tmp_path / "disk")
    (path,) = demo.write_demo(tmp_path / "raw", n_images=1, size_wh=SMALL_WH)
    assert path.is_file()
    assert (tmp_path / "raw").is_symlink()
    assert path.resolve().is_relative_to(tmp_path / "disk")


def test_a_folder_with_something_in_it_is_refused_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "mine.json").write_text("{}")
    with pytest.raises(PoseError, match=r"raw: .*'mine\.json'.*another folder"):
        demo.write_demo(folder, n_images=1, size_wh=SMALL_WH)
    assert [path.name for path in tmp_path.rglob("*")] == ["raw", "mine.json"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("")
    with pytest.raises(PoseError, match="this is a file"):
        demo.write_demo(tmp_path / "raw", n_images=1)


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 32 px, got 20x96"):
        demo.write_demo(tmp_path / "raw", n_images=1, size_wh=(20, 96))
    assert list(tmp_path.iterdir()) == []
