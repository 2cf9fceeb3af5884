"""Recipes compared in pairs: the same folds, seeds and images, with intervals by bootstrap over the images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.few_images.cells import Cell
from benchmarks.few_images.recipes import SHIPPED
from benchmarks.loss_sigma import SIGMA
from benchmarks.trainings import PROTOCOLS
from keypipe.dataset.coco import CocoFile, parse_coco
from keypipe.dataset.yolo import expand_sigmas
from keypipe.evaluation.average_precision import average_precision
from keypipe.evaluation.keypoint_errors import CLOSE_SHARE
from keypipe.evaluation.matching import Detection
from keypipe.gate.comparison import Scored, score

FIGURES = ("AP", "AP50", "within")
DRAWS = 1000
CONF = 0.25
"""Score from which a detection counts for the share of close keypoints, as in the evaluation."""


class Weighed(NamedTuple):
    """What a model found on a fold, to be measured with images drawn again.

    Attributes:
        scored: its predictions, matched.
        close: float64 (2, n_images): close keypoints and labelled ones.
    """

    scored: Scored
    close: NDArray[np.float64]

    def measure(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return ``FIGURES``, with each image as often as its weight says."""
        by_class = np.array([average_precision(matched, weights) for matched in self.scored.matched.values()])
        present = by_class[np.isfinite(by_class).all(1)]
        close, labelled = self.close @ weights
        if not len(present) or not labelled:
            return np.full(len(FIGURES), np.nan)
        return np.array([present.mean(), present[:, 0].mean(), close / labelled])


def weigh(truth: CocoFile, detections: Sequence[Detection]) -> Weighed:
    """Match a model's predictions with the truth of a fold, at evaluation sigma 0.1."""
    sigmas = {category.name: expand_sigmas(SIGMA, len(category.keypoints), "sigma") for category in truth.categories}
    scored = score(truth, detections, sigmas, CONF)
    close = np.zeros((2, len(truth.images)))
    for table in scored.tables:
        np.add.at(close[0], table.image, (table.distance_diagonals <= CLOSE_SHARE).sum(1))
        np.add.at(close[1], table.image, (table.visibility > 0).sum(1))
    return Weighed(scored, close)


def read_weighed(work: Path, cell: Cell) -> Weighed:
    """Read what a training's model found."""
    truth = parse_coco((work / f"found/{PROTOCOLS[cell.data].images}-{cell.fold}.truth.json").read_bytes())
    found = msgspec.json.decode((work / f"found/{cell.name}.json").read_bytes(), type=list[Detection])
    return weigh(truth, found)


def draw(models: Sequence[tuple[int, Weighed]], draws: int = DRAWS) -> NDArray[np.float64]:
    """Measure models of folds, as they are and with the images of each fold drawn again.

    Every model of a fold gets the same draws, so recipes are paired; and each fold has its own.

    Args:
        models: of one recipe, each with its fold.
        draws: how often.

    Returns:
        float64 (1 + draws, n_figures), means over the models; the first row is of the images as they are.
    """
    sums = np.zeros((1 + draws, len(FIGURES)))
    for fold, model in models:
        n_images = model.close.shape[1]
        rng = np.random.default_rng([12, fold])
        weights = [np.ones(n_images, dtype=np.int64)]
        weights += [np.bincount(rng.integers(0, n_images, n_images), minlength=n_images) for _ in range(draws)]
        sums += [model.measure(item) for item in weights]
    return sums / len(models)


def compare(work: Path, rows: dict[Cell, dict[str, Any]], draws: int = DRAWS) -> list[dict[str, Any]]:
    """Compare every recipe with the shipped one, on the folds and seeds that both have.

    Returns:
        A line for each dataset, number of steps, recipe and figure: ``value``, ``base`` and ``difference`` with their
        intervals of 95 %, on how many folds the recipe was better, and ``time``, by the shipped recipe's.
    """
    lines: list[dict[str, Any]] = []
    known: dict[Cell, Weighed] = {}
    groups = dict.fromkeys((cell.data, cell.steps, cell.recipe) for cell in rows if cell.recipe != SHIPPED)
    for data, steps, recipe in sorted(groups):
        mine = sorted(
            cell
            for cell in rows
            if (cell.data, cell.steps, cell.recipe) == (data, steps, recipe) and cell._replace(recipe=SHIPPED) in rows
        )
        if not mine:
            continue
        base = [cell._replace(recipe=SHIPPED) for cell in mine]
        for cell in (*mine, *base):
            known[cell] = known[cell] if cell in known else read_weighed(work, cell)
        drawn, drawn_base = (draw([(cell.fold, known[cell]) for cell in cells], draws) for cells in (mine, base))
        for column, figure in enumerate(FIGURES):
            lines.append(
                {
                    "data": data,
                    "steps": steps,
                    "recipe": recipe,
                    "figure": figure,
                    "trainings": len(mine),
                    "images": sum(rows[cell]["held_out"] for cell in mine),
                    "base": _with_interval(drawn_base[:, column]),
                    "value": _with_interval(drawn[:, column]),
                    "difference": _with_interval(drawn[:, column] - drawn_base[:, column]),
                    "time": _mean_time(rows, mine, base),
                    "better": sum(rows[a][figure] > rows[b][figure] for a, b in zip(mine, base, strict=True)),
                }
            )
    return lines


def _mean_time(rows: dict[Cell, dict[str, Any]], mine: Sequence[Cell], base: Sequence[Cell]) -> float | None:
    """Return the processor time of a recipe's trainings by that of the shipped ones; None where it was not taken."""
    own, others = ([rows[cell].get("processor_seconds") for cell in cells] for cells in (mine, base))
    return sum(own) / sum(others) if all(own) and all(others) else None


def _with_interval(values: NDArray[np.float64]) -> list[float]:
    """Return the value of the images as they are, and the 2.5th and 97.5th percentile of the draws."""
    return [float(values[0]), *(float(value) for value in np.nanpercentile(values[1:], [2.5, 97.5]))]


def format_table(lines: Sequence[dict[str, Any]]) -> str:
    """Format the table in Markdown."""
    head = f"| data | steps | recipe | figure | trainings | {SHIPPED} | recipe | difference | better in | time |"
    body = [
        f"| {line['data']} | {line['steps']} | {line['recipe']} | {line['figure']} | {line['trainings']}"
        f" | {line['base'][0]:.3f} | {line['value'][0]:.3f}"
        f" | {line['difference'][0]:+.3f} ({line['difference'][1]:+.3f} to {line['difference'][2]:+.3f})"
        f" | {line['better']} of {line['trainings']} | {'' if line['time'] is None else format(line['time'], '.2f')} |"
        for line in lines
    ]
    return "\n".join([head, "|---" * 10 + "|", *body])
