"""MLflow's registry over HTTP, with nothing but the standard library: this is all that keypipe's wheel knows of MLflow.

Written for MLflow 2 and 3 (``mlflow/server/handlers.py``): an alias is one question. The folder of a version lies where
``get-download-uri`` says; what is behind the server's artifact proxy (``mlflow-artifacts:``) is fetched through it, all
else through the page of the version's artifacts, which the server reads with its own rights.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from keypipe.addresses import hide_password
from keypipe.errors import ConfigError, ModelError
from keypipe.serving.following.source import (
    MAX_BYTES,
    SHA256_TAG,
    AwayError,
    ModelRef,
    NoModelError,
    NoVersionError,
    Version,
    to_version,
)

_SECONDS = 10.0  # for the registry to say something, each time that it is read from
_PIECE = 1 << 20
_API = "/api/2.0/mlflow"
_PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_NOTHING_THERE = {
    "RESOURCE_DOES_NOT_EXIST": NoModelError,
    "INVALID_PARAMETER_VALUE": NoVersionError,  # an alias that is not there
}
_VARIABLES = ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI")


def find_address(given: str | None) -> str:
    """Return the registry's address: the given one, else MLflow's own variables.

    Raises:
        ConfigError: there is none, or it is no address of a server.
    """
    address = given or next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), "")
    if not address:
        raise ConfigError("where is the registry? name its server, such as --tracking-uri http://HOST:5000")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{hide_password(address)}: no server; a registry in a file or a database is read inside the workspace"
            " alone, elsewhere through `mlflow server`, such as --tracking-uri http://HOST:5000"
        )
    return address


class MlflowRest:
    """A ``ModelSource`` over HTTP.

    Credentials are those that MLflow's own client takes: in the address, or ``MLFLOW_TRACKING_USERNAME`` and
    ``MLFLOW_TRACKING_PASSWORD``, or ``MLFLOW_TRACKING_TOKEN``. They go to the registry's own host alone.
    """

    def __init__(self, address: str) -> None:
        """Take the address of a server, ``http`` or ``https``; nothing is asked yet.

        Raises:
            ConfigError: a certificate cannot be read.
        """
        parts = urlsplit(address)
        self._host = parts.netloc.rpartition("@")[2]
        self._base = urlunsplit((parts.scheme, self._host, parts.path.rstrip("/"), "", ""))
        self._credentials = _credentials(unquote(parts.username or ""), unquote(parts.password or ""))
        self._opener = urllib.request.build_opener(_NoDetour, urllib.request.HTTPSHandler(context=_tls()))

    @property
    def address(self) -> str:
        """Where the server is."""
        return self._base

    def find(self, ref: ModelRef) -> Version:
        """Return the version that is meant now; see ``ModelSource``."""
        if ref.alias:
            answer = self._ask("registered-models/alias", {"name": ref.name, "alias": ref.alias}, ref)
        else:
            answer = self._ask("model-versions/get", {"name": ref.name, "version": ref.number}, ref)
        try:
            found = answer["model_version"]
            tags = {item["key"]: item.get("value", "") for item in found.get("tags", [])}
            return to_version(ref.name, str(found["version"]), str(found.get("status", "")), tags.get(SHA256_TAG, ""))
        except (KeyError, TypeError, AttributeError) as error:
            raise AwayError(self._base, "answers with something else than a version of a model") from error

    def download(self, version: Version, path: str, target: Path) -> None:
        """Write a file of a version's folder to ``target``; see ``ModelSource``."""
        whole = 0
        with self._open(self._locate(version, path), f"{version} has no {path}") as reply, target.open("wb") as file:
            while piece := reply.read(_PIECE):
                whole += len(piece)
                if whole > MAX_BYTES:
                    raise ModelError(f"{version}: {path} has more than {MAX_BYTES} bytes")
                file.write(piece)
            stated = reply.headers.get("Content-Length", "")
            if stated.isdecimal() and int(stated) != whole:
                raise AwayError(self._base, f"stopped after {whole} of the {stated} bytes of {path}")

    def _locate(self, version: Version, path: str) -> str:
        """Return the address of a file of a version's folder."""
        query = {"name": version.name, "version": version.number}
        answer = self._ask("model-versions/get-download-uri", query, version)
        place = urlsplit(str(answer.get("artifact_uri", "")))
        if place.scheme == "mlflow-artifacts":
            base = urlsplit(self._base)
            root = urlunsplit((base.scheme, place.netloc or base.netloc, base.path + _PROXY, "", ""))
            return f"{root}/{quote(unquote(place.path).strip('/'))}/{quote(path)}"
        if place.scheme in ("http", "https") and f"{_PROXY}/" in place.path:
            return f"{place.geturl().rstrip('/')}/{quote(path)}"
        return f"{self._base}/model-versions/get-artifact?{urlencode(query | {'path': path})}"

    def _ask(self, question: str, query: Mapping[str, str], what: object) -> dict[str, Any]:
        url = f"{self._base}{_API}/{question}?{urlencode(query)}"
        with self._open(url, "") as reply:
            content = reply.read(_PIECE)
        try:
            answer = json.loads(content)
        except ValueError as error:
            raise AwayError(self._base, "answers with something else than JSON", "is it MLflow's address?") from error
        if not isinstance(answer, dict):
            raise AwayError(self._base, f"answers with something else when asked for {what}", "is it MLflow's address?")
        return answer

    @contextmanager
    def _open(self, url: str, missing: str) -> Iterator[HTTPResponse]:
        """Ask, and turn what goes wrong, then and while the answer is read, into one line.

        Args:
            url: the address.
            missing: what it means where the server says that there is nothing; empty: what the server says of it.
        """
        request = urllib.request.Request(url)
        if self._credentials and urlsplit(url).netloc == self._host:
            request.add_unredirected_header("Authorization", self._credentials)
        try:
            with self._opener.open(request, timeout=_SECONDS) as reply:
                yield reply
        except urllib.error.HTTPError as error:
            with error:
                raise self._explain(error, missing) from error
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise AwayError(self._base, f"does not answer ({reason})", "start it, or correct --tracking-uri") from error

    def _explain(self, error: urllib.error.HTTPError, missing: str) -> Exception:
        code, said = _read_error(error)
        if error.code in (401, 403):
            advice = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            return AwayError(self._base, f"refuses ({error.code})", advice)
        if error.code in (301, 302, 303, 307, 308):
            advice = f"if that is where it is, give the address {hide_password(str(error.headers.get('Location')))}"
            return AwayError(self._base, f"sends elsewhere ({error.code})", advice)
        if code in _NOTHING_THERE and missing:
            return ModelError(missing)
        if code in _NOTHING_THERE:
            return ModelError(missing) if missing else _NOTHING_THERE[code](said)
        if error.code == 404 and not code:
            return AwayError(self._base, "has no such page (404)", "is it MLflow's address?")
        return AwayError(self._base, f"fails ({error.code}{f': {said}' if said else ''})")


class _NoDetour(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it would take the credentials to wherever it leads."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _read_error(error: urllib.error.HTTPError) -> tuple[str, str]:
    """Return MLflow's code of an error and the first line of its message; empty where it is not MLflow that speaks."""
    try:
        answer = json.loads(error.read(_PIECE))
        return str(answer["error_code"]), (str(answer.get("message", "")).splitlines() or [""])[0]
    except (ValueError, KeyError, TypeError, OSError, HTTPException):
        return "", ""


def _credentials(user: str, password: str) -> str:
    """Return the header that says who asks; empty for nobody."""
    user = user or os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    if user:
        pair = f"{user}:{password or os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    return f"Bearer {token}" if token else ""


def _tls() -> ssl.SSLContext:
    """Return how a server is known, by MLflow's variables."""
    authorities = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None
    own = os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH")
    try:
        context = ssl.create_default_context(cafile=authorities)
        if own:
            context.load_cert_chain(own)
    except OSError as error:  # which ssl.SSLError is
        raise ConfigError(f"{authorities or own}: no certificate that can be read ({error})") from error
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
