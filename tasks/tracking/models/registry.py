"""MLflow's Model Registry: one registered model, its versions and aliases, and the run that keeps their history."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from keypipe.errors import PoseError
from tasks.tracking.client import (
    EXPERIMENT,
    all_pages,
    answering,
    experiment_id,
    first_line,
    is_untouched,
    open_client,
    tracking_uri,
)
from tasks.tracking.machine import own_process
from tasks.tracking.sending.delivery import find_training
from tasks.tracking.tags import PARENT, PROCESS, STAGE

HISTORY_EXPERIMENT = f"{EXPERIMENT} registry"
HISTORY_OF = "keypipe.registry"
"""Tag of the run that keeps a registered model's history: the model's name."""

REGISTER = "register"
"""Stage of the child run, under the training's, that holds the model's folder."""


class Version(msgspec.Struct, frozen=True):
    """A registered version.

    Attributes:
        number: such as ``3``.
        run_id: the MLflow run that holds its folder.
        created: seconds since the epoch.
        status: READY, or what MLflow says otherwise.
        tags: all of them.
        description: Markdown.
    """

    number: str
    run_id: str
    created: float
    status: str
    tags: Mapping[str, str]
    description: str = ""


class Registry:
    """One registered model where the workspace's registry is: ``MLFLOW_REGISTRY_URI``, else the tracking server.

    A server that fails or does not answer is a ``PoseError``.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        uri = tracking_uri(root)
        self.uri = os.environ.get("MLFLOW_REGISTRY_URI") or uri
        self.untouched = is_untouched(root) and self.uri == uri
        """Nothing was ever recorded here; asking MLflow would make a database."""

    @cached_property
    def _tracking(self) -> Any:
        return open_client(self.root)

    @cached_property
    def _client(self) -> Any:
        assert self._tracking  # sets MLflow up
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    # ---------------------------------------------------------------- the model, its versions and aliases

    def create(self, description: str, tags: Mapping[str, str]) -> None:
        """Make the registered model unless it is there."""
        self.create_named(self.name, tags, description)

    def read_tags(self) -> dict[str, str]:
        """Return the registered model's tags; none where there is no such model."""
        return self.read_named(self.name) or {}

    def aliases(self) -> dict[str, str]:
        """Return the version of each alias."""
        found = self._get(lambda: self._client.get_registered_model(self.name))
        return {alias: str(number) for alias, number in found.aliases.items()} if found else {}

    def versions(self) -> list[Version]:
        """Return all versions, newest first."""
        with self._asking():
            found = all_pages(lambda token: self._client.search_model_versions(f"name='{self.name}'", page_token=token))
        return sorted(map(_to_version, found), key=lambda version: -int(version.number))

    def find_version(self, number: str) -> Version | None:
        """Return a version; None where there is none of that number."""
        found = self._get(lambda: self._client.get_model_version(self.name, number))
        return _to_version(found) if found else None

    def download(self, number: str, path: str, target: Path) -> None:
        """Write a file of a version's folder to ``target``.

        Raises:
            OSError: the folder has no such file.
            PoseError: the server does not answer.
        """
        with self._asking(), tempfile.TemporaryDirectory() as scratch:
            uri = self._client.get_model_version_download_uri(self.name, number)
            from mlflow.artifacts import download_artifacts

            found = download_artifacts(f"{uri.rstrip('/')}/{path}", dst_path=scratch, tracking_uri=self.uri)
            shutil.move(found, target)

    def set_alias(self, alias: str, number: str) -> None:
        """Let an alias point to a version."""
        with self._asking():
            self._client.set_registered_model_alias(self.name, alias, number)

    def delete_alias(self, alias: str) -> None:
        """Take an alias away."""
        with self._asking():
            self._client.delete_registered_model_alias(self.name, alias)

    def tag_version(self, number: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with self._asking():
            for key, value in tags.items():
                self._client.set_model_version_tag(self.name, number, key, value)

    def add_version(
        self, training: str, save: Callable[[Path], None], description: str, tags: Mapping[str, str]
    ) -> str:
        """Log a model folder in a child run of its training and register it.

        Args:
            training: MLflow run of the training.
            save: writes the folder to the path that it is given.
            description: Markdown, 5000 characters at most.
            tags: of the version.

        Returns:
            The version's number.
        """
        with self._asking(), self._child(training) as run_id, tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            save(folder)
            experiment = self._tracking.get_run(run_id).info.experiment_id
            model = self._tracking.create_logged_model(experiment, name=self.name, source_run_id=run_id)
            self._tracking.log_model_artifacts(model.model_id, str(folder))
            self._tracking.finalize_logged_model(model.model_id, "READY")
            source = f"models:/{model.model_id}"
            made = self._client.create_model_version(
                self.name, source, run_id, tags=dict(tags), description=description, model_id=model.model_id
            )
            return str(made.version)

    @contextmanager
    def _child(self, training: str) -> Iterator[str]:
        """Open a child run of a training; unlike those of stages it is nothing without the server."""
        experiment = self._tracking.get_run(training).info.experiment_id
        tags = {PARENT: training, STAGE: REGISTER, PROCESS: own_process()}
        run_id = str(self._tracking.create_run(experiment, tags=tags, run_name=REGISTER).info.run_id)
        try:
            yield run_id
        except BaseException:
            self._tracking.update_run(run_id, status="FAILED")
            raise
        self._tracking.update_run(run_id, status="FINISHED")

    def find_training(self, fingerprint: str) -> str:
        """Return the id of the newest finished run of a training; the workspace's own is written where it is unknown.

        Raises:
            PoseError: the server does not know the training.
        """
        with self._asking():
            experiment = experiment_id(self._tracking, self.root)
            return find_training(self.root, self._tracking, experiment, fingerprint)

    def delete_version(self, number: str) -> None:
        """Delete a version; the run that holds its folder stays."""
        with self._asking():
            self._client.delete_model_version(self.name, number)

    def read_file(self, number: str, path: str) -> bytes | None:
        """Return a file of a version's folder; None where it has no such file, or the folder is gone.

        Raises:
            PoseError: the server does not answer, or the files cannot be read just now, as on a network folder that is
                away.
        """
        import mlflow.artifacts
        from mlflow.exceptions import MlflowException

        with self._asking(), tempfile.TemporaryDirectory(prefix="keypipe-") as scratch:
            uri = f"models:/{self.name}/{number}/{path}"
            tracking = tracking_uri(self.root)
            assert self._client  # sets MLflow up
            try:
                found = mlflow.artifacts.download_artifacts(
                    uri, dst_path=scratch, tracking_uri=tracking, registry_uri=self.uri
                )
            except (MlflowException, OSError) as error:
                if not self._lacks(number, path):
                    why = f"{type(error).__name__}: {first_line(error)}"
                    raise PoseError(f"{path} of v{number} of {self.name} cannot be read just now: {why}") from error
                return None
            return Path(found).read_bytes() if Path(found).is_file() else None

    def _lacks(self, number: str, path: str) -> bool:
        """Tell whether a version's folder can be looked at, and has no such file.

        Raises:
            PoseError: the folder that holds the files of all versions is not there.
        """
        import mlflow.artifacts
        from mlflow.utils.file_utils import local_file_uri_to_path
        from mlflow.utils.uri import is_local_uri

        version = self.find_version(number)
        if version is None:
            return True
        run = self._tracking.get_run(version.run_id)
        store = self._tracking.get_experiment(run.info.experiment_id).artifact_location
        if is_local_uri(store) and not (place := Path(local_file_uri_to_path(store))).is_dir():
            raise PoseError(
                f"the folder of MLflow's artifacts is not there: {place}; is it one of a network, and away?"
            )
        folder = self._client.get_model_version_download_uri(self.name, number).rstrip("/")
        above = f"{folder}/{path}".rpartition("/")[0]
        there = mlflow.artifacts.list_artifacts(above, tracking_uri=tracking_uri(self.root))
        return all(Path(item.path).name != Path(path).name for item in there)

    # ---------------------------------------------------------------- names that only one can create

    def create_named(self, name: str, tags: Mapping[str, str], description: str) -> bool:
        """Create a registered model; of several who try at once, one succeeds."""
        from mlflow.exceptions import MlflowException

        with self._asking():
            try:
                self._client.create_registered_model(name, tags=dict(tags), description=description)
            except MlflowException as error:
                if error.error_code == "RESOURCE_ALREADY_EXISTS":
                    return False
                raise
        return True

    def read_named(self, name: str) -> dict[str, str] | None:
        """Return the tags of a registered model; None where there is none of that name."""
        found = self._get(lambda: self._client.get_registered_model(name))
        return dict(found.tags) if found else None

    def tag_named(self, name: str, key: str, value: str) -> bool:
        """Set a tag of a registered model; False where there is none of that name."""

        def tag() -> bool:
            self._client.set_registered_model_tag(name, key, value)
            return True

        return self._get(tag) is True

    def delete_named(self, name: str) -> None:
        """Delete a registered model, if it is there."""
        self._get(lambda: self._client.delete_registered_model(name))

    # ---------------------------------------------------------------- the history

    def read_history(self) -> dict[str, str]:
        """Return the entries of the history by their keys."""
        with self._asking():
            run = self._find_history()
        return dict(run.data.params) if run else {}

    def add_history(self, key: str, value: str) -> bool:
        """Add an entry to the history.

        An entry is a parameter of the history's run: MLflow lets nobody change a parameter that is there.

        Args:
            key: its key.
            value: its text, 6000 characters at most.

        Returns:
            False where there is another entry under the key.
        """
        from mlflow.exceptions import MlflowException

        with self._asking():
            run_id = self._make_history()
            try:
                self._client.log_param(run_id, key, value)
            except MlflowException:
                there = self._client.get_run(run_id).data.params.get(key)
                if there is None:
                    raise
                return bool(there == value)
        return True

    def _find_history(self) -> Any:
        from mlflow.entities import ViewType

        found = self._client.get_experiment_by_name(HISTORY_EXPERIMENT)
        if found is None:
            return None
        runs = self._client.search_runs(
            [found.experiment_id],
            filter_string=f"tags.`{HISTORY_OF}` = '{self.name}'",
            run_view_type=ViewType.ALL,
            order_by=["attributes.start_time ASC"],
        )
        return runs[0] if runs else None

    def _make_history(self) -> str:
        """Find or make the history's run; the caller holds the registry. One that was deleted comes back."""
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):  # there already, or made by another model's process just now
            self._client.create_experiment(HISTORY_EXPERIMENT)
        experiment = self._client.get_experiment_by_name(HISTORY_EXPERIMENT)
        if experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment.experiment_id)
        run = self._find_history()
        if run is None:
            tags = {HISTORY_OF: self.name, "mlflow.note.content": _NOTE.format(name=self.name)}
            run = self._client.create_run(experiment.experiment_id, tags=tags, run_name=f"history of {self.name}")
            self._client.update_run(run.info.run_id, status="FINISHED")  # set_terminated would print a link
        elif run.info.lifecycle_stage == "deleted":
            self._client.restore_run(run.info.run_id)
        return str(run.info.run_id)

    # ---------------------------------------------------------------- how the server is asked

    def _get(self, ask: Callable[[], Any]) -> Any:
        """Return what the server says; None where it has no such thing."""
        from mlflow.exceptions import MlflowException

        with self._asking():
            try:
                return ask()
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise

    def _asking(self) -> AbstractContextManager[None]:
        return answering(self.root)


_NOTE = """\
Every move of an alias of the registered model {name}, in order; written by keypipe and never changed afterwards. \
`keypipe models --history` shows it.
"""


def _to_version(found: Any) -> Version:
    return Version(
        str(found.version),
        found.run_id or "",
        (found.creation_timestamp or 0) / 1000,
        found.status or "",
        dict(found.tags),
        found.description or "",
    )


def to_tags(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as tags: texts as they are, all else as JSON; what is empty is left out."""
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in values.items()
    }
    return {key: text for key, text in texts.items() if text}
