from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from keypipe.annotations.labelme import LabelmeOptions
from keypipe.keypoints.skeleton import Schema, Skeleton
from tasks.labelling import labelme_window
from tasks.labelling.labelme_window import find_labelme, prepare_window, to_config, to_search

SCHEMA = Schema({"cow": Skeleton(("nose", "tail")), "calf": Skeleton(("nose", "horn (left)"))})
IMAGES = ["a/x.jpg", "b/y (1).jpg", "奶牛.png"]
LABELLING = Path(".keypipe/labelling")

SEE = """
import sys
from pathlib import Path
try:
    from PySide6 import QtWidgets
    from labelme._app import MainWindow
except ImportError:
    from PyQt5 import QtWidgets
    from labelme.app import MainWindow
app = QtWidgets.QApplication(sys.argv[:1])
window = MainWindow(config_file=Path(sys.argv[2]), config_overrides={}, file_or_dir=sys.argv[1], output_dir=None)
docks = window._docks
print([docks.file_list.item(i).text() for i in range(docks.file_list.count())])
print([docks.flag_list.item(i).text() for i in range(docks.flag_list.count())])
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path


def test_the_search_finds_these_images_and_no_others() -> None:
    search = re.compile(to_search(IMAGES))
    for path in ("data/raw/a/x.jpg", "a/x.jpg", "data\\raw\\a\\x.jpg", "b/y (1).jpg", "data/raw/奶牛.png"):
        assert search.search(path)
    for path in ("data/raw/b/x.jpg", "data/raw/a/xx.jpg", "ba/x.jpg", "a/x.jpg.png", "b/y 1.jpg"):
        assert not search.search(path)


def test_labels_stand_in_the_schemas_order_and_once() -> None:
    config = to_config(IMAGES, SCHEMA, LabelmeOptions())
    assert config["labels"] == ["cow", "calf", "nose", "tail", "horn (left)"]
    ((pattern, flags),) = config["label_flags"].items()
    assert flags == ["occluded"]
    assert re.match(pattern, "horn (left)")
    assert not re.match(pattern, "cow")
    by_suffix = to_config(IMAGES, SCHEMA, LabelmeOptions(occluded_flag="", occluded_suffix="_occ"))
    assert "tail_occ" in by_suffix["labels"]
    assert "label_flags" not in by_suffix


def test_the_users_own_settings_stay(root: Path) -> None:
    (root / "home/.labelmerc").write_text("auto_save: false\nsort_labels: true\n")
    prepare_window(root, LABELLING, IMAGES, SCHEMA, LabelmeOptions())
    config = yaml.safe_load((root / LABELLING / "labelme.yaml").read_text())
    assert config["auto_save"] is False
    assert config["sort_labels"] is False  # the schema's order is the list's
    (root / "home/.labelmerc").write_text("[no: mapping")
    prepare_window(root, LABELLING, IMAGES, SCHEMA, LabelmeOptions())


def test_labelme_shows_the_list_and_the_flag(root: Path, labelme_files: Any) -> None:
    for name in (*IMAGES, "b/x.jpg", "c.jpg"):
        (root / "data/raw" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48)).save(root / "data/raw" / name)
    window = prepare_window(root, LABELLING, IMAGES, SCHEMA, LabelmeOptions())
    command = [sys.executable, "-c", SEE, window.command[1], window.command[3]]
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown, flags = done.stdout.splitlines()[-2:]
    assert [Path(path).name for path in yaml.safe_load(shown)] == ["x.jpg", "y (1).jpg", "奶牛.png"]
    assert yaml.safe_load(flags) == ["confirmed"]


def test_which_labelme_and_whether_there_is_a_screen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    (root / ".venv-labelme/bin").mkdir(parents=True)
    (root / ".venv-labelme/bin/labelme").touch()
    assert find_labelme(root) == root / ".venv-labelme/bin/labelme"
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform == "linux":
        assert not labelme_window.has_display()
        monkeypatch.setenv("DISPLAY", ":7")
        assert labelme_window.has_display()
