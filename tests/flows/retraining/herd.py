"""A workspace that lives under ``keypipe schedule``: what people do to its data, and what they see of it.

Two makes: stand-ins that train in seconds, with models as good as their labels, and the demo's drawings with real
trainings.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.outcome import Outcome
from flows.retraining.record import read_outcome
from flows.services.server import RECORD, ServerRecord
from flows.system.state_files import read_record
from keypipe.demo.scene import write_demo
from tests.imports import ROOT
from tests.retrained import edit, make_retrainable, write_images
from tests.workspace import git, make_workspace, set_params


class Herd:
    """A workspace and what is done in it.

    Attributes:
        root: the workspace.
        patience_s: how long something that should happen is waited for.
    """

    def __init__(self, root: Path, n_images: int, *, real: bool, epochs: int, patience_s: float) -> None:
        self.root = root
        self.patience_s = patience_s
        self._real = real
        self._added = 0
        if real:
            make_workspace(
                root,
                n_images,
                **{
                    "train.epochs": epochs,
                    "train.imgsz": 160,
                    "train.warmup_epochs": 2,
                    "split.train": 0.3,
                    "split.val": 0.1,
                    "split.test": 0.6,
                    "retrain.changed_images": 10,
                },
            )
        else:
            make_retrainable(root, n_images)

    def set(self, **params: Any) -> None:
        """Set parameters, and commit them."""
        set_params(self.root, **params)
        git(self.root, "commit", "--quiet", "--all", "--message", "other parameters")

    def annotate(self, count: int) -> None:
        """Add newly annotated images."""
        self._added += 1
        name = f"new{self._added}"
        with self._next_raw() as folder:
            if self._real:
                write_demo(folder / name, count, seed=100 + self._added, size_wh=(160, 120))
            else:
                write_images(folder, range(count), prefix=name)

    def exchange(self, share: float) -> int:
        """Exchange left and right on a share of all labels; returns on how many images."""
        with self._next_raw() as folder:
            chosen = sorted(folder.rglob("*.json"))[:: round(1 / share)]
            for path in chosen:
                edit(path, exchange_sides)
        return len(chosen)

    @contextmanager
    def _next_raw(self) -> Iterator[Path]:
        """Yield a copy of the raw data that takes their place after the block: a run sees all of it or nothing."""
        raw, after, before = self.root / "data/raw", self.root.parent / "raw-after", self.root.parent / "raw-before"
        shutil.copytree(raw, after)
        yield after
        raw.rename(before)
        after.rename(raw)
        shutil.rmtree(before)

    # --------------------------------------------------------------------------------------------- what people see

    def outcome(self) -> Outcome | None:
        """Return what became of the last retraining."""
        return read_outcome(self.root)

    def wait(self, is_it: Callable[[Outcome], bool], what: str) -> Outcome:
        """Wait for an outcome."""
        end = time.monotonic() + self.patience_s
        while (found := self.outcome()) is None or not is_it(found):
            assert time.monotonic() < end, f"waited {self.patience_s:g} s for {what}; the last outcome is {found}"
            time.sleep(0.2)
        return found

    def keypipe(self, *arguments: str) -> str:
        """Run a command to its end."""
        done = subprocess.run(
            self._command(*arguments), cwd=self.root, env=self._env(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def scheduled(self, *when: str) -> Iterator[Path]:
        """Serve a schedule with a Prefect server of its own; yields the file with what it prints."""
        log = self.root.parent / "schedule.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                self._command("schedule", *when), cwd=self.root, env=self._env(), stdout=output, stderr=output
            )
            try:
                yield log
                assert process.poll() is None, log.read_text()
            finally:
                process.terminate()
                process.wait()

    def prefect_health(self) -> str | None:
        """Return the page that tells how the schedule's Prefect server is; None before it is up."""
        record = read_record(self.root / RECORD, ServerRecord)
        return f"{record.url}/health" if record else None

    def _command(self, *arguments: str) -> list[str]:
        code = "import sys; from pathlib import Path; from flows.cli import main; main(Path(sys.argv.pop(1)))"
        return [sys.executable, "-P", "-c", code, str(self.root), *arguments]

    def _env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
        home = self.root.parent / "prefect-home"
        return kept | {"PYTHONPATH": str(ROOT), "PATH": path, "PREFECT_HOME": str(home), "OMP_NUM_THREADS": "1"}


def exchange_sides(shapes: list[dict[str, Any]]) -> None:
    """Label every left keypoint as the right one, and the other way round."""
    for shape in shapes:
        for old, new in (("left_", "right_"), ("right_", "left_")):
            if shape["label"].startswith(old):
                shape["label"] = new + shape["label"].removeprefix(old)
                break


class Poller:
    """Asks a server again and again from a thread, and counts.

    Attributes:
        answers: how many answers were right.
        failures: what the others were.
    """

    def __init__(self, ask: Callable[[], urllib.request.Request | str | None], every_s: float = 0.5) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._ask = ask
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Poller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            if (page := self._ask()) is None:
                continue
            try:
                with urllib.request.urlopen(page, timeout=120) as reply:
                    reply.read()
                    self.answers += 1
            except OSError as error:
                self.failures.append(f"{type(error).__name__}: {error}")


def upload(url: str, image: Path) -> urllib.request.Request:
    """Return a request that has a model server look at an image."""
    mark = "----herd"
    head = (
        f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    )
    body = head.encode() + image.read_bytes() + f"\r\n--{mark}--\r\n".encode()
    return urllib.request.Request(
        f"{url}/predict", data=body, headers={"Content-Type": f"multipart/form-data; boundary={mark}"}
    )


def read_events(posts: list[Any]) -> list[tuple[str, str | None]]:
    """Return event and version of what a webhook got, in order."""
    told = [json.loads(post.body) for post in posts]
    return [(body["event"], body["model"]["version"]) for body in told]
