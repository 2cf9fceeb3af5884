"""Commands that use a trained model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from flows.command_line.menu import command
from keypipe.keypoints.predictions import DEFAULT_CONF, DEFAULT_KEYPOINT_CONF, DEFAULT_MAX_DET

MIRROR = "Look at every image mirrored as well: twice the time; for keypoints with left/right pairs."


@command("predict", examples=["keypipe predict data/raw/barn", "keypipe predict film.mp4 --track --table parquet"])
@click.argument("source", metavar="IMAGE|FOLDER|GLOB|VIDEO|LIST.txt|CAMERA|URL")
@click.option(
    "--model", metavar="PATH", help="An ONNX model or a checkpoint; default: the export, else models/best.pt."
)
@click.option("--output", metavar="FOLDER", help="Where the pictures and the JSON go; default: below predictions/.")
@click.option("--conf", default=DEFAULT_CONF, show_default=True, help="Smallest confidence of an object.")
@click.option(
    "--max-det", default=DEFAULT_MAX_DET, show_default=True, help="Objects on an image at most, the surest ones."
)
@click.option(
    "--keypoint-conf",
    default=DEFAULT_KEYPOINT_CONF,
    show_default=True,
    help="Smallest confidence of a keypoint to be drawn.",
)
@click.option("--device", help="Such as cpu or cuda:0.")
@click.option("--mirror", is_flag=True, help=MIRROR)
@click.option("--to-labelme", metavar="DIR", help="Write labelme JSON of the images there as well, to be corrected.")
@click.option("--log/--no-log", default=None, help="Log what is predicted, for `keypipe drift`; default: `drift.log`.")
@click.option("--no-pictures", is_flag=True, help="Draw no pictures and no videos: the JSON alone, in less time.")
@click.option("--original-size", is_flag=True, help="Draw small pictures in their own size, not enlarged to 640 px.")
@click.option("--track", is_flag=True, help="Follow the objects of videos: identities, and tables of them.")
@click.option("--smooth", type=float, metavar="HZ", help="Smooth places by a One Euro filter: 1 much, 5 a little.")
@click.option(
    "--table",
    "tables",
    multiple=True,
    type=click.Choice(("csv", "parquet", "dlc", "dlc-h5", "sleap")),
    help="A table beside the CSV; may be repeated.",
)
@click.option(
    "--format",
    "results",
    type=click.Choice(("json", "parquet", "coco")),
    default="json",
    show_default=True,
    help="What is found on images: a JSON file for each, or one file for all.",
)
@click.option("--flow", is_flag=True, help="Record it as a run of Prefect.")
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON.")
@click.pass_obj
def predict(
    root: Path,
    /,
    source: str,
    model: str | None,
    output: str | None,
    device: str | None,
    mirror: bool,
    to_labelme: str | None,
    log: bool | None,
    no_pictures: bool,
    original_size: bool,
    track: bool,
    smooth: float | None,
    tables: tuple[str, ...],
    results: Any,
    flow: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Draw keypoints into pictures or a video; write them as JSON.

    A camera (its number) or a stream (rtsp://...) goes on until Ctrl-C. Labelme files of what a person has worked on
    stay as they are. With --track a video's objects get identities (docs/video.md); where that was killed, the same
    command goes on.
    """
    if flow:
        from flows.services import server

        server.configure(root)
    from flows.models.prediction import Wish, predict_main
    from keypipe.batch.writing import Pictures
    from keypipe.inference.predictor import Thresholds

    pictures = Pictures(wanted=not no_pictures, enlarged=not original_size)
    thresholds = Thresholds(**settings, mirror=mirror or msgspec.UNSET)
    wish = Wish(model, output, thresholds, device, to_labelme, log, pictures, track, smooth, tables, results)
    if flow:
        from flows.models.prediction_flow import run_prediction

        summary = run_prediction(root, source, wish)
    else:
        from flows.system.progress_bar import progress_bar

        with progress_bar("loading the model") as progress:
            summary = predict_main(source, wish, root, progress)
    if as_json:
        from flows.system.json_output import echo_json

        echo_json(summary)
    else:
        click.echo(str(summary))


@command("serve", examples=["keypipe serve", "keypipe serve exports/model_int8.onnx --port 9000"])
@click.argument("model", required=False, metavar="[MODEL.onnx|models:/NAME@ALIAS]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, help="0 takes any free one.")
@click.option("--conf", default=DEFAULT_CONF, show_default=True, help="Smallest confidence of an object.")
@click.option(
    "--keypoint-conf",
    default=DEFAULT_KEYPOINT_CONF,
    show_default=True,
    help="Smallest confidence of a keypoint to be drawn.",
)
@click.option("--device", help="Such as cpu or cuda:0.")
@click.option("--mirror", is_flag=True, help=MIRROR)
@click.option("--parallel", default=1, show_default=True, help="Images predicted at the same time.")
@click.option("--queue", default=16, show_default=True, help="Requests that wait at most.")
@click.option("--max-mb", default=32.0, show_default=True, help="Largest body.")
@click.option("--max-megapixels", default=100.0, show_default=True, help="Largest image.")
@click.option("--access-log", is_flag=True, help="Write a line for every request.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What clients must send as their bearer token; default: the variable KEYPIPE_SERVE_TOKEN.",
)
@click.option("--tracking-uri", metavar="URL", help="MLflow's server; default: the workspace's.")
@click.option("--poll", default=10.0, show_default=True, help="Seconds between looks where the alias leads.")
@click.option(
    "--webhook-secret-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What MLflow signs its webhooks with, to /webhooks/mlflow; default: the variable KEYPIPE_WEBHOOK_SECRET.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keeps what is in use, for a restart while the registry is away; default: ~/.cache/keypipe/serving.",
)
@click.option("--no-cache", is_flag=True, help="Keep nothing.")
@click.option("--shadow", metavar="ALIAS", help="A version that sees some of the images as well, such as challenger.")
@click.option("--shadow-share", default=0.1, show_default=True, help="Of the images that it sees.")
@click.option(
    "--shadow-log",
    type=click.Path(path_type=Path),
    default=Path("predictions/shadow.jsonl"),
    show_default=True,
    metavar="FILE",
    help="Takes a line for each: how much the two differ.",
)
@click.option("--shadow-mb", default=64.0, show_default=True, help="What that takes on the disk at most.")
@click.option("--log/--no-log", default=None, help="Log what is answered, for `keypipe drift`; default: `drift.log`.")
@click.pass_obj
def serve(
    root: Path,
    /,
    model: str | None,
    conf: float,
    keypoint_conf: float,
    device: str | None,
    mirror: bool,
    log: bool | None,
    no_cache: bool,
    **settings: Any,
) -> None:
    """Answer HTTP requests with keypoints, until Ctrl-C.

    The default model is the champion, which is followed when it changes, or the export as long as no version is
    registered.
    """
    from flows.models.serving import find_model
    from keypipe.inference.predictor import Thresholds
    from keypipe.serving.following.cache import default_folder
    from keypipe.serving.server import serve as serve_model
    from keypipe.serving.settings import DEFAULT_SHADOW_LOG, Settings
    from tasks.drift.settings import read_log_settings

    thresholds = Thresholds(conf=conf, keypoint_conf=keypoint_conf, mirror=mirror or msgspec.UNSET)
    chosen, source = find_model(root, model, settings["tracking_uri"])
    settings["cache"] = None if no_cache else settings["cache"] or default_folder()
    if settings["shadow_log"] == DEFAULT_SHADOW_LOG:
        settings["shadow_log"] = root / DEFAULT_SHADOW_LOG
    settings["log"] = read_log_settings(root, log)
    serve_model(chosen, Settings(**settings), thresholds, device, click.echo, source)


@command(
    "drift",
    examples=["keypipe drift", "keypipe drift --window 24h --json"],
    exit_codes={1: "with --fail: drift was found"},
)
@click.option("--window", metavar="TIME", help="How far back, such as 24h or 7d; default: `drift.days`.")
@click.option("--until", metavar="TIME", help="Where the window ends, ISO 8601; default: now.")
@click.option(
    "--log",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="A log that lies elsewhere, such as one fetched from a server; default: predictions/log.",
)
@click.option("--fail", is_flag=True, help="End with exit code 1 where drift is found, for scripts.")
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON.")
@click.pass_obj
def drift(root: Path, window: str | None, until: str | None, log: Path | None, fail: bool, as_json: bool) -> None:
    """Compare what the model in use sees with what it was measured on.

    Reads the log of predictions, writes reports/drift/report.html and says which accuracy is to be expected
    (docs/drift.md).
    """
    from flows.services import server

    server.configure(root)
    from flows.commands import drift as module

    sys.exit(module.run_drift(root, module.Wish(window, until, log, fail, as_json)))
