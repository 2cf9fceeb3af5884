"""Annotations that are not UTF-8: the same answer in ``use``, ``doctor`` and ``convert``, and read by their name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from flows.cli import cli
from keypipe.errors import PoseError
from tasks.convert import ConvertParams, read_raw
from tasks.workspace.params import load_schema, load_section, read_params
from tests.workspace import run_stage, run_stages, set_params

LABELS = {
    "gb18030": "牛头门",
    "big5": "牛頭門",
    "shift_jis": "牛の頭",
    "cp949": "소머리",
    "cp1252": "Größe",
    "cp1251": "голова",
}


def write_labelme(folder: Path, label: str, encoding: str, n: int = 8) -> Path:
    """Write files of one object each, saved as an editor that knows nothing of UTF-8 does."""
    folder.mkdir()
    for number in range(n):
        Image.new("RGB", (100, 80), (20 * number, 60, 120)).save(folder / f"{number}.jpg")
        shapes = [
            {"label": "cow", "points": [[10, 10], [60, 60]], "shape_type": "rectangle", "group_id": 1},
            {"label": label, "points": [[20, 20 + number]], "shape_type": "point", "group_id": 1},
        ]
        document = {
            "version": "5.0",
            "shapes": shapes,
            "imagePath": f"{number}.jpg",
            "imageHeight": 80,
            "imageWidth": 100,
        }
        (folder / f"{number}.json").write_text(json.dumps(document, ensure_ascii=False), encoding=encoding)
    return folder


def keypipe(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, obj=root)


@pytest.mark.parametrize("encoding", LABELS)
def test_another_encoding_is_refused_with_its_label_and_read_by_its_name(
    empty: Path, tmp_path: Path, encoding: str
) -> None:
    label = LABELS[encoding]
    folder = write_labelme(tmp_path / "farm", label, encoding)
    for command in ("use", "doctor"):
        result = keypipe(empty, command, str(folder))
        said = f"{result.output} {result.exception}"
        assert not result.exception or isinstance(result.exception, (PoseError, SystemExit))
        assert result.exit_code
        assert label in said or command == "doctor"
    assert (empty / "data/raw").exists() is False
    assert keypipe(empty, "use", str(folder), "--encoding", encoding).exit_code == 0
    schema = load_schema(read_params(empty))
    assert schema.classes["cow"].keypoints == (label,)
    assert load_section(read_params(empty), "convert", ConvertParams).encoding
    read = read_raw(load_section(read_params(empty), "convert", ConvertParams), schema, empty)
    assert not read.faults
    assert [list(i.keypoints) for file in read.files if file.image for i in file.image.instances] == [[label]] * 8
    assert "not UTF-8" not in keypipe(empty, "doctor", "--json").output


def test_convert_and_doctor_say_the_same(empty: Path, tmp_path: Path) -> None:
    write_labelme(empty / "data/raw", LABELS["gb18030"], "gb18030")
    set_params(empty, **{"schema.classes": {"cow": {"keypoints": ["牛头门"]}}})
    said = "not UTF-8; its first label is '牛头门' (gb18030)"
    told = run_stage(empty, "convert").stderr
    assert told.count(said) == 8
    assert "-> name the right one in convert.encoding" in told
    findings = json.loads(keypipe(empty, "doctor", "--json").output)["findings"]
    assert sum(said in finding["message"] for finding in findings) == 8
    found = json.loads(keypipe(empty, "doctor", "--json", "--encoding", "gbk").output)["findings"]
    assert not any("UTF-8" in finding["message"] for finding in found)
    set_params(empty, **{"convert.encoding": "gb18030"})
    run_stages(empty, "convert")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_and_marks_are_read_without_a_word(empty: Path, tmp_path: Path, encoding: str) -> None:
    folder = write_labelme(tmp_path / "farm", "牛头", encoding)
    assert keypipe(empty, "use", str(folder)).exit_code == 0
    run_stages(empty, "convert")
    assert load_schema(read_params(empty)).classes["cow"].keypoints == ("牛头",)


def test_a_folder_of_another_tool_is_called_what_it_is(empty: Path, tmp_path: Path) -> None:
    (tmp_path / "farm").mkdir()
    (tmp_path / "farm/coco.json").write_text('{"images": [], "annotations": [], "categories": []}')
    result = keypipe(empty, "use", str(tmp_path / "farm"))
    assert "`keypipe import coco` reads it" in f"{result.output} {result.exception}"


@pytest.mark.parametrize("command", ["use", "doctor"])
def test_an_encoding_that_is_none_is_refused(empty: Path, tmp_path: Path, command: str) -> None:
    folder = write_labelme(tmp_path / "farm", "nose", "utf-8", n=1)
    result = keypipe(empty, command, str(folder), "--encoding", "gbq")
    assert "no encoding is called 'gbq'" in f"{result.output} {result.exception}"


def test_tables_and_parameters_that_a_spreadsheet_saved(empty: Path, tmp_path: Path) -> None:
    keypipe(empty, "use", str(write_labelme(tmp_path / "farm", "nose", "utf-8", n=20)))
    set_params(empty, **{"split.group_column": "animal", "split.near_duplicates": False})
    table = "image,animal\n" + "".join(f"{n}.jpg,牛头门{n}\n" for n in range(20))
    run_stages(empty, "convert")
    (empty / "data/groups.csv").write_text(table, encoding="gbk")
    told = run_stage(empty, "split").stderr
    assert "data/groups.csv: not UTF-8; its first label is '牛头门0' (gb18030)" in told
    assert "; save it as UTF-8" in told
    for encoding in ("utf-16", "utf-8-sig"):
        (empty / "data/groups.csv").write_text(table, encoding=encoding)
        run_stages(empty, "split")
        manifest = empty / "data/dataset/manifest.csv"
        manifest.write_text(manifest.read_text(encoding="utf-8"), encoding=encoding)
    run_stages(empty, "split")
    text = (empty / "params.yaml").read_text(encoding="utf-8")
    (empty / "params.yaml").write_text(text, encoding="utf-16")
    with pytest.raises(PoseError, match=r"params\.yaml: UTF-16 or no text at all; save it as UTF-8"):
        read_params(empty)  # DVC reads nothing else
    (empty / "params.yaml").write_bytes(text.encode() + "# 牛头门\n".encode("gbk"))
    with pytest.raises(PoseError, match=r"params\.yaml:\d+: not UTF-8 \(.*\); save the file as UTF-8"):
        read_params(empty)
