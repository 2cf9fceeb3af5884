"""The registry of a workspace for a server of predictions, by MLflow's own client: also where it is a database."""

from __future__ import annotations

from pathlib import Path

from keypipe.errors import ModelError, PoseError
from keypipe.serving.following.source import (
    SHA256_TAG,
    AwayError,
    ModelRef,
    NoModelError,
    NoVersionError,
    Version,
    to_version,
)
from tasks.tracking import client
from tasks.tracking.models.registry import Registry


class WorkspaceSource:
    """A ``ModelSource`` by MLflow's client."""

    def __init__(self, root: Path) -> None:
        """Take a workspace; nothing is asked yet."""
        self._root = root

    @property
    def address(self) -> str:
        """Where the workspace's registry is."""
        name = client.server_name(self._root)
        return str(self._root.resolve()) if name == client.OWN else name

    def find(self, ref: ModelRef) -> Version:
        """Return the version that is meant now; see ``ModelSource``."""
        registry = Registry(self._root, ref.name)
        try:
            if registry.untouched or registry.read_named(ref.name) is None:
                raise NoModelError(f"there is no registered model {ref.name}; `keypipe register` makes one")
            number = ref.number or registry.aliases().get(ref.alias, "")
            if not number:
                raise NoVersionError(f"no version of {ref.name} has the alias {ref.alias}")
            found = registry.find_version(number)
        except client.AwayError as error:
            reason = client.first_line(error.__cause__ or error)
            raise AwayError(f"in {client.server_name(self._root)}", f"cannot be read ({reason})") from error
        if found is None:
            raise NoModelError(f"{ref.name} has no version {number}")
        return to_version(ref.name, number, found.status, found.tags.get(SHA256_TAG, ""))

    def download(self, version: Version, path: str, target: Path) -> None:
        """Write a file of a version's folder to ``target``; see ``ModelSource``."""
        try:
            Registry(self._root, version.name).download(version.number, path, target)
        except (OSError, PoseError) as error:
            raise ModelError(f"{version}: {path} cannot be fetched ({client.first_line(error)})") from error
