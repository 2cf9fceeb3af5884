from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from keypipe.annotations.labelme import LabelmeOptions
from keypipe.errors import AnnotationError, ConfigError
from tasks.check import check_files, check_workspace
from tasks.workspace.params import load_schema, read_params
from tests.conftest import point, rectangle
from tests.workspace import run_stages, set_params, use

Write = Callable[..., Path]


@pytest.fixture
def own(tmp_path: Path, write_labelme: Write) -> Path:
    """A user's folder: horses by group and by containment, a polygon, a slip."""
    for index in range(60):
        shapes = [rectangle("horse", (10, 10, 90, 90), 1 if index % 2 else None)]
        shapes += [point(name, 20, 20 + index % 5, 1 if index % 2 else None) for name in ("左耳", "右耳", "tail")]
        write_labelme(f"day{index % 3}/{index}.jpg", shapes, folder=tmp_path / "own")
    write_labelme("slip.jpg", [rectangle("horse", (0, 0, 50, 50)), point("tial", 5, 5)], folder=tmp_path / "own")
    return tmp_path / "own"


def test_own_data_replace_the_demo_and_nothing_is_lost(drawn: Path, own: Path) -> None:
    run_stages(drawn, "convert", "split")
    demo = sorted(path.name for path in (drawn / "data/raw").rglob("*") if path.is_file())
    set_params(drawn, **{"schema.aliases": {"snout": "nose"}})  # stands for a name that will be gone
    before = (drawn / "params.yaml").read_text()
    (drawn / "data/groups.csv").write_text("image,group\n00001.jpg,day1\n")
    told = use(drawn, own)
    assert (drawn / "data/groups.csv").read_text() == "image,group\n"
    assert "horse: 左耳, 右耳, tail (left/right pairs: 左耳/右耳)" in told
    assert "  train: model yolov8n-pose.yaml, " in told
    assert "split: group_by None" in told
    assert "train.imgsz: 96 is yours and stays; " in told
    assert "your aliases in params.yaml (snout: nose) are taken out; the file as it was is kept" in told
    assert "your classes" not in told  # they are the demo's
    (aside,) = (drawn / ".keypipe/replaced").iterdir()
    assert sorted(path.name for path in (aside / "data/raw").rglob("*") if path.is_file()) == demo
    assert (aside / "params.yaml").read_text() == before
    assert "day1" in (aside / "data/groups.csv").read_text()
    assert (aside / "data/dataset/manifest.csv").exists()
    assert not (drawn / "data/dataset/manifest.csv").exists()
    assert len(list((drawn / "data/raw").rglob("*.json"))) == len(list(own.rglob("*.json"))) == 61
    check_workspace(drawn)
    text = (drawn / "params.yaml").read_text()
    assert "# every random draw" in text.lower()
    now, then = (yaml.safe_load(content)["train"] for content in (text, before))
    assert {key: now[key] for key in ("epochs", "imgsz", "batch", "nbs")} == {
        "epochs": 2,
        "imgsz": 96,
        "batch": 8,
        "nbs": 8,
    }
    assert {key for key in now if now[key] != then.get(key)} <= {"patience", "mosaic", "degrees", "fliplr"}
    (drawn / "data/groups.csv").unlink()
    with pytest.raises(ConfigError, match=r"git checkout data/groups\.csv"):
        check_files(drawn)
    (drawn / "data/groups.csv").write_text("image,group\n")
    run_stages(drawn, "convert", "split")


def test_data_raw_itself_is_used_where_it_lies(drawn: Path) -> None:
    names = sorted(path.name for path in (drawn / "data/raw").rglob("*"))
    use(drawn, drawn / "data/raw")
    assert sorted(path.name for path in (drawn / "data/raw").rglob("*")) == names
    assert load_schema(read_params(drawn)).class_names == ("cow",)


def test_the_demo_schema_is_found_again(drawn: Path) -> None:
    before = load_schema(read_params(drawn))
    use(drawn, drawn / "data/raw")
    after = load_schema(read_params(drawn))
    assert set(after.slots) == set(before.slots)
    assert {frozenset(pair) for pair in after.classes["cow"].pairs} == {
        frozenset(pair) for pair in before.classes["cow"].pairs
    }


def test_folders_that_cannot_be_used_change_nothing(drawn: Path, tmp_path: Path, write_labelme: Write) -> None:
    before = (drawn / "params.yaml").read_text()
    with pytest.raises(ConfigError, match="outside the workspace"):
        use(drawn, drawn / "data")
    with pytest.raises(AnnotationError, match="nowhere: no such folder"):
        use(drawn, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match="no labelme JSON in it"):
        use(drawn, tmp_path / "empty")
    write_labelme("a.jpg", [rectangle("box", (1, 1, 50, 50))], folder=tmp_path / "boxes")
    with pytest.raises(AnnotationError, match=r"shapes found: .*Labels found: box"):
        use(drawn, tmp_path / "boxes")
    assert (drawn / "params.yaml").read_text() == before
    assert not (drawn / ".keypipe/replaced").exists()


def test_a_folder_whose_images_lie_outside_is_refused_with_both_paths(
    drawn: Path, tmp_path: Path, write_labelme: Write
) -> None:
    before = (drawn / "params.yaml").read_bytes()
    (tmp_path / "own/jsons").mkdir(parents=True)
    for number, image_path in enumerate(("..\\images\\0.jpg", "D:\\gone\\1.jpg", "2.jpg")):
        shapes = [rectangle("horse", (10, 10, 90, 90)), point("tail", 20, 20)]
        json = write_labelme(f"images/{number}.jpg", shapes, folder=tmp_path / "own", imagePath=image_path)
        json.rename(tmp_path / f"own/jsons/{number}.json")
    own, jsons = tmp_path / "own", tmp_path / "own/jsons"
    for name in ("0", "1", "2"):  # each kind of path by itself tells it
        with pytest.raises(AnnotationError) as caught:
            use(drawn, jsons)
        assert str(caught.value) == (
            f"{jsons / name}.json: its image, {own / 'images' / name}.jpg, lies outside {jsons}; give a folder that"
            f" holds both, such as {own}"
        )
        (jsons / f"{name}.json").rename(own / f"images/{name}.json")
    assert (drawn / "params.yaml").read_bytes() == before
    use(drawn, own)
    assert len(list((drawn / "data/raw/images").iterdir())) == 6
    for path in own.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(AnnotationError, match="none of the images of its 3 JSON files is in it, such as"):
        use(drawn, own)


def test_real_annotations(shared_data: Callable[[str], Path], drawn: Path) -> None:
    use(drawn, shared_data("setsquare") / "labelme")
    schema = load_schema(read_params(drawn))
    assert schema.class_names == ("sjb_rect",)
    assert schema.slots == ("angle_30", "angle_60", "angle_90")
    assert LabelmeOptions()


def test_how_far_it_is_is_told(drawn: Path, own: Path) -> None:
    told: list[tuple[str, int, int]] = []
    (own / ".hidden").mkdir()
    (own / ".hidden/notes.txt").write_text("stays where it is")
    use(drawn, own, lambda *now: told.append(now))
    read, copied = ([now[1:] for now in told if now[0] == what] for what in ("reading annotations", "copying files"))
    assert read == [(done, 61) for done in range(62)]
    assert copied == [(done, 122) for done in range(1, 123)]


def test_parameters_without_a_schema_get_one(drawn: Path, own: Path) -> None:
    text = (drawn / "params.yaml").read_text()
    (drawn / "params.yaml").write_text(text[: text.index("schema:")] + "\n" + text[text.index("doctor:") :])
    assert "schema" not in yaml.safe_load((drawn / "params.yaml").read_text())
    use(drawn, own)
    assert list(yaml.safe_load((drawn / "params.yaml").read_text())["schema"]["classes"]) == ["horse"]


@pytest.mark.parametrize("text", ["- a\n- b\n", "schema: [\n", "seed: 1\nseed: 2\n"])
def test_broken_parameters_are_refused_before_anything_is_moved(drawn: Path, own: Path, text: str) -> None:
    before = sorted(path.name for path in (drawn / "data/raw").rglob("*"))
    (drawn / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        use(drawn, own)
    assert sorted(path.name for path in (drawn / "data/raw").rglob("*")) == before
    assert not (drawn / ".keypipe/replaced").exists()


def test_what_was_moved_comes_back_where_the_rest_cannot_be_written(
    drawn: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stages(drawn, "convert")
    before = {path: path.read_bytes() for path in sorted(drawn.rglob("*")) if path.is_file()}

    def full(_path: Path, _text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tasks.commands.adopt.write_text", full)
    with pytest.raises(OSError, match="No space"):
        use(drawn, own)
    after = {path: path.read_bytes() for path in sorted(drawn.rglob("*")) if path.is_file()}
    assert {path for path in before if before[path] != after.get(path)} == set()


def test_annotations_that_cannot_be_read_are_named_with_the_reason(
    drawn: Path, tmp_path: Path, write_labelme: Write
) -> None:
    texts = point("nose", 20, 20) | {"points": [["20", "19"]]}
    for number in range(3):
        write_labelme(f"{number}.jpg", [rectangle("cow", (10, 10, 90, 90)), texts], folder=tmp_path / "own")
    with pytest.raises(
        AnnotationError, match=r"none of its 3 JSON files can be read; 0\.json: .*shapes\[1\].*correct the value"
    ):
        use(drawn, tmp_path / "own")
    for path in (tmp_path / "own").glob("*.json"):
        path.write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(AnnotationError, match=r"no labelme JSON in it; 0\.json is COCO"):
        use(drawn, tmp_path / "own")


def test_an_image_of_another_batch_is_not_taken_for_a_lost_one(
    drawn: Path, tmp_path: Path, write_labelme: Write
) -> None:
    shapes = [rectangle("cow", (10, 10, 90, 90)), point("nose", 20, 20), point("tail", 80, 80)]
    for batch in ("batch1", "batch2"):
        for number in range(4):
            write_labelme(f"{number}.jpg", shapes, folder=tmp_path / "batches" / batch)
    (tmp_path / "batches/batch2/2.jpg").unlink()
    use(drawn, tmp_path / "batches/batch2")
    assert not (drawn / "data/raw/2.jpg").exists()
    (tmp_path / "batches/batch1").rename(tmp_path / "batch1")
    (tmp_path / "batches/images").mkdir()
    (tmp_path / "batch1/2.jpg").rename(tmp_path / "batches/images/2.jpg")  # a folder of images alone
    with pytest.raises(AnnotationError, match=r"its image, .*images/2\.jpg, lies outside"):
        use(drawn, tmp_path / "batches/batch2")


def test_what_cannot_be_copied_is_named_before_anything_is_changed(drawn: Path, own: Path) -> None:
    before = (drawn / "params.yaml").read_bytes()
    (own / "dead.json").symlink_to(own / "nowhere")
    (own / "day0/loop").symlink_to(own)
    os.mkfifo(own / "pipe.json")
    with pytest.raises(AnnotationError, match="not to be copied: day0/loop, a link to a folder around it") as caught:
        use(drawn, own)
    assert "; dead.json, a link to nothing" in str(caught.value)
    assert "; pipe.json, neither a file nor a folder; put the files themselves there" in str(caught.value)
    assert (drawn / "params.yaml").read_bytes() == before
    assert not (drawn / ".keypipe/replaced").exists()


def test_folders_that_are_links_are_copied_and_their_labels_drafted(
    drawn: Path, own: Path, tmp_path: Path, write_labelme: Write
) -> None:
    for index in range(9):
        shapes = [rectangle("pony", (0, 0, 50, 50)), point("mane", 5, 5)]
        write_labelme(f"{index}.jpg", shapes, folder=tmp_path / "far")
    (own / "linked").symlink_to(tmp_path / "far")
    with pytest.raises(
        AnnotationError, match=r"linked, a link to a folder outside .*; --follow-links copies what"
    ) as told:
        use(drawn, own)
    assert f"({(tmp_path / 'far').resolve()})" in str(told.value)
    assert "pony: mane" in use(drawn, own, follow_links=True)
    assert len(list((drawn / "data/raw").rglob("*.json"))) == 61 + 9
    (tmp_path / "far/dead.json").symlink_to("nowhere")
    with pytest.raises(AnnotationError, match=r"linked/dead\.json, a link to nothing \(nowhere\)"):
        use(drawn, own, follow_links=True)
    (drawn / "data/raw/link").symlink_to(own)
    with pytest.raises(AnnotationError, match=r"link, a link to a folder \(.*own\), into which nothing looks"):
        use(drawn, drawn / "data/raw")


def test_a_link_to_another_file_of_the_user_is_copied_only_if_that_is_wanted(
    drawn: Path, own: Path, tmp_path: Path
) -> None:
    (tmp_path / "private.png").write_bytes(b"private")
    (own / "cow.png").symlink_to(tmp_path / "private.png")
    with pytest.raises(AnnotationError, match=r"cow\.png, a link to a file outside \(.*private\.png\)"):
        use(drawn, own)
    use(drawn, own, follow_links=True)
    assert not (drawn / "data/raw/cow.png").is_symlink()
    assert (drawn / "data/raw/cow.png").read_bytes() == b"private"


def test_without_parameters_nothing_is_taken(tmp_path: Path, own: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ConfigError, match=r"params\.yaml: not there; run from the folder"):
        use(tmp_path / "elsewhere", own)


def test_json_of_other_tools_among_the_annotations_is_said(drawn: Path, own: Path) -> None:
    (own / "coco.json").write_text('{"images": [], "annotations": [], "categories": []}')
    (own / "package.json").write_text("{}")
    told = use(drawn, own)
    assert "convert stops: coco.json (this is COCO: `keypipe import coco` reads it), package.json (not as lab" in told


@pytest.mark.parametrize("value", ["[]", "[cow]", "cow"])
def test_a_schema_that_is_no_section_is_said(drawn: Path, own: Path, value: str) -> None:
    (drawn / "params.yaml").write_text(f"schema: {value}\n")
    with pytest.raises(ConfigError, match="schema: expected a section with classes"):
        use(drawn, own)


def test_a_folder_with_every_quirk_gets_parameters_by_which_convert_reads_it(
    drawn: Path, tmp_path: Path, write_labelme: Write
) -> None:
    """Outlines, hidden keypoints by an ending, 16-bit images, spellings, videos: all of it without an edit."""
    for number in range(24):
        names = ("nose", "Ear_L", "Ear_R_hidden" if number % 4 == 0 else "Ear_R")
        shapes = [rectangle("cow", (10, 10, 90, 90)) | {"shape_type": "polygon"}]
        shapes[0]["points"] = [[10, 50], [50, 10], [90, 50], [50, 90]]
        shapes += [point(name, 30 + 15 * place, 40 + 7 * place) for place, name in enumerate(names)]
        name = f"clip{number % 8}-{number:03}.png"
        path = write_labelme(name, shapes, (100, 100), folder=tmp_path / "own")
        tiles = np.random.default_rng(number).integers(500, 900, (10, 10))
        Image.fromarray(np.kron(tiles, np.ones((10, 10))).astype(np.uint16)).save(path.with_suffix(".png"))
    for key, value in {"imgsz": 160, "epochs": 70, "batch": 16, "nbs": 16}.items():
        set_params(drawn, **{f"train.{key}": value})
    told = use(drawn, tmp_path / "own")
    params = yaml.safe_load((drawn / "params.yaml").read_text())
    convert = params["convert"]
    assert (convert["box_from"], convert["occluded_suffix"], convert["depth"]) == ("outline", "_hidden", "scale")
    assert params["schema"]["classes"]["cow"]["pairs"] == [["Ear_L", "Ear_R"]]
    assert params["split"]["group_by"]
    assert params["train"]["fliplr"] == 0.5
    assert (params["train"]["imgsz"], params["train"]["batch"]) == (160, 8)
    assert "is yours" not in told
    run_stages(drawn, "convert", "split")
    report = json.loads((drawn / "reports/convert/report.json").read_text())
    assert (report["objects"], report["keypoints"]["cow"]["Ear_R"]["occluded"]) == (24, 6)
    assert len(report["derived_images"]) == 24
    check_workspace(drawn)


def test_points_alone_get_boxes(drawn: Path, tmp_path: Path, write_labelme: Write) -> None:
    for number in range(12):
        shapes = [point("nose", 20 + number, 20), point("tail", 80, 60), point("hoof", 40, 90 - number)]
        write_labelme(f"{number}.jpg", shapes, folder=tmp_path / "own")
    assert "object: " in use(drawn, tmp_path / "own")
    run_stages(drawn, "convert")
    report = json.loads((drawn / "reports/convert/report.json").read_text())
    assert report["objects"] == 12


def test_what_follows_from_data_that_stay_stays(drawn: Path) -> None:
    run_stages(drawn, "convert")
    told = use(drawn, drawn / "data/raw")
    assert "the schema stays as it is: 1 class, 13 keypoints" in told
    assert ": nothing and params.yaml." in told
    assert (drawn / "data/coco/keypoints.json").exists()
    (aside,) = (drawn / ".keypipe/replaced").iterdir()
    assert [path.name for path in aside.iterdir()] == ["params.yaml"]


def test_a_schema_of_ones_own_that_is_replaced_is_named(drawn: Path, own: Path) -> None:
    set_params(drawn, **{"schema.classes": {"sheep": {"keypoints": ["nose", "tail"]}}, "schema.aliases": {"z": "nose"}})
    told = use(drawn, own)
    assert "your classes in params.yaml (sheep: nose, tail) are replaced; the file as it was is kept in" in told
    assert "your aliases in params.yaml (z: nose) are taken out" in told
    again = use(drawn, drawn / "data/raw")
    assert "your classes" not in again
    assert "your aliases" not in again


def test_names_with_control_characters_are_written_and_read_back(
    drawn: Path, tmp_path: Path, write_labelme: Write
) -> None:
    sides, flag = ("left\x1b[31m ear", "right\x1b[31m ear"), "occluded\x07"
    for number in range(12):
        points = [point(name, 30 + 20 * n, 30, flags={flag: number % 4 == 0}) for n, name in enumerate(sides)]
        shapes = [rectangle("ho\x07rse", (10, 10, 90, 90)), *points]
        write_labelme(f"{number}.jpg", shapes, folder=tmp_path / "odd")
    use(drawn, tmp_path / "odd")
    schema = load_schema(read_params(drawn))
    assert {*schema.classes["ho\x07rse"].keypoints} == {*sides}
    assert not {"\x07", "\x1b"} & {*(drawn / "params.yaml").read_text()}
