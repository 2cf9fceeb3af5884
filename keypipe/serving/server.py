"""A model served over HTTP until somebody stops it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from keypipe.drift.log import PredictionLog
from keypipe.errors import ConfigError
from keypipe.inference.predictor import Thresholds
from keypipe.serving.app import make_app
from keypipe.serving.following.cache import Cache
from keypipe.serving.following.follower import Follower
from keypipe.serving.following.in_use import InUse
from keypipe.serving.following.rest import MlflowRest, find_address
from keypipe.serving.following.source import ModelRef, ModelSource
from keypipe.serving.following.webhook import answer_webhooks
from keypipe.serving.model import MEGA, Registered, ServedModel, open_model
from keypipe.serving.recording import Recorder
from keypipe.serving.settings import WEBHOOK_VARIABLE, Settings, TokenFile, read_token
from keypipe.serving.shadow.journal import Journal
from keypipe.serving.shadow.shadow import Shadow

_GRACE_SECONDS = 60  # requests that run are given this long when the server is told to stop

Say = Callable[[str], None]


def serve(
    model: Path | ModelRef,
    settings: Settings,
    thresholds: Thresholds,
    device: str | None = None,
    say: Say | None = None,
    source: ModelSource | None = None,
) -> None:
    """Load a model and answer requests until SIGTERM or SIGINT; those that run are finished first.

    Args:
        model: an ONNX pose model, or a registered one, which is followed where its alias goes.
        settings: where to listen, and limits.
        thresholds: those of requests that name none.
        device: ``cpu``, ``cuda`` or ``cuda:1``; None: a GPU where this onnxruntime serves one.
        say: told the address once the server listens, and what becomes of a model that is followed.
        source: the registry; None: MLflow's server, as the settings say.

    Raises:
        ConfigError: the address cannot be listened on, or an option is wrong.
        ModelError: the model cannot be used.
        PoseError: the registry has no such model, or does not answer.
    """
    say = say or (lambda _text: None)
    token = TokenFile(settings.token_file, say) if settings.token_file else read_token(None)
    secret = read_token(settings.webhook_secret_file, WEBHOOK_VARIABLE)
    early: list[str] | None = []  # what is to be said after the address, for which others wait

    def tell(text: str) -> None:
        say(text) if early is None else early.append(text)

    def open_file(path: Path, registered: Registered | None = None) -> ServedModel:
        return open_model(path, thresholds, device, settings.max_megapixels, settings.parallel, registered)

    with contextlib.ExitStack() as stack:
        if isinstance(model, ModelRef):
            source = source or MlflowRest(find_address(settings.tracking_uri))
            cache = Cache(settings.cache, source.address, tell) if settings.cache else None
            follower = Follower(source, model, open_file, settings.poll, tell, cache)
            in_use, shadow = follower.in_use, _make_shadow(source, model, follower.in_use, settings, say)
        elif settings.shadow:
            raise ConfigError(
                f"--shadow compares registered versions, such as models:/NAME@champion; {model} is a file"
            )
        else:
            follower, shadow, in_use = None, None, InUse(open_file(model))
        listener = stack.enter_context(contextlib.closing(_listen(settings.host, settings.port)))
        stack.enter_context(_signals_that_end_nothing())
        recorder = Recorder(PredictionLog(settings.log), say) if settings.log else None
        beside = [stack.enter_context(contextlib.closing(one)) for one in (follower, shadow, recorder) if one]

        def begin() -> None:
            nonlocal early
            say(f"serving {in_use.model.stamp.path} on {_address(listener)}")  # before anything that they say
            for text in early or []:
                say(text)
            early = None
            for one in beside:
                one.start()

        app = make_app(in_use, settings, token, shadow, recorder)
        if secret and follower and isinstance(model, ModelRef) and model.alias:
            answer_webhooks(app, secret, model, follower.look_now)
        config = uvicorn.Config(
            app,
            log_level="info" if settings.access_log else "warning",
            access_log=settings.access_log,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            lifespan="on",
        )
        _Server(config, begin).run(sockets=[listener])


def _make_shadow(source: ModelSource, model: ModelRef, in_use: InUse, settings: Settings, say: Say) -> Shadow | None:
    if settings.shadow is None:
        return None
    return Shadow(
        source,
        ModelRef(model.name, alias=settings.shadow),
        in_use,
        share=settings.shadow_share,
        journal=Journal(settings.shadow_log, int(settings.shadow_mb * MEGA)),
        max_megapixels=settings.max_megapixels,
        poll_s=settings.poll,
        say=say,
    )


class _Server(uvicorn.Server):
    """A server that calls when it listens."""

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
