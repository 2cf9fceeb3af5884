"""``keypipe label``: chooses images, draws on them, and opens labelme."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import msgspec

from flows.models.prediction import find_model, label_options, load_checkpoint
from keypipe.batch.prediction import load_model
from keypipe.errors import ModelError
from keypipe.inference.predictor import Predictor
from tasks.labelling.labelme_window import Window, prepare_window
from tasks.labelling.next_images import LABELLING, Request, WorkList, choose_next, write_list
from tasks.progress import Progress
from tasks.workspace import params as read

Hold = Callable[[Path], AbstractContextManager[None]]


class Prepared(msgspec.Struct, frozen=True):
    """A list that is ready to be worked through.

    Attributes:
        work: the list.
        window: how labelme opens it; None where there is nothing to do.
        model: the model that drew; None: there is none yet.
    """

    work: WorkList
    window: Window | None
    model: Path | None


def prepare_labelling(
    root: Path, request: Request, model: str | None, device: str | None, hold: Hold, progress: Progress
) -> Prepared:
    """Choose the images to annotate next, draw on them, and prepare labelme.

    Args:
        root: the workspace.
        request: what is wanted.
        model: a model file; None takes the workspace's, and does without where it has none.
        device: such as ``cpu`` or ``cuda:0``.
        hold: keeps runs away while ``data/raw`` is written to.
        progress: is told how far it is.

    Raises:
        PoseError: the parameters are wrong, the model cannot be used, or a run holds the workspace.
    """
    path = Path(model) if model else find_any_model(root)
    predictor = Predictor(*load_model(path, device, {".pt": partial(load_checkpoint, root)})) if path else None
    choice = choose_next(root, request, predictor, progress)
    stamp = hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path else ""
    with hold(root):
        work = write_list(root, choice, predictor, request.thresholds, stamp)
    if not work.images:
        return Prepared(work, None, path)
    schema = read.load_schema(read.read_params(root))
    return Prepared(work, prepare_window(root, LABELLING, work.images, schema, label_options(root)), path)


def find_any_model(root: Path) -> Path | None:
    """Return the workspace's model; None where nothing was trained yet."""
    try:
        return find_model(root)
    except ModelError:
        return None
