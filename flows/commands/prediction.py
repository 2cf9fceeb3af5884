"""``keypipe predict``: finds the workspace's model and predicts with it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from keypipe.batch import prediction as batch
from keypipe.errors import ModelError
from keypipe.inference.predictor import Thresholds

if TYPE_CHECKING:
    from keypipe.inference.model_info import ModelInfo
    from keypipe.inference.predictor import RawModel

EXPORTED_MODEL = Path("exports/model.onnx")
TRAINED_MODEL = Path("models/best.pt")
PREDICTIONS = Path("predictions")


def predict_main(
    source: str,
    model: str | None = None,
    output: str | None = None,
    *,
    conf: float = 0.25,
    keypoint_conf: float = 0.5,
    device: str | None = None,
    root: Path | None = None,
) -> batch.Summary:
    """Predict on an image, a folder, a pattern or a video; the command ``keypipe predict``.

    Args:
        source: what to predict on, relative to the current folder.
        model: an ONNX file or a checkpoint; None takes the workspace's export, else its best checkpoint.
        output: folder of the results; None makes a new one in the workspace's ``predictions``.
        conf: smallest score of an object.
        keypoint_conf: smallest confidence of a keypoint that is drawn.
        device: such as ``cpu`` or ``cuda:0``; None takes a GPU where the model's engine has one.
        root: the workspace; None is the current folder.

    Returns:
        What was read and found.

    Raises:
        ConfigError: no image or video is there, a threshold makes no sense, or the output folder is in use.
        ModelError: there is no model, or it cannot be used.
        FaultsError: some files could not be read; all others are done.
    """
    root = root or Path.cwd()
    summary = predict_in_workspace(root, source, model, output, conf=conf, keypoint_conf=keypoint_conf, device=device)
    batch.raise_for_faults(summary)
    return summary


def predict_in_workspace(
    root: Path,
    source: str,
    model: str | None = None,
    output: str | None = None,
    *,
    conf: float = 0.25,
    keypoint_conf: float = 0.5,
    device: str | None = None,
    say: batch.Say | None = None,
) -> batch.Summary:
    """Predict with a workspace's model; see ``predict_main``. Files that cannot be read are in the summary."""
    return batch.predict(
        source,
        Path(model) if model else find_model(root),
        Path(output) if output else batch.default_output(source, root / PREDICTIONS),
        thresholds=Thresholds(conf=conf, keypoint_conf=keypoint_conf),
        device=device,
        loaders={".pt": partial(_load_checkpoint, root)},
        exclude=[root / PREDICTIONS],
        say=say,
    )


def find_model(root: Path) -> Path:
    """Return the workspace's model: the export, else the best checkpoint.

    Raises:
        ModelError: it has neither.
    """
    for path in (EXPORTED_MODEL, TRAINED_MODEL):
        if (root / path).is_file():
            return root / path
    raise ModelError(
        f"no model here: neither {EXPORTED_MODEL} nor {TRAINED_MODEL}; `keypipe run` makes them, `dvc pull` fetches"
        " them, --model names another"
    )


def _load_checkpoint(root: Path, path: Path, device: str | None) -> tuple[RawModel, ModelInfo]:
    from tasks.engine.door.inference import engine

    engine().configure(root)
    return engine().load_torch_model(path, device)
