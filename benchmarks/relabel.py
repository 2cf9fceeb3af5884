"""How many wrong labels `keypipe relabel` finds, and how many of those that it names are wrong.

    python -m benchmarks.relabel --work FOLDER [--data demo] [--images 240] [--share 0.2] [--folds 3] [--epochs 40]
        [--imgsz 160] [--seed 0] [--model FILE.onnx]

Takes annotated images, makes one object wrong on a share of them, in ten ways in turn, and lets keypipe train a model
for each fold on these labels and look at the images that it has not learnt from. The ten ways are after what SLEAP's
label QC looks for (a keypoint displaced, names exchanged, an order that is wrong, a pose split over two animals, a
keypoint that is missing). A suspect counts as right if it is of an object that was made wrong, whatever it is said to
be. Reported are precision among the first 20; precision, recall and F1 of all that are suspected; recall by kind.

Without wrong labels (``--share 0``) it lists what it finds among the real ones. Set squares and circuit_mos are read
where they are at hand (KEYPIPE_SHARED_DATA). The same command goes on after a stop, a training at its last whole epoch.
``--model`` takes a model that was trained on other images and sound labels instead of training folds: minutes instead
of hours, and a kinder test.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.trainings import PROTOCOLS, SHARED_DATA, edit_params, run_quietly, set_training
from benchmarks.workspace import environment, make_workspace, stage
from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import LabelmeOptions, format_labelme, to_shapes
from keypipe.demo.scene import write_demo
from keypipe.images.media import read_image
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.keypoints.boxes import Box, box_iou
from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint
from keypipe.keypoints.skeleton import Schema, parse_schema
from keypipe.ranking.suspects import LIMIT, Seen, Suspect, find_suspects
from tasks.labelling.held_out import CONF, predict_held_out
from tasks.progress import tell_in_lines

Labels = dict[str, Keypoint]
Wronger = Callable[[Instance, Schema, Sequence[Instance], np.random.Generator], Labels | None]
DATA = ("demo", "setsquare", "mos")
FIRST = 20
RESULTS = "relabel.jsonl"
WRONG = "wrong.json"


class Wrong(msgspec.Struct, frozen=True):
    """An object that was made wrong: its image below ``data/raw``, how, and its box."""

    image: str
    kind: str
    box_xyxy: Box


def _diagonal(instance: Instance) -> float:
    left, top, right, bottom = instance.box_xyxy
    return float(np.hypot(right - left, bottom - top))


def _displaced(low: float, high: float) -> Wronger:
    def make(instance: Instance, _s: Schema, _o: Sequence[Instance], rng: np.random.Generator) -> Labels:
        name = str(rng.choice(list(instance.keypoints)))
        away, angle = rng.uniform(low, high) * _diagonal(instance), rng.uniform(0, 2 * np.pi)
        point = instance.keypoints[name]
        moved = Keypoint(point.x + away * np.cos(angle), point.y + away * np.sin(angle), point.visibility)
        return instance.keypoints | {name: moved}

    return make


def _rename(instance: Instance, names: Sequence[str]) -> Labels:
    """Give each keypoint of a list the place of the one that follows it."""
    return instance.keypoints | {
        name: instance.keypoints[other] for name, other in zip(names, [*names[1:], names[0]], strict=True)
    }


def _pairs(instance: Instance, schema: Schema) -> list[tuple[str, str]]:
    pairs = schema.classes[instance.class_name].pairs
    return [(a, b) for a, b in pairs if a in instance.keypoints and b in instance.keypoints]


def one_pair(instance: Instance, schema: Schema, _o: Sequence[Instance], rng: np.random.Generator) -> Labels | None:
    """Exchange a left and a right."""
    pairs = _pairs(instance, schema)
    return _rename(instance, pairs[rng.integers(len(pairs))]) if pairs else None


def all_pairs(instance: Instance, schema: Schema, _o: Sequence[Instance], _r: np.random.Generator) -> Labels | None:
    """Exchange every left and right."""
    labels = dict(instance.keypoints)
    for a, b in _pairs(instance, schema):
        labels[a], labels[b] = labels[b], labels[a]
    return labels if labels != instance.keypoints else None


def two_names(instance: Instance, schema: Schema, _o: Sequence[Instance], rng: np.random.Generator) -> Labels | None:
    """Exchange two keypoints that are no pair."""
    partners = schema.classes[instance.class_name].partners()
    names = [str(name) for name in rng.permutation(list(instance.keypoints))]
    other = next((name for name in names[1:] if partners.get(names[0]) != name), None)
    return _rename(instance, [names[0], other]) if other else None


def order(instance: Instance, _s: Schema, _o: Sequence[Instance], rng: np.random.Generator) -> Labels | None:
    """Shift three names or more by one."""
    names = list(instance.keypoints)
    if len(names) < 3:
        return None
    start, count = int(rng.integers(len(names))), int(rng.integers(3, min(len(names), 5) + 1))
    return _rename(instance, [names[(start + step) % len(names)] for step in range(count)])


def missing(instance: Instance, _s: Schema, _o: Sequence[Instance], rng: np.random.Generator) -> Labels | None:
    """Leave out a keypoint."""
    name = str(rng.choice(list(instance.keypoints)))
    return {key: point for key, point in instance.keypoints.items() if key != name}


def shifted(instance: Instance, _s: Schema, _o: Sequence[Instance], rng: np.random.Generator) -> Labels:
    """Shift the whole pose in its box."""
    away, angle = rng.uniform(0.12, 0.25) * _diagonal(instance), rng.uniform(0, 2 * np.pi)
    dx, dy = away * np.cos(angle), away * np.sin(angle)
    return {name: Keypoint(p.x + dx, p.y + dy, p.visibility) for name, p in instance.keypoints.items()}


def split_pose(instance: Instance, _s: Schema, others: Sequence[Instance], rng: np.random.Generator) -> Labels | None:
    """Take half of the keypoints from another object of the class."""
    rivals = [other for other in others if other.class_name == instance.class_name]
    if not rivals:
        return None
    rival = rivals[rng.integers(len(rivals))]
    names = [name for name in instance.keypoints if name in rival.keypoints]
    taken = rng.permutation(names)[: max(1, len(names) // 2)].tolist()
    return instance.keypoints | {name: rival.keypoints[name] for name in taken} if taken else None


def collapsed(instance: Instance, _s: Schema, _o: Sequence[Instance], rng: np.random.Generator) -> Labels | None:
    """Put a keypoint where another one is."""
    names = [str(name) for name in rng.permutation(list(instance.keypoints))]
    return instance.keypoints | {names[0]: instance.keypoints[names[1]]} if len(names) > 1 else None


WAYS: dict[str, Wronger] = {
    "displaced a little": _displaced(0.08, 0.15),
    "displaced far": _displaced(0.25, 0.5),
    "one pair exchanged": one_pair,
    "all pairs exchanged": all_pairs,
    "two names exchanged": two_names,
    "order shifted": order,
    "keypoint missing": missing,
    "pose shifted": shifted,
    "pose of two objects": split_pose,
    "one on another": collapsed,
}


def _visibly_differs(labels: Labels, instance: Instance) -> bool:
    """Tell whether a person would mend it: on narrow objects an exchange may be next to nothing."""
    if labels.keys() != instance.keypoints.keys():
        return True
    away = [np.hypot(labels[name].x - p.x, labels[name].y - p.y) for name, p in instance.keypoints.items()]
    return max(away) >= 0.05 * _diagonal(instance)


def _inside(labels: Labels, size_wh: tuple[int, int]) -> bool:
    return all(0 <= p.x <= size_wh[0] and 0 <= p.y <= size_wh[1] for p in labels.values())


def make_wrong(
    images: Sequence[AnnotatedImage], schema: Schema, share: float, seed: int
) -> tuple[list[AnnotatedImage], list[Wrong]]:
    """Make an object wrong on a share of the images.

    Returns:
        All images, and what is wrong.
    """
    rng = np.random.default_rng([15, seed])
    chosen = set(rng.permutation(len(images))[: round(share * len(images))].tolist())
    kinds = list(WAYS)
    made: list[AnnotatedImage] = []
    wrong: list[Wrong] = []
    for number, image in enumerate(images):
        instances = list(image.instances)
        if number in chosen and instances:
            for attempt in range(5 * len(kinds)):
                kind = kinds[(len(wrong) + attempt // 5) % len(kinds)]
                at = int(rng.integers(len(instances)))
                one = instances[at]
                if len(one.keypoints) < 2:
                    continue
                labels = WAYS[kind](one, schema, [o for o in instances if o is not one], rng)
                if labels is not None and _inside(labels, image.size_wh) and _visibly_differs(labels, one):
                    instances[at] = msgspec.structs.replace(one, keypoints=labels)
                    wrong.append(Wrong(image.path.partition("/")[2], kind, one.box_xyxy))
                    break
        made.append(msgspec.structs.replace(image, instances=tuple(instances)))
    return made, wrong


def read_images(root: Path, options: argparse.Namespace, schema: Schema) -> tuple[Path, list[AnnotatedImage]]:
    """Return the folder of the annotated images, and those without faults; the demo is drawn first."""
    protocol = PROTOCOLS[options.data]
    source = root / "source" if protocol.folder is None else SHARED_DATA / protocol.folder
    if protocol.folder is None and not source.exists():
        write_demo(source, options.images, options.seed)
    folder = read_folder(source, schema, LabelmeOptions())
    at_fault = {fault.file for fault in folder.faults}
    files = [file for file in folder.files if file.image and not file.derived and file.source not in at_fault]
    return source, [file.image for file in files if file.image][: options.images]


def prepare(root: Path, options: argparse.Namespace) -> None:
    """Make the workspace with its wrong labels, converted and dealt into folds; one that is there is gone on with."""
    if (root / "prepared").exists():
        return
    protocol = PROTOCOLS[options.data]
    schema = parse_schema(protocol.schema)
    if not (root / "params.yaml").exists():
        make_workspace(root, protocol.schema)
    source, images = read_images(root, options, schema)
    made, wrong = make_wrong(images, schema, options.share, options.seed)
    for image in made:
        place = root / "data/raw" / image.path.partition("/")[2]
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            os.link(source / image.path.partition("/")[2], place) if protocol.folder is None else place.write_bytes(
                (source / image.path.partition("/")[2]).read_bytes()
            )
        text = format_labelme(to_shapes(image.instances), place.name, image.size_wh)
        place.with_suffix(".json").write_text(text, encoding="utf-8")
    (root / WRONG).write_bytes(msgspec.json.encode(wrong))
    split = {"train": 0.8, "val": 0.2, "test": 0.0, "folds": options.folds}
    edit_params(root, {"split": split, "convert": {"on_error": "quarantine"}, "doctor": {"fail_on": "never"}})
    set_training(root, options.seed, {**protocol.arguments, "epochs": options.epochs, "imgsz": options.imgsz})
    (root / "local.yaml").write_text("device: cpu\n")
    for name in ("convert", "split"):
        run_quietly(stage(name), root, environment())
    (root / "prepared").touch()


def is_right(suspect: Suspect, wrong: Sequence[Wrong]) -> Wrong | None:
    """Return the wrong object that a suspect names."""
    for one in wrong:
        same = box_iou(np.array(one.box_xyxy), np.array(suspect.box_xyxy)) >= 0.5
        if one.image == suspect.image.partition("/")[2] and same:
            return one
    return None


def tally(suspects: Sequence[Suspect], wrong: Sequence[Wrong]) -> dict[str, Any]:
    """Count: precision among the first 20, and precision, recall and F1 of all."""
    hits = [is_right(suspect, wrong) for suspect in suspects]
    found = {(hit.image, hit.box_xyxy) for hit in hits if hit}
    right = sum(hit is not None for hit in hits)
    precision = right / len(suspects) if suspects else 0.0
    recall = len(found) / len(wrong) if wrong else 0.0
    by_kind = Counter(one.kind for one in wrong)
    found_kinds = Counter(one.kind for one in wrong if (one.image, one.box_xyxy) in found)
    first = hits[:FIRST]
    return {
        "wrong": len(wrong),
        "suspects": len(suspects),
        "precision_at_20": sum(hit is not None for hit in first) / max(len(first), 1),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "by_kind": {kind: [found_kinds[kind], by_kind[kind]] for kind in WAYS if by_kind[kind]},
        "false_by_kind": dict(Counter(one.kind for one, hit in zip(suspects, hits, strict=True) if hit is None)),
    }


def look_with(root: Path, options: argparse.Namespace) -> list[Seen]:
    """Look at the wrong labels with a model that was trained elsewhere, on none of these images and on sound labels."""
    schema = parse_schema(PROTOCOLS[options.data].schema)
    source, images = read_images(root, options, schema)
    made, wrong = make_wrong(images, schema, options.share, options.seed)
    root.mkdir(parents=True, exist_ok=True)
    (root / WRONG).write_bytes(msgspec.json.encode(wrong))
    predictor = Predictor(*load_onnx_model(options.model))
    pictures = (read_image(source / image.path.partition("/")[2]) for image in made)
    found = [predictor.predict_image(picture, Thresholds(conf=CONF)) for picture in pictures]
    return [Seen(image, predictions) for image, predictions in zip(made, found, strict=True)]


def measure(root: Path, options: argparse.Namespace) -> tuple[list[Suspect], dict[str, Any]]:
    """Train the folds, or take the model that is named, and look for what is wrong."""
    began = time.monotonic()
    if options.model:
        seen = look_with(root, options)
    else:
        prepare(root, options)
        seen = predict_held_out(root, tell_in_lines("relabel"))
    schema = parse_schema(PROTOCOLS[options.data].schema)
    suspects = find_suspects(seen, schema)
    wrong = msgspec.json.decode((root / WRONG).read_bytes(), type=list[Wrong])
    by = ("data", "share", "seed") if options.model else ("data", "share", "folds", "epochs", "imgsz", "seed")
    row: dict[str, Any] = {name: getattr(options, name) for name in by}
    row |= {"images": len(seen), "limit": LIMIT, "seconds": round(time.monotonic() - began)}
    return suspects, row | tally(suspects, wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", choices=DATA, default="demo")
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, help="trained on other images; no folds are trained then")
    options = parser.parse_args()
    if not PROTOCOLS[options.data].is_here:
        parser.error(f"{options.data}: its annotations are not at hand; set KEYPIPE_SHARED_DATA to their folder")
    name = "-".join(
        str(getattr(options, key)) for key in ("data", "images", "share", "folds", "epochs", "imgsz", "seed")
    )
    suspects, row = measure(options.work.absolute() / name, options)
    with (options.work / RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    for number, found in enumerate(suspects[:FIRST], start=1):
        print(f"{number:3} {found.score:7.1f}  {found.kind:17} {found.source}  {', '.join(found.keypoints)}")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
