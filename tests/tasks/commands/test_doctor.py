from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keypipe.splits.manifest import Manifest, ManifestLine, format_manifest
from tests.conftest import point, rectangle
from tests.imports import ROOT
from tests.workspace import environment, make_workspace, run_stage, set_params

Snapshot = Callable[[Path], dict[str, tuple[bytes, int]]]
ARTIFACTS = ROOT / "tests" / "artifacts"


def doctor(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keypipe", "doctor", *arguments]
    return subprocess.run(
        command, cwd=root, env=environment(COLUMNS="200"), capture_output=True, text=True, check=False
    )


def findings(root: Path, *arguments: str) -> list[dict[str, Any]]:
    done = doctor(root, "--json", *arguments)
    assert done.returncode in {0, 2}, done.stdout + done.stderr
    printed = json.loads(done.stdout)
    assert printed == json.loads((root / "reports/doctor/report.json").read_text())
    found: list[dict[str, Any]] = printed["findings"]
    return found


def graver(found: list[dict[str, Any]]) -> list[tuple[str, str, int | None]]:
    return [(item["kind"], item["file"], item["shape"]) for item in found if item["severity"] != "info"]


def sources(root: Path) -> list[Path]:
    return [path for path in sorted((root / "data/raw").rglob("*.json")) if json.loads(path.read_text())["shapes"]]


def edit(source: Path, change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(source.read_text())
    change(document)
    source.write_text(json.dumps(document))
    return source.name


def name(root: Path, source: Path) -> str:
    return source.relative_to(root / "data/raw").as_posix()


def put_in_splits(root: Path, splits: dict[Path, str]) -> None:
    images = {path.with_suffix(".jpg"): split for path, split in splits.items()}
    lines = [
        ManifestLine(f"raw/{name(root, path)}", hashlib.md5(path.read_bytes()).hexdigest(), split)
        for path, split in images.items()
    ]
    (root / "data/dataset").mkdir(parents=True)
    (root / "data/dataset/manifest.csv").write_text(format_manifest(Manifest(tuple(lines))))


def test_sound_data_pass_and_stay_as_they_are(drawn: Path, snapshot: Snapshot) -> None:
    before = snapshot(drawn / "data/raw")
    done = doctor(drawn)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 annotation files, 1 note;" in done.stdout  # few objects
    assert snapshot(drawn / "data/raw") == before


def test_twice_gives_the_same_bytes(drawn: Path) -> None:
    edit(sources(drawn)[0], lambda document: document["shapes"].pop(1))
    findings(drawn)
    first = [(drawn / "reports/doctor" / file).read_bytes() for file in ("report.json", "report.html")]
    findings(drawn)
    assert [(drawn / "reports/doctor" / file).read_bytes() for file in ("report.json", "report.html")] == first


def test_faults_are_told_all_at_once_and_end_with_2(drawn: Path) -> None:
    broken, lost, cut, label, *_ = sources(drawn)
    broken.write_text("{")
    lost.with_suffix(".jpg").unlink()
    image = cut.with_suffix(".jpg")
    image.write_bytes(image.read_bytes()[:-900])
    edit(label, lambda document: document["shapes"][1].update(label="nosse"))
    assert sorted(graver(findings(drawn))) == sorted(
        [
            ("broken-json", name(drawn, broken), None),
            ("no-image", name(drawn, lost), None),
            ("bad-image", name(drawn, cut), None),
            ("misspelt-label", name(drawn, label), 1),
        ]
    )
    done = doctor(drawn)
    assert done.returncode == 2
    assert "broken-json" in done.stdout
    assert "reports/doctor/report.html" in done.stdout


def test_a_mirrored_copy_in_another_split(drawn: Path) -> None:
    source, other, *_ = sources(drawn)
    with Image.open(source.with_suffix(".jpg")) as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other.with_suffix(".jpg"), quality=90)
    put_in_splits(drawn, {source: "train", other: "test"})
    (found,) = [item for item in findings(drawn) if item["kind"] == "transformed-copy-across-sides"]
    assert (found["file"], found["severity"], found["side"]) == (name(drawn, other), "warning", "test")
    assert found["message"].startswith(
        f"a mirrored copy of {name(drawn, source.with_suffix('.jpg'))}, which is in train"
    )


def test_deep_images_that_a_model_would_see_as_black(drawn: Path) -> None:
    source, dark, *_ = sources(drawn)
    for path, factor in ((source, 16), (dark, 257)):
        with Image.open(path.with_suffix(".jpg")) as picture:
            values = np.asarray(picture.convert("L")).astype(np.uint16) * factor
        path.with_suffix(".jpg").unlink()
        Image.fromarray(values).save(path.with_suffix(".png"))
        edit(path, lambda document, path=path: document.update(imagePath=f"{path.stem}.png"))
    found = [item for item in findings(drawn) if item["kind"] == "narrow-range"]
    assert [(item["severity"], item["file"]) for item in found] == [("warning", name(drawn, source))]
    assert "of 256 levels of brightness, since of its 16 bits a model is given the upper 8" in found[0]["message"]
    set_params(drawn, **{"convert.depth": "scale"})
    assert not [item for item in findings(drawn) if item["kind"] == "narrow-range"]


def test_damage_that_only_the_pixels_show(drawn: Path, write_labelme: Callable[..., Path]) -> None:
    shapes = [rectangle("cow", (5, 5, 90, 90)), point("nose", 20, 20)]
    source = write_labelme("damaged.png", shapes, folder=drawn / "data/raw")
    image = source.with_suffix(".png")
    Image.effect_noise((200, 100), 60).save(image)
    content = bytearray(image.read_bytes())
    content[2000:2400] = bytes(400)
    image.write_bytes(content)
    assert ("bad-image", "damaged.json", None) in graver(findings(drawn))


def test_duplicates_in_two_splits(drawn: Path) -> None:
    first, second, *_ = sources(drawn)
    copies = [source.with_name(f"{source.stem}_again.json") for source in (first, second)]
    for source, copy in zip((first, second), copies, strict=True):
        shutil.copy(source, copy)
        edit(copy, lambda document, copy=copy: document.update(imagePath=copy.with_suffix(".jpg").name))
    shutil.copy(first.with_suffix(".jpg"), copies[0].with_suffix(".jpg"))
    Image.open(second.with_suffix(".jpg")).save(copies[1].with_suffix(".jpg"), quality=60)
    assert [(kind, file) for kind, file, _ in graver(findings(drawn))] == [("duplicate-image", name(drawn, copies[0]))]
    put_in_splits(drawn, {source: "val" if source in copies else "train" for source in [first, second, *copies]})
    found = findings(drawn)
    assert [(kind, file) for kind, file, _ in graver(found)] == [
        ("duplicate-across-sides", name(drawn, copies[0])),
        ("near-duplicate-across-sides", name(drawn, copies[1])),
    ]
    assert [item["side"] for item in found if item["kind"] == "duplicate-across-sides"] == ["val"]


def test_embedded_images_are_looked_at_too(drawn: Path) -> None:
    source = sources(drawn)[0]
    image = source.with_suffix(".jpg")
    text = base64.b64encode(image.read_bytes()).decode()
    edit(source, lambda document: document.update(imageData=text, shapes=document["shapes"][:1]))
    image.unlink()
    (found,) = [item for item in findings(drawn) if item["kind"] == "no-keypoints"]
    assert found["image"].startswith("derived/")
    assert (drawn / "reports/doctor/report.html").read_text().count('src="data:image/jpeg') == 1
    assert not (drawn / "data/derived").exists()


def test_another_folder(drawn: Path, tmp_path: Path) -> None:
    other = tmp_path / "other data"
    shutil.copytree(drawn / "data/raw", other)
    (source, *_) = sorted(other.rglob("*.json"))
    source.write_text("{")
    assert [kind for kind, _, _ in graver(findings(drawn, str(other)))] == ["broken-json"]
    page = (drawn / "reports/doctor/report.html").read_text()
    assert f"labelme &#39;{other}/" in page


@pytest.mark.parametrize(("fail_on", "code"), [("error", 0), ("warning", 2), ("never", 0)])
def test_what_stops_is_a_parameter_here_and_in_convert(drawn: Path, fail_on: str, code: int) -> None:
    source = sources(drawn)[0]
    edit(source, lambda document: document.update(shapes=document["shapes"][:1]))
    set_params(drawn, **{"doctor.fail_on": fail_on})
    assert doctor(drawn).returncode == code
    converted = run_stage(drawn, "convert")
    assert converted.returncode == code, converted.stderr
    if code:
        assert "1 warning, and doctor.fail_on is 'warning'" in converted.stderr
        assert f"{name(drawn, source)} shape 0" in converted.stderr
        assert not (drawn / "data/coco").exists()
    else:
        report = json.loads((drawn / "reports/convert/report.json").read_text())
        assert report["finding_counts"]["warning"] == {"no-keypoints": 1}
        assert "Objects without any keypoint" in (drawn / "reports/convert/report.html").read_text()


def test_errors_of_files_set_aside_do_not_stop_convert(drawn: Path) -> None:
    sources(drawn)[0].write_text("{")
    set_params(drawn, **{"convert.on_error": "quarantine"})
    assert run_stage(drawn, "convert").returncode == 0
    assert doctor(drawn).returncode == 2


def test_kinds_can_be_ignored_by_name(drawn: Path) -> None:
    edit(sources(drawn)[0], lambda document: document.update(shapes=document["shapes"][:1]))
    set_params(drawn, **{"doctor.fail_on": "warning", "doctor.ignore": ["no-keypoints"]})
    assert doctor(drawn).returncode == 0
    set_params(drawn, **{"doctor.ignore": ["no-keypoint"]})
    done = doctor(drawn)
    assert done.returncode == 2
    assert "doctor.ignore: no such kind of finding: no-keypoint (known: broken-json" in done.stderr


# ------------------------------------------------------------------------------------------- page


@pytest.fixture(scope="module")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with objects enough to compare them, and faults of several kinds."""
    root = make_workspace(tmp_path_factory.mktemp("ill") / "workspace", n_images=60, size_wh=(320, 240))
    good = sources(root)

    def swap(document: dict[str, Any]) -> None:
        partner = {"left_hind_hoof": "right_hind_hoof", "right_hind_hoof": "left_hind_hoof"}
        for shape in document["shapes"]:
            shape["label"] = partner.get(shape["label"], shape["label"])

    def move(document: dict[str, Any]) -> None:
        shape = next(shape for shape in document["shapes"] if shape["label"] == "withers")
        hoof = next(shape for shape in document["shapes"] if shape["label"] == "left_hind_hoof")
        shape["points"] = hoof["points"]

    for source, change in zip(good, (swap, swap, move, move), strict=False):
        edit(source, change)
    good[5].write_text("{")
    edit(good[6], lambda document: document["shapes"][1].update(label="nosse"))
    edit(good[7], lambda document: document.update(shapes=document["shapes"][:1]))
    images = sorted((root / "data/raw").rglob("*.jpg"))
    put_in_splits(root, {image: "train" if number % 3 else "val" for number, image in enumerate(images)})
    assert doctor(root).returncode == 2
    return root


def test_the_page_shows_every_finding(ill: Path, browser: Any) -> None:
    summary = json.loads((ill / "reports/doctor/report.json").read_text())
    kinds = {item["kind"] for item in summary["findings"]}
    assert {"broken-json", "left-right-swap", "keypoint-outlier", "misspelt-label", "no-keypoints"} <= kinds
    browser.set_window_size(1180, 1600)
    browser.get((ill / "reports/doctor/report.html").as_uri())
    assert browser.get_log("browser") == []
    count = {
        selector: len(browser.find_elements("css selector", selector))
        for selector in (".card", ".card img", ".group", ".scatters svg", ".figures li")
    }
    with_image = sum(bool(item["image"]) for item in summary["findings"])
    groups = {(item["severity"], item["kind"]) for item in summary["findings"]}
    assert count == {
        ".card": len(summary["findings"]),
        ".card img": with_image,
        ".group": len(groups),
        ".scatters svg": 13,
        ".figures li": 5,
    }
    widths = "return [...document.querySelectorAll('.card img')].map(i => Math.max(i.naturalWidth, i.naturalHeight))"
    browser.execute_script("document.querySelectorAll('.card img').forEach(i => { i.loading = 'eager'; })")
    assert all(
        0 < width <= 240
        for width in browser.execute_async_script(
            "const done = arguments[0]; Promise.all([...document.querySelectorAll('.card img')].map(i => i.decode()))"
            f".then(() => done((() => {{ {widths} }})()))"
        )
    )
    commands = [item.get_attribute("textContent") for item in browser.find_elements("css selector", ".card code")]
    assert f"labelme data/raw/{file_of(summary, 'broken-json')}" in commands
    ARTIFACTS.mkdir(exist_ok=True)
    browser.save_screenshot(str(ARTIFACTS / "doctor.png"))


def file_of(summary: dict[str, Any], kind: str) -> str:
    return str(next(item["file"] for item in summary["findings"] if item["kind"] == kind))


def test_the_page_is_filtered_by_kind_class_and_split(ill: Path, browser: Any) -> None:
    from selenium.webdriver.support.select import Select

    summary = json.loads((ill / "reports/doctor/report.json").read_text())
    page = (ill / "reports/doctor/report.html").as_uri()
    for key, value in (("kind", "left-right-swap"), ("split", "val"), ("class_name", "cow"), ("severity", "error")):
        browser.get("about:blank")
        browser.get(f"{page}#{key}={value}")
        recorded = {"split": "side"}.get(key, key)  # the file keeps the key that it has always had
        expected = sum(item[recorded] == value for item in summary["findings"])
        shown = sum(card.is_displayed() for card in browser.find_elements("css selector", ".card"))
        options = browser.find_elements("css selector", f"select[name={key}]")
        assert shown == (expected if options else len(summary["findings"])), key
    browser.get(page)
    Select(browser.find_element("css selector", "select[name=kind]")).select_by_value("keypoint-outlier")
    assert browser.get_log("browser") == []
    browser.save_screenshot(str(ARTIFACTS / "doctor-outliers.png"))


def test_the_page_stays_small(ill: Path) -> None:
    assert (ill / "reports/doctor/report.html").stat().st_size < 1_000_000
