"""The tracking server that a workspace records to."""

from __future__ import annotations

import logging
import os
import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keypipe.addresses import hide_password
from keypipe.errors import ConfigError, PoseError
from tasks.workspace.places import ARTIFACTS, DATABASE

EXPERIMENT = "keypipe"
OWN = "the workspace's own database"
OWN_PAGES = "http://127.0.0.1:5000"
"""Where ``keypipe ui`` shows it, unless another program has that port."""

_VARIABLE = "MLFLOW_TRACKING_URI"
_SERVERS = ("http", "https", "databricks")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_EXAMPLES = "such as http://HOST:5000 or sqlite:////FOLDER/mlflow.db, or unset it to record in the workspace"
_TIMEOUT, _RETRIES = "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag by which MLflow's pages take an experiment for trainings of models, and not for traces of language models."""
MODEL_TRAINING = "workflowType=machine_learning"
"""The same in an address, for the versions of MLflow whose pages go by it, or by what their reader chose last."""
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    _RETRIES: "2",  # MLflow's seven take minutes
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class AwayError(PoseError):
    """The tracking server does not answer.

    Attributes:
        short: that it does not, and why, without what to do.
    """

    def __init__(self, root: Path, why: str) -> None:
        self.short = f"the MLflow server {hide_password(tracking_uri(root))} does not answer ({why})"
        super().__init__(f"{self.short}; start it, correct MLFLOW_TRACKING_URI, or unset it to record in the workspace")


class SchemaError(AwayError):
    """The database is there, and its tables are those of another version of MLflow."""

    def __init__(self, root: Path) -> None:
        self.short = f"the tables of {hide_password(tracking_uri(root))} are of another version of MLflow"
        advice = "`make install` brings the version of the lock; a database of an older one is backed up, then upgraded"
        PoseError.__init__(self, f"{self.short}; {advice} by `mlflow db upgrade` (docs/backends.md)")


def tracking_uri(root: Path) -> str:
    """Return the tracking server: ``MLFLOW_TRACKING_URI``, else SQLite in the workspace.

    Raises:
        ConfigError: the variable names no server and no database.
    """
    uri = os.environ.get(_VARIABLE)
    if not uri:
        return _own_uri(root)
    _check(_VARIABLE, uri)
    return uri


def is_own(root: Path) -> bool:
    """Tell whether the tracking server is the workspace's own database; any other may have runs of other workspaces."""
    return tracking_uri(root) == _own_uri(root)


def _own_uri(root: Path) -> str:
    return f"sqlite:///{(root / DATABASE).resolve()}"


def _check(variable: str, uri: str) -> None:
    """Refuse what MLflow would take for a folder, or not take at all."""
    scheme, separator, rest = uri.partition("://")
    scheme = scheme.lower().partition("+")[0]
    if uri.lower().startswith("file:") or not (separator or ":" in uri or scheme == "databricks"):
        raise ConfigError(
            f"{variable}={hide_password(uri)}: a folder; MLflow keeps runs in a database or on a server: {_EXAMPLES}"
            " (`mlflow migrate-filestore` copies the runs of a folder into a database)"
        )
    if scheme not in (*_SERVERS, *_DATABASES) or not (separator or scheme == "databricks"):
        shown = hide_password(uri)
        raise ConfigError(f"{variable}={shown}: neither a server nor a database that MLflow knows; {_EXAMPLES}")
    if uri != uri.strip() or (scheme in ("http", "https") and len(uri.split()) > 1):
        raise ConfigError(f"{variable}={hide_password(uri)!r}: a blank or a line's end in it; {_EXAMPLES}")
    if scheme in ("http", "https"):
        try:
            host, _ = urlsplit(uri).hostname, urlsplit(uri).port
        except ValueError:  # a port that is none, a bracket that does not end; its message may have the password in it
            shown, why = hide_password(uri), "signs in a password are written in percent, such as / as %2F"
            try:
                urlsplit(shown).port  # noqa: B018
            except ValueError as error:
                why = str(error)
            raise ConfigError(f"{variable}={shown}: no address ({why}); {_EXAMPLES}") from None
        if not host:
            raise ConfigError(f"{variable}={hide_password(uri)}: names no host; {_EXAMPLES}")
    if scheme == "sqlite" and not rest.startswith("/"):
        raise ConfigError(f"{variable}={hide_password(uri)}: SQLite takes three slashes and a path; {_EXAMPLES}")
    if scheme == "sqlite" and (":memory:" in rest or "mode=memory" in rest):
        raise ConfigError(
            f"{variable}={hide_password(uri)}: in memory, where records end with the program; {_EXAMPLES}"
        )


def server_name(root: Path) -> str:
    """Return what the server is known by: its address, or ``OWN``, wherever the workspace lies."""
    return hide_password(tracking_uri(root)) if os.environ.get(_VARIABLE) else OWN


def load() -> None:
    """Import MLflow, which takes seconds."""
    _set_defaults()  # whether usage is reported it decides when it is imported
    import mlflow  # noqa: F401


def open_client(root: Path) -> Any:
    """Return MLflow's client for the workspace's server.

    Raises:
        ConfigError: the environment names no server, or one that needs a package which is not there.
        AwayError: nothing listens at its address, or its database cannot be opened.
    """
    _set_defaults()
    uri = tracking_uri(root)
    registry = os.environ.get("MLFLOW_REGISTRY_URI")
    if registry:
        _check("MLFLOW_REGISTRY_URI", registry)
    _knock(root, uri)
    # A fresh SQLite file is filled by hundreds of migrations, each of them announced.
    for name in ("alembic", "mlflow.store.model_registry.abstract_store"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # What a database refuses, such as for want of room, it tells with all that led there, and raises it as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(registry or "")  # an address would stay in the environment, for other workspaces as well
    try:
        if is_untouched(root):
            _make_database(root, uri)
        return mlflow.MlflowClient(tracking_uri=uri)
    except ImportError as error:
        raise ConfigError(f"{_VARIABLE}={hide_password(uri)}: needs a package that is not there ({error})") from error
    except (MlflowException, SQLAlchemyError) as error:
        why = first_line(error)
        raise (SchemaError(root) if "out-of-date database schema" in why else AwayError(root, why)) from error


def _set_defaults() -> None:
    """Tell MLflow by the environment, where the user has not, what it reads there at every use."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def _make_database(root: Path, uri: str) -> None:
    """Make the workspace's database, with the place of artifacts as an address.

    MLflow by itself puts the path of the working folder into its SQL as it stands, which an apostrophe ends.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(uri, (root / ARTIFACTS).resolve().as_uri())


def _knock(root: Path, uri: str, seconds: float = 1.0) -> None:
    """Look whether anything listens at a server's address; MLflow itself tries for seconds, or minutes.

    Raises:
        AwayError: nothing does.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), seconds).close()
    except OSError as error:
        raise AwayError(root, str(error)) from error


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its name."""
    if isinstance(error, AwayError):
        return error.short
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def limited(seconds: int, retries: int | None = None) -> Iterator[None]:
    """Bound what a request to a server may take; MLflow reads it from the environment at every request.

    Args:
        seconds: for an answer, each time.
        retries: how often it is asked again; None: as often as otherwise, and as long as the user may have set.
    """
    _set_defaults()  # before what is there is noted, or they would be taken back with it
    before = {name: os.environ.get(name) for name in (_TIMEOUT, _RETRIES)}
    if retries is None:
        os.environ.setdefault(_TIMEOUT, str(seconds))
    else:
        os.environ |= {_TIMEOUT: str(seconds), _RETRIES: str(retries)}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def answering(root: Path) -> Iterator[None]:
    """Turn what MLflow raises in the block into one line.

    Raises:
        PoseError: the server does not answer, or refuses.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if is_refusal(error):
            raise PoseError(f"MLflow at {hide_password(tracking_uri(root))} refuses: {first_line(error)}") from error
        raise AwayError(root, first_line(error)) from error


def is_refusal(error: BaseException) -> bool:
    """Tell whether a server has answered that it will never take what it was asked to, as of a run that was deleted."""
    return getattr(error, "error_code", "") in {
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
    }


def experiment_name() -> str:
    """Return the experiment that runs go to: ``MLFLOW_EXPERIMENT_NAME``, else keypipe's."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def experiment_id(client: Any, root: Path, name: str | None = None) -> str:
    """Return the id of an experiment, which is made where the server has none.

    Args:
        client: of the server.
        root: the workspace.
        name: of the experiment; default: the workspace's.

    Raises:
        ConfigError: it is deleted.
        PoseError: the server does not answer.
    """
    name = name or experiment_name()
    with answering(root):
        found = client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                raise ConfigError(
                    f"the MLflow experiment {name!r} is deleted; restore it, or set MLFLOW_EXPERIMENT_NAME"
                )
            _show_as_trainings(client, found)
            return str(found.experiment_id)
        # MLflow by itself would put a database's artifacts below the folder that the program happens to run in.
        is_database = urlsplit(tracking_uri(root)).scheme.partition("+")[0] in _DATABASES
        location = (root / ARTIFACTS).resolve().as_uri() if is_database else None
        return str(client.create_experiment(name, artifact_location=location, tags=_KIND))


def _show_as_trainings(client: Any, experiment: Any) -> None:
    """Have MLflow's pages open an experiment among trainings, unless somebody has said otherwise."""
    from mlflow.exceptions import MlflowException

    for key, value in _KIND.items():
        if key not in experiment.tags:
            try:
                client.set_experiment_tag(experiment.experiment_id, key, value)
            except MlflowException as error:
                if not is_refusal(error) and error.error_code != "PERMISSION_DENIED":
                    raise


def experiment_page(root: Path, server: str) -> str:
    """Return the address of the trainings among a server's pages; that of the server where it does not answer at once.

    Args:
        root: the workspace.
        server: the address of the pages.
    """
    shown = hide_password(server).rstrip("/")
    try:
        with answering(root), limited(2, 0):
            found = open_client(root).get_experiment_by_name(experiment_name())
    except PoseError:
        return shown
    return f"{shown}/#/experiments/{found.experiment_id}/runs?{MODEL_TRAINING}" if found else shown


def run_page(root: Path, experiment: str, run_id: str) -> str:
    """Return the address of a run's page; for a workspace's own database the one that ``keypipe ui`` gives it."""
    uri = tracking_uri(root)
    server = hide_password(uri).rstrip("/") if uri.startswith(("http:", "https:")) else OWN_PAGES
    return f"{server}/#/experiments/{experiment}/runs/{run_id}?{MODEL_TRAINING}"


def is_untouched(root: Path) -> bool:
    """Tell whether the database, the workspace's own or another, is no file yet; asking MLflow would make one."""
    uri = tracking_uri(root)
    if not os.environ.get(_VARIABLE):
        return not (root / DATABASE).exists()
    return uri.startswith("sqlite") and not Path(uri.partition(":///")[2].partition("?")[0]).exists()


def all_pages(ask: Callable[[str | None], Any]) -> list[Any]:
    """Return everything that a search finds; ``ask`` gets the token of a page, None for the first."""
    found: list[Any] = []
    token: str | None = None
    while True:
        page = ask(token)
        found += page
        token = page.token
        if not token:
            return found
