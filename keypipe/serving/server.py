"""A model served over HTTP until somebody stops it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from keypipe.errors import ConfigError
from keypipe.inference.predictor import Thresholds
from keypipe.serving.app import make_app
from keypipe.serving.model import (
    open_model,
)
from keypipe.serving.settings import Settings

_GRACE_SECONDS = 60  # requests that run are given this long when the server is told to stop

Say = Callable[[str], None]


def serve(
    model: Path, settings: Settings, thresholds: Thresholds, device: str | None = None, say: Say | None = None
) -> None:
    """Load a model and answer requests until SIGTERM or SIGINT; those that run are finished first.

    Args:
        model: an ONNX pose model.
        settings: where to listen, and limits.
        thresholds: those of requests that name none.
        device: ``cpu``, ``cuda`` or ``cuda:1``; None: a GPU where this onnxruntime serves one.
        say: told the address once the server listens.

    Raises:
        ConfigError: the address cannot be listened on.
        ModelError: the model cannot be used.
    """
    served = open_model(model, thresholds, device, settings.max_megapixels, settings.parallel)
    with contextlib.closing(_listen(settings.host, settings.port)) as listener, _signals_that_end_nothing():
        level = "info" if settings.access_log else "warning"
        config = uvicorn.Config(
            make_app(served, settings),
            log_level=level,
            access_log=settings.access_log,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            lifespan="on",
        )
        text = f"serving {served.card().model.path} on {_address(listener)}"
        _Server(config, lambda: say(text) if say else None).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that tells when it listens."""

    def __init__(self, config: uvicorn.Config, tell: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()


@contextlib.contextmanager
def _signals_that_end_nothing() -> Iterator[None]:
    """Make a served end a good one: uvicorn raises the signal again that it has already followed."""
    followed = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda _number, _frame: None) for number in followed}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        # create_server repeats the address in its message.
        of_a_name = isinstance(error, socket.gaierror) or not error.errno
        reason = error.strerror if of_a_name else os.strerror(error.errno or 0)
        raise ConfigError(f"cannot listen on {host} port {port} ({reason}); choose --host or --port") from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
