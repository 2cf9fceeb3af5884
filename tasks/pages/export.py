"""The page about exports: what each format is, how true it is to the weights, and how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from keypipe.evaluation.oks import AreaRule
from keypipe.inference.latency import Advice, Measured
from keypipe.report.page import Cell, Figure, GroupedBarChart, KeyValues, Note, Notes, Report, Section, Table
from tasks.proofs.parity import Proof
from tasks.proofs.timing import PYTORCH, Latency
from tasks.workspace.models import LICENSE


class Summary(msgspec.Struct):
    """``reports/export/report.json``.

    Attributes:
        headline: one line for people.
        imgsz: (height, width) of the models' input, pixels.
        conf: score from which an object counts as found when objects are compared.
        sigmas: evaluation sigmas of each class.
        area_rule: what the object's area is in OKS.
        area_factor: share of the box that stands for it, under the rule ``box``.
        reference_ap: OKS AP of the weights.
        proofs: the exports by short name.
        unproven: title of each export that nothing here can run, and why.
        faults: what is not good enough.
    """

    headline: str
    imgsz: tuple[int, int]
    conf: float
    sigmas: dict[str, list[float]]
    area_rule: AreaRule
    area_factor: float
    reference_ap: float | None
    proofs: dict[str, Proof]
    unproven: dict[str, str]
    faults: list[str]


def to_report(summary: Summary, latency: Latency | None) -> Report:
    """Build the page that a person reads."""
    titles = {PYTORCH: "PyTorch"} | {name: proof.title for name, proof in summary.proofs.items()}
    notes = [Note("error", fault) for fault in summary.faults]
    notes += [Note("warning", f"{title} is not proven: {why}") for title, why in summary.unproven.items()]
    if latency:
        notes += [_to_note(advice, summary, titles) for advice in latency.advice]
    sections: list[Section] = [Notes("What to use here" if latency else "Findings", notes)] if notes else []
    sections.append(_table_of_formats(summary))
    if latency:
        sections += _sections_of_latency(latency, titles)
    sections += [_table_of_anchors(summary), *_tables_of_worst(summary), _how_it_was_measured(summary)]
    return Report("Exported model", summary.headline, sections, _figures(summary, latency, titles), "export")


def _to_note(advice: Advice, summary: Summary, titles: Mapping[str, str]) -> Note:
    """Give advice, and what it costs where the model rounds."""
    text = format_advice(advice, titles)
    proof = summary.proofs.get(advice.best)
    if proof is None or proof.tolerance.exact:
        return Note("good", text)
    cost = f"It rounds: keypoints move by {_format_px(proof.parity.p99_px)} px at the 99th percentile"
    drop = f", OKS AP is {proof.oks_ap:.3f} instead of {summary.reference_ap:.3f}" if proof.oks_ap is not None else ""
    return Note("info", f"{text} {cost}{drop}.")


def format_advice(advice: Advice, titles: Mapping[str, str]) -> str:
    """Say in a sentence what to use.

    Args:
        advice: for one setting.
        titles: names for people.
    """
    what = "One image at a time" if advice.setting.batch == 1 else f"{advice.setting.batch} images at a time"
    threads = "1 thread" if advice.setting.threads == 1 else f"{advice.setting.threads} threads"
    text = f"{what}, {threads}: {titles[advice.best]}, {advice.median_ms:.1f} ms"
    if advice.best != PYTORCH:
        text += f", {advice.speedup:.2f} times as fast as PyTorch"
    equals = [titles[name] for name in advice.equals]
    verb = "is" if len(equals) == 1 else "are"
    return f"{text}. {' and '.join(equals)} {verb} about as fast." if equals else f"{text}."


def _table_of_formats(summary: Summary) -> Table:
    columns = ["Format", "MB", "OKS AP", "AP drop", "Objects found", "By one only", "Largest, px",
               "p99, px", "Accepted"]  # fmt: skip
    rows: list[list[Cell]] = [["PyTorch", None, _round(summary.reference_ap, 4), *[None] * 6]]
    for proof in summary.proofs.values():
        parity = proof.parity
        rows.append(
            [proof.title, round(proof.size_mb, 1), _round(proof.oks_ap, 4), _round(proof.ap_drop, 4),
             f"{parity.matched} of {parity.objects}", parity.unmatched, _format_px(parity.max_px),
             _format_px(parity.p99_px), "no" if proof.faults() else "yes"]
        )  # fmt: skip
    note = (
        "Every format is run by its own engine on every validation image, with the same code before and after it."
        " Objects are those that PyTorch finds; distances are those of their keypoints from PyTorch's, in pixels of"
        " the images, the largest and the 99th percentile (p99)."
    )
    return Table("Formats, compared with PyTorch", columns, rows, note)


def _sections_of_latency(latency: Latency, titles: Mapping[str, str]) -> list[Section]:
    machine = f"{latency.machine.processor}, {latency.machine.cores} cores, {latency.machine.system}"
    single = [item for item in latency.measured if item.setting.batch == 1]
    batches = [item for item in latency.measured if item.setting.batch > 1]
    height, width = latency.imgsz
    sections: list[Section] = [
        GroupedBarChart(
            "One image: milliseconds",
            list(titles.values()),
            {_threads(item.setting.threads): _medians(item, titles) for item in single},
            " ms",
            f"The model alone, input {width}x{height} px, median. {machine}. Shorter is better.",
        ),
        GroupedBarChart(
            f"Batches of {batches[0].setting.batch}: images a second",
            list(titles.values()),
            {_threads(item.setting.threads): _rates(item, titles) for item in batches},
            "",
            "The model alone. Longer is better.",
        ),
    ]
    around = [(f"Before the model, {_threads(count)}", timing) for count, timing in latency.before]
    around.append(("After the model", latency.after))
    rows = [(what, f"{timing.median_ms:.2f} ms, 95th percentile {timing.p95_ms:.2f} ms") for what, timing in around]
    note = (
        "Before the model: an image scaled into the input. After it: boxes and keypoints decoded, overlaps suppressed,"
        " scaled back. The same for every format."
    )
    return [
        *sections,
        _table_of_times("Times of one image", single, titles),
        _table_of_times(f"Times of batches of {batches[0].setting.batch}", batches, titles),
        KeyValues("Around the model, one image", rows, note),
    ]


def _table_of_times(title: str, measured: Sequence[Measured], titles: Mapping[str, str]) -> Table:
    columns = ["Format", "Threads", "Median, ms", "95th percentile, ms", "Images a second", "Times PyTorch", "Runs"]
    rows: list[list[Cell]] = [
        [titles[name], item.setting.threads, timing.median_ms, timing.p95_ms,
         1000 * item.setting.batch / timing.median_ms, item.timings[PYTORCH].median_ms / timing.median_ms, timing.runs]
        for item in measured
        for name, timing in item.timings.items()
    ]  # fmt: skip
    note = "Taken in turn in one process, so that whatever else the machine does meets all of them."
    return Table(title, columns, rows, note)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _medians(item: Measured, titles: Mapping[str, str]) -> list[float | None]:
    return [item.timings[name].median_ms if name in item.timings else None for name in titles]


def _rates(item: Measured, titles: Mapping[str, str]) -> list[float | None]:
    times = item.timings
    return [1000 * item.setting.batch / times[name].median_ms if name in times else None for name in titles]


def _table_of_anchors(summary: Summary) -> Table:
    columns = ["Format", "Anchors", "Largest keypoint difference, px", "Largest box difference, px",
               "Largest confidence difference"]  # fmt: skip
    rows: list[list[Cell]] = [
        [proof.title, proof.parity.anchors, _format_px(proof.parity.anchors_max_px),
         _format_px(proof.parity.anchors_max_box_px), f"{proof.parity.anchors_max_confidence:.1g}"]
        for proof in summary.proofs.values()
    ]  # fmt: skip
    note = (
        "All that the models put out, whatever its score: a stricter comparison, and one that does not need a model"
        " that finds anything. It does not decide about a format that rounds."
    )
    return Table("Every anchor", columns, rows, note)


def _tables_of_worst(summary: Summary) -> list[Section]:
    columns = ["Image", "Class", "Keypoint", "Difference, px", "PyTorch x", "PyTorch y", "x", "y"]
    return [
        Table(
            f"{proof.title}: keypoints that differ most",
            columns,
            [
                [item.image, item.class_name, item.keypoint, item.px, *item.reference_xy, *item.other_xy]
                for item in proof.worst
            ],
        )
        for proof in summary.proofs.values()
        if proof.worst and (proof.faults() or not proof.tolerance.exact)
    ]


def _how_it_was_measured(summary: Summary) -> KeyValues:
    sigmas = sorted({value for values in summary.sigmas.values() for value in values})
    images = next((proof.parity.images for proof in summary.proofs.values()), 0)
    rows: list[tuple[str, Cell]] = [
        ("Validation images", images),
        ("Input, width x height, px", f"{summary.imgsz[1]}x{summary.imgsz[0]}"),
        ("Score from which an object is compared", f"{summary.conf:g}"),
        ("Evaluation sigma", ", ".join(f"{value:g}" for value in sigmas)),
        ("Object's area", f"{summary.area_factor:g} of the box" if summary.area_rule == "box" else "as annotated"),
        *((f"Tolerance of {proof.title}", str(proof.tolerance)) for proof in summary.proofs.values()),
        *((proof.title, f"{proof.file}, run by {proof.runtime}") for proof in summary.proofs.values()),
        ("License of the models", LICENSE),
    ]
    return KeyValues("How it was measured", rows)


def _figures(summary: Summary, latency: Latency | None, titles: Mapping[str, str]) -> list[Figure]:
    shown: list[Figure] = []
    exact = [proof for proof in summary.proofs.values() if proof.tolerance.exact]
    if exact:
        worst = max(exact, key=lambda proof: proof.parity.anchors_max_px)
        images = f"any anchor of {worst.parity.images} images"
        title = "Keypoint difference" if len(exact) == 1 else "Largest keypoint difference"
        shown.append(Figure(title, f"{worst.parity.anchors_max_px:.2g} px", f"{worst.title}, {images}"))
    for proof in summary.proofs.values():
        if not proof.tolerance.exact and proof.ap_drop is not None:
            shown.append(Figure(f"{proof.title} OKS AP", f"{proof.oks_ap:.3f}", f"PyTorch {summary.reference_ap:.3f}"))
    for advice in latency.advice[:1] if latency else ():
        text = f"{titles[advice.best]}, {_threads(advice.setting.threads)}"
        shown.append(Figure("Fastest, one image", f"{advice.median_ms:.1f} ms", text))
    return shown


def _format_px(value: float | None) -> str:
    """Format a distance with two significant digits; below a thousandth of a pixel nobody cares."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def to_headline(proofs: Sequence[Proof], unproven: Sequence[str]) -> str:
    """Sum up the exports in a line."""
    parts = [f"{proof.title} {proof.size_mb:.1f} MB" for proof in proofs] + [
        f"{title} (not proven)" for title in unproven
    ]
    exact = [proof.parity.anchors_max_px for proof in proofs if proof.tolerance.exact]
    return ", ".join(parts) + (f"; at most {max(exact):.2g} px from PyTorch" if exact else "")
