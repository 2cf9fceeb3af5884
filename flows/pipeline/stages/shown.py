"""What a training shows on its page in Prefect: epochs as they go by, results, its MLflow run, what the model sees."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from flows.services.background import find_background
from flows.services.board import Board
from tasks.tracking.client import OWN_PAGES
from tasks.workspace.places import PROGRESS, metrics_file, report_folder

FIGURES = {
    "oks_AP": "OKS AP",
    "oks_AP50": "OKS AP50",
    "within_0.1_diagonals": "close keypoints, of 0.1 diagonals at most",
    "detected": "objects found",
    "keypoints_missed": "keypoints missed",
}
SPLITS = {"test": "on test", "val": "on val"}
SIDE_PX = 480
"""Longer side of a picture, which lies in Prefect's database."""


class _Progress(msgspec.Struct):
    stage: str
    done: int
    total: int
    unit: str


def progress_teller(root: Path, board: Board) -> Callable[[], None]:
    """Return what shows how far the stage is that runs just now, whenever its file says something new."""
    told = 0

    def tell() -> None:
        nonlocal told
        try:
            changed = (root / PROGRESS).stat().st_mtime_ns
            if changed == told:
                return
            now = msgspec.json.decode((root / PROGRESS).read_bytes(), type=_Progress)
        except (OSError, msgspec.DecodeError):  # no stage tells of any, or it is just being written
            return
        told = changed
        text = f"`{now.stage}`: {now.done} of {now.total} {now.unit}"
        board.show_progress(f"{now.unit} {root.name}", now.done / max(now.total, 1), text)

    return tell


def show_results(root: Path, board: Board, headline: str) -> None:
    """Show the figures of a validation as a table."""
    rows = to_rows((root / metrics_file("validate")).read_bytes())
    if rows:
        page = report_folder("validate") / "report.html"
        board.show_table(f"results {root.name}", rows, f"{headline}. All of it: `{page}` in the workspace.")


def to_rows(content: bytes) -> list[dict[str, str]]:
    """Return the headline figures of ``metrics/validate.json`` as rows, with their intervals."""
    splits: Mapping[str, Mapping[str, Mapping[str, float]]] = json.loads(content)

    def cell(split: str, name: str) -> str:
        kinds = splits[split]
        value = kinds.get("coco", {}).get(name)
        low, high = (kinds.get("interval", {}).get(f"{name}_{end}") for end in ("low", "high"))
        if value is None:
            return "not measured"
        return f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else "")

    shown = {split: title for split, title in SPLITS.items() if split in splits}
    return [
        {"figure": figure} | {title: cell(split, name) for split, title in shown.items()}
        for name, figure in FIGURES.items()
    ]


def show_training(root: Path, board: Board, run_id: str) -> None:
    """Show where MLflow has the training."""
    from tasks.tracking.models.glance import find_run_page

    if page := find_run_page(root, run_id):
        text = f"Losses, parameters, data and the model of training `{run_id[:8]}`"
        if page.startswith(OWN_PAGES):
            text += "; the page is there while `keypipe up` keeps it"
            found = find_background(root)
            page = page.replace(OWN_PAGES, (found and found.alive and found.service("MLflow").url) or OWN_PAGES, 1)
        board.show_link(f"mlflow {root.name}", page, f"Training {run_id[:8]} in MLflow", text)


def show_pictures(root: Path, board: Board, most: int, keep_days: float) -> None:
    """Show what the model sees on random images of the test split, else of the validation split.

    Args:
        root: the workspace.
        board: of the run.
        most: how many.
        keep_days: those of earlier runs that are older are deleted there.
    """
    board.forget(f"predictions {root.name}", keep_days)
    pictures = [f"![{path.stem}](data:image/jpeg;base64,{_shrink(path)})" for path in find_pictures(root, most)]
    if pictures:
        text = f"Random images: annotated on the left, predicted on the right; more in `{report_folder('validate')}`"
        board.show_markdown(f"predictions {root.name}", "\n\n".join(pictures), text)


def find_pictures(root: Path, most: int) -> list[Path]:
    """Return pictures that validate has drawn on random images, ``most`` at most."""
    folders = [root / report_folder("validate") / "gallery" / split / "random" for split in SPLITS]
    found = next((paths for folder in folders if (paths := sorted(folder.glob("*.jpg")))), [])
    return found[:most]


def _shrink(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        picture = image.convert("RGB")
    picture.thumbnail((SIDE_PX, SIDE_PX))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=80)
    return base64.b64encode(written.getvalue()).decode()
