"""A prediction server over HTTP: FastAPI around one loaded model."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import os
import signal
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator
from pathlib import Path
from typing import Annotated, Any

import anyio
import msgspec
import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from jinja2 import Environment, StrictUndefined
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keypipe import __version__
from keypipe.errors import AnnotationError, ConfigError, ModelError, PoseError
from keypipe.inference.results import Thresholds
from keypipe.serving.metrics import Metrics
from keypipe.serving.model import (
    DEFAULT_MAX_MEGAPIXELS,
    MEGA,
    ModelCard,
    ServedModel,
    ServedResult,
    TooLargeError,
    open_model,
)
from keypipe.serving.queue import FullError, GoneError, WaitingLine

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_MAX_MB = 32
DEFAULT_QUEUE = 16
DEFAULT_PARALLEL = 1

_BODY_SECONDS = 30.0  # a client that sends slower than this holds a place that others want
_READ_ON_SECONDS = 5.0  # how long a refused body is read on; nginx's lingering_timeout
_GRACE_SECONDS = 60  # requests that run are given this long when the server is told to stop
_GONE = 499  # nginx's code for a client that closed the connection; nobody sees it but the metrics
_QUERY = {"conf", "iou", "max_det", "keypoint_conf"}
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src blob: data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Say = Callable[[str], None]


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


class SlowBodyError(PoseError):
    """A client has not sent its image in time."""


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


# ------------------------------------------------------------------------------------------- HTTP


def make_app(model: ServedModel, settings: Settings) -> FastAPI:
    """Build the application around a model.

    Args:
        model: the model.
        settings: limits; where to listen is none of its business.

    Returns:
        The application, with a line of waiting requests that lives as long as it does.
    """
    line = WaitingLine(settings.parallel, settings.queue)
    metrics = Metrics(line)
    card, page = model.card(), _render_page(model.card())
    max_bytes = int(settings.max_mb * MEGA)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # Starlette's parts load this when they are first used: the first client would wait for it, 75 ms on two cores.
        await anyio.sleep(0)
        yield
        line.close()

    # FastAPI's own pages of documentation fetch their scripts from the internet.
    app = FastAPI(title="keypipe", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(_ReadOn)
    app.add_middleware(_Counted, metrics=metrics)
    _answer_errors(app)

    @app.post("/predict", response_class=Response, openapi_extra=_REQUEST_BODY, responses=_ANSWERS)
    async def predict(
        request: Request,
        conf: Annotated[float | None, Query(ge=0, le=1, description="smallest score of an object")] = None,
        iou: Annotated[float | None, Query(ge=0, le=1, description="overlap of two objects of a class")] = None,
        max_det: Annotated[int | None, Query(ge=1, description="objects on an image at most")] = None,
        keypoint_conf: Annotated[
            float | None, Query(ge=0, le=1, description="for whoever draws; the answer has all keypoints")
        ] = None,
    ) -> Response:
        """Find the objects on an image, and their keypoints."""
        _refuse_unknown(request.query_params.keys())
        named = {"conf": conf, "iou": iou, "max_det": max_det, "keypoint_conf": keypoint_conf}
        given = {name: value for name, value in named.items() if value is not None}
        thresholds = msgspec.structs.replace(model.thresholds, **given)
        with line.place():
            content, file = await _read_image(request, max_bytes)

            def job(waited_s: float) -> tuple[ServedResult, bytes]:
                result = model.predict(content, file, thresholds, waited_s)
                return result, msgspec.json.encode(result)

            result, body = await line.run(job, request.is_disconnected)
        metrics.note(result)
        return Response(body, media_type="application/json")

    @app.get("/model", response_class=Response)
    async def describe() -> Response:
        """Tell which model this is, and what it finds."""
        return Response(msgspec.json.encode(card), media_type="application/json")

    @app.get("/healthz")
    async def health() -> dict[str, Any]:
        """Answer while the server can predict."""
        return {"status": "ok", "places": line.places, "taken": line.taken}

    @app.get("/metrics", response_class=Response)
    async def expose() -> Response:
        """Tell counts and times, for Prometheus."""
        return Response(metrics.format(), media_type=metrics.media_type)

    @app.get("/", response_class=Response, include_in_schema=False)
    async def show() -> Response:
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": _PAGE_POLICY})

    app.openapi = lambda: _describe_api(app)  # type: ignore[method-assign]
    return app


def _render_page(card: ModelCard) -> str:
    source = (importlib.resources.files("keypipe.serving") / "pages/serving.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(card=msgspec.to_builtins(card), version=__version__)


def _refuse_unknown(names: Collection[str]) -> None:
    unknown = sorted(set(names) - _QUERY)
    if unknown:
        raise ConfigError(f"unknown parameter {', '.join(unknown)}; known are {', '.join(sorted(_QUERY))}")


async def _read_image(request: Request, max_bytes: int) -> tuple[bytes, str]:
    """Return the bytes of the image that a request carries, and the name that it gives it, or ""."""
    body = await _read_body(request, max_bytes)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        # Whatever the header says: the bytes tell the format, and curl calls every body a form.
        return body, ""
    parser = MultiPartParser(request.headers, _once(body), max_files=1, max_fields=len(_QUERY))
    parser.spool_max_size = len(body) + 1  # the body is in memory anyway; no detour over a disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise AnnotationError(f"the form cannot be read: {error.message}") from error
    fields = [name for name, value in form.items() if not isinstance(value, UploadFile)]
    if fields:
        raise AnnotationError(f"the form's field {fields[0]} is no file; thresholds belong into the address, ?conf=0.3")
    for value in form.values():
        if isinstance(value, UploadFile):
            return await value.read(), value.filename or ""
    raise AnnotationError("no image: the form has no file; send one, under any name")


async def _read_body(request: Request, max_bytes: int) -> bytes:
    too_large = TooLargeError(f"the body has more than {max_bytes / MEGA:g} MB, the most that this server takes")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > max_bytes:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError as error:
        raise SlowBodyError(f"the image did not arrive within {_BODY_SECONDS:g} s") from error
    return b"".join(chunks)


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


# ----------------------------------------------------------------------------------------- errors

_STATUS: dict[type[PoseError], int] = {
    FullError: 503,
    SlowBodyError: 408,
    TooLargeError: 413,
    ModelError: 500,
    PoseError: 422,
}
"""Status by kind of error; the nearest base class counts."""


def _answer_errors(app: FastAPI) -> None:
    """Let every error be answered by ``{"error": message}``."""

    @app.exception_handler(PoseError)
    async def of_the_client(_request: Request, error: PoseError) -> Response:
        status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
        headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, FullError) else None
        return _error(status, str(error), headers)

    @app.exception_handler(RequestValidationError)
    async def of_a_parameter(_request: Request, error: RequestValidationError) -> Response:
        faults = [f"{item['loc'][-1]}: {item['msg']}, got {item['input']!r}" for item in error.errors()]
        return _error(422, "; ".join(faults))

    @app.exception_handler(HTTPException)
    async def of_the_address(_request: Request, error: HTTPException) -> Response:
        return _error(error.status_code, f"{error.detail}; POST /predict takes an image", error.headers)

    @app.exception_handler(ClientDisconnect)
    @app.exception_handler(GoneError)
    async def of_nobody(_request: Request, _error: Exception) -> Response:
        return Response(status_code=_GONE)

    @app.exception_handler(Exception)
    async def of_ours(_request: Request, error: Exception) -> Response:
        # Its traceback goes to the log.
        return _error(500, f"this is a bug: {type(error).__name__}")


def _error(status: int, message: str, headers: Any = None) -> Response:
    return Response(msgspec.json.encode({"error": message}), status, headers, "application/json")


# ------------------------------------------------------------------------------------- middleware


class _ReadOn:
    """Reads what a client still sends of a refused body before the answer goes out, for some seconds.

    A connection that is closed on unread data is reset, and the client loses the answer with it. uvicorn itself reads
    on only where the connection is kept, which ``urllib`` for one does not ask for.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Whoever asked first is told instead of being asked to send.
        done = (b"expect", b"100-continue") in [(name, value.lower()) for name, value in scope["headers"]]

        async def receive_noted() -> Message:
            nonlocal done
            message = await receive()
            done = message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        async def send_after(message: Message) -> None:
            if message["type"] == "http.response.start" and not done:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_READ_ON_SECONDS):
                        while not done:
                            await receive_noted()
            await send(message)

        await self._app(scope, receive_noted, send_after)


class _Counted:
    """Counts the answers to ``POST /predict`` by their status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/predict":
            await self._app(scope, receive, send)
            return
        status = 500  # of an error that nothing here answers

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            self._metrics.count(status)


# ---------------------------------------------------------------------------------------- OpenAPI

_REFERENCE = "#/components/schemas/{name}"
_SCHEMAS, _COMPONENTS = msgspec.json.schema_components([ServedResult, ModelCard], ref_template=_REFERENCE)
_BINARY = {"type": "string", "format": "binary"}
_REQUEST_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": _BINARY},
            "multipart/form-data": {"schema": {"type": "object", "properties": {"file": _BINARY}}},
        },
    }
}
_ERROR_SCHEMA = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_REFUSALS = {
    408: "the image did not arrive in time",
    413: "the body or the image is too large",
    422: "no image, a damaged one, or a parameter out of range",
    500: "the model or the server is at fault",
    503: "too many requests; Retry-After says when to come again",
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "what was found", "content": {"application/json": {"schema": _SCHEMAS[0]}}},
    **{
        status: {"description": text, "content": {"application/json": {"schema": _ERROR_SCHEMA}}}
        for status, text in _REFUSALS.items()
    },
}


def _describe_api(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    document.setdefault("components", {}).setdefault("schemas", {}).update(_COMPONENTS)
    return document
