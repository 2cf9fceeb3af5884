"""Follows an alias: looks where it leads, fetches what is new, tries it, and puts it into use."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from keypipe.errors import ModelError, PoseError
from keypipe.keypoints.skeleton import compare_schemas
from keypipe.serving.following.cache import Cache
from keypipe.serving.following.fetching import fetch_version, without_folder
from keypipe.serving.following.in_use import Following, InUse
from keypipe.serving.following.patience import Patience
from keypipe.serving.following.source import AwayError, ModelRef, ModelSource, NoVersionError, Version
from keypipe.serving.model import Registered, ServedModel

Open = Callable[[Path, Registered], ServedModel]
"""Opens a network's file and runs it once."""

_PATIENCE_S = 15.0  # for the thread to come to an end


def load_version(
    source: ModelSource, version: Version, ref: ModelRef, open_file: Open, cache: Cache | None = None
) -> ServedModel:
    """Fetch a version's network, open it, and try it on its input example.

    Args:
        source: the registry.
        version: what to fetch.
        ref: by what it was found.
        open_file: opens the file.
        cache: is looked into first, and keeps it.

    Returns:
        The model, which has run.

    Raises:
        ModelError: the files are not what was registered, the network cannot be used, or there is no room for it.
        AwayError: the registry does not answer.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="keypipe-model-") as folder:
            kept = cache.find(version) if cache else None
            path, example = kept or fetch_version(source, version, Path(folder))
            try:
                model = open_file(path, Registered(version.name, version.number, ref.alias))
                model.check(example)
            except PoseError as error:
                raise ModelError(f"{version}: {without_folder(error, path)}") from error
            if cache:
                cache.keep(ref, version, path, example)
    except OSError as error:
        raise ModelError(f"{version} cannot be fetched to {tempfile.gettempdir()} ({error.strerror})") from error
    return model


class Follower:
    """Keeps a server at the version that an alias names, from a thread of its own."""

    def __init__(
        self,
        source: ModelSource,
        ref: ModelRef,
        open_file: Open,
        poll_s: float,
        say: Callable[[str], None],
        cache: Cache | None = None,
    ) -> None:
        """Load the version that is meant now, or else the one that was in use here last; nothing is followed yet.

        Args:
            source: the registry.
            ref: a registered model by its alias, or one of its versions, which stays.
            open_file: opens a network's file.
            poll_s: seconds between two looks.
            say: is told of every change, in one line.
            cache: what was in use here earlier.

        Raises:
            PoseError: there is none, it cannot be used, or the registry does not answer; and nothing is kept.
        """
        self._source, self._ref, self._open, self._poll_s, self._say = source, ref, open_file, poll_s, say
        self._cache = cache
        self._version, self.in_use = self._load_first()
        self._patience = Patience(poll_s)
        self._end, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    def _load_first(self) -> tuple[Version, InUse]:
        found: Version | None = None
        try:
            found = self._source.find(self._ref)
            model = load_version(self._source, found, self._ref, self._open, self._cache)
        except PoseError as error:
            kept = self._cache.last(self._ref) if self._cache else None
            if self._cache is None or kept is None or kept.version == found or self._cache.find(kept.version) is None:
                raise
            model = load_version(self._source, kept.version, self._ref, self._open, self._cache)
            self._tell(f"{error}; {kept.version}, which was in use here last, answers from this machine's cache")
            state = Following(str(self._ref), str(found or ""), answered=time.time(), from_cache=True)
            if isinstance(error, AwayError):
                state = msgspec.structs.replace(state, wanted="", away=error.short, answered=kept.answered)
            else:
                state = msgspec.structs.replace(state, problem=str(error), failures=int(found is not None))
            return kept.version, InUse(model, state)
        return found, InUse(model, Following(str(self._ref), str(found), answered=time.time()))

    def start(self) -> None:
        """Begin to follow."""
        if self._ref.alias or self._state.from_cache:
            self._thread.start()

    def look_now(self) -> None:
        """Have the thread look at once instead of at its next time."""
        self._wake.set()

    def close(self) -> None:
        """Stop following; a version that is being tried is not put into use any more."""
        self._end.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._poll_s)
            if self._end.is_set():
                return
            self._wake.clear()
            self.look()

    def look(self) -> None:
        """Look once where the alias leads, and go there. Whatever goes wrong, the model in use goes on."""
        try:
            found = self._source.find(self._ref)
        except NoVersionError as error:
            self._note(wanted="", problem=str(error), away="", answered=time.time(), from_cache=False)
        except AwayError as error:
            self._note(away=error.short)
        except Exception as error:  # noqa: BLE001 - a thread that dies would follow nothing, and say nothing
            self._note(away=f"cannot be asked ({type(error).__name__}: {error})")
        else:
            self._note(wanted=str(found), away="", answered=time.time(), from_cache=False)
            self._go_to(found)

    def _go_to(self, found: Version) -> None:
        if found == self._version:
            self._patience.forget()
            self._note(problem="")
            return
        if not self._patience.allows(found):
            return
        try:
            model = load_version(self._source, found, self._ref, self._open, self._cache)
        except AwayError as error:
            self._note(away=error.short)
        except Exception as error:  # noqa: BLE001 - see above; a network may fail in ways that onnxruntime alone knows
            problem = str(error) if isinstance(error, PoseError) else f"{found}: {type(error).__name__}: {error}"
            self._patience.note_failure(found)
            self._note(problem=problem, failures=self._state.failures + 1)
        else:
            if not self._end.is_set():
                self._switch(found, model)

    def _switch(self, version: Version, model: ServedModel) -> None:
        before = self.in_use.model
        changes = compare_schemas(before.schema, model.schema)
        note = f"another schema than {self._version}: {'; '.join(map(str, changes))}" if changes else ""
        self.in_use.model = model
        self._tell(f"{self._ref} is {version} now, which answers from here on (before: {self._version})")
        if note:
            self._tell(f"{version} has {note}")
        self._version = version
        self._patience.forget()
        self._note(problem="", note=note, switches=self._state.switches + 1)

    @property
    def _state(self) -> Following:
        assert self.in_use.following is not None
        return self.in_use.following

    def _note(self, **changes: Any) -> None:
        before = self._state
        self.in_use.following = after = msgspec.structs.replace(before, **changes)
        goes_on = f"; {self._version} goes on"
        if bool(after.away) != bool(before.away):
            self._tell(f"the registry {after.away}{goes_on}" if after.away else "the registry answers again")
        if after.problem and after.problem != before.problem:
            self._tell(f"{after.problem}{goes_on}")

    def _tell(self, text: str) -> None:
        self._say(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}")
