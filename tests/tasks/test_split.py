from __future__ import annotations

import csv
import json
import random
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from PIL import Image

from keypipe.dataset.coco import format_coco, parse_coco, to_coco
from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint
from keypipe.keypoints.skeleton import parse_schema
from keypipe.splits.manifest import ManifestLine, parse_manifest
from keypipe.splits.power import find_power
from tasks.split import SplitParams, run, tell_power
from tasks.workspace.places import PIXELS
from tasks.workspace.verdict import DoctorParams
from tests.workspace import make_workspace, run_stage, run_stages, set_params


@pytest.fixture(scope="module")
def converted_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("converted") / "workspace", n_images=40)
    run_stages(root, "convert")
    return root


@pytest.fixture
def converted(converted_once: Path, tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    shutil.copytree(converted_once, root, symlinks=True)
    return root


def run_split(root: Path) -> dict[str, str]:
    """Run split and return image -> split."""
    run_stages(root, "split")
    return read_manifest(root)


def read_manifest(root: Path) -> dict[str, str]:
    with (root / "data/dataset/manifest.csv").open(encoding="utf-8") as file:
        return {row["image"]: row["side"] for row in csv.DictReader(file) if row["state"] == "used"}


def refuse(root: Path) -> str:
    done = run_stage(root, "split")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_dataset_is_laid_out_for_coco_tools_and_for_yolo(converted: Path) -> None:
    splits = run_split(converted)
    assert Counter(splits.values()) == {"train": 28, "val": 6, "test": 6}
    data = yaml.safe_load((converted / "data/dataset/data.yaml").read_text())
    assert data["kpt_shape"] == [13, 3]
    assert data["flip_idx"] == [0, 2, 1, 3, 4, 6, 5, 8, 7, 10, 9, 12, 11]
    assert data["names"] == {0: "cow"}
    assert data["kpt_oks_sigmas"] == [0.1] * 13  # what the schedule of the loss ends with
    assert (converted / "data/yolo/data.yaml").read_text() == (converted / "data/dataset/data.yaml").read_text()
    for split in ("train", "val", "test"):
        coco = parse_coco((converted / f"data/dataset/annotations/{split}.json").read_bytes())
        assert {image.file_name for image in coco.images} == {image for image, at in splits.items() if at == split}
        links = sorted(path for path in (converted / f"data/yolo/images/{split}").rglob("*.jpg"))
        labels = sorted(path for path in (converted / f"data/yolo/labels/{split}").rglob("*.txt"))
        assert [link.relative_to(converted / "data/yolo/images").with_suffix("") for link in links] == [
            label.relative_to(converted / "data/yolo/labels").with_suffix("") for label in labels
        ]
        assert all(link.is_symlink() and link.exists() for link in links)
        lines = sum(len(label.read_text().splitlines()) for label in labels)
        assert lines == len(coco.annotations)


def test_what_the_test_split_can_decide_is_said_and_kept(converted: Path) -> None:
    done = run_stage(converted, "split")
    said = "the test split has 6 images; below 20 the gate decides nothing by figures"
    assert f"split: comparing models: {said}" in done.stdout + done.stderr
    report = json.loads((converted / "reports/split/report.json").read_text())
    assert report["power"] == {"unit": "image", "units": 6, "decides": {}, "text": said}
    assert said in (converted / "reports/split/report.html").read_text()
    set_params(converted, **{"split.train": 0.8, "split.val": 0.2, "split.test": 0, "split.reset": True})
    assert "comparing models" not in run_stage(converted, "split").stdout
    assert json.loads((converted / "reports/split/report.json").read_text())["power"] is None


def test_groups_are_what_is_counted_where_the_test_split_has_some() -> None:
    lines = [ManifestLine(f"raw/{n}.jpg", str(n), "test" if n < 50 else "train") for n in range(200)]
    alone = tell_power(lines)
    assert alone == find_power(50, "image")
    assert alone is not None
    assert "50 images decide margins of 0.12" in alone.text
    grouped = [msgspec.structs.replace(line, group=str(n // 2)) for n, line in enumerate(lines)]
    assert tell_power(grouped) == find_power(25, "group")
    assert tell_power([line for line in lines if line.split == "train"]) is None


def test_yolos_own_loader_takes_every_object(converted: Path) -> None:
    run_split(converted)
    from ultralytics.data.utils import verify_image_label

    held = 0
    for link in sorted((converted / "data/yolo/images").rglob("*.jpg")):
        label = Path(str(link).replace("/images/", "/labels/")).with_suffix(".txt")
        result = verify_image_label((str(link), str(label), "", True, 1, 13, 3, False))
        assert not result[-1], result[-1]
        held += len(result[1])
    coco = parse_coco((converted / "data/coco/keypoints.json").read_bytes())
    assert held == len(coco.annotations)


def test_images_keep_their_split_when_data_are_added_and_removed(converted: Path) -> None:
    before = run_split(converted)
    raw = converted / "data/raw"
    gone = sorted(before)[0]
    for path in (converted / "data" / gone, (converted / "data" / gone).with_suffix(".json")):
        path.unlink()
    source = sorted(raw.rglob("*.json"))[0]
    text = source.read_text()
    for index in range(10):
        image = raw / f"new/n{index}.jpg"
        image.parent.mkdir(exist_ok=True)
        image.write_bytes(source.with_suffix(".jpg").read_bytes() + bytes([index]) + b"\xff\xd9")
        image.with_suffix(".json").write_text(text.replace(source.with_suffix(".jpg").name, image.name))
    run_stages(converted, "convert")
    after = run_split(converted)
    assert {image: split for image, split in after.items() if image in before} == {
        image: split for image, split in before.items() if image != gone
    }
    assert len(after) == 49
    assert f"{gone}," in (converted / "data/dataset/manifest.csv").read_text()


THIRDS = {"split.train": 0.5, "split.val": 0.25, "split.test": 0.25}


def groups_of(root: Path) -> dict[str, set[str]]:
    """Return group -> splits, as the manifest has them."""
    groups: dict[str, set[str]] = {}
    for line in parse_manifest((root / "data/dataset/manifest.csv").read_text()).lines:
        groups.setdefault(line.group, set()).add(line.split)
    return groups


def test_groups_by_a_regular_expression_share_a_split(converted: Path) -> None:
    set_params(converted, **{"split.group_by": r"cow_(\d\d\d)", **THIRDS})
    run_split(converted)
    groups = groups_of(converted)
    assert len(groups) > 1
    assert all(len(splits) == 1 for splits in groups.values())


def test_groups_by_folder_share_a_split(converted: Path) -> None:
    for index, path in enumerate(sorted((converted / "data/raw").rglob("*.json"))):
        folder = converted / f"data/raw/day{index % 7}"
        folder.mkdir(exist_ok=True)
        for file in (path, path.with_suffix(".jpg")):
            file.rename(folder / file.name)
    run_stages(converted, "convert")
    set_params(converted, **{"split.group_by": "folder", **THIRDS})
    run_split(converted)
    assert set(groups_of(converted)) == {f"day{index}" for index in range(7)}
    assert all(len(splits) == 1 for splits in groups_of(converted).values())


def test_groups_by_a_column_of_a_table(converted: Path) -> None:
    names = [path.relative_to(converted / "data/raw").as_posix() for path in (converted / "data/raw").rglob("*.json")]
    table = "\n".join(["image,animal", *(f"{name},{index % 6}" for index, name in enumerate(sorted(names)))])
    (converted / "data/groups.csv").write_text(table + "\n")
    set_params(converted, **{"split.group_column": "animal", **THIRDS})
    run_split(converted)
    assert set(groups_of(converted)) == set("012345")
    assert all(len(splits) == 1 for splits in groups_of(converted).values())
    (converted / "data/groups.csv").write_text("image,animal\n")
    assert "40 images have no line" in refuse(converted)


def test_groups_that_differ_by_a_blank_or_width_are_one_and_no_image_moves(converted: Path) -> None:
    names = sorted(
        path.relative_to(converted / "data/raw").as_posix() for path in (converted / "data/raw").rglob("*.json")
    )

    def write_table(forms: list[str]) -> None:
        rows = [f"{name},{forms[index % len(forms)]}" for index, name in enumerate(names)]
        (converted / "data/groups.csv").write_text("\n".join(["image,group", *rows]) + "\n", encoding="utf-8")

    set_params(converted, **{"split.group_column": "group", **THIRDS})
    write_table(["A", "B", "C", "D", "E", "a"])
    plain = run_split(converted)
    assert "data/groups.csv: the groups 'A' and 'a' look like one" in report(converted)["warnings"][-1]
    write_table(["A", "B ", "\uff23", " D", "E\u200b", "a"])
    assert run_split(converted) == plain
    assert set(groups_of(converted)) == set("ABCDEa")
    # As a manifest was written before: a group of a blank, the images of which are gone, keeps those that come.
    manifest = converted / "data/dataset/manifest.csv"
    manifest.write_text(manifest.read_text().replace(",B,", ",B ,"))
    of_b = names[1::6]
    for name in of_b[1:]:
        (converted / "data/raw" / name).rename(converted / name.replace("/", "_"))
    run_stages(converted, "convert")
    kept = run_split(converted)
    assert kept.items() <= plain.items()
    assert set(groups_of(converted)) == set("ABCDEa")


def report(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "reports/split/report.json").read_text())
    return found


def test_a_group_that_makes_the_ratios_unreachable_is_named(converted: Path) -> None:
    names = sorted(
        path.relative_to(converted / "data/raw").as_posix() for path in (converted / "data/raw").rglob("*.json")
    )
    table = "\n".join(["image,group", *(f"{name},{'big' if index < 34 else ''}" for index, name in enumerate(names))])
    (converted / "data/groups.csv").write_text(table + "\n")
    set_params(converted, **{"split.group_column": "group"})
    done = run_stage(converted, "split")
    expected = "the ratios are not reached, train 85% instead of 70%, val 8% instead of 15%, test 8% instead of 15%:"
    assert f"{expected} the group 'big' holds 34 of 40 images (85%), in one split" in done.stdout
    assert "the group &#39;big&#39; holds 34" in (converted / "reports/split/report.html").read_text()


def add_copy(root: Path, image: str, name: str, quality: int = 60) -> None:
    """Save a picture of the raw folder once more, compressed anew, with its annotations."""
    source = root / "data" / image
    copy = root / "data/raw" / name
    Image.open(source).save(copy, quality=quality)
    text = source.with_suffix(".json").read_text()
    copy.with_suffix(".json").write_text(text.replace(source.name, copy.name))


def test_near_duplicates_join_the_split_of_what_they_look_like(converted: Path) -> None:
    before = run_split(converted)
    images = {
        split: next(image for image, at in sorted(before.items()) if at == split) for split in ("train", "val", "test")
    }
    for split, image in images.items():
        add_copy(converted, image, f"copy_{split}.jpg")
    run_stages(converted, "convert")
    after = run_split(converted)
    assert {split: after[f"raw/copy_{split}.jpg"] for split in images} == {split: split for split in images}
    assert report(converted)["kept_together"] == sorted(
        [sorted([image, f"raw/copy_{split}.jpg"]) for split, image in images.items()]
    )
    assert (converted / ".keypipe/cache/pixels.jsonl").exists()


def test_a_clone_without_the_cache_makes_the_same_split_and_only_looks_at_what_is_new(converted: Path) -> None:
    before = run_split(converted)
    add_copy(converted, sorted(before)[3], "copy.jpg")
    run_stages(converted, "convert")
    clone = converted.with_name("clone")
    shutil.copytree(converted, clone, symlinks=True)
    shutil.rmtree(clone / ".keypipe")
    shutil.rmtree(clone / "data/yolo")
    run_split(converted)
    run_split(clone)
    for name in ("data/dataset/manifest.csv", "data/dataset/annotations/train.json", "reports/split/report.json"):
        assert (clone / name).read_bytes() == (converted / name).read_bytes()
    assert len((clone / ".keypipe/cache/pixels.jsonl").read_text().splitlines()) == 1


def test_without_near_duplicates_copies_in_two_splits_are_reported_and_can_stop(converted: Path) -> None:
    images = sorted((converted / "data/raw").rglob("*.jpg"))[:8]
    copies = {
        f"raw/copy_{index}.jpg": path.relative_to(converted / "data").as_posix() for index, path in enumerate(images)
    }
    for copy, image in copies.items():
        add_copy(converted, image, copy.removeprefix("raw/"))
    run_stages(converted, "convert")
    set_params(converted, **{"split.near_duplicates": False})
    splits = run_split(converted)
    leaks = {copy for copy, image in copies.items() if splits[copy] != splits[image]}
    assert leaks  # eight images, drawn with a fixed seed
    found = report(converted)["findings"]
    assert {item["kind"] for item in found} == {"near-duplicate-across-sides"}
    assert len(found) == len(leaks)
    assert {split for item in found for split in (item["side"],)} <= {"train", "val", "test"}
    assert "Nearly the same image in two splits" in (converted / "reports/split/report.html").read_text()
    set_params(converted, **{"doctor.fail_on": "warning"})
    assert "looks like" in refuse(converted)
    set_params(converted, **{"doctor.ignore": ["near-duplicate-across-sides"]})
    run_split(converted)
    assert report(converted)["findings"] == []


def test_a_class_that_a_split_lacks_is_reported(converted: Path) -> None:
    document = json.loads((converted / "data/coco/keypoints.json").read_text())
    document["categories"].append({"id": 2, "name": "dog", "keypoints": ["nose"], "skeleton": []})
    box = {"bbox": [1, 1, 9, 9], "area": 81, "keypoints": [5, 5, 2], "num_keypoints": 1}
    document["annotations"].append({"id": 10_000, "image_id": 1, "category_id": 2, **box})
    (converted / "data/coco/keypoints.json").write_text(json.dumps(document))
    set_params(converted, **{"schema.classes.dog": {"keypoints": ["nose"]}})
    splits = run_split(converted)
    own = splits[document["images"][0]["file_name"]]
    found = [(item["kind"], item["class_name"], item["side"]) for item in report(converted)["findings"]]
    assert found == [("class-missing-on-side", "dog", split) for split in sorted({"train", "val", "test"} - {own})]


def test_a_picture_that_is_not_what_was_converted_is_refused(converted: Path) -> None:
    image = sorted((converted / "data/raw").rglob("*.jpg"))[0]
    image.write_bytes(image.read_bytes() + b"\xff\xd9")
    assert "1 images differ from what was converted, such as data/raw/" in refuse(converted)
    image.unlink()
    assert "1 images of the dataset are not there" in refuse(converted)


def test_an_image_that_touches_two_splits_is_in_none_and_both_are_named(converted: Path) -> None:
    before = run_split(converted)
    train, test = (next(image for image, at in sorted(before.items()) if at == split) for split in ("train", "test"))
    manifest = converted / "data/dataset/manifest.csv"
    lines = [
        line.replace(",train,,", ",train,g,").replace(",test,,", ",test,g,") if line.startswith((train, test)) else line
        for line in manifest.read_text().splitlines()
    ]
    manifest.write_text("\n".join(lines) + "\n")
    add_copy(converted, train, "new.jpg")
    names = sorted(
        path.relative_to(converted / "data/raw").as_posix() for path in (converted / "data/raw").rglob("*.json")
    )
    kept = {name.removeprefix("raw/").replace(".jpg", ".json") for name in (test, "raw/new.jpg")}
    table = ["image,group", *(f"{name},{'g' if name in kept else ''}" for name in names)]
    (converted / "data/groups.csv").write_text("\n".join(table) + "\n")
    set_params(converted, **{"split.group_column": "group"})
    run_stages(converted, "convert")
    after = run_split(converted)
    assert after == before
    (aside,) = report(converted)["set_aside"]
    assert aside == {"image": "raw/new.jpg", "touches": {"train": train, "test": test}}
    for split in ("train", "val", "test"):
        assert "raw/new.jpg" not in (converted / f"data/dataset/annotations/{split}.json").read_text()
    assert not list((converted / "data/yolo").rglob("new.*"))


def test_a_reset_draws_all_splits_anew_once(converted: Path) -> None:
    before = run_split(converted)
    set_params(converted, **{"seed": 7})
    assert run_split(converted) == before
    set_params(converted, **{"split.reset": True})
    after = run_split(converted)
    assert after != before
    assert (report(converted)["draw"], report(converted)["moved_by_reset"]) == (
        2,
        sum(before[image] != after[image] for image in before),
    )
    set_params(converted, **{"seed": 8})
    assert run_split(converted) == after
    assert "does nothing any more; set it back to false" in report(converted)["warnings"][0]
    set_params(converted, **{"split.reset": False})
    assert run_split(converted) == after
    assert "#draw,2,kept" in (converted / "data/dataset/manifest.csv").read_text()


def test_each_fold_is_a_dataset_that_yolo_reads(converted: Path) -> None:
    set_params(converted, **{"split.folds": 3})
    splits = run_split(converted)
    from ultralytics.data import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    seen: list[str] = []
    for fold in ("1", "2", "3"):
        folder = converted / "data/dataset/folds" / fold
        expected = {
            split: {image.file_name for image in parse_coco((folder / f"annotations/{split}.json").read_bytes()).images}
            for split in ("train", "val")
        }
        assert not expected["train"] & expected["val"]
        assert expected["train"] | expected["val"] == {image for image, split in splits.items() if split != "test"}
        seen += expected["val"]
        assert (folder / "data.yaml").read_text() == (converted / f"data/yolo/fold{fold}.yaml").read_text()
        data = check_det_dataset(str(converted / f"data/yolo/fold{fold}.yaml"), autodownload=False)
        for split, images in expected.items():
            loaded = YOLODataset(img_path=data[split], data=data, task="pose", augment=False, imgsz=96)
            links = {
                Path(file).resolve().relative_to(converted.resolve() / "data").as_posix() for file in loaded.im_files
            }
            assert links == images
            objects = parse_coco((folder / f"annotations/{split}.json").read_bytes()).annotations
            assert sum(len(label["cls"]) for label in loaded.labels) == len(objects)
    assert len(seen) == len(set(seen))
    assert len(report(converted)["folds"]) == 3
    set_params(converted, **{"split.folds": 0})
    run_split(converted)
    assert [path.name for path in (converted / "data/dataset/folds").iterdir()] == ["index.json"]
    assert not list((converted / "data/yolo").glob("fold*"))


def test_two_ways_are_just_parameters(converted: Path) -> None:
    set_params(converted, **{"split.train": 0.9, "split.val": 0.1, "split.test": 0})
    assert Counter(run_split(converted).values()) == {"train": 36, "val": 4}
    data = yaml.safe_load((converted / "data/dataset/data.yaml").read_text())
    assert "test" not in data
    assert not (converted / "data/yolo/images/test").exists()


def test_the_same_bytes_again_and_from_a_fresh_view(converted: Path) -> None:
    run_split(converted)

    def view() -> dict[str, bytes]:
        yolo = converted / "data/yolo"
        return {path.relative_to(yolo).as_posix(): path.read_bytes() for path in yolo.rglob("*") if path.is_file()}

    first = view()
    shutil.rmtree(converted / "data/yolo")
    run_split(converted)
    assert view() == first


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"split.train": 0.9}, "must add up to 1, got train 0.9, val 0.15, test 0.15 = 1.2"),
        ({"split.group_by": "("}, "not a regular expression"),
        ({"split.group_by": "^other/"}, "does not match"),
        ({"split.group_by": "folder", "split.group_column": "a"}, "give group_by or group_column, not both"),
        ({"split.group_column": "animal"}, "no column animal"),
        ({"split.folds": 1}, "expected 0, or 2 and more"),
        ({"split.folds": 99}, "99 folds need as many groups"),
        ({"split.ratio": 0.5}, "split.ratio: unknown parameter"),
        ({"train.loss_sigma": 0}, "train.loss_sigma: expected one number above 0"),
        ({"seed": "x"}, "seed: expected a whole number"),
    ],
)
def test_bad_parameters(converted: Path, params: dict[str, Any], message: str) -> None:
    set_params(converted, **params)
    assert message in refuse(converted)
    assert not (converted / "data/dataset/manifest.csv").exists()


def test_a_dataset_of_another_schema_is_refused(converted: Path) -> None:
    set_params(converted, **{"schema.classes.dog": {"keypoints": ["nose"]}})
    assert "converted with other classes or keypoints" in refuse(converted)


def test_one_more_image_leaves_the_rest_of_the_view_alone_and_an_edited_label_is_put_right(converted: Path) -> None:
    before = run_split(converted)
    labels = {path: path.read_bytes() for path in (converted / "data/yolo/labels").rglob("*.txt")}
    inodes = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in labels}
    add_copy(converted, sorted(before)[0], "0.jpg")  # the first by path: all ids change
    edited = next(path for path, text in labels.items() if text)
    edited.write_bytes(labels[edited][:-2] + b"9\n")
    run_stages(converted, "convert")
    run_split(converted)
    assert {path: path.read_bytes() for path in labels} == labels
    assert {path for path in labels if (path.stat().st_ino, path.stat().st_mtime_ns) != inodes[path]} == {edited}
    assert len(list((converted / "data/yolo/labels").rglob("*.txt"))) == len(labels) + 1


def test_memory_grows_by_little_with_every_image(tmp_path: Path) -> None:
    peaks = {n_images: peak_memory(tmp_path / str(n_images), n_images) for n_images in (500, 2500)}
    assert (peaks[2500] - peaks[500]) / 2000 < 1000  # bytes; images and objects in memory take some 8000


def peak_memory(root: Path, n_images: int) -> int:
    """Return the most bytes that split has at a time, on generated annotations whose pixels have been looked at."""
    point = {f"k{index}": Keypoint(0.1 + index, 0.1 + index) for index in range(10)}
    schema = parse_schema({"classes": {"object": {"keypoints": list(point)}}})
    objects = [Instance("object", (0.5 + index, 0.5, 20.5 + index, 20.5), point) for index in range(3)]
    images = [
        AnnotatedImage(
            f"raw/{index:06d}.jpg", (64, 48), f"{index:032x}", tuple(objects[: index % 3 + 1]), f"{index}.json"
        )
        for index in range(n_images)
    ]
    (root / "data/coco").mkdir(parents=True)
    (root / "data/coco/keypoints.json").write_bytes(format_coco(to_coco(images, schema)))
    (root / "data/raw").mkdir()
    (root / PIXELS).parent.mkdir(parents=True)
    rng = random.Random(0)
    with (root / PIXELS).open("w") as file:
        for image in images:
            (root / "data" / image.path).touch()
            file.write(json.dumps([2, {"md5": image.md5, "phash": rng.getrandbits(64), "error": ""}]) + "\n")
    del images
    tracemalloc.start()
    try:
        run(SplitParams(), DoctorParams(), 0, schema, [0.1] * 10, root)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_too_few_images(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "few", n_images=2)
    run_stages(root, "convert")
    assert "too few images to split" in refuse(root)


def test_before_convert_it_says_what_to_run(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "none", n_images=0)
    assert "run the convert stage first" in refuse(root)


def test_an_image_that_two_branches_placed_differently_is_set_aside_until_a_person_decides(converted: Path) -> None:
    before = run_split(converted)
    path = converted / "data/dataset/manifest.csv"
    text = path.read_text()
    line = next(line for line in text.splitlines() if ",train," in line)
    path.write_text(text + line.replace(",train,", ",val,") + "\n")
    image = line.partition(",")[0]
    assert run_split(converted) == {name: split for name, split in before.items() if name != image}
    assert report(converted)["set_aside"] == [{"image": image, "touches": {"train": image, "val": image}}]
    assert path.read_text().count(f"{image},") == 2
    path.write_text(text)
    assert run_split(converted) == before


def test_a_manifest_with_a_line_that_is_none_is_refused_and_stays(converted: Path) -> None:
    run_split(converted)
    path = converted / "data/dataset/manifest.csv"
    broken = path.read_text() + "<<<<<<< ours\n"
    path.write_text(broken)
    assert "manifest line 42: expected image,md5,side" in refuse(converted)
    assert path.read_text() == broken
