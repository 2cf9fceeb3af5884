"""A prediction server over HTTP: FastAPI around one loaded model."""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
from collections.abc import AsyncIterator, Callable, Collection
from typing import Annotated, Any

import anyio
import msgspec
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, StrictUndefined, Template
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from keypipe import __version__
from keypipe.errors import ConfigError, ModelError, PoseError
from keypipe.serving.following.in_use import InUse
from keypipe.serving.metrics import Metrics
from keypipe.serving.middleware import MODEL_HEADER, OPEN_TO_ALL, Counted, Guarded, ReadOn, Stamped, header_name
from keypipe.serving.model import (
    MEGA,
    ServedModel,
    ServedResult,
    TooLargeError,
)
from keypipe.serving.openapi import ANSWERS, REQUEST_BODY, describe_api
from keypipe.serving.queue import BoundedQueue, FullError, GoneError
from keypipe.serving.recording import Recorder
from keypipe.serving.settings import Settings
from keypipe.serving.shadow.shadow import Shadow
from keypipe.serving.uploads import THRESHOLDS, SlowBodyError, read_image

_OF_A_SHADOW = ("ref", "version", "problem", "compared", "dropped", "failed", "unwritten")
_GONE = 499  # nginx's code for a client that closed the connection; nobody sees it but the metrics
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src blob: data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def make_app(
    model: ServedModel | InUse,
    settings: Settings,
    token: str | Callable[[], str] = "",
    shadow: Shadow | None = None,
    recorder: Recorder | None = None,
) -> FastAPI:
    """Build the application around a model.

    Args:
        model: the model, or the place of one that may be replaced.
        settings: limits; where to listen is none of its business.
        token: what clients must know, or what tells it for each request; empty: all are answered.
        shadow: is offered what was answered.
        recorder: is offered it as well.

    Returns:
        The application, with a queue of requests that lives as long as it does.
    """
    in_use = model if isinstance(model, InUse) else InUse(model)
    queue = BoundedQueue(settings.parallel, settings.queue)
    metrics = Metrics(queue, in_use, shadow, recorder)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # Starlette's parts load this when they are first used: the first client would wait for it, 75 ms on two cores.
        await anyio.sleep(0)
        yield
        queue.close()

    # FastAPI's own pages of documentation fetch their scripts from the internet.
    app = FastAPI(title="keypipe", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Stamped, in_use=in_use)  # the innermost first
    if token:
        app.add_middleware(Guarded, token=token if callable(token) else lambda: token)
    app.add_middleware(ReadOn)
    app.add_middleware(Counted, metrics=metrics)
    _answer_errors(app)
    _answer_images(app, in_use, queue, metrics, int(settings.max_mb * MEGA), shadow, recorder)
    _answer_questions(app, in_use, queue, metrics, shadow, recorder)
    app.openapi = lambda: describe_api(app)  # type: ignore[method-assign]
    return app


def _answer_images(
    app: FastAPI,
    in_use: InUse,
    queue: BoundedQueue,
    metrics: Metrics,
    max_bytes: int,
    shadow: Shadow | None,
    recorder: Recorder | None,
) -> None:
    """Let an image be answered by what is on it."""

    @app.post("/predict", response_class=Response, openapi_extra=REQUEST_BODY, responses=ANSWERS)
    async def predict(
        request: Request,
        conf: Annotated[float | None, Query(ge=0, le=1, description="smallest score of an object")] = None,
        iou: Annotated[float | None, Query(ge=0, le=1, description="overlap of two objects of a class")] = None,
        max_det: Annotated[int | None, Query(ge=1, description="objects on an image at most")] = None,
        keypoint_conf: Annotated[
            float | None, Query(ge=0, le=1, description="for whoever draws; the answer has all keypoints")
        ] = None,
        group: Annotated[
            str, Query(max_length=200, description="what belongs together, such as a camera's day; for the log alone")
        ] = "",
    ) -> Response:
        """Find the objects on an image, and their keypoints."""
        _refuse_unknown(request.query_params.keys())
        named = {"conf": conf, "iou": iou, "max_det": max_det, "keypoint_conf": keypoint_conf}
        given = {name: value for name, value in named.items() if value is not None}
        thresholds = msgspec.structs.replace(in_use.model.thresholds, **given)
        with queue.place():
            content, file = await read_image(request, max_bytes)

            def job(waited_s: float) -> tuple[ServedModel, ServedResult, bytes]:
                model = in_use.model  # another may take its place meanwhile
                result = model.predict(content, file, thresholds, waited_s)
                return model, result, msgspec.json.encode(result)

            model, result, body = await queue.run(job, request.is_disconnected)
        metrics.note(result)
        if shadow:
            shadow.offer(content, result)
        if recorder:
            recorder.offer(model, content, result, group)
        return Response(body, headers={MODEL_HEADER: header_name(result.model.path)}, media_type="application/json")


def _answer_questions(
    app: FastAPI,
    in_use: InUse,
    queue: BoundedQueue,
    metrics: Metrics,
    shadow: Shadow | None,
    recorder: Recorder | None,
) -> None:
    """Let questions about the model and the server be answered, and show the page."""

    @app.get("/model", response_class=Response)
    async def describe() -> Response:
        """Tell which model this is, and what it finds."""
        return Response(msgspec.json.encode(in_use.model.card()), media_type="application/json")

    @app.get(OPEN_TO_ALL)
    async def health() -> dict[str, Any]:
        """Answer while the server can predict; ``behind`` says that another model than the one in use may be meant."""
        following = in_use.following
        well = following is None or following.is_well
        told: dict[str, Any] = {"status": "ok" if well else "behind", "places": queue.places, "taken": queue.taken}
        if recorder:
            told["log"] = msgspec.to_builtins(recorder.now())
        if following is None:
            return told
        told |= {"model": in_use.model.stamp.path, "registry": msgspec.to_builtins(following)}
        if shadow:
            state = shadow.now()
            told["shadow"] = {name: getattr(state, name) for name in _OF_A_SHADOW}
        return told

    @app.get("/metrics", response_class=Response)
    async def expose() -> Response:
        """Tell counts and times, for Prometheus."""
        return Response(metrics.format(), media_type=metrics.media_type)

    @app.get("/", response_class=Response, include_in_schema=False)
    async def show() -> Response:
        return Response(
            _render_page(in_use.model), media_type="text/html", headers={"Content-Security-Policy": _PAGE_POLICY}
        )


def _render_page(model: ServedModel) -> str:
    return _page().render(card=msgspec.to_builtins(model.card()), version=__version__)


@functools.cache
def _page() -> Template:
    source = (importlib.resources.files("keypipe.serving") / "pages/serving.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        source
    )


def _refuse_unknown(names: Collection[str]) -> None:
    known = THRESHOLDS | {"group"}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ConfigError(f"unknown parameter {', '.join(unknown)}; known are {', '.join(sorted(known))}")


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
