"""``keypipe serve`` of the installed package alone: an ONNX model over HTTP, without a workspace."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import msgspec

from keypipe.drift.options import add_log_options, to_log_settings
from keypipe.errors import PoseError
from keypipe.inference.predictor import Thresholds
from keypipe.keypoints.predictions import DEFAULT_CONF, DEFAULT_KEYPOINT_CONF
from keypipe.serving.following.cache import default_folder
from keypipe.serving.following.source import parse_ref
from keypipe.serving.settings import TOKEN_VARIABLE, WEBHOOK_VARIABLE, Settings

USER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Run the command, until SIGTERM or SIGINT.

    Args:
        arguments: what stands behind ``keypipe serve``.

    Returns:
        The exit code: 0 after a signal, 2 when the model or an option is at fault.
    """
    try:
        server = import_server()
        options = _parser().parse_args(arguments)
        options.log = to_log_settings(options)
        settings = Settings(**{name: getattr(options, name) for name in Settings.__struct_fields__})
        thresholds = Thresholds(
            conf=options.conf, keypoint_conf=options.keypoint_conf, mirror=options.mirror or msgspec.UNSET
        )
        model = parse_ref(options.model) or Path(options.model)
        server.serve(model, settings, thresholds, options.device, say)
    except PoseError as error:
        print(f"keypipe: {error}", file=sys.stderr)  # noqa: T201 - the program's output
        return USER_ERROR
    except KeyboardInterrupt:  # while the model is loaded
        return INTERRUPTED
    return 0


def import_server() -> ModuleType:
    """Import ``keypipe.serving.server``.

    Raises:
        PoseError: its packages are not installed.
    """
    try:
        return importlib.import_module("keypipe.serving.server")
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("keypipe"):
            raise
        raise PoseError(f"{error.name} is not installed: pip install 'keypipe[serve]'") from error


def say(text: str) -> None:
    """Print at once: whoever started the server may be waiting for the address."""
    print(text, flush=True)  # noqa: T201 - the program's output


def _parser() -> argparse.ArgumentParser:
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="keypipe serve", description="Answer HTTP requests with keypoints: POST an image to /predict."
    )
    parser.add_argument(
        "model", help="an ONNX model made by keypipe or Ultralytics, or a registered one: models:/NAME@champion"
    )
    parser.add_argument("--host", default=default.host, help="address to listen on (%(default)s: this machine alone)")
    parser.add_argument("--port", type=int, default=default.port, help="0 takes any free one (%(default)s)")
    parser.add_argument("--conf", type=float, default=DEFAULT_CONF, help="smallest score of an object (%(default)s)")
    parser.add_argument(
        "--keypoint-conf",
        type=float,
        default=DEFAULT_KEYPOINT_CONF,
        help="smallest confidence of a keypoint that the page draws (%(default)s); the JSON has them all",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: a GPU where this onnxruntime serves one)")
    mirror_help = "look at every image mirrored as well: twice the time; for keypoints with left/right pairs"
    parser.add_argument("--mirror", action="store_true", help=mirror_help)
    parser.add_argument(
        "--parallel", type=int, default=default.parallel, help="images predicted at the same time (%(default)s)"
    )
    parser.add_argument("--queue", type=int, default=default.queue, help="requests that wait at most (%(default)s)")
    parser.add_argument("--max-mb", type=float, default=default.max_mb, help="largest body (%(default)s)")
    parser.add_argument(
        "--max-megapixels", type=float, default=default.max_megapixels, help="largest image (%(default)s)"
    )
    parser.add_argument("--access-log", action="store_true", help="write a line for every request")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"what clients must send as their bearer token; default: the variable {TOKEN_VARIABLE}",
    )
    parser.add_argument("--tracking-uri", metavar="URL", help="MLflow's server (default: MLFLOW_TRACKING_URI)")
    parser.add_argument(
        "--poll", type=float, default=default.poll, help="seconds between looks where the alias leads (%(default)s)"
    )
    parser.add_argument(
        "--webhook-secret-file",
        type=Path,
        metavar="FILE",
        help=f"what MLflow signs its webhooks with, to /webhooks/mlflow; default: the variable {WEBHOOK_VARIABLE}",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=default_folder(),
        metavar="FOLDER",
        help="keeps what is in use, for a restart while the registry is away (%(default)s)",
    )
    parser.add_argument("--no-cache", dest="cache", action="store_const", const=None, help="keep nothing")
    parser.add_argument("--shadow", metavar="ALIAS", help="a version that sees some of the images as well: challenger")
    parser.add_argument(
        "--shadow-share", type=float, default=default.shadow_share, help="of the images that it sees (%(default)s)"
    )
    parser.add_argument(
        "--shadow-log",
        type=Path,
        default=default.shadow_log,
        metavar="FILE",
        help="takes a line for each: how much the two differ (%(default)s)",
    )
    parser.add_argument(
        "--shadow-mb", type=float, default=default.shadow_mb, help="what that takes on the disk at most (%(default)s)"
    )
    add_log_options(parser)
    return parser
