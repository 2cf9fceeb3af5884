"""The registered model as MLflow loads it: a column of encoded images in, one row for each object out.

MLflow keeps this file in the model's folder and runs it from there when the model is loaded ("models from code");
keypipe's inference code lies beside it in ``code/``. So nothing is unpickled, and nothing is asked of the environment
but the packages in the model's ``requirements.txt``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import pandas as pd
from mlflow.exceptions import MlflowException

ONNX = "onnx"
"""Name of the artifact that holds the network."""


@contextmanager
def own_code(folder: Path) -> Iterator[None]:
    """Import keypipe from a folder, whatever keypipe the process has, which stays as it is.

    Champion and challenger may be loaded side by side, each with the code that it was registered with, and either of
    them in a workspace of yet another version.
    """

    def take_out() -> dict[str, Any]:
        names = [name for name in sys.modules if name == "keypipe" or name.startswith("keypipe.")]
        return {name: sys.modules.pop(name) for name in names}

    others = take_out() if folder.is_dir() else {}
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if others:
            take_out()
            sys.modules.update(others)


with own_code(Path(__file__).parent / "code"):
    from keypipe.errors import PoseError
    from keypipe.inference.onnx_model import load_onnx_model
    from keypipe.inference.predictor import Predictor, Thresholds
    from keypipe.inference.tables import INPUT_COLUMN, OUTPUT_COLUMNS, predict_rows


class KeypointModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow has no types for it
    """Finds objects and their keypoints on images."""

    def load_context(self, context: Any) -> None:
        """Open the network; ``model_config`` may name a device and a number of threads."""
        config: Mapping[str, Any] = context.model_config or {}
        path = Path(context.artifacts[ONNX])
        loaded = load_onnx_model(path, threads=config.get("threads") or None, device=config.get("device") or None)
        self._predictor = Predictor(*loaded)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Find the objects.

        Args:
            context: MLflow's; not used.
            model_input: a table with the column ``image``: image files as bytes or base64 text.
            params: ``conf``, ``iou`` and ``max_det``, see ``Thresholds``.

        Returns:
            A table with a row for each object; see ``keypipe.inference.tables``.

        Raises:
            MlflowException: an image cannot be read, or a threshold is out of range; MLflow's server answers 400.
        """
        try:
            rows = predict_rows(self._predictor, model_input[INPUT_COLUMN], Thresholds(**(params or {})))
        except PoseError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return pd.DataFrame(rows, columns=list(OUTPUT_COLUMNS))


mlflow.models.set_model(KeypointModel())
