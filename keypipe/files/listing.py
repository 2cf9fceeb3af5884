"""The files below a folder, and what lies there that is no file that can be read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

NO_FILE = "neither a file nor a folder"
"""What a pipe is, or a socket."""


FOLDERS = ("a link to a folder", "a folder")
"""How what is said of folders begins."""
OUTSIDE = ("a link to a folder outside", "a link to a file outside")
"""How what is said of links that lead out of the folder begins."""


def list_files(folder: Path, *, follow: bool = False, leave: bool = True) -> list[str]:
    """List the files below a folder that can be read as sorted relative paths with forward slashes.

    Args:
        folder: the folder; hidden files and folders in it are left out.
        follow: whether to look into folders that are links.
        leave: whether links may lead out of the folder.
    """
    return look_through(folder, follow=follow, leave=leave)[0]


def look_through(folder: Path, *, follow: bool = False, leave: bool = True) -> tuple[list[str], dict[str, str]]:
    """List all that lies below a folder; hidden files and folders are left out. Below what is no folder lies nothing.

    Args:
        folder: the folder.
        follow: whether to look into folders that are links.
        leave: whether links may lead out of the folder. Whoever made a dataset may have put a link to any file of this
            machine into it, so what people got from others is read without.

    Returns:
        The files that can be read, as sorted relative paths with forward slashes; and what everything else is, by its
        path: a link to nothing, to a folder around it, out of the folder (without ``leave``) or (without ``follow``) to
        any folder, a pipe, or what there is no permission to read.
    """
    base = os.path.join(os.path.realpath(folder), "")  # noqa: PTH118
    files: list[str] = []
    others: dict[str, str] = {}
    places: list[tuple[str, frozenset[str]]] = [("", frozenset({os.path.realpath(folder)}))]
    while places:
        place, around = places.pop()
        try:
            with os.scandir(folder / place) as found:
                entries = [entry for entry in found if not entry.name.startswith(".")]
        except PermissionError:
            others[place.rstrip("/") or "."] = "a folder without permission to look into it"
            continue
        except (FileNotFoundError, NotADirectoryError):  # never there, or gone since its parent was listed
            continue
        for entry in entries:
            name = f"{place}{entry.name}"
            if Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir():  # links may lead to each other
                real = os.path.realpath(entry.path) if follow else ""
                if entry.is_symlink() and not follow:
                    others[name] = f"a link to a folder ({Path(entry.path).readlink()}), into which nothing looks"
                elif entry.is_symlink() and not leave and not f"{real}/".startswith(base):
                    others[name] = f"{OUTSIDE[0]} ({real})"
                elif real and real in around:
                    others[name] = f"a link to a folder around it ({real})"
                else:
                    places.append((f"{name}/", around | {real}))
            elif what := _tell_unreadable(entry, "" if leave else base):
                others[name] = what
            else:
                files.append(name)
    return sorted(files), dict(sorted(others.items()))


def _tell_unreadable(entry: os.DirEntry[str], base: str) -> str:
    """Say why a file cannot be read, or is not to be since it lies elsewhere than below a base; nothing if it can."""
    if not (Path(entry.path).is_file() if entry.is_symlink() else entry.is_file()):
        if entry.is_symlink():
            return f"a link to nothing ({Path(entry.path).readlink()})"
        return NO_FILE
    if base and entry.is_symlink() and not os.path.realpath(entry.path).startswith(base):
        return f"{OUTSIDE[1]} ({os.path.realpath(entry.path)})"
    return "" if os.access(entry.path, os.R_OK) else "a file without permission to read it"


def describe_others(others: Mapping[str, str]) -> str:
    """Name what cannot be read, a few of many."""
    shown = [f"{name}, {what}" for name, what in sorted(others.items())[:_N_SHOWN]]
    return "; ".join(shown) + (f"; and {len(others) - _N_SHOWN} more" if len(others) > _N_SHOWN else "")


_N_SHOWN = 5
