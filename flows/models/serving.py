"""``keypipe serve`` inside a workspace: which model, and where its versions come from."""

from __future__ import annotations

import os
from pathlib import Path

from keypipe.errors import ConfigError
from keypipe.serving.following.rest import MlflowRest
from keypipe.serving.following.source import AwayError, ModelRef, ModelSource, NoModelError, NoVersionError, parse_ref
from tasks.registry.moves.history import CHAMPION
from tasks.registry.settings import model_name
from tasks.registry.source import WorkspaceSource
from tasks.tracking.client import tracking_uri
from tasks.workspace.places import ONNX


def find_model(root: Path, named: str | None, server: str | None) -> tuple[Path | ModelRef, ModelSource | None]:
    """Return what is to be served, and its registry.

    Args:
        root: the workspace.
        named: a file, or a registered model; None: the workspace's champion, or the export as long as no version of the
            workspace's model was ever registered.
        server: MLflow's address, where it is not the workspace's.

    Raises:
        ConfigError: versions are registered, and none of them is in use.
        PoseError: the workspace's model cannot be named.
    """
    ref = parse_ref(named) if named else ModelRef(model_name(root), CHAMPION)
    if ref is None:
        return Path(named or ""), None
    source = _open_source(root, server)
    if not named:
        try:
            source.find(ref)
        except AwayError:  # the server may have kept what was in use here last
            return ref, source
        except NoModelError:
            return root / ONNX, None
        except NoVersionError as error:
            raise ConfigError(
                f"{error}; `keypipe promote` puts one into use, `keypipe serve {ONNX}` serves the export"
            ) from error
    return ref, source


def _open_source(root: Path, server: str | None) -> ModelSource:
    """Return the registry: over plain HTTP where it is a server, which needs no MLflow in this process."""
    if server:
        os.environ["MLFLOW_TRACKING_URI"] = server
        os.environ.pop("MLFLOW_REGISTRY_URI", None)
    uri = os.environ.get("MLFLOW_REGISTRY_URI") or tracking_uri(root)
    return MlflowRest(uri) if uri.startswith(("http://", "https://")) else WorkspaceSource(root)
