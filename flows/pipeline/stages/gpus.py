"""A lock for each GPU of this machine, so that the runs of several workspaces take turns on it.

The system lets go of a lock when its holder dies, in whatever way. A stage that runs without keypipe's flows (`dvc
repro`) takes no turn.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows.system.locks import held_lock
from tasks.workspace.params import read_local

STAGES = ("train", "validate", "export")
"""What may run on a GPU."""
FOLDER = Path(tempfile.gettempdir()) / "keypipe-gpus"
"""For all users of the machine: a folder that all may write to, without the sticky bit that would keep them from it."""
_SECONDS = 20.0


@contextmanager
def holding_gpus(
    root: Path, stage: str, env: Mapping[str, str], say: Callable[[str], None], poll: Callable[[], None]
) -> Iterator[None]:
    """Hold the GPUs that a stage is going to use while the block runs, after waiting for them.

    Args:
        root: the workspace, whose ``local.yaml`` names the device.
        stage: its name; those that use no GPU wait for nothing.
        env: environment of its process.
        say: gets a line when it has to wait.
        poll: called often meanwhile; may raise to give up.
    """
    with ExitStack() as stack:
        if stage in STAGES:
            _make_folder()
            for gpu in sorted(choose_gpus(read_local(root).device, env.get("CUDA_VISIBLE_DEVICES"), find_gpus(env))):
                waiting = _tell(f"{stage}: waiting for {gpu}, which another run of this machine holds", say, poll)
                stack.enter_context(held_lock(FOLDER / f"{gpu}.lock", waiting, mode=0o666))
        yield


def choose_gpus(device: str | int | None, visible: str | None, gpus: Sequence[str]) -> list[str]:
    """Return which GPUs a stage uses.

    Args:
        device: as ``local.yaml`` names it; None: the first, as Ultralytics takes it.
        visible: ``CUDA_VISIBLE_DEVICES``; None: all.
        gpus: names of the machine's, in order.
    """
    seen = list(gpus)
    if visible is not None:
        named = [name.strip() for name in visible.split(",") if name.strip()]
        seen = [gpu for name in named for gpu in gpus if gpu.startswith(name) or str(gpus.index(gpu)) == name]
    text = "0" if device is None else str(device).removeprefix("cuda:").removeprefix("cuda") or "0"
    numbers = [int(part) for part in text.split(",") if part.strip().isdigit()]
    return [seen[number] for number in numbers if number < len(seen)]


def find_gpus(env: Mapping[str, str]) -> list[str]:
    """Return the names of this machine's NVIDIA GPUs, in their order on the bus; none where there is no driver."""
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command,
            env=dict(env),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.startswith("GPU-")] if not done.returncode else []


def _make_folder() -> None:
    FOLDER.mkdir(exist_ok=True)
    with contextlib.suppress(PermissionError):  # another user's, who has opened it to all
        FOLDER.chmod(0o777)


def _tell(text: str, say: Callable[[str], None], poll: Callable[[], None]) -> Callable[[], None]:
    told = False

    def tell() -> None:
        nonlocal told
        if not told:
            say(text)
        told = True
        poll()

    return tell
