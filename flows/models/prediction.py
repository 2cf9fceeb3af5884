"""``keypipe predict``: finds the workspace's model and predicts with it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from keypipe.annotations.labelme import LabelmeOptions
from keypipe.batch import prediction as batch
from keypipe.batch.labels import LabelTarget
from keypipe.batch.one_file import Format
from keypipe.batch.tracking import to_tracking
from keypipe.batch.writing import USUAL_PICTURES, Pictures
from keypipe.errors import ModelError
from keypipe.inference.predictor import DEFAULT_THRESHOLDS, Thresholds
from tasks.drift.settings import read_log_settings
from tasks.workspace.params import read_local
from tasks.workspace.places import BEST, ONNX, PARAMS_FILE

if TYPE_CHECKING:
    from keypipe.inference.model_info import ModelInfo
    from keypipe.inference.predictor import RawModel

PREDICTIONS = Path("predictions")


class Wish(msgspec.Struct, frozen=True):
    """How to predict.

    Attributes:
        model: an ONNX file or a checkpoint; None takes the workspace's export, else its best checkpoint.
        output: folder of the results; None makes a new one in the workspace's ``predictions``.
        thresholds: what is kept and drawn.
        device: such as ``cpu`` or ``cuda:0``; None takes a GPU where the model's engine has one.
        to_labelme: folder for labelme files of the images, to be corrected by hand; None: none.
        log: whether what is predicted is logged; None: as ``drift.log`` says.
        pictures: which pictures are drawn.
        track: whether objects are followed through videos.
        smooth: smallest cutoff of the smoothing of their places, Hz; None: none.
        tables: formats of tables beside CSV; see ``keypipe.tracks.tables``.
        results: how what is found on images is written; see ``keypipe.batch.one_file``.
    """

    model: str | None = None
    output: str | None = None
    thresholds: Thresholds = DEFAULT_THRESHOLDS
    device: str | None = None
    to_labelme: str | None = None
    log: bool | None = None
    pictures: Pictures = USUAL_PICTURES
    track: bool = False
    smooth: float | None = None
    tables: tuple[str, ...] = ()
    results: Format = "json"


USUAL = Wish()


def predict_main(
    source: str, wish: Wish = USUAL, root: Path | None = None, progress: batch.Progress = batch.tell_nobody
) -> batch.Summary:
    """Predict on files or a stream; the command ``keypipe predict``.

    Args:
        source: what to predict on, relative to the current folder; see ``keypipe.batch.sources.find_sources``.
        wish: how.
        root: the workspace; None is the current folder.
        progress: is told how far it is.

    Returns:
        What was read and found.

    Raises:
        ConfigError: no image or video is there, a threshold makes no sense, or the output folder is in use.
        ModelError: there is no model, or it cannot be used.
        FaultsError: some files could not be read; all others are done.
    """
    summary = predict_in_workspace(root or Path.cwd(), source, wish, progress)
    batch.raise_for_faults(summary)
    return summary


def predict_in_workspace(root: Path, source: str, wish: Wish, progress: batch.Progress) -> batch.Summary:
    """Predict with a workspace's model; see ``predict_main``. Files that cannot be read are in the summary."""
    tracking = to_tracking(wish.track, wish.smooth, wish.tables)
    return batch.predict(
        source,
        Path(wish.model) if wish.model else find_model(root),
        Path(wish.output) if wish.output else batch.default_output(source, root / PREDICTIONS, tracked=wish.track),
        thresholds=wish.thresholds,
        device=wish.device,
        loaders={".pt": partial(load_checkpoint, root)},
        exclude=[root / PREDICTIONS],
        progress=progress,
        labels=LabelTarget(Path(wish.to_labelme), label_options(root)) if wish.to_labelme else None,
        log=read_log_settings(root, wish.log),
        pictures=wish.pictures,
        results=wish.results,
        threads=read_local(root).threads,
        tracking=tracking,
    )


def label_options(root: Path) -> LabelmeOptions:
    """Return how the workspace marks what labelme has no name for; the defaults outside of one."""
    from tasks.convert import ConvertParams
    from tasks.workspace import params as read

    if not (root / PARAMS_FILE).exists():
        return LabelmeOptions()
    return read.load_section(read.read_params(root), "convert", ConvertParams).options()


def find_model(root: Path) -> Path:
    """Return the workspace's model: the export, else the best checkpoint.

    Raises:
        ModelError: it has neither.
    """
    for path in (ONNX, BEST):
        if (root / path).is_file():
            return root / path
    raise ModelError(
        f"no model here: neither {ONNX} nor {BEST}; `keypipe run` makes them, `dvc pull` fetches"
        " them, --model names another"
    )


def load_checkpoint(root: Path, path: Path, device: str | None) -> tuple[RawModel, ModelInfo]:
    """Open a checkpoint of the workspace's engine."""
    from tasks.engine.door.inference import engine

    engine().configure(root)
    return engine().load_torch_model(path, device)
