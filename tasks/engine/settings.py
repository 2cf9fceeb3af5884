"""What Ultralytics is told before anything else."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from keypipe.images.fonts import font_path
from tasks.workspace.places import ENGINE

_MARK = "keypipe_takes_files_as_they_are"


def configure(root: Path, threads: int | None = None) -> None:
    """Keep Ultralytics' settings in the workspace and everything unasked for switched off.

    Must run before Ultralytics is imported.

    Args:
        root: the workspace.
        threads: CPU threads of torch; None for every core.
    """
    folder = root.resolve() / ENGINE
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["YOLO_CONFIG_DIR"] = str(folder)
    os.environ["YOLO_AUTOINSTALL"] = "false"
    # OpenMP's threads spin while they wait, which costs the one that works its core as soon as anything else runs:
    # on two busy cores a step took 5 to 6 times as long without this limit.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    # Its is_online() asks public name servers at import; only fetching weights needs the network, and that does not
    # look at this flag.
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reports its use, also where Ultralytics loads it
    # torch's word on a file that it then refuses, which is told in one line
    warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
    # A checkpoint is a pickle, and would be run as a program: with these both build nothing but tensors, plain values
    # and the classes of their own networks, wherever they load one.
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "true"
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))
    from PIL import Image

    opener = Image.open
    from ultralytics import settings
    from ultralytics.nn import tasks as networks
    from ultralytics.utils import USER_CONFIG_DIR, torch_utils

    networks.SAFE_LOAD = True  # the variable alone comes too late where it has been imported before
    _take_files_as_they_are()

    # Its own opener answers an unknown format by trying to install a package.
    Image.open = opener
    # select_device() sets this many, one less than there are cores: on two cores 0.86 s a step instead of 0.67.
    torch_utils.NUM_THREADS = threads or os.cpu_count() or 1
    font = font_path()
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):  # what it would otherwise download
        if font and not (USER_CONFIG_DIR / name).exists():
            (USER_CONFIG_DIR / name).unlink(missing_ok=True)  # a link into an environment that is gone
            (USER_CONFIG_DIR / name).symlink_to(font)
    quiet = {key: False for key, value in settings.items() if isinstance(value, bool)}
    settings.update({**quiet, "datasets_dir": str(folder), "weights_dir": str(folder), "runs_dir": str(folder)})


def _take_files_as_they_are() -> None:
    """Let Ultralytics open a file that is there by its own name.

    It takes a path for what may be an address: it leaves an apostrophe out, and cuts at a question mark.
    """
    from ultralytics.nn import tasks as networks
    from ultralytics.utils import checks, downloads

    if hasattr(downloads, _MARK):
        return
    setattr(downloads, _MARK, True)
    find, check = downloads.attempt_download_asset, checks.check_suffix

    def attempt_download_asset(file: str | Path, *arguments: Any, **options: Any) -> str:
        return str(file) if Path(file).is_file() else str(find(file, *arguments, **options))

    def check_suffix(file: Any = "", suffix: Any = "", msg: str = "") -> None:
        if not (isinstance(file, str | Path) and Path(file).is_file() and Path(file).suffix.lower() in suffix):
            check(file, suffix, msg)

    downloads.attempt_download_asset = attempt_download_asset
    checks.check_suffix = networks.check_suffix = check_suffix


def use_font_in_plots() -> None:
    """Let Ultralytics' charts, which matplotlib draws, show Chinese names as well."""
    font = font_path()
    if font is None:
        return
    from matplotlib import font_manager, rcParams

    font_manager.fontManager.addfont(str(font))
    rcParams["font.family"] = ["DejaVu Sans", font_manager.FontProperties(fname=str(font)).get_name()]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
