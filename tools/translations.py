"""Say which parts of the Chinese pages are behind the English ones, and mark them for their readers.

``python tools/translations.py`` compares every section of an English page with what it was when the Chinese one was
written. A section that has changed since gets a line in Chinese that says so; one that is up to date loses it.
``python tools/translations.py --done PAGE…`` is told that the Chinese of these pages says what the English says now.
A test holds that every section is up to date or marked.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHINESE = ROOT / "docs/zh-CN"
RECORD = CHINESE / "translated.txt"
"""A line for each section whose English was translated: its page and its digest. Git merges it as a set of lines."""
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"\n> \*\*本节落后于英文版\*\*[^\n]*\n")


def find_pairs() -> dict[Path, Path]:
    """Return English page -> Chinese page."""
    pages = sorted(CHINESE.glob("*.md"))
    return {ROOT / "README.md": ROOT / "README.zh-CN.md"} | {ROOT / "docs" / page.name: page for page in pages}


def split_sections(text: str) -> list[str]:
    """Return a page's sections, each with its heading of the second level; the first is what stands before them."""
    hidden = FENCE.sub(lambda match: re.sub(r"^## ", "#- ", match[0], flags=re.MULTILINE), text)
    starts = [0, *(match.start() for match in re.finditer(r"^## ", hidden, flags=re.MULTILINE)), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(starts)]


def digest(section: str) -> str:
    """Return what tells a section from a later one; line breaks do not count."""
    return hashlib.sha256(" ".join(section.split()).encode()).hexdigest()[:12]


def find_behind(english: str, chinese: str, known: set[str]) -> list[int]:
    """Return the sections of the Chinese page, by number, whose English has changed since.

    Args:
        english: the page, Markdown.
        chinese: the same.
        known: digests of English sections that were translated.
    """
    now = [digest(section) for section in split_sections(english)]
    count = len(split_sections(chinese))
    if len(now) != count:  # sections came or went: what stands where cannot be told
        return list(range(count))
    return [index for index in range(count) if now[index] not in known]


def mark(chinese: str, behind: list[int], english_page: str) -> str:
    """Return the Chinese page with a line below the heading of each section that is behind, and of no other."""
    line = f"> **本节落后于英文版**，内容请以[英文版]({english_page})为准。"
    sections = split_sections(MARK.sub("", chinese))
    for index in behind:
        heading, _, rest = sections[index].partition("\n")
        sections[index] = f"{heading}\n\n{line}\n{rest}"
    return "".join(sections)


def read_record() -> dict[str, set[str]]:
    """Return page -> digests of its sections."""
    record: dict[str, set[str]] = {}
    for line in RECORD.read_text(encoding="utf-8").splitlines():
        page, known = line.split()
        record.setdefault(page, set()).add(known)
    return record


def name_of(page: Path) -> str:
    """Return a page's place in the repository."""
    return page.relative_to(ROOT).as_posix()


def main(done: list[str]) -> str:
    """Mark all pages and return what is behind, for people."""
    record = read_record()
    told = []
    for english, chinese in find_pairs().items():
        text = english.read_text(encoding="utf-8")
        if name_of(english) in done:
            record[name_of(english)] = {digest(section) for section in split_sections(text)}
        translated = chinese.read_text(encoding="utf-8")
        behind = find_behind(text, translated, record.get(name_of(english), set()))
        relative = "../" * (len(chinese.relative_to(ROOT).parts) - 1) + name_of(english)
        relative = relative.replace("../../docs/", "../")
        chinese.write_text(mark(translated, behind, relative), encoding="utf-8")
        headings = [section.partition("\n")[0] for section in split_sections(MARK.sub("", translated))]
        told += [f"{name_of(chinese)}: {headings[index]}" for index in behind]
    lines = sorted(f"{page} {known}\n" for page, digests in record.items() for known in digests)
    RECORD.write_text("".join(lines), encoding="utf-8")
    return "\n".join(told)


if __name__ == "__main__":
    print(main(sys.argv[2:] if sys.argv[1:2] == ["--done"] else []) or "nothing is behind")  # noqa: T201
