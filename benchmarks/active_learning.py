"""What choosing the images to annotate is worth: by `keypipe label`'s ranking, at random, and by uncertainty alone.

    python -m benchmarks.active_learning --work FOLDER [--data demo setsquare] [--seeds 0 1 2 3 4] [--start 20]
        [--step 20] [--rounds 4] [--epochs 40] [--imgsz 128] [--table]

All labels are there; a way of choosing sees them image by image. Every way begins with the same images, drawn at
random. In every round the model of the round before looks at the images that are left, so many more are chosen, and a
model is trained from random weights on all that were chosen so far. Test and val are the same throughout; the figures
are of test, at evaluation sigma 0.1. The table has the mean over the seeds, and the difference from random with an
interval of 95 % (Student's t over the seeds, paired): five seeds make it wide, and it is given as it comes out.

Every training is appended to ``active_learning.jsonl`` in the folder; the same command goes on after a stop, a training
at its last whole epoch, and ``--table`` prints the table from there.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.loss_sigma import measure, predict, read_truth
from benchmarks.trainings import PROTOCOLS, prepare, run_quietly, set_training
from benchmarks.workspace import environment, stage
from keypipe.dataset.coco import CocoFile, parse_coco, to_images
from keypipe.dataset.coco_stream import CocoLines, write_parts
from keypipe.diagnosis.outliers import Examiner, learn_shapes
from keypipe.images.media import read_image
from keypipe.inference.predictor import Predictor
from keypipe.keypoints.skeleton import Schema
from keypipe.ranking.appearance import describe_appearance, pick_spread
from keypipe.ranking.looks import look_at, score_looks

WAYS = ("ranking", "random", "uncertainty")
DATA = ("demo", "setsquare")
FIGURES = ("AP", "within")
RESULTS = "active_learning.jsonl"
TRAIN = "data/dataset/annotations/train.json"


class Budget(NamedTuple):
    """How many images there are at first, how many more in a round, and how they are trained on."""

    start: int
    step: int
    epochs: int
    imgsz: int


class Cell(NamedTuple):
    """One training: the first of a seed, which all ways share, is of the way ``start``."""

    data: str
    seed: int
    round: int
    way: str

    @property
    def before(self) -> Cell | None:
        """The training whose model chooses this one's images."""
        if self.round == 0:
            return None
        return self._replace(round=self.round - 1, way="start" if self.round == 1 else self.way)

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.data}-{self.seed}-{self.round}-{self.way}"


def list_cells(data: Sequence[str], seeds: Sequence[int], rounds: int) -> Iterator[Cell]:
    """Yield the trainings in an order in which each finds the model that chooses its images."""
    for seed in seeds:
        for name in data:
            yield Cell(name, seed, 0, "start")
            for number in range(1, rounds + 1):
                for way in WAYS:
                    yield Cell(name, seed, number, way)


def read_rows(work: Path, budget: Budget) -> dict[Cell, dict[str, Any]]:
    """Return what was trained with this budget; a line that was cut off by a kill is none."""
    path = work / RESULTS
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    rows = [json.loads(line) for line in whole.splitlines()]
    return {Cell(*row["cell"]): row for row in rows if row["budget"] == list(budget)}


def open_source(work: Path, data: str) -> Path:
    """Return the workspace with all labels, which is made once."""
    source = work / data
    if not source.exists():
        partial = work / f"{data}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        prepare(partial, PROTOCOLS[data])
        partial.rename(source)
    return source


def open_workspace(work: Path, cell: Cell, labelled: Sequence[int]) -> Path:
    """Return the training's workspace, with some labels; one that a stop has left is gone on with."""
    source, root = open_source(work, cell.data), work / cell.name
    if not root.exists():
        partial = work / f"{cell.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial, symlinks=True)
        coco = CocoLines(source / TRAIN)
        chosen = np.zeros(coco.n_images, dtype=np.uint8)
        chosen[list(labelled)] = 1
        (partial / TRAIN).unlink()
        write_parts(coco, {partial / TRAIN: chosen.tobytes()})
        partial.rename(root)
    return root


def choose(
    way: str, source: Path, weights: Path, labelled: Sequence[int], count: int, seed: Sequence[int], home: Path
) -> list[int]:
    """Choose the images of a round.

    Args:
        way: one of ``WAYS``.
        source: the workspace with all labels, of which those of ``labelled`` alone are looked at.
        weights: of the round before.
        labelled: numbers of the images that are chosen already, in the order of the train split.
        count: how many more.
        seed: of the random way.
        home: for the engine's settings.
    """
    truth = parse_coco((source / TRAIN).read_bytes())
    rest = np.setdiff1d(np.arange(len(truth.images)), list(labelled))
    if way == "random":
        drawn = np.random.default_rng(list(seed)).permutation(rest)[:count]
        return sorted(int(number) for number in drawn)
    from tasks.engine.door.inference import engine

    engine().configure(home, 1)
    predictor = Predictor(*engine().load_torch_model(weights, "cpu"))
    pictures = [read_image(source / "data" / image.file_name) for image in truth.images]
    examiners = learn_examiners(truth, labelled, predictor.info.schema) if way == "ranking" else {}
    looks = [look_at(predictor, pictures[number], examiners) for number in rest]
    if way == "uncertainty":
        best = np.argsort(-score_looks(looks, ["uncertainty"]), kind="stable")[:count]
    else:
        seen: NDArray[np.uint8] = np.array([describe_appearance(picture) for picture in pictures])
        best = np.array(pick_spread(score_looks(looks), seen[rest], count, seen[list(labelled)]))
    return sorted(int(rest[index]) for index in best)


def learn_examiners(truth: CocoFile, labelled: Sequence[int], schema: Schema) -> dict[str, Examiner]:
    """Learn what shapes are usual from the images that are labelled."""
    known = {truth.images[number].file_name for number in labelled}
    images = [image for image in to_images(truth) if image.path in known]
    examiners: dict[str, Examiner] = {}
    for name, skeleton in schema.classes.items():
        column = {keypoint: number for number, keypoint in enumerate(skeleton.keypoints)}
        partners = skeleton.partners()
        instances = [one for image in images for one in image.instances if one.class_name == name]
        shapes = np.full((len(instances), len(column)), np.nan, dtype=np.complex128)
        for row, one in enumerate(instances):
            for keypoint, point in one.keypoints.items():
                shapes[row, column[keypoint]] = complex(point.x, point.y)
        examiner = (
            learn_shapes(shapes, [column[partners.get(k, k)] for k in skeleton.keypoints]) if len(shapes) else None
        )
        if examiner:
            examiners[name] = examiner
    return examiners


def run_cell(work: Path, cell: Cell, budget: Budget, rows: dict[Cell, dict[str, Any]]) -> dict[str, Any]:
    """Choose, train and measure."""
    source = open_source(work, cell.data)
    n_images = CocoLines(source / TRAIN).n_images
    chosen = work / f"{cell.name}.images.json"  # kept, so that a stop does not choose anew
    if chosen.exists():
        labelled = json.loads(chosen.read_text(encoding="utf-8"))
    else:
        if cell.before is None:
            order = np.random.default_rng([21, cell.seed]).permutation(n_images)
            labelled = sorted(int(number) for number in order[: budget.start])
        else:
            earlier = rows[cell.before]["labelled"]
            seed = [22, cell.seed, cell.round]
            new = choose(cell.way, source, work / f"{cell.before.name}.pt", earlier, budget.step, seed, work)
            labelled = sorted([*earlier, *new])
        chosen.write_text(json.dumps(labelled), encoding="utf-8")
    root = open_workspace(work, cell, labelled)
    arguments = {**PROTOCOLS[cell.data].arguments, "epochs": budget.epochs, "imgsz": budget.imgsz}
    set_training(root, cell.seed, arguments)
    run_quietly(stage("train"), root, environment())
    weights = work / f"{cell.name}.pt"
    shutil.copy2(root / "models/best.pt", weights)
    truth = read_truth(root)
    row = {
        "cell": list(cell),
        "budget": list(budget),
        "images": len(labelled),
        "of": n_images,
        "labelled": labelled,
        "test_images": len(truth.images),
        "test": measure(truth, predict(root, weights, work)),
    }
    with (work / RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    shutil.rmtree(root)
    chosen.unlink()
    return row


def summarise(rows: dict[Cell, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each dataset, number of images and way, means over the seeds that all ways have."""
    from scipy.stats import t

    lines: list[dict[str, Any]] = []
    for data, number in sorted({(cell.data, cell.round) for cell in rows if cell.round}):
        seeds = [
            seed
            for seed in sorted({cell.seed for cell in rows})
            if all(Cell(data, seed, number, way) in rows for way in WAYS)
        ]
        for way in WAYS if seeds else ():
            mine = [rows[Cell(data, seed, number, way)] for seed in seeds]
            line: dict[str, Any] = {"data": data, "images": mine[0]["images"], "way": way, "seeds": len(seeds)}
            for figure in FIGURES:
                values = np.array([row["test"][figure] for row in mine])
                line[figure] = float(values.mean())
                base = np.array([rows[Cell(data, seed, number, "random")]["test"][figure] for seed in seeds])
                difference = values - base
                if way != "random":
                    line[f"{figure}_difference"] = float(difference.mean())
                if way != "random" and len(seeds) > 1:
                    half = t.ppf(0.975, len(seeds) - 1) * difference.std(ddof=1) / np.sqrt(len(seeds))
                    line[f"{figure}_half"] = float(half)
            lines.append(line)
    return lines


def format_table(lines: Sequence[dict[str, Any]]) -> str:
    """Format the table in Markdown."""
    head = "| data | images | way | seeds | OKS AP | from random | within 0.1 | from random |\n" + "|---" * 8 + "|"

    def difference(line: dict[str, Any], figure: str) -> str:
        if f"{figure}_difference" not in line:
            return "–"
        half = line.get(f"{figure}_half")
        return f"{line[f'{figure}_difference']:+.3f}" + ("" if half is None else f" ± {half:.3f}")

    body = [
        f"| {line['data']} | {line['images']} | {line['way']} | {line['seeds']}"
        f" | {line['AP']:.3f} | {difference(line, 'AP')} | {line['within']:.3f} | {difference(line, 'within')} |"
        for line in lines
    ]
    return "\n".join([head, *body])


def main() -> None:
    """Run the cells that are not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--start", type=int, default=20)
    parser.add_argument("--step", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--table", action="store_true", help="run nothing")
    options = parser.parse_args()
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    budget = Budget(options.start, options.step, options.epochs, options.imgsz)
    rows = read_rows(work, budget)
    data = [name for name in options.data if PROTOCOLS[name].is_here]
    for name in sorted(set(options.data) - set(data)):
        print(f"{name}: skipped, its annotations are not at hand; set KEYPIPE_SHARED_DATA to their folder")
    for cell in list_cells(data, options.seeds, options.rounds):
        if cell not in rows and not options.table:
            rows[cell] = run_cell(work, cell, budget, rows)
            print(f"{cell.name}: {rows[cell]['images']} images, {rows[cell]['test']}", flush=True)
    print(format_table(summarise(rows)))


if __name__ == "__main__":
    main()
