"""``keypipe predict`` of the installed package alone: ONNX models, without a workspace."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from keypipe.batch.labels import LabelTarget
from keypipe.batch.one_file import RESULT_FORMATS
from keypipe.batch.prediction import Progress, default_output, predict, raise_for_faults, summary_json
from keypipe.batch.tracking import to_tracking
from keypipe.batch.writing import Pictures
from keypipe.drift.options import add_log_options, to_log_settings
from keypipe.errors import PoseError
from keypipe.inference.predictor import Thresholds
from keypipe.keypoints.predictions import DEFAULT_CONF, DEFAULT_KEYPOINT_CONF, DEFAULT_MAX_DET
from keypipe.tracks.tables.writing import FORMATS

USER_ERROR = 2
_SECONDS_BETWEEN_LINES = 5.0


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Args:
        arguments: what stands behind ``keypipe predict``.

    Returns:
        The exit code: 0, or 2 when the input is at fault.
    """
    options = _parser().parse_args(arguments)
    try:
        tracking = to_tracking(options.track, options.smooth, options.table)
        summary = predict(
            options.source,
            options.model,
            options.output or default_output(options.source, Path("predictions"), tracked=options.track),
            thresholds=Thresholds(
                conf=options.conf,
                max_det=options.max_det,
                keypoint_conf=options.keypoint_conf,
                mirror=options.mirror or msgspec.UNSET,
            ),
            device=options.device,
            exclude=[Path("predictions")],
            progress=_tell_on_stderr(),
            labels=LabelTarget(options.to_labelme) if options.to_labelme else None,
            log=to_log_settings(options),
            pictures=Pictures(wanted=not options.no_pictures, enlarged=not options.original_size),
            tracking=tracking,
            results=options.format,
        )
        raise_for_faults(summary)
    except PoseError as error:
        print(f"keypipe: {error}", file=sys.stderr)  # noqa: T201 - the program's output
        return USER_ERROR
    print(summary_json(summary) if options.json else summary)  # noqa: T201 - the program's output
    return 0


def _tell_on_stderr() -> Progress:
    """Return what writes a line to stderr every few seconds: how far it is, and about how long it goes on."""
    said = time.monotonic()
    began: tuple[str, int, float] = ("", 0, 0.0)  # what is being done, and from where and when on

    def tell(what: str, done: int, total: int) -> None:
        nonlocal said, began
        now = time.monotonic()
        if what != began[0]:
            began = (what, done, now)
        if now - said >= _SECONDS_BETWEEN_LINES:
            said = now
            left = estimate_left(done - began[1], now - began[2], total - done)
            line = f"{done} of {total} {what}{left}" if total else f"{done} {what}"
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - the program's output

    return tell


def estimate_left(done: int, seconds: float, left: int) -> str:
    """Say how long work goes on at the rate that it had.

    Args:
        done: things that took ``seconds``.
        seconds: since the first of them.
        left: things.

    Returns:
        Such as ``, 12 min left``; empty where nobody can know.
    """
    if done <= 0 or left < 0:
        return ""
    rest = left * seconds / done
    if rest < 60:
        return f", {rest:.0f} s left"
    hours, minutes = divmod(round(rest / 60), 60)
    return f", {hours} h {minutes} min left" if hours else f", {minutes} min left"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="keypipe predict", description="Find objects and their keypoints.")
    kinds = "an image, a folder, a pattern in quotes, a video, a .txt that lists files, a camera's number, or rtsp://"
    parser.add_argument("source", help=kinds)
    parser.add_argument("--model", type=Path, required=True, help="an ONNX model made by keypipe or Ultralytics")
    parser.add_argument("--output", type=Path, help="folder of the results (default: predictions/<name of the source>)")
    labelme_help = "write labelme JSON of the images there as well, to be corrected by hand; nobody's work is replaced"
    parser.add_argument("--to-labelme", type=Path, metavar="DIR", help=labelme_help)
    parser.add_argument("--track", action="store_true", help="follow the objects of videos: identities, and tables")
    parser.add_argument(
        "--smooth",
        type=float,
        metavar="HZ",
        help="smooth places by a One Euro filter: 1 much, 5 a little",
    )
    parser.add_argument(
        "--table", action="append", default=[], choices=tuple(FORMATS), help="a table beside the CSV; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON")
    parser.add_argument("--conf", type=float, default=DEFAULT_CONF, help="smallest score of an object (%(default)s)")
    parser.add_argument(
        "--max-det", type=int, default=DEFAULT_MAX_DET, help="objects on an image at most (%(default)s)"
    )
    parser.add_argument(
        "--keypoint-conf",
        type=float,
        default=DEFAULT_KEYPOINT_CONF,
        help="smallest confidence of a keypoint that is drawn (%(default)s); the JSON has them all",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: a GPU where this onnxruntime serves one)")
    mirror_help = "look at every image mirrored as well: twice the time; for keypoints with left/right pairs"
    parser.add_argument("--mirror", action="store_true", help=mirror_help)
    parser.add_argument(
        "--no-pictures", action="store_true", help="draw no pictures and no videos: the JSON alone, in less time"
    )
    parser.add_argument(
        "--original-size", action="store_true", help="draw small pictures in their own size, not enlarged to 640 px"
    )
    format_help = "how what is found on images is written: a JSON file for each, or one file for all (%(default)s)"
    parser.add_argument("--format", choices=RESULT_FORMATS, default=RESULT_FORMATS[0], help=format_help)
    add_log_options(parser)
    return parser
