"""How evenly images are dealt onto folds and splits: keypipe's own dealing beside scikit-learn's.

    python -m benchmarks.splits [--folds 5] [--ratios 0.8,0.1,0.1] [--seeds 10]

Measured on the demo, on drawn data with groups, and on real annotations where they are at hand (KEYPIPE_SHARED_DATA).
scikit-learn takes one label an image: the classes on it and the range of its number of objects, which is what keypipe
balances by, and ``StratifiedGroupKFold`` deals. Both get the same images and groups. For splits it deals as many folds
as fill the whole with the smallest split, and each split takes as many as its share is. Printed is the mean over the
seeds of

- chi2: Pearson's chi-square of images, of objects of each class and of ranges of object numbers over the parts,
  a degree of freedom; 1 is what drawing by lot gives on average;
- worst class: by how much a part's number of objects of a class is off its share at most, as a part of the share;
- sizes: by how many images the part that is most off in size is off.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.doctor import DEMO
from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import LabelmeOptions
from keypipe.demo.scene import write_demo
from keypipe.keypoints.skeleton import Schema, parse_schema
from keypipe.splits.balance import IMAGES, count_features, deal, sum_features
from keypipe.splits.contents import Sample

MOSFET = {"keypoints": ["Drain", "Source", "Gate"]}
REAL = {
    "set squares": ("setsquare", {"sjb_rect": {"keypoints": ["angle_30", "angle_60", "angle_90"]}}),
    "circuit_mos": ("circuit_mos", {"nmos": MOSFET, "pmos": MOSFET}),
}

Dealer = Callable[[Sequence[Sample], Sequence[float], int], Sequence[int]]


def read_samples(raw: Path, schema: Schema) -> list[Sample]:
    """Read a folder of labelme files; every image is a group of its own."""
    images = [file.image for file in read_folder(raw, schema, LabelmeOptions(), "negative").files if file.image]
    return [
        Sample(image.path, image.md5, count_features([item.class_name for item in image.instances]), image.path)
        for image in images
    ]


def draw_samples(n: int, n_groups: int, seed: int) -> list[Sample]:
    """Draw images with 0 to 9 objects of a frequent, a usual and a rare class, in groups of very different sizes."""
    rng = np.random.default_rng(seed)
    groups = rng.geometric(1 / n_groups, n)
    samples: list[Sample] = []
    for index, group in enumerate(groups.tolist()):
        count = int(rng.choice(10, p=[0.1, 0.4, 0.2, 0.1, 0.08, 0.04, 0.03, 0.02, 0.02, 0.01]))
        objects = rng.choice(["cow", "calf", "bull"], count, p=[0.8, 0.16, 0.04]).tolist()
        samples.append(Sample(f"raw/{index:04d}.jpg", str(index), count_features(objects), f"g{group}"))
    return samples


def deal_by_keypipe(samples: Sequence[Sample], shares: Sequence[float], seed: int) -> list[int]:
    """Deal groups as split does."""
    names = sorted({sample.group for sample in samples})
    members = [[number for number, sample in enumerate(samples) if sample.group == name] for name in names]
    units = [tuple(sum_features(samples[number].features for number in some).items()) for some in members]
    ratios = {str(part): share for part, share in enumerate(shares)}
    dealt = deal(units, {part: {} for part in ratios}, ratios, seed)
    part_of = {number: int(part) for some, part in zip(members, dealt, strict=True) for number in some}
    return [part_of[number] for number in range(len(samples))]


def deal_by_scikit_learn(samples: Sequence[Sample], shares: Sequence[float], seed: int) -> list[int]:
    """Deal groups as ``StratifiedGroupKFold`` does."""
    from sklearn.model_selection import StratifiedGroupKFold

    labels = [
        ",".join(sorted(name if kind != "images" else "" for (kind, name), _ in sample.features)) for sample in samples
    ]
    codes = np.unique(labels, return_inverse=True)[1]
    part_of_fold = np.repeat(np.arange(len(shares)), np.rint(np.asarray(shares) / min(shares)).astype(int))
    parts = np.zeros(len(samples), dtype=int)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        splitter = StratifiedGroupKFold(len(part_of_fold), shuffle=True, random_state=seed)
        for fold, (_, held) in enumerate(splitter.split(codes, codes, [sample.group for sample in samples])):
            parts[held] = part_of_fold[fold]
    return parts.tolist()


def measure(samples: Sequence[Sample], parts: Sequence[int], shares: Sequence[float]) -> tuple[float, float, float]:
    """Return chi-square a degree of freedom, the worst class, and how far off the worst size is, images."""
    total = sum_features(sample.features for sample in samples)
    have = [
        sum_features(sample.features for sample, at in zip(samples, parts, strict=True) if at == part)
        for part in range(len(shares))
    ]
    off = {
        name: [some[name] / (n * share) - 1 for some, share in zip(have, shares, strict=True)]
        for name, n in total.items()
    }
    chi2 = sum(
        value**2 * total[name] * share
        for name, values in off.items()
        for value, share in zip(values, shares, strict=True)
    )
    worst = max(abs(value) for (kind, _), values in off.items() if kind == "objects" for value in values)
    size = max(abs(some[IMAGES] - total[IMAGES] * share) for some, share in zip(have, shares, strict=True))
    return chi2 / (len(total) * (len(shares) - 1)), worst, size


def datasets() -> dict[str, Callable[[int], list[Sample]]]:
    """Return what is measured, by name: seed to samples."""
    found: dict[str, Callable[[int], list[Sample]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        write_demo(Path(scratch) / "raw", 240, 0)
        demo = read_samples(Path(scratch) / "raw", DEMO)
    found["demo, 240 images"] = lambda _seed: demo
    data = Path(os.environ.get("KEYPIPE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    for name, (folder, classes) in REAL.items():
        if (data / folder).exists():
            samples = read_samples(data / folder / "labelme", parse_schema({"classes": classes}))
            found[f"{name}, {len(samples)} images"] = lambda _seed, samples=samples: samples
            grouped = [
                msgspec.structs.replace(sample, group=f"g{number // 3}") for number, sample in enumerate(samples)
            ]
            found[f"{name}, three images a group"] = lambda _seed, grouped=grouped: grouped
    found["drawn, 400 images, some 40 groups or more"] = lambda seed: draw_samples(400, 40, seed)
    found["drawn, 2000 images, some 200 groups or more"] = lambda seed: draw_samples(2000, 200, seed)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--ratios", default="0.8,0.1,0.1", help="of train, val and test")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    samples = datasets()
    print(f"Onto {arguments.folds} folds:")
    print_table(samples, [1 / arguments.folds] * arguments.folds, arguments.seeds)
    print(f"\nOnto train, val and test, {arguments.ratios}:")
    print_table(samples, [float(ratio) for ratio in arguments.ratios.split(",")], arguments.seeds)


def print_table(datasets: dict[str, Callable[[int], list[Sample]]], shares: Sequence[float], n_seeds: int) -> None:
    """Print what both dealers make of every dataset."""
    print("| dataset | dealing | chi2 | worst class | sizes |")
    print("|---|---|---:|---:|---:|")
    dealers: dict[str, Dealer] = {"keypipe": deal_by_keypipe, "StratifiedGroupKFold": deal_by_scikit_learn}
    for name, draw in datasets.items():
        for dealer, deal_samples in dealers.items():
            figures = np.mean(
                [
                    measure(samples := draw(seed), deal_samples(samples, shares, seed), shares)
                    for seed in range(n_seeds)
                ],
                axis=0,
            )
            print(f"| {name} | {dealer} | {figures[0]:.3f} | {figures[1]:.1%} | {figures[2]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
