"""A prediction server over HTTP: FastAPI around one loaded model."""

from __future__ import annotations

import contextlib
import importlib.resources
from collections.abc import AsyncIterator, Collection
from typing import Annotated, Any

import anyio
import msgspec
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from keypipe import __version__
from keypipe.errors import ConfigError, ModelError, PoseError
from keypipe.serving.metrics import Metrics
from keypipe.serving.middleware import Counted, ReadOn
from keypipe.serving.model import (
    MEGA,
    ModelCard,
    ServedModel,
    ServedResult,
    TooLargeError,
)
from keypipe.serving.openapi import ANSWERS, REQUEST_BODY, describe_api
from keypipe.serving.queue import BoundedQueue, FullError, GoneError
from keypipe.serving.settings import Settings
from keypipe.serving.uploads import THRESHOLDS, SlowBodyError, read_image

_GONE = 499  # nginx's code for a client that closed the connection; nobody sees it but the metrics
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src blob: data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def make_app(model: ServedModel, settings: Settings) -> FastAPI:
    """Build the application around a model.

    Args:
        model: the model.
        settings: limits; where to listen is none of its business.

    Returns:
        The application, with a queue of requests that lives as long as it does.
    """
    queue = BoundedQueue(settings.parallel, settings.queue)
    metrics = Metrics(queue)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # Starlette's parts load this when they are first used: the first client would wait for it, 75 ms on two cores.
        await anyio.sleep(0)
        yield
        queue.close()

    # FastAPI's own pages of documentation fetch their scripts from the internet.
    app = FastAPI(title="keypipe", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(ReadOn)
    app.add_middleware(Counted, metrics=metrics)
    _answer_errors(app)
    _answer_images(app, model, queue, metrics, int(settings.max_mb * MEGA))
    _answer_questions(app, model.card(), queue, metrics)
    app.openapi = lambda: describe_api(app)  # type: ignore[method-assign]
    return app


def _answer_images(app: FastAPI, model: ServedModel, queue: BoundedQueue, metrics: Metrics, max_bytes: int) -> None:
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
    ) -> Response:
        """Find the objects on an image, and their keypoints."""
        _refuse_unknown(request.query_params.keys())
        named = {"conf": conf, "iou": iou, "max_det": max_det, "keypoint_conf": keypoint_conf}
        given = {name: value for name, value in named.items() if value is not None}
        thresholds = msgspec.structs.replace(model.thresholds, **given)
        with queue.place():
            content, file = await read_image(request, max_bytes)

            def job(waited_s: float) -> tuple[ServedResult, bytes]:
                result = model.predict(content, file, thresholds, waited_s)
                return result, msgspec.json.encode(result)

            result, body = await queue.run(job, request.is_disconnected)
        metrics.note(result)
        return Response(body, media_type="application/json")


def _answer_questions(app: FastAPI, card: ModelCard, queue: BoundedQueue, metrics: Metrics) -> None:
    """Let questions about the model and the server be answered, and show the page."""
    page = _render_page(card)

    @app.get("/model", response_class=Response)
    async def describe() -> Response:
        """Tell which model this is, and what it finds."""
        return Response(msgspec.json.encode(card), media_type="application/json")

    @app.get("/healthz")
    async def health() -> dict[str, Any]:
        """Answer while the server can predict."""
        return {"status": "ok", "places": queue.places, "taken": queue.taken}

    @app.get("/metrics", response_class=Response)
    async def expose() -> Response:
        """Tell counts and times, for Prometheus."""
        return Response(metrics.format(), media_type=metrics.media_type)

    @app.get("/", response_class=Response, include_in_schema=False)
    async def show() -> Response:
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": _PAGE_POLICY})


def _render_page(card: ModelCard) -> str:
    source = (importlib.resources.files("keypipe.serving") / "pages/serving.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(card=msgspec.to_builtins(card), version=__version__)


def _refuse_unknown(names: Collection[str]) -> None:
    unknown = sorted(set(names) - THRESHOLDS)
    if unknown:
        raise ConfigError(f"unknown parameter {', '.join(unknown)}; known are {', '.join(sorted(THRESHOLDS))}")


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
