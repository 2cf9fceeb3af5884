"""What the server says of its own interface."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from keypipe.serving.middleware import MODEL_HEADER
from keypipe.serving.model import (
    ModelCard,
    ServedResult,
)

_REFERENCE = "#/components/schemas/{name}"
_SCHEMAS, _COMPONENTS = msgspec.json.schema_components([ServedResult, ModelCard], ref_template=_REFERENCE)
_BINARY = {"type": "string", "format": "binary"}
REQUEST_BODY = {
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
    401: "the token is missing or wrong, where the server has one",
    408: "the image did not arrive in time",
    413: "the body or the image is too large",
    422: "no image, a damaged one, or a parameter out of range",
    500: "the model or the server is at fault",
    503: "too many requests; Retry-After says when to come again",
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "what was found",
        "headers": {MODEL_HEADER: {"description": "the version that found it", "schema": {"type": "string"}}},
        "content": {"application/json": {"schema": _SCHEMAS[0]}},
    },
    **{
        status: {"description": text, "content": {"application/json": {"schema": _ERROR_SCHEMA}}}
        for status, text in _REFUSALS.items()
    },
}


def describe_api(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of the application, with the results that it writes itself."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    document.setdefault("components", {}).setdefault("schemas", {}).update(_COMPONENTS)
    return document
