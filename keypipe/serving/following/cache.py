"""Versions that have answered on this machine: a server starts with the last of them while the registry is away."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from keypipe.files.atomic import replacing_file
from keypipe.serving.following.source import ModelRef, Version

_NETWORK, _EXAMPLE = "model.onnx", "example"
_YOUNG_SECONDS = 600.0


def default_folder() -> Path:
    """Return where the cache lies unless it is said otherwise: among the caches of the user."""
    caches = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(caches) if Path(caches).is_absolute() else Path.home() / ".cache") / "keypipe" / "serving"


class Kept(msgspec.Struct, frozen=True):
    """The version that was in use here last.

    Attributes:
        registry: address of its registry.
        ref: what was followed.
        version: the version.
        answered: when the registry named it, seconds since the epoch.
    """

    registry: str
    ref: str
    version: Version
    answered: float


class Cache:
    """Networks by their hash, and for each alias that was followed the version that was in use last.

    Nobody but the user may look into it: the input example of a version is an image. What fails of it fails no server.
    """

    def __init__(self, folder: Path, registry: str, say: Callable[[str], None]) -> None:
        """Take a folder, which is made when something is kept.

        Args:
            folder: where it lies.
            registry: address of the registry.
            say: gets a line where it cannot be written.
        """
        self._folder, self._registry, self._say = folder, registry, say

    def last(self, ref: ModelRef) -> Kept | None:
        """Return what was in use last for a reference; None where nothing is kept."""
        try:
            kept = msgspec.json.decode(self._record(ref).read_bytes(), type=Kept)
        except (OSError, msgspec.DecodeError):
            return None
        return kept if (kept.registry, kept.ref) == (self._registry, str(ref)) else None

    def find(self, version: Version) -> tuple[Path, bytes] | None:
        """Return the network's file and the input example of a version; None where they are not kept whole."""
        folder = self._folder / version.sha256
        try:
            with (folder / _NETWORK).open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == version.sha256
            return (folder / _NETWORK, (folder / _EXAMPLE).read_bytes()) if whole else None
        except OSError:
            return None

    def keep(self, ref: ModelRef, version: Version, network: Path, example: bytes) -> None:
        """Keep a version that answers from now on; what nothing names any more is removed."""
        folder = self._folder / version.sha256
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if network.parent != folder:
                folder.mkdir(exist_ok=True, mode=0o700)
                with replacing_file(folder / _NETWORK) as temporary:
                    shutil.copyfile(network, temporary)
                with replacing_file(folder / _EXAMPLE) as temporary:
                    temporary.write_bytes(example)
            with replacing_file(self._record(ref)) as temporary:
                temporary.write_bytes(msgspec.json.encode(Kept(self._registry, str(ref), version, time.time())))
            self._prune()
        except OSError as error:
            self._say(f"{version} is not kept for a restart while the registry is away ({error.strerror})")

    def _record(self, ref: ModelRef) -> Path:
        name = hashlib.sha256(f"{self._registry}\n{ref}".encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"

    def _prune(self) -> None:
        named = set()
        for path in self._folder.glob("*.json"):
            try:
                named.add(msgspec.json.decode(path.read_bytes(), type=Kept).version.sha256)
            except (OSError, msgspec.DecodeError):
                continue
        for folder in self._folder.glob("*/"):
            # A young one may be another server's, which is about to name it.
            if folder.name not in named and time.time() - folder.stat().st_mtime > _YOUNG_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
