"""What a run on a video leaves behind when it is killed, and how the same command finds it again."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from keypipe.errors import ConfigError
from keypipe.files.atomic import replacing_file

WORK = Path(".tracking")
"""Below the output folder; it is gone when the run is through."""

_SOURCE = "source"

Kind = TypeVar("Kind")


def begin_work(output: Path, source: str) -> None:
    """Note what an output folder is made from, so that the same command finds it again."""
    (output / WORK).mkdir(parents=True, exist_ok=True)
    (output / WORK / _SOURCE).write_text(_to_note(source), encoding="utf-8")


def end_work(output: Path) -> None:
    """Remove what a run goes on from; it is through."""
    shutil.rmtree(output / WORK, ignore_errors=True)


def is_unfinished(output: Path, source: str) -> bool:
    """Tell whether a run on this source began to fill a folder, and was not through with it."""
    note = output / WORK / _SOURCE
    return note.is_file() and note.read_text(encoding="utf-8") == _to_note(source)


def _to_note(source: str) -> str:
    return str(Path(source).resolve())


class Workbench:
    """The folder in which the results of one video grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "frames.jsonl"
        self.ids = folder / "ids.jsonl"
        self.pieces = folder / "pieces"
        self.results = folder / "results"
        self._done = folder / "done.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and hold it against other processes until the end of the block.

        Raises:
            ConfigError: another one holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                where = f"{self.folder}: another process is at this video"
                raise ConfigError(f"{where}; wait, or name another --output") from error
            yield

    def take_up(self, found_by: object, wished: object) -> None:
        """Keep what an earlier run left as far as it holds, and remove the rest.

        Args:
            found_by: what predictions follow from, such as the model; they go if it is another one than before.
            wished: what else the results follow from; they go if it is another one.
        """
        if not self._is_noted("found_by.json", found_by):
            self._clear(self.journal, self.pieces, self._done)
        if not self._is_noted("wished.json", wished):
            self._clear(self.pieces, self._done)
        self._clear(self.results)  # half-written ones
        self.results.mkdir()
        self.pieces.mkdir(exist_ok=True)

    def read_outcome(self, kind: type[Kind]) -> Kind | None:
        """Return what became of a run that was through with this video, if one was."""
        return msgspec.json.decode(self._done.read_bytes(), type=kind) if self._done.exists() else None

    def hand_over(self, output: Path, places: list[Path], outcome: object) -> None:
        """Move the results to where they belong, note what became of it, and keep nothing else.

        Args:
            output: folder of the results.
            places: relative to it; their names are those in ``results``.
            outcome: for ``read_outcome``.
        """
        for place in places:
            (output / place).parent.mkdir(parents=True, exist_ok=True)
            (self.results / place.name).replace(output / place)
        with replacing_file(self._done) as temporary:
            temporary.write_bytes(msgspec.json.encode(outcome))
        self._clear(self.journal, self.ids, self.pieces, self.results)

    def _is_noted(self, name: str, facts: object) -> bool:
        """Tell whether an earlier run noted the same; note it if not."""
        note, content = self.folder / name, msgspec.json.encode(facts)
        if note.exists() and note.read_bytes() == content:
            return True
        with replacing_file(note) as temporary:
            temporary.write_bytes(content)
        return False

    def _clear(self, *paths: Path) -> None:
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
