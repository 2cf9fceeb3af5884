"""Folders of other tools, as they come: what is read, what is refused, and what is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from keypipe.errors import AnnotationError, FaultsError, PoseError
from tasks.commands.label_import import ImportOptions, Source, import_labels
from tasks.workspace.params import load_schema, read_params

ROW = "0 0.5 0.5 0.4 0.2 0.4 0.45 2 0.5 0.5 1"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder for what another tool wrote."""
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def put_image(path: Path, colour: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 80), (colour, 60, 120)).save(path)


def put(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)


def take(root: Path, kind: Source, source: Path, **options: Any) -> str:
    return import_labels(root, kind, source, ImportOptions(**options))


def shapes(root: Path, folder: str = "source") -> dict[str, list[Any]]:
    """Return what was written: image -> label, type and points of its shapes."""
    written = {}
    for path in sorted((root / "data/raw" / folder).rglob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))["shapes"]
        name = path.relative_to(root / "data/raw" / folder).with_suffix("").as_posix()
        written[name] = [(shape["label"], shape["shape_type"], shape["points"]) for shape in found]
    return written


# -------------------------------------------------------------------------------------------------- YOLO


@pytest.mark.parametrize(
    "layout", ["images/train/{}.jpg labels/train/{}.txt", "images/{}.jpg labels/{}.txt", "{}.jpg {}.txt"]
)
def test_label_files_with_the_names_of_listings_are_read_where_an_image_has_the_name(
    empty: Path, source: Path, layout: str
) -> None:
    names = ["test", "train", "val", "labels", "classes", "readme_sign"]
    for name in names:
        image, label = (part.format(name) for part in layout.split())
        put_image(source / image)
        put(source / label, ROW)
    told = take(empty, "yolo", source, classes=("cow",))
    assert "6 images, 6 objects" in told
    assert "without a label file" not in told


def test_listings_and_notes_are_no_labels(empty: Path, source: Path) -> None:
    put_image(source / "images/1.jpg")
    put_image(source / "images/train.jpg")
    put(source / "labels/1.txt", ROW)
    put(source / "labels/classes.txt", "cow\n")
    put(source / "images/train.txt", "./images/1.jpg\n")
    put(source / "README.roboflow.txt", "cows - v3\n")
    put(source / "notes.txt", "drawn by Ann in 2024\n")
    told = take(empty, "yolo", source)
    assert "2 images, 1 objects" in told
    assert "classes cow" in told
    assert "images without a label file, taken as images without objects (1)" in told


def test_data_yaml_stands_for_its_folder(empty: Path, source: Path) -> None:
    put_image(source / "images/1.jpg")
    put(source / "labels/1.txt", ROW)
    put(source / "data.yaml", "names: [yes, 12:30]\nkpt_shape: [2, 3]\nkpt_names: {0: [on, 1e3], 1: [null, ~]}\n")
    told = take(empty, "yolo", source / "data.yaml", write_schema=True)
    assert told.startswith("data/raw/source: 1 images, 1 objects")
    schema = load_schema(read_params(empty))
    assert {name: skeleton.keypoints for name, skeleton in schema.classes.items()} == {
        "yes": ("on", "1e3"),
        "12:30": ("null", "~"),
    }


@pytest.mark.parametrize("given", ["", "data.yaml"])
def test_a_data_yaml_that_is_a_list_is_refused(empty: Path, source: Path, given: str) -> None:
    put_image(source / "images/1.jpg")
    put(source / "labels/1.txt", ROW)
    put(source / "args.yaml", "- some\n- other file\n")
    put(source / "data.yaml", "- cow\n- calf\n")
    with pytest.raises(AnnotationError, match=r"^data\.yaml: a list; expected keys such as `names:`"):
        take(empty, "yolo", source / given)


@pytest.mark.parametrize("place", ["data.yaml", "classes.txt"])
def test_a_yolo_folder_in_another_encoding(empty: Path, source: Path, place: str) -> None:
    put_image(source / "images/1.jpg")
    texts = {"data.yaml": "kpt_shape: [2, 3]\n", "classes.txt": "牛头\n门\n", "labels/1.txt": f"{ROW}\n"}
    if place == "data.yaml":
        texts["data.yaml"] = "# 数据集\nnames: [牛头, 门]\nkpt_shape: [2, 3]\n"
    for name, text in texts.items():
        put(source / name, text, "gbk" if name == place else "utf-16" if name == "classes.txt" else "utf-8-sig")
    with pytest.raises(PoseError, match=rf"{place}: not UTF-8; its first label is '.*' \(gb18030\).*--encoding NAME"):
        take(empty, "yolo", source)
    assert "classes 牛头, 门" in take(empty, "yolo", source, encoding="gb18030")


def test_a_label_file_that_is_no_text_is_a_refusal(empty: Path, source: Path) -> None:
    put_image(source / "1.jpg")
    (source / "1.txt").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff\xfe")
    with pytest.raises(PoseError, match=r"^1\.txt: neither UTF-8 nor any other text"):
        take(empty, "yolo", source)


def test_a_yolo_folder_without_images_or_labels_says_so(empty: Path, source: Path) -> None:
    put(source / "data.yaml", "names: [cow]\nkpt_shape: [2, 3]\n")
    with pytest.raises(PoseError, match=r"no image that can be read in .*--images"):
        take(empty, "yolo", source / "data.yaml")


# -------------------------------------------------------------------------------------------------- COCO


def coco(names: Sequence[str] = ("1.jpg",), *, keypoints: bool = True, shift: float = 0, **changes: Any) -> str:
    """Return a COCO file: a cow on each image, with two keypoints or with its box alone."""
    cow: dict[str, Any] = {"id": 1, "name": "cow"} | ({"keypoints": ["nose", "tail"]} if keypoints else {})
    annotations = [
        {"id": number, "image_id": number, "category_id": 1, "bbox": [20, 20, 40, 40], "area": 1600}
        | ({"keypoints": [25 + shift, 25, 2, 55, 55, 1], "num_keypoints": 2} if keypoints else {})
        for number, _ in enumerate(names)
    ]
    images = [{"id": number, "file_name": name, "width": 100, "height": 80} for number, name in enumerate(names)]
    return json.dumps({"images": images, "annotations": annotations, "categories": [cow]} | changes)


def test_several_files_about_the_same_images_give_each_once(empty: Path, source: Path) -> None:
    """As COCO's own download has it: instances, person_keypoints and captions."""
    for name in ("1.jpg", "2.jpg"):
        put_image(source / "val2017" / name)
    names = ("1.jpg", "2.jpg")
    put(source / "annotations/instances_val2017.json", coco(names, keypoints=False))
    put(source / "annotations/person_keypoints_val2017.json", coco(names))
    captions = {
        "images": json.loads(coco(names))["images"],
        "annotations": [{"id": 1, "image_id": 0, "caption": "a cow"}],
    }
    put(source / "annotations/captions_val2017.json", json.dumps(captions))
    put(source / "annotations/captions_train2017.json", json.dumps(captions | {"categories": []}))
    told = take(empty, "coco", source, write_schema=True)
    assert "2 images, 2 objects, 4 keypoints" in told
    both = "annotations/instances_val2017.json and annotations/person_keypoints_val2017.json"
    assert f"objects that {both} both have, taken once (2)" in told
    assert "captions_train2017.json, which is COCO without categories" in told
    assert [len(found) for found in shapes(empty).values()] == [3, 3]


def test_files_that_contradict_each_other_are_told_with_both_names(empty: Path, source: Path) -> None:
    put_image(source / "1.jpg")
    put(source / "ann.json", coco())
    put(source / "ben.json", coco(shift=5))
    told = r"1\.jpg: ann\.json and ben\.json have other keypoints for the same cow -> import one of the two"
    with pytest.raises(PoseError, match=told):
        take(empty, "coco", source)
    assert not (empty / "data/raw/source").exists()


@pytest.mark.parametrize(
    "layout",
    [
        ("train/_annotations.coco.json train/1.jpg", "valid/_annotations.coco.json valid/1.jpg"),
        ("annotations/person_keypoints_train.json train/1.jpg", "annotations/person_keypoints_val.json val/1.jpg"),
        ("annotations/train.json images/train/1.jpg", "annotations/val.json images/val/1.jpg"),
    ],
)
def test_a_file_for_each_split_finds_its_own_images_though_names_repeat(
    empty: Path, source: Path, layout: tuple[str, str]
) -> None:
    for number, pair in enumerate(layout):
        labels, image = pair.split()
        put_image(source / image, colour=200 * number)
        put(source / labels, coco(shift=number))
    told = take(empty, "coco", source)
    assert "2 images, 2 objects" in told
    assert "train 1, val 1: --keep-splits keeps them" in told
    found = {name.partition("/")[0]: items[1][2] for name, items in shapes(empty).items()}
    assert found == {"train": [[25, 25]], Path(layout[1].split()[1]).parent.name: [[26, 25]]}


def test_images_that_nothing_tells_apart_are_listed(empty: Path, source: Path) -> None:
    for folder in ("a", "b"):
        put_image(source / folder / "1.jpg")
    put(source / "labels.json", coco())
    with pytest.raises(PoseError, match=r"1\.jpg: 2 images have this name: a/1\.jpg, b/1\.jpg -> .*--images"):
        take(empty, "coco", source)


def test_a_broken_file_in_a_folder_is_a_fault(empty: Path, source: Path) -> None:
    put_image(source / "1.jpg")
    put(source / "a.json", coco())
    put(source / "b.json", coco()[:-5])
    with pytest.raises(PoseError, match=r"b\.json: broken JSON: .* -> restore it"):
        take(empty, "coco", source)
    assert "1 images, 1 objects" in take(empty, "coco", source, skip_faulty=True)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gbk"])
def test_a_coco_file_in_any_encoding(empty: Path, source: Path, encoding: str) -> None:
    put_image(source / "1.jpg")
    text = coco(categories=[{"id": 1, "name": "牛头", "keypoints": ["鼻", "尾"]}], info={"description": "牛"})
    put(source / "a.json", json.dumps(json.loads(text), ensure_ascii=False), encoding)
    if encoding == "gbk":
        with pytest.raises(PoseError, match=r"a\.json: not UTF-8; its first label is '牛头' \(gb18030\)"):
            take(empty, "coco", source / "a.json")
    assert "classes 牛头" in take(empty, "coco", source / "a.json", encoding="gb18030")


# -------------------------------------------------------------------------------------------- refusals

LABEL_STUDIO = '[{"id": 1, "data": {"image": "/data/upload/1/ab-1.jpg"}, "annotations": [{"id": 1, "result": []}]}]'
CVAT = '<?xml version="1.0"?>\n<annotations><version>1.1</version><image id="0" name="1.jpg"></image></annotations>'
LABELME = '{"version": "6.3.1", "shapes": [], "imagePath": "1.jpg", "imageHeight": 80, "imageWidth": 100}'


@pytest.mark.parametrize("kind", ["coco", "yolo", "dlc"])
@pytest.mark.parametrize("as_folder", [True, False])
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("1.json", LABELME, "keypipe init FOLDER"),
        ("annotations.xml", CVAT, "COCO Keypoints 1.0"),
        ("project.json", LABEL_STUDIO, "export it from Label Studio as `COCO`"),
        ("labels.slp", "\x89HDF", "keypipe import sleap"),
        ("CollectedData_Ann.h5", "\x89HDF", r"CollectedData\*\.csv beside it"),
        ("set.zip", "PK\x03\x04", "unpack it"),
    ],
)
def test_what_other_tools_wrote_is_refused_with_what_to_do(
    empty: Path, source: Path, kind: Source, name: str, content: str, told: str, *, as_folder: bool
) -> None:
    put_image(source / "1.jpg")
    (source / name).write_bytes(content.encode("latin1"))
    with pytest.raises(PoseError, match=told) as caught:
        take(empty, kind, source if as_folder else source / name)
    assert name in str(caught.value)
    assert not (empty / "data/raw/source").exists()


@pytest.mark.parametrize(
    ("kind", "files", "told"),
    [
        ("yolo", {"a.json": coco()}, "keypipe import coco"),
        ("coco", {"1.txt": ROW}, "keypipe import yolo"),
        ("coco", {"CollectedData_Ann.csv": "scorer,Ann,Ann\n"}, "keypipe import dlc"),
        ("dlc", {"a.json": coco()}, "keypipe import coco"),
    ],
)
def test_the_other_importer_is_named(empty: Path, source: Path, kind: Source, files: dict[str, str], told: str) -> None:
    put_image(source / "1.jpg")
    for name, text in files.items():
        put(source / name, text)
    with pytest.raises(PoseError, match=told):
        take(empty, kind, source)


# ------------------------------------------------------------------------------------------------ images


def write_coco(path: Path, names: Sequence[str]) -> Path:
    """Write a COCO file with a cow in the middle of each image."""
    cow = {"category_id": 1, "bbox": [30, 30, 40, 20], "keypoints": [40, 36, 2], "area": 800, "iscrowd": 0}
    document = {
        "categories": [{"id": 1, "name": "cow", "keypoints": ["nose"], "skeleton": []}],
        "images": [{"id": n, "file_name": name, "width": 100, "height": 80} for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": n, **cow} for n in range(len(names))],
    }
    put(path, json.dumps(document))
    return path


def test_images_of_another_letter_case_and_format_are_taken_and_counted(empty: Path, source: Path) -> None:
    names = ["photos\\A.JPG", "b.jpeg", "c.jpg", "c.png", "Kühe.jpg"]
    for name in ("photos/a.jpg", "B.png", "c.png", "Kuhe.jpg".replace("u", "u\u0308")):
        put_image(source / name)
    with pytest.raises(PoseError, match=r"c\.jpg: no image of this name"):  # c.png is another's
        take(empty, "coco", write_coco(source / "labels.json", names))
    told = take(empty, "coco", write_coco(source / "labels.json", [name for name in names if name != "c.jpg"]))
    assert "4 images, 4 objects" in told
    assert "images whose names are in another letter case (2)" in told
    assert "images of the same stem in another format (1)" in told


def test_an_image_of_a_format_that_is_not_read_is_called_that(empty: Path, source: Path) -> None:
    put_image(source / "a.jpg")
    put(source / "photos/b.heic", "x")
    with pytest.raises(PoseError, match=r"photos/b\.heic: its format, HEIC, is not read -> save it as JPEG or PNG"):
        take(empty, "coco", write_coco(source / "labels.json", ["a.jpg", "b.heic"]))


def test_yolo_labels_are_found_in_another_letter_case_and_their_images_called_what_they_are(
    empty: Path, source: Path
) -> None:
    put_image(source / "images/IMG_1.JPG")
    put(source / "labels/img_1.TXT", ROW)
    told = take(empty, "yolo", source, classes=("cow",), name="one")
    assert "1 images, 1 objects" in told
    put(source / "images/img_2.gif", "GIF89a")
    put(source / "labels/img_2.txt", ROW)
    with pytest.raises(PoseError, match=r"labels/img_2\.txt: images/img_2\.gif: its format, GIF, is not read"):
        take(empty, "yolo", source, classes=("cow",), name="two")
    shutil.rmtree(source)
    put(source / "images/1.heic", "x")
    put(source / "labels/1.txt", ROW)
    with pytest.raises(PoseError, match=r"the format of images/1\.heic, HEIC, is not read"):
        take(empty, "yolo", source, classes=("cow",), name="three")


# ------------------------------------------------------------------------------------------------- links


def test_links_to_nothing_are_named_and_none_becomes_an_image_without_objects(empty: Path, source: Path) -> None:
    for number in (1, 2, 3):
        put_image(source / f"images/{number}.jpg", number)
        put(source / f"labels/{number}.txt", ROW)
    for name in ("labels/2.txt", "images/3.jpg"):
        (source / name).unlink()
        (source / name).symlink_to("nowhere")
    with pytest.raises(FaultsError) as caught:
        take(empty, "yolo", source, classes=("cow",))
    assert "images/3.jpg: a link to nothing (nowhere) -> put the file itself there" in str(caught.value)
    assert "labels/2.txt: a link to nothing (nowhere)" in str(caught.value)
    told = take(empty, "yolo", source, classes=("cow",), skip_faulty=True)
    assert "1 images, 1 objects" in told
    assert "images without a label file" not in told


def test_folders_that_are_links_are_looked_into(empty: Path, source: Path) -> None:
    put_image(source / "far/images/1.jpg")
    put(source / "far/labels/1.txt", ROW)
    (source / "far").rename(source / ".far")
    for name in ("images", "labels"):
        (source / name).symlink_to(f".far/{name}")
    assert "1 images, 1 objects" in take(empty, "yolo", source, classes=("cow",))


def test_links_out_of_the_folder_are_read_only_if_that_is_wanted(empty: Path, source: Path, tmp_path: Path) -> None:
    put_image(tmp_path / "far/1.jpg")
    put(tmp_path / "far/1.txt", ROW)
    put_image(source / "images/2.jpg")
    put(source / "labels/2.txt", ROW)
    (source / "images/1.jpg").symlink_to(tmp_path / "far/1.jpg")
    (source / "labels/1.txt").symlink_to(tmp_path / "far/1.txt")
    with pytest.raises(FaultsError) as caught:
        take(empty, "yolo", source, classes=("cow",))
    assert "images/1.jpg: a link to a file outside" in str(caught.value)
    assert "--follow-links follows links that lead elsewhere" in str(caught.value)
    assert "2 images, 2 objects" in take(empty, "yolo", source, classes=("cow",), follow_links=True)
    coco = {
        "images": [{"id": 1, "file_name": "images/1.jpg"}, {"id": 2, "file_name": "../../far/1.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [9, 9, 50, 50], "keypoints": [20, 20, 2]}],
        "categories": [{"id": 1, "name": "cow", "keypoints": ["nose"]}],
    }
    put(source / "labels.json", json.dumps(coco))
    with pytest.raises(FaultsError) as caught:
        take(empty, "coco", source / "labels.json", name="coco")
    assert str(caught.value).count("images/1.jpg: a link to a file outside") == 2


@pytest.mark.parametrize("path", ["/", "..", "../far", "/etc"])
def test_a_data_yaml_leads_to_no_other_folder(empty: Path, source: Path, tmp_path: Path, path: str) -> None:
    put_image(tmp_path / "far/images/1.jpg")
    put(tmp_path / "far/labels/1.txt", ROW)
    put(source / "data.yaml", f"path: {path}\nnames: [cow]\nkpt_shape: [2, 3]\n")
    with pytest.raises(AnnotationError, match=r"leads out of its folder; .* --images"):
        take(empty, "yolo", source / "data.yaml")


@pytest.mark.parametrize("key", ["names", "kpt_shape", "flip_idx", "kpt_names", "nc", "path", "train", "download"])
def test_aliases_of_aliases_in_a_data_yaml_are_refused(empty: Path, source: Path, key: str) -> None:
    put_image(source / "images/1.jpg")
    put(source / "labels/1.txt", ROW)
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    put(source / "data.yaml", f"{bomb}{key}: *a9\n")
    with pytest.raises(AnnotationError, match=r"data\.yaml: aliases of aliases"):
        take(empty, "yolo", source)
    put(source / "data.yaml", "shape: &shape [2, 3]\nkpt_shape: *shape\nnames: [cow]\n")
    assert "1 images, 1 objects" in take(empty, "yolo", source)


def test_a_data_yaml_runs_and_downloads_nothing(empty: Path, source: Path, tmp_path: Path) -> None:
    put_image(source / "images/1.jpg")
    put(source / "labels/1.txt", ROW)
    touch = f"touch {tmp_path / 'it ran'}"
    put(
        source / "data.yaml",
        f"names: !!python/object/apply:os.system ['{touch}']\nkpt_shape: [2, 3]\ntrain: http://127.0.0.1:9/images.zip\n"
        f"val: /etc\ntest: ../../../etc/passwd.txt\ndownload: |\n  import os\n  os.system('{touch}')\n",
    )
    assert "1 images, 1 objects" in take(empty, "yolo", source)
    assert not (tmp_path / "it ran").exists()


def test_coco_and_deeplabcut_name_links_to_nothing_too(empty: Path, source: Path) -> None:
    (source / "a.json").symlink_to("nowhere")
    with pytest.raises(FaultsError, match=r"a\.json: a link to nothing"):
        take(empty, "coco", source)
    (source / "CollectedData_A.csv").symlink_to("nowhere")
    with pytest.raises(FaultsError, match=r"CollectedData_A\.csv: a link to nothing"):
        take(empty, "dlc", source)
    (source / "a.json").unlink()
    (source / "1.jpg").symlink_to("nowhere")
    coco = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [9, 9, 50, 50], "keypoints": [20, 20, 2]}],
        "categories": [{"id": 1, "name": "cow", "keypoints": ["nose"]}],
    }
    put(source / "a.json", json.dumps(coco))
    with pytest.raises(FaultsError, match=r"1\.jpg: 1\.jpg: a link to nothing \(nowhere\) -> put the file itself"):
        take(empty, "coco", source)
