"""``keypipe predict`` against ``yolo predict`` with the same ONNX file: an image at steady state, and the whole.

    python -m benchmarks.prediction --work FOLDER [--case small photos large video] [--rounds 3] [--label TEXT]
        [--program keypipe yolo ...] [--table]

Each program predicts on a few images and on many; what the many take longer is the time of an image at steady state,
which the start has no part in. The programs take turns, so that a machine's drift meets all. Ratios are those of
`yolo predict` in the same round, in processor time (user and system, of all processes) and in time, both at steady
state: above 1 the program is ahead. All of them write what they found, as JSON or as label files.

The small drawings and the video have a model that is trained on the demo for some minutes; the photos one of random
weights for inputs of 640 px, with the score from which it counts chosen so that it finds two objects on an image.

Every run is appended to ``prediction.jsonl`` in the folder, and the same command goes on after a stop. ``--label``
keeps the runs of one state of the code apart from those of another.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from benchmarks.prediction.material import CASES, Case, choose_conf, make_model, make_sources, train_model
from benchmarks.prediction.programs import PROGRAMS, Work, predict
from benchmarks.prediction.table import format_table
from benchmarks.serving.records import Records
from keypipe.keypoints.predictions import DEFAULT_CONF

_OBJECTS = 2  # on an image, of the model of random weights


def prepare(work: Path, name: str, case: Case) -> list[Work]:
    """Return what the programs predict with and on, first few images, then many."""
    few, many = make_sources(work / name, case)
    model = work / ("trained.onnx" if case.trained else "random.onnx")
    if not model.exists():
        scratch = work / "scratch"
        scratch.mkdir(exist_ok=True)
        (train_model(scratch) if case.trained else make_model(scratch, 640)).rename(model)
    conf = DEFAULT_CONF if case.trained else choose_conf(model, few, _OBJECTS)
    return [Work(model, few, conf), Work(model, many, conf)]


def main() -> None:
    """Measure what is not yet there, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of images, models and what was found; kept")
    parser.add_argument("--case", nargs="+", choices=[*CASES], default=[*CASES])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", nargs="+", choices=[*PROGRAMS], default=[*PROGRAMS])
    parser.add_argument("--label", default="", help="which state of the code it is")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    folder: Path = options.work.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    records = Records(folder / "prediction.jsonl")
    wanted = [
        (name, (options.label, program, turn, size))
        for name in options.case
        for turn in range(options.rounds)
        for size in ("few", "many")
        for program in options.program
        if not records.has(name, [options.label, program, turn, size])
    ]
    if not options.table:
        minutes = sum(CASES[name].seconds / 60 / len(PROGRAMS) / 2 for name, _ in wanted)
        print(
            f"{len(wanted)} runs, about {minutes:.0f} minutes; making what is predicted on takes some more", flush=True
        )
        for name, key in wanted:
            _, program, _, size = key
            work = prepare(folder, name, CASES[name])[size == "many"]
            took, objects = predict(program, work, folder)
            records.add(name, list(key), {**took._asdict(), "objects": objects})
            print(f"{name} {program} {size}: {took.seconds:.1f} s, of processors {took.processor_s:.1f} s", flush=True)
        shutil.rmtree(folder / "aside", ignore_errors=True)
    print(format_table(records, options.label, options.case))


if __name__ == "__main__":
    main()
