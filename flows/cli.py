"""The command line, inside a workspace."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from keypipe.errors import PoseError
from keypipe.wording import format_seconds

if TYPE_CHECKING:
    from flows.pipeline.run_result import RunResult

BUG = 1
USER_ERROR = 2
INTERRUPTED = 130
TERMINATED = 143


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Labelme keypoints in data/raw -> a trained, measured and exported YOLOv8-pose model."""


@cli.command()
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--force", metavar="STAGE", multiple=True, help="Run this stage even when nothing changed; repeatable.")
@click.option("--set", "assignments", metavar="KEY=VALUE", multiple=True, help="First write this to params.yaml.")
@click.pass_obj
def run(root: Path, until: str | None, force: Sequence[str], assignments: Sequence[str]) -> None:
    """Bring the pipeline up to date; only what changed runs."""
    if assignments:
        from flows.commands.set_params import set_params

        for line in set_params(root, assignments):
            click.echo(line)
    sys.exit(run_training(root, until, force))


def run_training(root: Path, until: str | None, force: Sequence[str]) -> int:
    """Run the training flow in this process and show what became of it; returns the exit code."""
    import msgspec

    from flows.pipeline.plan import check_start
    from flows.pipeline.run_result import RunResult
    from flows.services import server

    # The flow checks as well; here the user is told before a server is started.
    check_start(root, until, force)
    with server.connected(root, click.echo):
        from flows.pipeline import flow as training

        state: Any = training.training_flow(str(root), until, list(force), return_state=True)
        server.settle(state.state_details.flow_run_id)
        outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, BaseException):
        # Prefect's log above has its traceback.
        click.echo(f"keypipe: this is a bug: {type(outcome).__name__}: {outcome}", err=True)
        return BUG
    result = msgspec.convert(outcome, RunResult)
    show_result(root, result)
    return result.exit_code


def show_result(root: Path, result: RunResult) -> None:
    """Print the table of stages, where things are and what to type next."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    colours = {"Failed": "red", "Skipped": "yellow", "Ran": "green"}
    if result.stages:
        table = Table("stage", "state", "time", "headline")
        for stage in result.stages:
            colour = colours.get(stage.state, "cyan")
            seconds = format_seconds(stage.seconds) if stage.state != "Skipped" else ""
            table.add_row(stage.stage, f"[{colour}]{stage.state}[/]", seconds, stage.headline)
        console.print(table)
    if result.message:
        click.echo(f"keypipe: {result.message}", err=True)
        return
    for name, text in places(root):
        console.print(f"{name:<11}{text}", markup=False, soft_wrap=True)


def places(root: Path) -> list[tuple[str, str]]:
    """Return where the results of a run are, as far as they are there, and what to type next."""
    model = root / "models" / "best.pt"
    exports = sorted(path.name for path in (root / "exports").glob("*.onnx"))
    reports = sorted((root / "reports").glob("*/report.html"))
    lines = [("model", "models/best.pt")] if model.exists() else []
    lines += [("exports", ", ".join(f"exports/{name}" for name in exports))] if exports else []
    lines += [("reports", ", ".join(str(path.relative_to(root)) for path in reports))] if reports else []
    lines.append(("dashboards", "keypipe ui"))
    if model.exists():
        lines.append(("next", "keypipe predict PATH_TO_AN_IMAGE"))
    return lines


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def status(root: Path, as_json: bool) -> None:
    """Say what is up to date, what is not and why."""
    from flows.commands import status as module

    found = module.read_status(root)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        module.show_status(found)


@cli.command()
@click.option("--cron", required=True, help='When to run, such as "0 3 * * *".')
@click.option("--timezone", help="IANA name, such as Europe/Berlin; default: UTC.")
@click.pass_obj
def schedule(root: Path, cron: str, timezone: str | None) -> None:
    """Run the pipeline on a schedule, until Ctrl-C."""
    from flows.commands import scheduling

    scheduling.serve(root, cron, timezone, click.echo)


@cli.command()
@click.pass_obj
def ui(root: Path) -> None:
    """Keep both dashboards up, until Ctrl-C."""
    from flows.commands import dashboards

    dashboards.serve(root, click.echo)


@cli.command()
@click.argument("source", metavar="IMAGE|FOLDER|GLOB|VIDEO")
@click.option(
    "--model", metavar="PATH", help="An ONNX model or a checkpoint; default: the export, else models/best.pt."
)
@click.option("--output", metavar="FOLDER", help="Where the pictures and the JSON go; default: below predictions/.")
@click.option("--conf", default=0.25, show_default=True, help="Smallest confidence of an object.")
@click.option("--keypoint-conf", default=0.5, show_default=True, help="Smallest confidence of a keypoint to be drawn.")
@click.option("--device", help="Such as cpu or cuda:0.")
@click.option("--flow", is_flag=True, help="Record it as a run of Prefect.")
@click.pass_obj
def predict(
    root: Path,
    source: str,
    model: str | None,
    output: str | None,
    conf: float,
    keypoint_conf: float,
    device: str | None,
    flow: bool,
) -> None:
    """Draw keypoints into pictures or a video, and write them as JSON."""
    from flows.commands.prediction import predict_main

    summary = predict_main(
        source, model, output, conf=conf, keypoint_conf=keypoint_conf, device=device, flow=flow, root=root
    )
    click.echo(str(summary))


@cli.command()
@click.argument("model", required=False, type=click.Path(path_type=Path), metavar="[MODEL.onnx]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, help="0 takes any free one.")
@click.option("--conf", default=0.25, show_default=True, help="Smallest confidence of an object.")
@click.option("--keypoint-conf", default=0.5, show_default=True, help="Smallest confidence of a keypoint to be drawn.")
@click.option("--device", help="Such as cpu or cuda:0.")
@click.option("--parallel", default=1, show_default=True, help="Images predicted at the same time.")
@click.option("--queue", default=16, show_default=True, help="Requests that wait at most.")
@click.option("--max-mb", default=32.0, show_default=True, help="Largest body.")
@click.option("--max-megapixels", default=100.0, show_default=True, help="Largest image.")
@click.option("--access-log", is_flag=True, help="Write a line for every request.")
@click.pass_obj
def serve(
    root: Path, /, model: Path | None, conf: float, keypoint_conf: float, device: str | None, **settings: Any
) -> None:
    """Answer HTTP requests with keypoints, until Ctrl-C; default model: the export."""
    from flows.commands.prediction import EXPORTED_MODEL
    from keypipe.inference.predictor import Thresholds
    from keypipe.serving.server import serve as serve_model
    from keypipe.serving.settings import Settings

    thresholds = Thresholds(conf=conf, keypoint_conf=keypoint_conf)
    serve_model(model or root / EXPORTED_MODEL, Settings(**settings), thresholds, device, click.echo)


@cli.command()
@click.option("--images", default=240, show_default=True, help="How many to draw.")
@click.option("--seed", default=0, show_default=True)
@click.pass_obj
def demo(root: Path, images: int, seed: int) -> None:
    """Draw the demo dataset into an empty data/raw."""
    from flows.system.progress_bar import progress_bar
    from keypipe.demo.scene import write_demo

    _refuse_while_running(root)
    with progress_bar("drawing") as progress:
        written = write_demo(root / "data" / "raw", images, seed, progress=partial(progress, "drawing"))
    click.echo(f"data/raw: {len(written)} annotated images drawn; next: keypipe run")


@cli.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_obj
def use(root: Path, folder: Path) -> None:
    """Take FOLDER's annotations in place of data/raw."""
    from flows.system.progress_bar import progress_bar
    from tasks.commands.adopt import adopt_folder

    _refuse_while_running(root)
    with progress_bar("reading annotations") as progress:
        told = adopt_folder(root, folder.resolve(), progress)
    click.echo(told)


def _refuse_while_running(root: Path) -> None:
    from flows.pipeline import lease

    if lease.is_locked(root):
        held = lease.read_lease(root)
        raise PoseError(f"the workspace is in use: {held.describe() if held else 'another keypipe command'}")


@cli.command("import")
@click.argument("kind", type=click.Choice(["coco", "yolo", "dlc"]))
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of the images.")
@click.option("--name", help="Name of the new folder below data/raw; default: the source's.")
@click.option("--classes", default="", metavar="A,B", help="Class names by id (yolo), or name of the animals (dlc).")
@click.option("--keypoints", default="", metavar="A,B", help="Keypoint names in order (yolo).")
@click.option("--box-margin", default=0.1, show_default=True, help="Margin of boxes derived from points (dlc).")
@click.option("--write-schema", is_flag=True, help="Write what is missing into the schema in params.yaml.")
@click.option("--skip-faulty", is_flag=True, help="Leave out images whose labels or file cannot be read.")
@click.pass_obj
def import_command(root: Path, /, kind: Any, source: Path, **options: Any) -> None:
    """Bring COCO, YOLO-pose or DeepLabCut labels into data/raw, as labelme files."""
    from flows.system.progress_bar import progress_bar
    from tasks.commands.label_import import ImportOptions, import_labels

    _refuse_while_running(root)
    for key in ("classes", "keypoints"):
        options[key] = tuple(name.strip() for name in options[key].split(",") if name.strip())
    with progress_bar("reading labels") as progress:
        told = import_labels(root, kind, source, ImportOptions(**options), progress)
    click.echo(told)


@cli.command("export-labels")
@click.argument("kind", type=click.Choice(["coco", "yolo", "labelme"]))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--images", type=click.Choice(["copy", "link", "none"]), default="copy", show_default=True)
@click.pass_obj
def export_labels_command(root: Path, kind: Any, target: Path, images: Any) -> None:
    """Write what convert reads from data/raw for other tools."""
    from flows.system.progress_bar import progress_bar
    from tasks.commands.label_export import export_labels

    with progress_bar("reading annotations") as progress:
        told = export_labels(root, kind, target, images, progress)
    click.echo(told)


@cli.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_obj
def doctor(root: Path, folder: Path | None, as_json: bool) -> None:
    """Examine the annotations and their images; FOLDER: others than those in data/raw."""
    from flows.commands.diagnosis import doctor_main

    sys.exit(doctor_main(root, folder.resolve() if folder else None, as_json=as_json))


@cli.command()
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="A B [C]...",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Default: data/sigmas.yaml.")
@click.pass_obj
def sigmas(root: Path, folders: Sequence[Path], output: Path | None) -> None:
    """Estimate evaluation sigmas from folders of the same images, annotated by different people."""
    from flows.commands.sigmas import sigmas_main

    sigmas_main(root, folders, output)


@cli.command()
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--undo", is_flag=True, help="Let pruning have them again.")
@click.pass_obj
def keep(root: Path, runs: Sequence[str], undo: bool) -> None:
    """Keep trainings whatever is pruned; without RUN: list all of them and why they stay.

    RUN is the start of an MLflow run's id, or `latest`.
    """
    from flows.history import retention

    if not runs:
        retention.show_kept(root)
    for run in retention.keep(root, runs, undo=undo) if runs else ():
        click.echo(f"{run.name} {'is no longer kept' if undo else 'is kept'}: {run.headline or run.status.lower()}")


@cli.command()
@click.option("--keep", "number", metavar="N", type=click.IntRange(1), required=True, help="How many stay, the newest.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.pass_obj
def prune(root: Path, number: int, dry_run: bool) -> None:
    """Remove old trainings with their snapshots, their artifacts, and what only they need of DVC's cache.

    What is kept, registered, in the workspace, or on the tip of a branch or a tag stays.
    """
    from flows.history import retention

    pruned = retention.prune(root, number, dry_run=dry_run, say=click.echo)
    retention.show_pruned(pruned, dry_run=dry_run, say=click.echo)


@cli.command()
@click.argument("run", metavar="RUN")
@click.option("--check", is_flag=True, help="Run every stage again, the training included.")
@click.option("--tolerance", default=0.02, show_default=True, help="Largest difference of a figure on another machine.")
@click.pass_obj
def reproduce(root: Path, run: str, check: bool, tolerance: float) -> None:
    """Rebuild a training's code, data and results beside the workspace, and compare them with what was recorded.

    RUN is the start of an MLflow run's id, or `latest`. Exit code 1: something differs that should not.
    """
    from flows.history import reproduction

    done = reproduction.reproduce(root, run, check=check, tolerance=tolerance, say=click.echo)
    reproduction.show(done, click.echo)
    sys.exit(0 if done.same else BUG)


@cli.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True)
@click.pass_obj
def compare(root: Path, runs: Sequence[str]) -> None:
    """Compare parameters, code, data and figures of trainings, the first with each of the others.

    RUN is the start of an MLflow run's id, `latest`, `workspace`, or a commit of git.
    """
    from flows.history import comparison

    found = comparison.compare(root, runs)
    comparison.show(found)
    click.echo(f"page: {comparison.write_page(root, found)}")


def main(root: Path) -> None:
    """Run the command line for a workspace and end the process."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        cli(obj=root, standalone_mode=False, prog_name="keypipe")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("keypipe: stopped", err=True)
        sys.exit(INTERRUPTED)
    except PoseError as error:
        click.echo(f"keypipe: {error}", err=True)
        sys.exit(USER_ERROR)


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    """Unwind on SIGTERM, so that servers and stages end with the command."""
    sys.exit(TERMINATED)
