"""What a server wants to know of a registry of models, whoever keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from keypipe.errors import ConfigError, PoseError

SCHEME = "models:/"

NETWORK = "artifacts/model.onnx"
"""Path of the network in the folder of a version that keypipe has registered."""

EXAMPLE = "input_example.json"
"""Path of the input example: MLflow's split table of one encoded image."""

SHA256_TAG = "keypipe.onnx_sha256"
"""Tag of a version: the hash of its network."""

MAX_BYTES = 2**31
"""No network is larger: ONNX files are Protocol Buffers, which end at 2 GiB."""


class AwayError(PoseError):
    """The registry does not answer, or not as a registry.

    Attributes:
        short: why, without its address.
    """

    def __init__(self, where: str, short: str, advice: str = "") -> None:
        self.short = short
        super().__init__(f"the registry {where} {short}{f'; {advice}' if advice else ''}")


class NoVersionError(PoseError):
    """The registry has no such model, alias or version, or none that can be used."""


class NoModelError(NoVersionError):
    """The registry has no such model at all, or no such version of it."""


class ModelRef(msgspec.Struct, frozen=True):
    """A registered model by its alias, ``models:/NAME@ALIAS``, or one of its versions, ``models:/NAME/VERSION``.

    Attributes:
        name: of the registered model.
        alias: or empty.
        number: of the version, or empty.
    """

    name: str
    alias: str = ""
    number: str = ""

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}@{self.alias}" if self.alias else f"{SCHEME}{self.name}/{self.number}"


class Version(msgspec.Struct, frozen=True):
    """A version that may be served.

    Attributes:
        name: of the registered model.
        number: such as ``3``.
        sha256: of its network, in hexadecimal digits.
    """

    name: str
    number: str
    sha256: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}/{self.number}"


class ModelSource(Protocol):
    """A registry of models, known by its address."""

    @property
    def address(self) -> str:
        """Where it is, without a password."""
        ...

    def find(self, ref: ModelRef) -> Version:
        """Return the version that is meant now.

        Raises:
            NoVersionError: there is none, or it cannot be used.
            AwayError: the registry does not answer.
        """
        ...

    def download(self, version: Version, path: str, target: Path) -> None:
        """Write a file of a version's folder to ``target``.

        Raises:
            ModelError: the version has no such file.
            AwayError: the registry does not answer.
        """
        ...


def parse_ref(text: str) -> ModelRef | None:
    """Return the registered model that a command line names; None where it names a file.

    Raises:
        ConfigError: it begins as a registered model and goes on otherwise.
    """
    if not text.startswith(SCHEME):
        return None
    rest = text.removeprefix(SCHEME)
    name, at, alias = rest.rpartition("@")
    if not at:
        name, _, number = rest.rpartition("/")
        if name and number.isdecimal():
            return ModelRef(name, number=number)
    elif name and alias:
        return ModelRef(name, alias=alias)
    raise ConfigError(f"{text}: expected {SCHEME}NAME@ALIAS or {SCHEME}NAME/VERSION, such as {SCHEME}cows@champion")


def to_version(name: str, number: str, status: str, sha256: str) -> Version:
    """Return what a registry says of a version as one that may be served.

    Args:
        name: of the registered model.
        number: of the version.
        status: what MLflow says of it.
        sha256: its tag ``SHA256_TAG``, or empty.

    Raises:
        NoVersionError: MLflow has not finished it, or it is not keypipe's.
    """
    if status != "READY":
        raise NoVersionError(f"{SCHEME}{name}/{number} cannot be used: MLflow says {status or 'nothing of its status'}")
    if not sha256:
        raise NoVersionError(
            f"{SCHEME}{name}/{number} has no tag {SHA256_TAG}, which `keypipe register` writes; so it is not served"
        )
    return Version(name, number, sha256.lower())
