"""What ``keypipe init`` proposes beside the parameters as shipped, at equal work: the same schema, images and split.

Work is the pixels that go through the network in training (images by side by side by epochs), to which the time of a
step is proportional. The shipped parameters get their 70 epochs of 160 px, or as many as ``--epochs`` says; the
proposed ones as many epochs as come to the same pixels, or, with ``--equal steps``, as many epochs. Processor seconds
are written down beside. Both train from scratch; the best weights are measured on the test split by keypipe's
evaluation, sigma 0.1. Cells that the results file holds are not run again.

    python -m benchmarks.proposed --work FOLDER [--data setsquare dlc mos] [--seeds 0] [--epochs 70]
    python -m benchmarks.proposed --work FOLDER --only proposed --without train.degrees
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.loss_sigma import measure, predict, read_truth
from benchmarks.trainings import PROTOCOLS, SHARED_DATA, edit_params, run_quietly
from benchmarks.workspace import ROOT, environment, make_workspace, stage
from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import LabelmeOptions
from keypipe.demo.scene import SCHEMA, write_demo
from keypipe.keypoints.instances import AnnotatedImage
from keypipe.keypoints.skeleton import parse_schema
from tasks.commands.label_import import ImportOptions, import_labels
from tasks.progress import tell_nobody
from tasks.starting.looking import Source
from tasks.starting.start import use_folder

DATA = ("setsquare", "dlc", "mos")
VARIANTS = ("shipped", "proposed")
RESULTS = "proposed.jsonl"
SHIPPED_PX = 160
SHIPPED_EPOCHS = 70


def main() -> None:
    """Run cells, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for workspaces and results; kept")
    parser.add_argument("--data", nargs="+", choices=DATA, default=[*DATA])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--only", choices=VARIANTS)
    parser.add_argument("--without", nargs="+", default=[], help="proposals that are left out, such as train.degrees")
    parser.add_argument("--epochs", type=int, default=SHIPPED_EPOCHS, help="of the shipped parameters")
    parser.add_argument("--equal", choices=("work", "steps"), default="work", help="what both get as much of")
    parser.add_argument("--images", type=int, help="only so many images, evenly spread")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.data:
        if not is_here(name):
            print(f"{name}: skipped, {SHARED_DATA / str(PROTOCOLS[name].folder)} is not there")
            continue
        for seed in options.seeds:
            for variant in [options.only] if options.only else VARIANTS:
                run_cell(
                    options.work, name, variant, seed, options.epochs, options.without, options.images, options.equal
                )
    print(format_table(read_cells(options.work)))


def is_here(name: str) -> bool:
    """Tell whether the annotations of a set are at hand."""
    return name == "dlc" or PROTOCOLS[name].is_here


def read_cells(work: Path) -> list[dict[str, Any]]:
    """Return the cells that were run."""
    path = work / RESULTS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def run_cell(
    work: Path,
    name: str,
    variant: str,
    seed: int,
    epochs: int = SHIPPED_EPOCHS,
    without: Sequence[str] = (),
    n_images: int | None = None,
    equal: str = "work",
) -> None:
    """Train and measure once, unless it was done."""
    key = {"data": name, "variant": variant, "seed": seed, "shipped_epochs": epochs, "without": sorted(without)}
    if variant == "proposed":
        key["equal"] = equal
    if any(all(cell.get(part) == value for part, value in key.items()) for cell in read_cells(work)):
        return
    source = work / name
    if not source.exists():
        partial = work / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        prepare(partial, name, n_images)
        partial.rename(source)
    root = work / f"{name}-{variant}-{seed}"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(source, root, symlinks=True)
    values = read_proposed(root) if variant == "proposed" else {}
    taken = {key: value for key, value in values.items() if key not in without}
    train = set_training(root, taken, seed, epochs, equal)
    run_quietly(stage("split"), root, environment())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_quietly(stage("train"), root, environment())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = measure(read_truth(root), predict(root, root / "models/best.pt", work))
    kept = {key: train[key] for key in ("imgsz", "epochs", "batch", "mosaic", "degrees") if key in train}
    cell = {**key, **figures, "processor_seconds": seconds, "train": kept}
    with (work / RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(cell) + "\n")
    print(cell, flush=True)
    shutil.rmtree(root)


def prepare(root: Path, name: str, n_images: int | None = None) -> None:
    """Make a workspace as ``keypipe use`` leaves it, converted; what it proposed lies in ``.keypipe/proposed.json``."""
    make_workspace(root, dict(SCHEMA))
    shutil.copy2(ROOT / "params.yaml", root / "params.yaml")
    (root / "local.yaml").write_text("device: cpu\n", encoding="utf-8")
    if name == "dlc":
        import_deeplabcut(root, n_images or 120)
        use_folder(root, Source(None))
    else:
        folder = SHARED_DATA / str(PROTOCOLS[name].folder)
        use_folder(root, Source(copy_some(folder, root.with_suffix(".raw"), n_images) if n_images else folder))
    if name == "mos":  # of 23 classes two, and what is proposed for these
        edit_params(root, {"schema": {"classes": PROTOCOLS[name].schema["classes"], "aliases": {}}})
        use_folder(root, Source(None))
    edit_params(root, {"convert": {"on_error": "quarantine"}, "doctor": {"fail_on": "never"}})
    edit_params(root, {"split": {"train": 0.7, "val": 0.1, "test": 0.2}})
    run_quietly(stage("convert"), root, environment())


def copy_some(folder: Path, target: Path, n_images: int) -> Path:
    """Copy some annotated images, evenly spread, for want of time."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    sources = sorted(folder.glob("*.json"))
    for path in sources[:: max(1, len(sources) // n_images)][:n_images]:
        for file in folder.glob(f"{path.stem}.*"):
            shutil.copy2(file, target / file.name)
    return target


def import_deeplabcut(root: Path, n_images: int) -> None:
    """Draw animals, one an image, write their keypoints as DeepLabCut does, and import that."""
    project = root.with_suffix(".dlc") / "labeled-data"
    shutil.rmtree(project.parent, ignore_errors=True)
    drawn = project.parent / "drawn"
    write_demo(drawn, 3 * n_images, 0)
    read = read_folder(drawn, parse_schema(SCHEMA), LabelmeOptions())
    images = [file.image for file in read.files if file.image and len(file.image.instances) == 1][:n_images]
    for number in range(8):
        write_video(project / f"video{number}", drawn, images[number::8])
    import_labels(
        root, "dlc", project.parent, ImportOptions(name="cows", classes=("cow",), write_schema=True), tell_nobody
    )


def write_video(folder: Path, drawn: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write the frames of a video and ``CollectedData_keypipe.csv``."""
    folder.mkdir(parents=True)
    names = parse_schema(SCHEMA).slots
    scorer = "keypipe"
    rows: list[list[Any]] = [
        ["scorer", "", "", *[scorer] * (2 * len(names))],
        ["bodyparts", "", "", *(name for name in names for _ in "xy")],
        ["coords", "", "", *["x", "y"] * len(names)],
    ]
    for number, image in enumerate(images):
        name = f"img{number:04}.jpg"
        shutil.copy2(drawn / image.path.partition("/")[2], folder / name)
        points = image.instances[0].keypoints
        row: list[Any] = ["labeled-data", folder.name, name]
        for key in names:
            row += [points[key].x, points[key].y] if key in points else ["", ""]
        rows.append(row)
    with (folder / f"CollectedData_{scorer}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def read_proposed(root: Path) -> dict[str, Any]:
    """Return what was proposed for the section ``train``, by key."""
    found = json.loads((root / ".keypipe/proposed.json").read_text(encoding="utf-8"))
    return {key: value for key, value in found.items() if key.startswith("train.")}


def set_training(root: Path, proposed: dict[str, Any], seed: int, epochs: int, equal: str = "work") -> dict[str, Any]:
    """Let ``train:`` hold the shipped parameters and what was proposed, for as many epochs as come to the same."""
    ruamel = YAML()
    document = ruamel.load(root / "params.yaml")
    train = ruamel.load(ROOT / "params.yaml")["train"]
    train.update({key.partition(".")[2]: value for key, value in proposed.items()})
    share = SHIPPED_PX**2 / train["imgsz"] ** 2 if equal == "work" else 1.0
    train["epochs"] = max(1, round(epochs * share))
    train["patience"] = 0
    document["seed"], document["train"] = seed, train
    ruamel.dump(document, root / "params.yaml")
    return dict(train)


def format_table(cells: Sequence[dict[str, Any]]) -> str:
    """Return the table that a person reads."""
    lines = ["| data | parameters | input, epochs | AP | AP50 | within 0.1 | processor |", "|---" * 7 + "|"]
    for cell in cells:
        without = f" without {', '.join(cell['without'])}" if cell["without"] else ""
        without += f", equal {cell['equal']}" if "equal" in cell else ""
        train = cell["train"]
        figures = f"{cell['AP']:.3f} | {cell['AP50']:.3f} | {cell['within']:.0%} | {cell['processor_seconds']:.0f} s"
        lines.append(
            f"| {cell['data']} | {cell['variant']}{without} | {train['imgsz']} px, {train['epochs']} | {figures} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
