"""The model card: what a person should know before using a version, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from keypipe.dataset.yolo import SPLITS
from keypipe.diagnosis.findings import describe_kind
from keypipe.errors import format_count
from keypipe.evaluation.bootstrap import FEW_UNITS, Intervals
from tasks.registry.facts import Facts, KeypointFigures, SplitFigures

FILE = "card.md"

MAX_DESCRIPTION = 5000
"""Characters that MLflow's database has room for in a version's description."""

_SWAPPED = 0.05  # share of a keypoint's predictions at its partner's place that is worth a word
_WORSE = 2.0  # times the median error of all keypoints that is worth a word
_FIGURES = (
    ("oks_AP", "OKS AP"),
    ("oks_AP50", "OKS AP at 0.5"),
    ("within_0.1_diagonals", "Keypoints within 0.1 box diagonals"),
    ("detected", "Objects found"),
)


def to_card(facts: Facts, name: str, gate: Mapping[str, str] | None = None) -> str:
    """Return the card of a version.

    Args:
        facts: what is known of it.
        name: of the registered model.
        gate: what the comparison with the model in use found, by its names.
    """
    sections = [
        _head(facts, name),
        _figures(facts),
        _limits(facts),
        _gate(gate or {}),
        _license(facts),
        _use(name),
        _data(facts),
        _classes(facts),
        _keypoints(facts.figures[facts.primary]),
    ]
    return "\n".join(section.rstrip("\n") + "\n" for section in sections if section)


def to_description(card: str) -> str:
    """Return as much of a card as fits into a version's description, cut between lines."""
    if len(card) <= MAX_DESCRIPTION:
        return card
    rest = f"\n… the rest is in `{FILE}` among the artifacts.\n"
    whole = card[: MAX_DESCRIPTION - len(rest)]
    return whole[: whole.rindex("\n") + 1] + rest


def _head(facts: Facts, name: str) -> str:
    schema, (height, width) = facts.info.schema, facts.info.imgsz
    what = ", ".join(f"{label} ({len(skeleton.keypoints)} keypoints)" for label, skeleton in schema.classes.items())
    return (
        f"# {name}: {what}\n\nFinds objects and their keypoints on single images. YOLO pose network, ONNX, input"
        f" {width} x {height} px, {facts.onnx_bytes / 1e6:.1f} MB.\n\n**{facts.headline()}**\n"
    )


def _figures(facts: Facts) -> str:
    lines = ["## Figures", ""]
    splits = [facts.primary, *(split for split in facts.figures if split != facts.primary)]
    lines += [_row(["", *(f"{split}, 95 % interval" for split in splits)]), _row(["---"] * (len(splits) + 1))]
    for name, title in _FIGURES:
        cells = [_value(facts.figures[split], facts.intervals.get(split), name) for split in splits]
        if any(cells):
            lines.append(_row([title, *cells]))
    of = facts.figures[facts.primary]
    intervals = facts.intervals.get(facts.primary)
    drawn = f" Intervals: bootstrap over {format_count(intervals.units, intervals.unit)}." if intervals else ""
    area = "as annotated" if of.area_rule == "coco" else f"{of.area_factor:g} of the box"
    values = sorted({value for sigmas in of.sigmas.values() for value in sigmas})
    sigmas = f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g} by keypoint" if values else "?"
    told = " Of val the best epoch was chosen, so its figures flatter." if "val" in splits else ""
    lines += ["", f"OKS: sigma {sigmas}, area {area}.{drawn}{told}"]
    return "\n".join(lines) + "\n"


def _value(figures: SplitFigures, intervals: Intervals | None, name: str) -> str:
    interval = intervals.figures.get(name) if intervals else None
    if interval:
        return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
    value = {
        "oks_AP": figures.oks.get("AP"),
        "oks_AP50": figures.oks.get("AP50"),
        "within_0.1_diagonals": figures.within,
        "detected": figures.detected,
    }[name]
    return "" if value is None else f"{value:.3f}"


def _keypoints(figures: SplitFigures) -> str:
    lines = ["## Errors of each keypoint", ""]
    lines += [_row(["keypoint", "labelled", "median error", "close", "object missed"]), _row(["---"] * 5)]
    return "\n".join([*lines, *(_row(_keypoint_cells(point)) for point in figures.keypoints)]) + "\n"


def _keypoint_cells(point: KeypointFigures) -> list[str]:
    error = "" if point.median_px is None else f"{point.median_px:.1f} px, {point.median_diagonals or 0:.3f} diagonals"
    shares = ["" if share is None else f"{share:.0%}" for share in (point.within, point.missed)]
    return [f"{point.class_name} {point.keypoint}", str(point.labelled), error, *shares]


def _limits(facts: Facts) -> str:
    notes = [*_limits_of_measurement(facts), *_limits_of_keypoints(facts.figures[facts.primary]), *facts.warnings]
    for severity, noun in (("error", "error"), ("warning", "warning"), ("info", "note")):
        for kind, number in facts.findings.get(severity, {}).items():
            about = describe_kind(kind)
            notes.append(f"Annotations, {format_count(number, noun)}: {about.title.lower()}. {about.why}".rstrip())
    if facts.set_aside:
        notes.append(f"{format_count(facts.set_aside, 'image')} with faults were left out.")
    notes = notes or ["None were found by the diagnosis and the validation."]
    return "\n".join(["## Limits", "", *(f"- {note}" for note in notes)]) + "\n"


def _limits_of_measurement(facts: Facts) -> Iterable[str]:
    if facts.primary != "test":
        yield "There is no test split: the figures are those of the images that chose the best epoch, and flatter."
    intervals = facts.intervals.get(facts.primary)
    if intervals is None:
        yield "How sure the figures are was not measured."
    elif intervals.units < FEW_UNITS:
        yield (
            f"{format_count(intervals.units, intervals.unit)} are too few to know how sure the figures are; the"
            " intervals are too narrow."
        )
    oks = facts.figures[facts.primary].oks
    for size in ("medium", "large"):
        if f"AP_{size}" in oks and oks[f"AP_{size}"] is None:
            yield f"There are no {size} objects (COCO's sizes) among the {facts.primary} images: unmeasured."


def _limits_of_keypoints(figures: SplitFigures) -> Iterable[str]:
    swapped = [f"{_of(p)} ({p.swapped:.0%})" for p in figures.keypoints if p.swapped and p.swapped >= _SWAPPED]
    if swapped:
        yield f"At their left/right partner's place: {', '.join(swapped)}."
    overall = figures.median_diagonals
    far = [
        f"{_of(p)} ({p.median_diagonals:.3f})"
        for p in figures.keypoints
        if overall and p.median_diagonals is not None and p.median_diagonals > _WORSE * overall
    ]
    if far:
        yield (
            f"Median error of more than {_WORSE:g} times that of all keypoints ({overall:.3f} diagonals):"
            f" {', '.join(far)}."
        )
    unmeasured = [_of(p) for p in figures.keypoints if not p.labelled]
    if unmeasured:
        yield f"Never labelled there, so unmeasured: {', '.join(unmeasured)}."


def _of(point: KeypointFigures) -> str:
    return f"{point.class_name} {point.keypoint}"


def _gate(gate: Mapping[str, str]) -> str:
    if not gate:
        return ""
    rows = [_row([key, value]) for key, value in gate.items()]
    return "\n".join(["## Compared with the model in use", "", _row(["", ""]), _row(["---"] * 2), *rows]) + "\n"


def _classes(facts: Facts) -> str:
    lines = ["## Classes and keypoints", ""]
    for name, skeleton in facts.info.schema.classes.items():
        lines += [f"- **{name}**: {', '.join(skeleton.keypoints)}"]
        if skeleton.pairs:
            lines.append(f"  - left/right pairs: {', '.join(f'{left}/{right}' for left, right in skeleton.pairs)}")
    return "\n".join(lines) + "\n"


def _data(facts: Facts) -> str:
    record = facts.training.record
    lines = ["## Data and training", "", _row(["split", "images", "objects"]), _row(["---"] * 3)]
    sizes = [(split, *facts.counts[split]) for split in SPLITS if split in facts.counts]
    lines += [_row([split, str(images), str(objects)]) for split, images, objects in sizes]
    made = {
        "Annotations and images (DVC)": facts.data or "not versioned",
        "Groups that stay in one split": str(facts.groups) if facts.groups else "",
        "Dataset (DVC)": facts.dataset,
        "Code (git)": record.tags.get("keypipe.git_commit", "")
        + (" with edits" if record.tags.get("keypipe.git_dirty") == "true" else ""),
        "Snapshot (git)": facts.snapshot,
        "Training (MLflow run)": facts.run_id,
        "Fingerprint": record.fingerprint,
        "Trained on": record.tags.get("keypipe.machine", ""),
        "Epochs": facts.training.headline,
    }
    lines += ["", *(f"- {title}: {value}" for title, value in made.items() if value)]
    return "\n".join(lines) + "\n"


def _use(name: str) -> str:
    return f"""## Use

```python
model = mlflow.pyfunc.load_model("models:/{name}@champion")
objects = model.predict(pandas.DataFrame({{"image": [open("photo.jpg", "rb").read()]}}), params={{"conf": 0.25}})
```

One row for each object: `image` (position in the input), `class_name`, `score`, `box_xyxy` and `keypoints` (name, x, y,
confidence), in pixels of the upright image. A low confidence of a keypoint says that it is probably not to be seen.
"""


def _license(facts: Facts) -> str:
    return f"## Licence\n\n{facts.info.license or 'not stated'}\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
