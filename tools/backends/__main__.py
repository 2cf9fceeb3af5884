"""Start everything and keep it until Ctrl-C: ``make backends``, docs/backends.md."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from flows.system.locks import LockedError, held_lock
from keypipe.errors import PoseError
from tools.backends.stack import Backends, running_servers, running_workers

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "backends"
SETTINGS = "environment.sh"


def main() -> None:
    """Start, say how a workspace finds it, wait, and end everything."""
    parser = argparse.ArgumentParser(prog="python -m tools.backends", description=__doc__)
    parser.add_argument("workspaces", nargs="*", type=Path, help="clones that the two workers retrain; default: this")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="gets logs and settings")
    given = parser.parse_args()
    workspaces = [workspace.resolve() for workspace in given.workspaces or [ROOT]]
    workspaces = workspaces * 2 if len(workspaces) == 1 else workspaces
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = given.folder / SETTINGS
    print("starting PostgreSQL, an S3 API, MLflow, Prefect and two workers: a minute", flush=True)
    given.folder.mkdir(parents=True, exist_ok=True)
    try:
        with (
            held_lock(given.folder / "lock"),
            running_servers(given.folder) as backends,
            running_workers(backends, workspaces),
        ):
            try:
                write_settings(settings, backends.environment())
                print(describe(backends, settings), flush=True)
                signal.pause()
            finally:
                settings.unlink(missing_ok=True)
    except LockedError:
        sys.exit(f"keypipe: they run already, with their settings in {settings}; --folder names another place for more")
    except PoseError as error:
        sys.exit(f"keypipe: {error}")
    except KeyboardInterrupt:
        pass


def describe(backends: Backends, settings: Path) -> str:
    """Return what somebody needs to know who has started it."""
    shown = settings.relative_to(Path.cwd()) if settings.is_relative_to(Path.cwd()) else settings
    return "\n".join(
        [
            f"MLflow    {backends.mlflow_url}",
            f"Prefect   {backends.prefect_url.removesuffix('/api')}, work pool keypipe with two workers",
            f"S3        {backends.storage.url}, buckets artifacts and dvc",
            f"logs      {backends.logs}",
            f"in a clone: . {shlex.quote(str(shown))}",
            "            dvc remote add --default --local backends s3://dvc",
            f"            dvc remote modify --local backends endpointurl {backends.storage.url}",
            "Ctrl-C ends all of it, and nothing is kept",
        ]
    )


def write_settings(path: Path, settings: Mapping[str, str]) -> None:
    """Write what a shell reads with ``.``; only this user may read it."""
    path.touch(0o600)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
