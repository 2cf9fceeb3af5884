"""Commands on annotations: bring them in, examine them, hand them out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.command_line.menu import group, json_option
from keypipe.errors import ConfigError
from keypipe.files.texts import check_encoding
from keypipe.keypoints.predictions import DEFAULT_CONF, DEFAULT_KEYPOINT_CONF
from keypipe.printable import to_printable

if TYPE_CHECKING:
    from tasks.labelling.labelme_window import Window


@group("data", examples=["keypipe data export coco ~/for-others"])
def data() -> None:
    """Work on annotations; also `data export`, `data sigmas`."""


@data.command(
    "init",
    examples=["keypipe init ~/my-annotations", "keypipe init", "keypipe init ~/my-annotations --yes --json"],
    exit_codes={0: "done, or nothing was to be written", 1: "somebody said no: nothing was changed"},
)
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Ask nothing: write what is sure; your own values stay.")
@click.option("--overwrite", is_flag=True, help="Write proposals in place of your own values too.")
@click.option("--dry-run", is_flag=True, help="Look and tell; change neither data nor params.yaml.")
@click.option("--time/--no-time", "timed", default=True, help="Time a training step, to say what a run will cost.")
@click.option("--offline", is_flag=True, help="Do not ask the network whether published weights can be had.")
@click.option("--encoding", metavar="NAME", help="Of JSON that is neither UTF-8 nor UTF-16, such as gb18030.")
@click.option("--follow-links", is_flag=True, help="Copy what links lead to outside FOLDER too.")
@json_option("what is proposed and written")
@click.pass_obj
def init(
    root: Path,
    folder: Path | None,
    yes: bool,
    overwrite: bool,
    dry_run: bool,
    timed: bool,
    offline: bool,
    encoding: str | None,
    follow_links: bool,
    as_json: bool,
) -> None:
    """Start with your data: look, propose parameters, ask, take them.

    FOLDER is copied to data/raw; without it, the annotations in data/raw are looked at where they lie. Classes, left
    and right, edges, groups and training parameters go into params.yaml, each with its reason beside it. What was there
    before moves to .keypipe/replaced.
    """
    from flows.starting.guided import Wishes, init_main
    from tasks.starting.looking import Source

    wishes = Wishes(yes=yes, overwrite=overwrite, dry_run=dry_run, timed=timed, offline=offline, as_json=as_json)
    source = Source(folder, encoding and check_encoding(encoding), follow_links=follow_links)
    sys.exit(init_main(root, source, wishes, changing))


@data.command("use", examples=["keypipe use ~/my-annotations"])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--encoding", metavar="NAME", help="Of JSON that is neither UTF-8 nor UTF-16, such as gb18030.")
@click.option("--follow-links", is_flag=True, help="Copy what links lead to outside FOLDER too.")
@click.pass_obj
def use(root: Path, folder: Path, encoding: str | None, follow_links: bool) -> None:
    """Take a folder in place of data/raw, without questions.

    The same as `keypipe init FOLDER --yes --no-time --offline`, for scripts.
    """
    from flows.system.progress_bar import progress_bar
    from tasks.starting.looking import Source
    from tasks.starting.start import describe, use_folder

    source = Source(folder, encoding and check_encoding(encoding), follow_links=follow_links)
    with changing(root), progress_bar("reading annotations") as progress:
        taken = use_folder(root, source, progress)
    click.echo(to_printable(describe(taken)))


@data.command(
    "import",
    examples=["keypipe import coco ~/labels.json --images ~/images", "keypipe import dlc ~/project --classes mouse"],
)
@click.argument("kind", type=click.Choice(["coco", "yolo", "dlc", "sleap"]))
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of the images.")
@click.option("--name", help="Name of the new folder below data/raw; default: the source's.")
@click.option(
    "--classes", default="", metavar="A,B", help="Class names by id (yolo), or name of the animals (dlc, sleap)."
)
@click.option("--keypoints", default="", metavar="A,B", help="Keypoint names in order (yolo).")
@click.option(
    "--kpt-shape", metavar="N,D", help="Number of keypoints, and 2 or 3 values for each (yolo); default: data.yaml's."
)
@click.option("--box-margin", default=0.1, show_default=True, help="Margin of boxes derived from points.")
@click.option("--encoding", metavar="NAME", help="Of texts that are neither UTF-8 nor UTF-16, such as gb18030.")
@click.option("--keep-splits", "--keep-sides", is_flag=True, help="Keep the source's train, val and test.")
@click.option("--write-schema", is_flag=True, help="Write what is missing into the schema in params.yaml.")
@click.option("--skip-faulty", is_flag=True, help="Leave out images whose labels or file cannot be read.")
@click.pass_obj
def import_labels(root: Path, /, kind: Any, source: Path, **options: Any) -> None:
    """Bring COCO, YOLO-pose, DeepLabCut or SLEAP labels into data/raw.

    They become labelme files in a folder of their own.
    """
    from flows.system.progress_bar import progress_bar
    from tasks.commands.label_import import ImportOptions
    from tasks.commands.label_import import import_labels as import_from

    _refuse_options_of_others(kind, options)
    for key in ("classes", "keypoints"):
        options[key] = tuple(name.strip() for name in options[key].split(",") if name.strip())
    options["kpt_shape"] = _parse_kpt_shape(options["kpt_shape"])
    options["encoding"] = options["encoding"] and check_encoding(options["encoding"])
    with changing(root), progress_bar("reading labels") as progress:
        told = import_from(root, kind, source, ImportOptions(**options), progress)
    click.echo(told)


_OF_KINDS = {"classes": ("yolo", "dlc", "sleap"), "keypoints": ("yolo",), "kpt_shape": ("yolo",)}


def _refuse_options_of_others(kind: str, options: Mapping[str, Any]) -> None:
    """Refuse options that mean nothing to a format, whose labels bring these names themselves."""
    for key, kinds in _OF_KINDS.items():
        if options[key] and kind not in kinds:
            option = f"--{key.replace('_', '-')}"
            raise ConfigError(
                f"{option} is for `keypipe import {'|'.join(kinds)}`; {kind} brings its own, leave it out"
            )


def _parse_kpt_shape(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    numbers = [int(part) for part in text.replace("x", ",").strip("[] ").split(",") if part.strip().isdecimal()]
    if len(numbers) != 2 or numbers[1] not in {2, 3} or not numbers[0]:
        raise ConfigError(f"--kpt-shape: expected a number of keypoints, and 2 or 3, such as 4,3; got {text!r}")
    return numbers[0], numbers[1]


@data.command("export", short="export-labels", everyday=False, examples=["keypipe data export coco ~/for-others"])
@click.argument("kind", type=click.Choice(["coco", "yolo", "labelme"]))
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--images",
    type=click.Choice(["copy", "link", "none"]),
    default="copy",
    show_default=True,
    help="How images go along.",
)
@click.pass_obj
def export_labels(root: Path, kind: Any, target: Path, images: Any) -> None:
    """Write what convert reads from data/raw for other tools."""
    from flows.system.progress_bar import progress_bar
    from tasks.commands.label_export import export_labels as export_to

    with progress_bar("reading annotations") as progress:
        told = export_to(root, kind, target, images, progress)
    click.echo(told)


@data.command(
    "doctor",
    examples=["keypipe doctor", "keypipe doctor ~/new-annotations --json"],
    exit_codes={0: "no findings, or harmless ones", 2: "findings as grave as `doctor.fail_on` says"},
)
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option("the findings")
@click.option("--encoding", metavar="NAME", help="Of JSON that is neither UTF-8 nor UTF-16; default: convert.encoding.")
@click.pass_obj
def doctor(root: Path, folder: Path | None, as_json: bool, encoding: str | None) -> None:
    """Examine annotations and images for what spoils a training.

    FOLDER: others than those in data/raw.
    """
    from flows.commands.diagnosis import doctor_main

    named = encoding and check_encoding(encoding)
    sys.exit(doctor_main(root, folder.resolve() if folder else None, as_json=as_json, encoding=named))


@data.command("sigmas", everyday=False, examples=["keypipe data sigmas ~/my-annotations ~/second-opinion"])
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="A B [C]...",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Default: data/sigmas.yaml.")
@click.option("--encoding", metavar="NAME", help="Of JSON that is neither UTF-8 nor UTF-16; default: convert.encoding.")
@click.pass_obj
def sigmas(root: Path, folders: Sequence[Path], output: Path | None, encoding: str | None) -> None:
    """Estimate evaluation sigmas from what people differ by.

    A, B and C are folders of the same images, annotated by different people.
    """
    from flows.commands.sigmas import sigmas_main

    named = encoding and check_encoding(encoding)
    with nullcontext() if output else changing(root):
        sigmas_main(root, folders, output, named)


@data.command("demo", examples=["keypipe demo", "keypipe demo --images 60 --seed 1"])
@click.option("--images", default=240, show_default=True, help="How many to draw.")
@click.option("--seed", default=0, show_default=True, help="Where the draws start; another one draws other images.")
@click.pass_obj
def demo(root: Path, images: int, seed: int) -> None:
    """Draw the demo dataset into an empty data/raw."""
    from flows.system.progress_bar import progress_bar
    from keypipe.demo.scene import write_demo

    with changing(root), progress_bar("drawing") as progress:
        written = write_demo(root / "data" / "raw", images, seed, progress=partial(progress, "drawing"))
    click.echo(f"data/raw: {len(written)} annotated images drawn; next: keypipe run")


@data.command("label", examples=["keypipe label", "keypipe label --next 20", "keypipe label film.mp4 --next 30"])
@click.argument("source", required=False, metavar="[FOLDER|VIDEO]")
@click.option("--next", "count", default=50, show_default=True, help="How many images.")
@click.option("--among", default=1000, show_default=True, help="How many the model looks at, evenly spread by name.")
@click.option("--model", metavar="PATH", help="Default: the export, else models/best.pt; without any, by looks alone.")
@click.option("--conf", default=DEFAULT_CONF, show_default=True, help="Smallest confidence of an object to be drawn.")
@click.option(
    "--keypoint-conf",
    default=DEFAULT_KEYPOINT_CONF,
    show_default=True,
    help="Smallest confidence of a keypoint that is not marked as occluded.",
)
@click.option("--device", help="Such as cpu or cuda:0.")
@click.option("--open/--no-open", "opened", default=True, help="Open labelme, where there is a display.")
@click.pass_obj
def label(
    root: Path,
    source: str | None,
    count: int,
    among: int,
    model: str | None,
    conf: float,
    keypoint_conf: float,
    device: str | None,
    opened: bool,
) -> None:
    """Choose the images to annotate next, draw on them, open labelme.

    FOLDER: images from elsewhere, which are copied into data/raw, or a part of data/raw. VIDEO: frames are chosen by
    what they show.
    """
    from flows.commands.labelling import prepare_labelling
    from flows.system.progress_bar import progress_bar
    from keypipe.inference.predictor import Thresholds
    from tasks.labelling.next_images import Request, count_done

    request = Request(count, source, among, Thresholds(conf=conf, keypoint_conf=keypoint_conf))
    with progress_bar("reading annotations") as progress:
        prepared = prepare_labelling(root, request, model, device, changing, progress)
    click.echo(str(prepared.work))
    if prepared.model is None and prepared.work.images:
        click.echo("no model yet: the images were chosen by how they look alone")
    if prepared.window is None:
        return
    images = prepared.work.images
    sys.exit(
        _work_through(root, prepared.window, lambda: f"{count_done(root, images)} of {len(images)}", opened=opened)
    )


def _work_through(root: Path, window: Window, count: Callable[[], str], *, opened: bool) -> int:
    """Open labelme on a list, wait, and say how many images are done; or say how it is opened. Return the exit code."""
    from tasks.labelling.labelme_window import open_window

    if not window.installed:
        click.echo("labelme is not installed; `make labelme` does that")
    if not (opened and window.installed and window.display):
        click.echo(f"to work through them: {window}")
        return 0
    code = open_window(root, window)
    click.echo(f"{count()} images done; next: keypipe run")
    return code


@data.command("relabel", examples=["keypipe relabel", "keypipe relabel --next 30 --epochs 40"])
@click.option("--next", "count", default=50, show_default=True, help="Images on the list at most.")
@click.option("--epochs", type=int, metavar="N", help="Of the training of each fold; default: train.epochs.")
@click.option("--open/--no-open", "opened", default=True, help="Open labelme, where there is a display.")
@click.pass_obj
def relabel(root: Path, count: int, epochs: int | None, opened: bool) -> None:
    """List labels that are likely wrong, show them, open labelme.

    A model is trained for each fold of split.folds and looks at the images that it has not learnt from. Trainings are
    kept in .keypipe/held_out; one that was stopped goes on.
    """
    from flows.models.prediction import label_options
    from flows.system.progress_bar import progress_bar
    from tasks.labelling.labelme_window import prepare_window
    from tasks.labelling.next_images import LABELLING, hash_labels
    from tasks.labelling.relabelling import relabel as find_wrong_labels
    from tasks.workspace import params as read

    with changing(root), progress_bar("reading the folds") as progress:
        found = find_wrong_labels(root, count, progress, epochs)
    click.echo(f"{found}; the page with both versions: {found.page.relative_to(root)}")
    if found.images:
        schema = read.load_schema(read.read_params(root))
        window = prepare_window(root, LABELLING, found.images, schema, label_options(root))
        before = hash_labels(root, found.images)
        after = lambda: f"{len(hash_labels(root, found.images) - before)} of {len(before)}"  # noqa: E731
        sys.exit(_work_through(root, window, after, opened=opened))


@data.command("guide", examples=["keypipe guide"])
@click.pass_obj
def guide(root: Path) -> None:
    """Write a page for annotators: skeleton, examples, rules."""
    from flows.system.progress_bar import progress_bar
    from tasks.labelling.guide import write_guide

    with progress_bar("reading annotations") as progress:
        written = write_guide(root, progress)
    click.echo(f"{written}; the page: {written.page.relative_to(root)}")


@contextmanager
def changing(root: Path) -> Iterator[None]:
    """Hold the workspace while the block changes what runs read.

    Raises:
        PoseError: a run holds it, or it is none that can be worked in; nothing was changed then.
    """
    from flows.pipeline import lease
    from tasks.versions.repository import check_repository
    from tasks.workspace.places import RAW

    check_repository(root, moved=[RAW])
    with lease.claim(root):
        yield
