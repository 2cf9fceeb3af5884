"""keypipe's default ``train.loss_sigma`` beside plain Ultralytics, which takes 1/n for n keypoints.

All train from scratch with the same images, steps and seeds: keypipe and ``ultralytics`` with the same arguments,
``defaults`` with what Ultralytics takes when it is told no more than epochs, image size and batch. The weights that
each calls best are measured on the test split by keypipe's evaluation, sigma 0.1. Cells that a results file holds are
not run again.

    python -m benchmarks.loss_sigma --work FOLDER [--data setsquare mos demo] [--seeds 0 1 2] [--only ultralytics]
    python -m benchmarks.loss_sigma --work FOLDER --summarise
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.trainings import (
    PROTOCOLS,
    SHARED_DATA,
    plain_command,
    plain_environment,
    prepare,
    run_quietly,
    set_training,
)
from benchmarks.workspace import environment, stage
from keypipe.dataset.coco import CocoFile, parse_coco
from keypipe.dataset.yolo import expand_sigmas
from keypipe.evaluation.evaluation import Detection, evaluate

VARIANTS = ("ultralytics", "defaults", "keypipe")
TOLD = ("epochs", "imgsz", "batch")
"""Arguments that Ultralytics is given when it is to take its own defaults."""
SIGMA = 0.1
DRAWS = 200
RESULTS = "loss_sigma.jsonl"


def main() -> None:
    """Run cells, then print the table and write ``loss_sigma.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for workspaces and results; kept")
    parser.add_argument("--data", nargs="+", choices=[*PROTOCOLS], default=["setsquare", "setsquare256", "mos", "demo"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only", choices=VARIANTS, help="one of them, to share the work between processes")
    parser.add_argument("--summarise", action="store_true", help="run nothing")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.data:
        if options.summarise:
            continue
        if not PROTOCOLS[name].is_here:
            print(f"{name}: skipped, {SHARED_DATA / str(PROTOCOLS[name].folder)} is not there")
            continue
        for seed in options.seeds:
            for variant in [options.only] if options.only else VARIANTS:
                run_cell(options.work, name, variant, seed)
    rows = summarise(options.work, options.data)
    (options.work / "loss_sigma.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(format_table(rows))


def read_cells(work: Path) -> list[dict[str, Any]]:
    """Return the cells that were run."""
    path = work / RESULTS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def run_cell(work: Path, name: str, variant: str, seed: int) -> None:
    """Train and measure once, unless it was done."""
    if any((cell["data"], cell["variant"], cell["seed"]) == (name, variant, seed) for cell in read_cells(work)):
        return
    source = work / name
    if not source.exists():
        partial = work / f"{name}.{variant}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        prepare(partial, PROTOCOLS[name])
        if source.exists():
            shutil.rmtree(partial)
        else:
            partial.rename(source)
    root = work / f"{name}-{variant}-{seed}"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(source, root, symlinks=True)
    arguments = PROTOCOLS[name].arguments
    if variant == "keypipe":
        set_training(root, seed, arguments)
        run_quietly(stage("split"), root, environment())  # data.yaml carries the sigmas that training ends with
        run_quietly(stage("train"), root, environment())
        weights = root / "models/best.pt"
    else:
        if variant == "defaults":
            arguments = {name: arguments[name] for name in TOLD}
        run_quietly(plain_command(root, seed, arguments), root, plain_environment(root))
        weights = root / "plain/run/weights/best.pt"
    detections = predict(root, weights, work)
    cell = {"data": name, "variant": variant, "seed": seed, **measure(read_truth(root), detections)}
    (work / f"{root.name}.detections.json").write_bytes(msgspec.json.encode(detections))
    shutil.copy2(root / "data/dataset/annotations/test.json", work / f"{name}.test.json")
    with (work / RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(cell) + "\n")
    print(cell, flush=True)
    shutil.rmtree(root)


def read_truth(root: Path) -> CocoFile:
    return parse_coco((root / "data/dataset/annotations/test.json").read_bytes())


def predict(root: Path, weights: Path, home: Path, *, mirror: bool = False) -> list[Detection]:
    """Return what weights find on the test split.

    Args:
        root: the workspace.
        weights: the checkpoint.
        home: for the engine's settings, one folder for all workspaces of a process.
        mirror: look at every image mirrored as well.
    """
    from tasks.engine.door.inference import engine
    from tasks.grading.detections import to_detections
    from tasks.workspace.dataset import read_schema

    engine().configure(home)
    data = (root / "data/yolo/data.yaml").resolve()
    machine = {"device": "cpu", "workers": 0}
    schema = read_schema(root)
    flip_idx = schema.flip_idx if mirror else None
    options: dict[str, Any] = {"batch": 16, "imgsz": None, "scratch": root / "measured", "mirror": flip_idx}
    result = engine().validate(weights, data, "test", machine, **options)
    return to_detections(result.predictions, read_truth(root), schema)


def measure(truth: CocoFile, detections: Sequence[Detection]) -> dict[str, float]:
    """Return AP, AP50 and the share of keypoints within 0.1 box diagonals, at evaluation sigma 0.1."""
    sigmas = {category.name: expand_sigmas(SIGMA, len(category.keypoints), "sigma") for category in truth.categories}
    found = evaluate(truth, detections, sigmas)
    return {"AP": found.oks["AP"] or 0.0, "AP50": found.oks["AP50"] or 0.0, "within": found.within or 0.0}


def summarise(work: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the mean over the seeds of each variant, with 95 % intervals by bootstrap over the test images.

    The same draws of images serve both variants and all seeds, so that the difference has an interval as well.
    """
    cells: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for cell in read_cells(work):
        cells[cell["data"]][cell["variant"]].append(cell["seed"])
    rows: list[dict[str, Any]] = []
    for name in names:
        there = [variant for variant in VARIANTS if cells[name][variant]]
        seeds = sorted(set.intersection(*(set(cells[name][variant]) for variant in there))) if there else []
        if "keypipe" not in there or not seeds:
            continue
        truth = parse_coco((work / f"{name}.test.json").read_bytes())
        rng = np.random.default_rng(0)
        n_images = len(truth.images)
        draws = [np.arange(n_images), *rng.integers(0, n_images, (DRAWS, n_images))]
        values = {variant: _bootstrap(work, name, variant, seeds, truth, draws) for variant in there}
        for figure in ("AP", "AP50", "within"):
            of = {variant: np.array([value[figure] for value in values[variant]]) for variant in there}
            row = {"data": name, "seeds": seeds, "figure": figure, "keypipe": _with_interval(of["keypipe"])}
            for variant in there[:-1]:
                row[variant] = _with_interval(of[variant])
                row[f"over_{variant}"] = _with_interval(of["keypipe"] - of[variant])
                row[f"ratio_{variant}"] = float(of["keypipe"][0] / of[variant][0]) if of[variant][0] else None
            rows.append(row)
    return rows


def _bootstrap(
    work: Path, name: str, variant: str, seeds: Sequence[int], truth: CocoFile, draws: Sequence[Any]
) -> list[dict[str, float]]:
    """Return figures, mean over the seeds, for all images and for each draw of them."""
    found = [
        msgspec.json.decode((work / f"{name}-{variant}-{seed}.detections.json").read_bytes(), type=list[Detection])
        for seed in seeds
    ]
    means: list[dict[str, float]] = []
    for draw in draws:
        figures = [measure(*_resample(truth, detections, draw)) for detections in found]
        means.append({key: float(np.mean([item[key] for item in figures])) for key in figures[0]})
    return means


def _resample(truth: CocoFile, detections: Sequence[Detection], draw: Any) -> tuple[CocoFile, list[Detection]]:
    """Repeat images as drawn; each copy is an image of its own."""
    objects, found = defaultdict(list), defaultdict(list)
    for annotation in truth.annotations:
        objects[annotation.image_id].append(annotation)
    for detection in detections:
        found[detection.image_id].append(detection)
    images, annotations, kept = [], [], []
    for number, index in enumerate(draw, 1):
        image = truth.images[index]
        images.append(msgspec.structs.replace(image, id=number))
        for annotation in objects[image.id]:
            new = msgspec.structs.replace(annotation, id=len(annotations) + 1, image_id=number)
            annotations.append(new)
        kept += [msgspec.structs.replace(detection, image_id=number) for detection in found[image.id]]
    return CocoFile(images, annotations, truth.categories), kept


def _with_interval(values: Any) -> list[float]:
    """Return the value over all images, and the 2.5th and 97.5th percentile of the draws."""
    return [float(values[0]), *(float(value) for value in np.percentile(values[1:], [2.5, 97.5]))]


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table that a person reads; what stands last is keypipe less Ultralytics with the same arguments."""
    lines = ["| data | seeds | figure | same arguments | its defaults | keypipe | gain |", "|---" * 7 + "|"]
    for row in rows:
        shown = [
            f"{row[key][0]:.3f} ({row[key][1]:.3f} to {row[key][2]:.3f})" if key in row else ""
            for key in ("ultralytics", "defaults", "keypipe", "over_ultralytics")
        ]
        lines.append(f"| {row['data']} | {len(row['seeds'])} | {row['figure']} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
