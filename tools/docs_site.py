"""What Sphinx needs to make a site of docs/, whose pages are plain Markdown that a forge shows as well.

- Contents: docs/README.md lists all pages under headings; each heading becomes a part of the site's contents.
- Links to pages of the other language and to files outside of docs/, which are not part of this build.
- Reference: a page for each package of keypipe from its docstrings, and one for params.yaml from its schema.
- Chinese: a build of its own, of docs/zh-CN/, whose search finds words of two characters.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from sphinx.application import Sphinx
from sphinx.search.zh import SearchChinese

ROOT = Path(__file__).parents[1]
FRONT = "README"
CHINESE = PurePosixPath("docs/zh-CN")
FRONT_PAGES = {
    PurePosixPath("README.md"): PurePosixPath("docs/README.md"),
    PurePosixPath("README.zh-CN.md"): CHINESE / "README.md",
}
"""What stands for the front page of the project."""
MADE = "api"
"""Folder of the pages that are made; git ignores it."""
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")
LISTED = re.compile(r"^- \[([^\]]+)\]\(([^)#:]+)\.md\)", re.MULTILINE)
BROKEN = re.compile(r"(?<=[\u3001-\u9fff\uff00-\uffef])\n(?=[\u3400-\u9fff\uff08])")
"""A line break between two Chinese characters, of which HTML would make a blank; no code has one."""
HAN = re.compile(r"[\u3400-\u9fff]+")


def add_contents(text: str, more: dict[str, list[str]]) -> str:
    """Return the front page with a hidden table of contents below each heading that lists pages.

    Args:
        text: Markdown, with headings of the second level and lists of links.
        more: for a heading, entries that are made and not listed.
    """
    parts = re.split(r"(?m)^(?=## )", text)
    for index, part in enumerate(parts[1:], start=1):
        heading = part.splitlines()[0].removeprefix("## ")
        entries = [f"{title} <{name}>" for title, name in LISTED.findall(part) if not name.startswith("../")]
        if entries := entries + more.get(heading, []):
            parts[index] = f"{part.rstrip()}\n\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n"
            parts[index] += "\n".join(entries) + "\n```\n\n"
    return "".join(parts)


def lead_links(text: str, page: PurePosixPath, source: PurePosixPath, forge: str) -> str:
    """Return a page whose links lead somewhere within the site, or to the forge.

    Args:
        text: Markdown.
        page: the page's place in the repository.
        source: the folder of the pages that are built together, in the repository.
        forge: address below which the forge shows files; empty: such links become plain text.
    """

    def lead(match: re.Match[str]) -> str:
        words, anchor = match[1], match[3] or ""
        place = PurePosixPath(os.path.normpath(page.parent / match[2]))
        if place in FRONT_PAGES:  # its headings are others
            place, anchor = FRONT_PAGES[place], ""
        relative = os.path.relpath(place, page.parent)
        if place.is_relative_to(source) and place.is_relative_to(CHINESE) == source.is_relative_to(CHINESE):
            return f"[{words}]({relative}{anchor})"
        if place.is_relative_to("docs") and place.suffix == ".md":
            return f'<a href="{relative.removesuffix(".md")}.html{anchor}">{words}</a>'
        return f"[{words}]({forge}/{place}{anchor})" if forge else words

    return LINK.sub(lead, text)


def list_packages() -> list[str]:
    """Return the packages of the library, by name."""
    return sorted(path.parent.name for path in (ROOT / "keypipe").glob("*/__init__.py"))


def describe_package(package: str) -> str:
    """Return a package's reference page, reStructuredText: its sentence, then every public name."""
    name = f"keypipe.{package}"
    offered = importlib.import_module(name).__all__
    lines = [
        name,
        "=" * len(name),
        "",
        f".. automodule:: {name}",
        "   :no-members:",
        "",
        f".. currentmodule:: {name}",
        "",
    ]
    for one in offered:
        value = getattr(importlib.import_module(name), one)
        if isinstance(value, type) or callable(value):
            lines += [f".. {'autoclass' if isinstance(value, type) else 'autofunction'}:: {one}", ""]
        else:  # its docstring stands where it is defined
            lines += [f".. autodata:: {_find_home(package, one)}.{one}", "   :no-value:", ""]
    return "\n".join(lines)


def _find_home(package: str, name: str) -> str:
    """Return the module of a package that defines a value."""
    defined = re.compile(rf"^{name}\b.*=", re.MULTILINE)
    modules = sorted((ROOT / "keypipe" / package).rglob("*.py"))
    home = next(module for module in modules if defined.search(module.read_text(encoding="utf-8")))
    return ".".join(home.relative_to(ROOT).with_suffix("").parts)


def describe_parameters(schema: dict[str, Any]) -> str:
    """Return a page of every key of params.yaml with its type, default and limits, from the JSON Schema, Markdown."""
    lines = [
        "# Every key of params.yaml",
        "",
        "Made from [params.schema.json](../params.schema.json), by which editors complete and check the file.",
        "[Parameters](../parameters.md) explains the keys.",
    ]
    for name, section in schema["properties"].items():
        lines += ["", f"## {name}", ""]
        keys = section.get("properties")
        if keys is None:
            lines += [f"{_type_of(section, schema)}. {section['description']}"]
            continue
        lines += ["| key | type | default |", "|---|---|---|"]
        for key, about in keys.items():
            default = f"`{json.dumps(about['default'], ensure_ascii=False)}`" if "default" in about else ""
            lines.append(f"| `{key}` | {_type_of(about, schema)} | {default} |".replace("||", "\\|\\|"))
    return "\n".join(lines) + "\n"


def _type_of(about: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return what a value may be, in a few words."""
    if "$ref" in about:
        return _type_of(schema["definitions"][about["$ref"].rpartition("/")[2]], schema)
    if "enum" in about or "const" in about:
        return " or ".join(
            f"`{json.dumps(value, ensure_ascii=False)}`" for value in about.get("enum", [about.get("const")])
        )
    if choices := about.get("anyOf") or about.get("oneOf") or about.get("allOf"):
        return " or ".join(dict.fromkeys(_type_of(choice, schema) for choice in choices))
    kind = about.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array" and "items" in about and isinstance(about["items"], dict):
        return f"list of {_type_of(about['items'], schema)}"
    limits = [f"{sign} {about[key]}" for key, sign in LIMITS.items() if key in about]
    return f"{kind} {', '.join(limits)}".strip()


LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


class SearchBigrams(SearchChinese):
    """Search in Chinese without a dictionary: whole runs of characters, which a part of finds, and pairs."""

    language_name = "English"  # of the stemmer: Latin words alone have stems, and no browser has a ChineseStemmer

    def split(self, input: str) -> list[str]:
        """Return a text's terms."""
        runs = HAN.findall(input)
        return super().split(input) + runs + [run[i : i + 2] for run in runs for i in range(len(run) - 1)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Join Sphinx."""
    from sphinx.search import languages

    languages["zh"] = SearchBigrams
    app.connect("builder-inited", _make_pages)
    app.connect("source-read", _read)
    app.connect("autodoc-skip-member", _skip_fields)
    app.connect("html-page-context", _name_languages)
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _source(app: Sphinx) -> PurePosixPath:
    return PurePosixPath(Path(app.srcdir).resolve().relative_to(ROOT).as_posix())


def _is_chinese(app: Sphinx) -> bool:
    return Path(app.srcdir).name == "zh-CN"


def _make_pages(app: Sphinx) -> None:
    if _is_chinese(app):
        return
    folder = Path(app.srcdir) / MADE
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for package in list_packages():
        (folder / f"{package}.rst").write_text(describe_package(package), encoding="utf-8")
    schema = json.loads((ROOT / "docs/params.schema.json").read_text(encoding="utf-8"))
    (folder / "params.md").write_text(describe_parameters(schema), encoding="utf-8")
    entries = "".join(f"   {package}\n" for package in list_packages())
    title = "The library, name by name"
    index = f"{title}\n{'=' * len(title)}\n\n.. toctree::\n\n{entries}"
    (folder / "index.rst").write_text(index, encoding="utf-8")


def _read(app: Sphinx, name: str, texts: list[str]) -> None:
    if name.startswith(f"{MADE}/"):
        return
    source = _source(app)
    forge = os.environ.get("DOCS_FORGE", "").rstrip("/")
    text = lead_links(BROKEN.sub("", texts[0]), source / f"{name}.md", source, forge)
    made = [f"{MADE}/params", f"{MADE}/index"]
    texts[0] = add_contents(text, {} if _is_chinese(app) else {"Reference": made}) if name == FRONT else text


def _skip_fields(_app: Sphinx, what: str, _name: str, value: object, *_: object) -> bool | None:
    """Leave out fields as members: the docstring of their class has told them."""
    return True if what == "class" and not callable(value) and not isinstance(value, property) else None


def _name_languages(app: Sphinx, name: str, _template: str, context: dict[str, Any], _tree: object) -> None:
    chinese, depth = _is_chinese(app), name.count("/")
    other = ROOT / ("docs" if chinese else "docs/zh-CN") / f"{name}.md"
    page = f"{name if other.exists() else FRONT}.html"
    address = "../" * depth + (f"../{page}" if chinese else f"zh-CN/{page}")
    context["languages"] = [("English", address if chinese else ""), ("简体中文", "" if chinese else address)]


def _finish(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        shutil.copy2(Path(app.outdir) / f"{FRONT}.html", Path(app.outdir) / "index.html")
