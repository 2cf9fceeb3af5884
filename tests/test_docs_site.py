"""The docs site: whole, in both languages, and fit to be read on a wide and on a narrow screen."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.imports import ROOT
from tests.pages import forget_requests, picture, requests_beyond_loopback, text, wait_for

pytest.importorskip("sphinx", reason="needs the development environment")

from tools.docs_site import (
    BROKEN,
    SearchBigrams,
    add_contents,
    describe_package,
    describe_parameters,
    lead_links,
    list_packages,
)

FRONT = (ROOT / "docs/README.md").read_text(encoding="utf-8")
DOCS = PurePosixPath("docs")


def test_the_front_page_lists_every_page_once() -> None:
    parts = FRONT.partition("\n## ")[2]
    pages = sorted(page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md")
    assert sorted(re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", parts, flags=re.MULTILINE)) == pages


def test_headings_become_contents() -> None:
    page = "# T\n\n[a](a.md)\n\n## One\n\n- [A page](a.md): what\n- [English](../b.md)\n\n## Two\n\nno list\n"
    made = add_contents(page, {"Two": ["made/x"]})
    assert ":caption: One\n\nA page <a>\n```" in made
    assert ":caption: Two\n\nmade/x\n```" in made
    assert made.count("toctree") == 2


@pytest.mark.parametrize(
    ("page", "target", "forge", "led"),
    [
        ("docs/a.md", "runs.md#keep", "", "[x](runs.md#keep)"),
        ("docs/a.md", "../README.md", "", "[x](README.md)"),
        ("docs/a.md", "../README.md#start", "", "[x](README.md)"),
        ("docs/a.md", "../keypipe/lazy.py", "", "x"),
        ("docs/a.md", "../keypipe/lazy.py", "https://f", "[x](https://f/keypipe/lazy.py)"),
        ("docs/a.md", "zh-CN/README.md", "", '<a href="zh-CN/README.html">x</a>'),
        ("docs/a.md", "#part", "", "[x](#part)"),
        ("docs/a.md", "https://h/x.md", "", "[x](https://h/x.md)"),
    ],
)
def test_links_lead_somewhere_in_english(page: str, target: str, forge: str, led: str) -> None:
    assert lead_links(f"[x]({target})", PurePosixPath(page), DOCS, forge) == led


@pytest.mark.parametrize(
    ("target", "led"),
    [
        ("tutorial.md#a", "[x](tutorial.md#a)"),
        ("../evaluation.md#b", '<a href="../evaluation.html#b">x</a>'),
        ("../../README.zh-CN.md", "[x](README.md)"),
        ("../../README.md", '<a href="../README.html">x</a>'),
        ("../../params.yaml", "x"),
    ],
)
def test_links_lead_somewhere_in_chinese(target: str, led: str) -> None:
    assert lead_links(f"[x]({target})", DOCS / "zh-CN/a.md", DOCS / "zh-CN", "") == led


def test_every_public_name_has_its_place_and_a_docstring() -> None:
    for package in list_packages():
        made = describe_package(package)
        module = importlib.import_module(f"keypipe.{package}")
        for name in module.__all__:
            assert re.search(rf"^\.\. auto(class|function|data):: (\S+\.)?{name}$", made, flags=re.MULTILINE), name
            value = getattr(module, name)
            assert value.__doc__, f"keypipe.{package}.{name}"


def test_every_key_of_the_schema_is_told_with_its_default() -> None:
    schema = json.loads((ROOT / "docs/params.schema.json").read_text(encoding="utf-8"))
    page = describe_parameters(schema)
    for name, section in schema["properties"].items():
        part = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert part, name
        for key, about in section.get("properties", {}).items():
            (row,) = re.findall(rf"^\| `{key}` \|.*$", part, flags=re.MULTILINE)
            assert "default" not in about or json.dumps(about["default"], ensure_ascii=False) in row, f"{name}.{key}"
            assert row.split("|")[2].strip(), row


def test_chinese_lines_are_joined_without_a_blank() -> None:
    assert BROKEN.sub("", "训练、\n验证\n\n- 一\n- 二\nkeypipe\n中") == "训练、验证\n\n- 一\n- 二\nkeypipe\n中"


def test_words_of_two_characters_are_found() -> None:
    terms = SearchBigrams({}).split("keypipe 的关键点。训练")
    assert {"keypipe", "的关键点", "关键", "键点", "训练"} <= set(terms)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    sphinx = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "-c", "docs"]
    env = os.environ | {"DOCS_FORGE": "https://forge.example/keypipe/blob/main"}
    for source, more, place in (("docs", [], "site"), ("docs/zh-CN", ["-D", "language=zh_CN"], "site/zh-CN")):
        command = [*sphinx, *more, "-d", str(folder / "doctrees" / source), source, str(folder / place)]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.mark.slow
def test_every_link_within_the_site_leads_somewhere(site: Path) -> None:
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    assert len(pages) > 50
    for page, html in pages.items():
        for target, anchor in re.findall(r'<a [^>]*href="([^":#]*)(?:#([^"]*))?"', html):
            place = (page.parent / target).resolve() if target else page
            assert place.exists(), f"{page.name}: {target}"
            if anchor and place in pages:
                assert f'id="{anchor}"' in pages[place], f"{page.relative_to(site)}: {target}#{anchor}"


@pytest.mark.slow
def test_it_reads_well_in_a_browser(site: Path, browser: Any) -> None:
    forget_requests(browser)
    browser.get((site / "index.html").as_uri())
    assert "The first hour" in text(browser)
    for width_px, name in ((1300, "wide"), (400, "narrow")):
        size = {"width": width_px, "height": 900, "deviceScaleFactor": 1, "mobile": width_px < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for page in ("index", "parameters", "commands", "api/evaluation", "api/params", "zh-CN/index"):
            browser.get((site / f"{page}.html").as_uri())
            broader = browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
            assert broader <= 0, f"{page} at {width_px} px"
            picture(browser, f"docs-{name}-{page.replace('/', '-')}", width_px)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert not [url for url in requests_beyond_loopback(browser) if not url.startswith("file:")]


@pytest.mark.slow
@pytest.mark.parametrize(("place", "words"), [("", "latency"), ("zh-CN/", "标注")])
def test_the_search_finds(site: Path, browser: Any, place: str, words: str) -> None:
    browser.get((site / f"{place}search.html").as_uri() + f"?q={words}")
    found = "return document.querySelectorAll('#search-results li').length"
    wait_for(browser, lambda: browser.execute_script(found) > 0, f"results for {words}")
