"""The command ``keypipe``: finds the workspace around the current folder and hands over to its flows."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

USER_ERROR = 2

ANYWHERE = {"predict": "keypipe.batch.command", "serve": "keypipe.serving.command"}
"""Commands that need no workspace, and the modules that run them there."""


def find_workspace(folder: Path) -> Path | None:
    """Return the nearest folder, from this one upwards, that holds ``dvc.yaml`` and ``flows/``."""
    return next((place for place in (folder, *folder.parents) if _is_workspace(place)), None)


def _is_workspace(folder: Path) -> bool:
    return (folder / "dvc.yaml").is_file() and (folder / "flows" / "cli.py").is_file()


def main() -> None:
    """Run the command line; the entry point of the console script."""
    root = find_workspace(Path.cwd())
    if root is None:
        sys.exit(_outside())
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    importlib.import_module("flows.cli").main(root)


def _outside() -> int:
    """Predict or serve with the library alone; for everything else say what is needed."""
    if "_KEYPIPE_COMPLETE" in os.environ:  # a shell asks what could be typed: a message would land in its prompt
        return 0
    module = ANYWHERE.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if module:
        return int(importlib.import_module(module).main(sys.argv[2:]))
    print(  # noqa: T201 - the program's output
        "keypipe: no workspace here; run it inside a clone of the keypipe repository (a folder with dvc.yaml);"
        f" {' and '.join(f'`keypipe {name}`' for name in ANYWHERE)} work anywhere",
        file=sys.stderr,
    )
    return USER_ERROR


if __name__ == "__main__":
    main()
