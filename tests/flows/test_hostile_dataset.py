"""A dataset whose names are programs for shells, pages and parsers: all runs to its end, and nothing of it runs."""

from __future__ import annotations

import ast
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from keypipe.demo.scene import write_demo
from tests.flows.test_odd_places import ONE_EPOCH, keypipe
from tests.served import serving
from tests.workspace import make_workspace

LABELS = {
    "cow": "</script><script>window.hacked = 1</script>",
    "nose": "<img src=x onerror='window.hacked = 1'>",
    "left_ear": "a\"b' onmouseover=window.hacked=1 {{ 7 * 7 }} {% raw %}",
    "right_ear": "$(touch hacked); `touch hacked` | & > hacked",
    "withers": "!!python/object/apply:os.system ['touch hacked']",
    "tail_base": "$\\frac{1$ \\u0000 %00 $$",
}
"""What the demo's labels are called instead."""
FILES = [
    "<svg onload=window.hacked=1>",
    "<img src=x onerror=window.hacked=1>",
    "\"'><b onclick=window.hacked=1>",
    "$(touch hacked)",
    "`touch hacked`;touch hacked",
    "-rf --force",
    "*?[a-z]{x}",
    "%s %n {0} {{x}} ${HOME}",
    "javascript:window.hacked=1",
    "[click](javascript:window.hacked=1)",
    '=HYPERLINK("http:x")',
    "奶牛 \u202egnp.exe",
    "two\nlines",
    "a\ttab\x1b[31m red",
]
SWAPPED = FILES[:2]
"""Files whose left and right are exchanged, so that the doctor shows them."""


def write_hostile(folder: Path) -> None:
    """Draw the demo, and give its labels and files names that are programs."""
    drawn = write_demo(folder.with_name("drawn"), len(FILES), seed=1, size_wh=(160, 120))
    folder.mkdir()
    for image, name in zip(sorted(drawn), FILES, strict=True):
        document = json.loads(image.with_suffix(".json").read_text())
        document["imagePath"] = f"{name}{image.suffix}"
        for shape in document["shapes"]:
            shape["label"] = LABELS.get(shape["label"], shape["label"])
            shape["description"] = LABELS["cow"]
        if name in SWAPPED:
            document["shapes"] += document["shapes"][-1:]
        image.rename(folder / document["imagePath"])
        (folder / f"{name}.json").write_text(json.dumps(document))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that took such a dataset, was told its faults, and ran to its end without what is wrong."""
    folder = tmp_path_factory.mktemp("hostile")
    write_hostile(folder / "own")
    root = make_workspace(folder / "workspace", 0, **ONE_EPOCH | {"convert.on_error": "quarantine"})
    used = keypipe(root, "use", str(folder / "own"))
    assert used.returncode == 0, used.stdout + used.stderr
    for command in (["run"], ["doctor"], ["guide"]):
        done = keypipe(root, *command)
        assert done.returncode in {0, 2} if command == ["doctor"] else not done.returncode, done.stdout + done.stderr
        assert not set("\x1b\u202e") & set(done.stdout + done.stderr), done.stdout + done.stderr
    return root


def pages_of(root: Path) -> list[Path]:
    return sorted((root / "reports").rglob("*.html"))


@pytest.mark.timeout(1800)
def test_no_name_was_run_by_a_shell_or_a_parser(hostile: Path) -> None:
    assert not [path for path in hostile.parent.rglob("hacked*") if path.name not in FILES]
    assert {path.parent.name for path in pages_of(hostile)} >= {"convert", "split", "validate", "export", "doctor"}
    with sqlite3.connect(hostile / "mlflow.db") as database:
        params = dict(database.execute("SELECT key, value FROM params"))
    assert params["train.epochs"] == "1"
    (keypoints,) = [value for key, value in params.items() if key.endswith("script_.keypoints")]
    assert LABELS["nose"] in ast.literal_eval(keypoints)


@pytest.mark.timeout(1800)
def test_no_page_runs_a_script_of_the_dataset(hostile: Path, browser: Any, tmp_path: Path) -> None:
    shown = ""
    for page in pages_of(hostile):
        browser.get(page.as_uri())
        shown += look(browser)
    for name in [*LABELS.values(), *FILES[:3]]:
        assert " ".join(name.split()) in " ".join(shown.split()), f"{name}: on no page, which then prove nothing"


def look(browser: Any) -> str:
    """Open all that can be opened on a page, hover over everything, and return the text; no script of others ran."""
    browser.execute_script(
        "document.querySelectorAll('details').forEach(one => one.open = true);"
        "for (const one of document.querySelectorAll('*'))"
        "  for (const kind of ['mouseover', 'mouseenter', 'focus', 'load', 'error'])"
        "    one.dispatchEvent(new Event(kind));"
    )
    assert browser.execute_script("return window.hacked") is None, browser.current_url
    foreign = browser.execute_script(
        "return [...document.querySelectorAll('*')].filter(one => [...one.attributes].some("
        "  at => at.name.startsWith('on') || /^\\s*javascript:/i.test(at.value))).map(one => one.outerHTML)"
    )
    assert not foreign, (browser.current_url, foreign)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    text: str = browser.execute_script("return document.body.textContent")
    return text


@pytest.fixture
def probe(browser: Any, tmp_path: Path) -> Any:
    """A page on which a script of others does run."""
    (tmp_path / "bad.html").write_text(f"<body>{LABELS['nose']}</body>")
    browser.get((tmp_path / "bad.html").as_uri())
    return browser


def test_a_page_that_runs_a_script_is_noticed(probe: Any) -> None:
    with pytest.raises(AssertionError):
        look(probe)
    probe.get_log("browser")


@pytest.mark.timeout(1800)
def test_the_servers_page_runs_none_either(hostile: Path, browser: Any) -> None:
    shutil.copy(hostile / "exports/model.onnx", hostile.parent / f"{FILES[1]}.onnx")
    with serving(hostile.parent, hostile.parent / f"{FILES[1]}.onnx") as server:
        browser.get(server.url)
        assert LABELS["cow"] in look(browser)
