"""How a server is reached, and what it takes upon itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from keypipe.drift.log import LogSettings
from keypipe.errors import ConfigError
from keypipe.serving.model import (
    DEFAULT_MAX_MEGAPIXELS,
)

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_MAX_MB = 32
DEFAULT_QUEUE = 16
DEFAULT_PARALLEL = 1
DEFAULT_POLL_S = 10.0
DEFAULT_SHADOW_SHARE = 0.1
DEFAULT_SHADOW_MB = 64.0
DEFAULT_SHADOW_LOG = Path("predictions/shadow.jsonl")
TOKEN_VARIABLE = "KEYPIPE_SERVE_TOKEN"
WEBHOOK_VARIABLE = "KEYPIPE_WEBHOOK_SECRET"


class Settings(msgspec.Struct, frozen=True):
    """How a server is reached and what it takes upon itself.

    Attributes:
        host: address to listen on; the default is reached from this machine alone.
        port: 0 takes any free one.
        parallel: images that are predicted at the same time.
        queue: requests that wait at most; the next one is told to come again.
        max_mb: largest body, megabytes.
        max_megapixels: largest image.
        access_log: write a line for every request.
        token_file: holds the token that clients must know; None: see ``read_token``.
        tracking_uri: MLflow's server, for a registered model; None: MLflow's own variables say.
        poll: seconds between two looks where the alias leads.
        webhook_secret_file: holds the secret that MLflow signs its webhooks with; None: see ``read_token``.
        cache: folder that keeps what is in use, for a restart while the registry is away; None: nothing is kept.
        shadow: alias of a version that sees some of the images as well; None: none does.
        shadow_share: of the images that it sees, 0 to 1.
        shadow_log: takes a line for each of them.
        shadow_mb: what that file and the one before it take on the disk at most.
        log: where and how much of the predictions is logged; None: nothing.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    parallel: int = DEFAULT_PARALLEL
    queue: int = DEFAULT_QUEUE
    max_mb: float = DEFAULT_MAX_MB
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
    access_log: bool = False
    token_file: Path | None = None
    tracking_uri: str | None = None
    poll: float = DEFAULT_POLL_S
    webhook_secret_file: Path | None = None
    cache: Path | None = None
    shadow: str | None = None
    shadow_share: float = DEFAULT_SHADOW_SHARE
    shadow_log: Path = DEFAULT_SHADOW_LOG
    shadow_mb: float = DEFAULT_SHADOW_MB
    log: LogSettings | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port should be between 0 and 65535, got {self.port}")
        for name, least in (("parallel", 1), ("queue", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} should be at least {least}, got {getattr(self, name)}")
        for name in ("max_mb", "max_megapixels", "poll", "shadow_mb"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name.replace('_', '-')} should be above 0, got {getattr(self, name):g}")
        if not 0 < self.shadow_share <= 1:
            raise ConfigError(f"shadow-share should be above 0 and at most 1, got {self.shadow_share:g}")


def read_token(file: Path | None, variable: str = TOKEN_VARIABLE) -> str:
    """Return the token, or another secret: what a file holds, else an environment variable; empty if there is none.

    Blanks and line ends around it do not count. A command line would show it to everybody on the machine.

    Args:
        file: the file; None: the variable.
        variable: its name.

    Raises:
        ConfigError: the file cannot be read, or what is given is empty or not of printable ASCII characters.
    """
    if file is None:
        if variable not in os.environ:
            return ""
        where, content = variable, os.environ[variable]
    else:
        where = str(file)
        try:
            content = file.read_text(encoding="ascii")
        except OSError as error:
            raise ConfigError(f"{file}: the token cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file}: a token has printable ASCII characters alone") from error
    token = content.strip()
    if not token:
        raise ConfigError(f"{where} is empty; `openssl rand -hex 32` makes a token")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError(f"{where}: a token has printable ASCII characters alone, and no blanks")
    return token


class TokenFile:
    """The token that clients must send, of a file that may be written anew while the server runs.

    A new one holds from the next request on, and the old one no more; what cannot be read or is no token is said, and
    the old one goes on.
    """

    def __init__(self, file: Path, say: Callable[[str], None]) -> None:
        """Read it.

        Raises:
            ConfigError: see ``read_token``.
        """
        self._file, self._say = file, say
        self._stamp = self._look()
        self._token = read_token(file)

    def __call__(self) -> str:
        """Return the token as it is now."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._token = read_token(self._file)
            except ConfigError as error:
                self._say(f"{error}; the token of before goes on")
            else:
                self._say(f"{self._file} has another token, which holds from here on")
        return self._token

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
