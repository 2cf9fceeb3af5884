"""How a server is reached, and what it takes upon itself."""

from __future__ import annotations

import msgspec

from keypipe.errors import ConfigError
from keypipe.serving.model import (
    DEFAULT_MAX_MEGAPIXELS,
)

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_MAX_MB = 32
DEFAULT_QUEUE = 16
DEFAULT_PARALLEL = 1


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
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    parallel: int = DEFAULT_PARALLEL
    queue: int = DEFAULT_QUEUE
    max_mb: float = DEFAULT_MAX_MB
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
    access_log: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port should be between 0 and 65535, got {self.port}")
        for name, least in (("parallel", 1), ("queue", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} should be at least {least}, got {getattr(self, name)}")
        for name in ("max_mb", "max_megapixels"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name.replace('_', '-')} should be above 0, got {getattr(self, name):g}")
