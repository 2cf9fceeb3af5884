from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.workspace import environment, make_workspace


def run_on_terminal(root: Path, *arguments: str) -> tuple[str, str]:
    """Run ``keypipe`` with stderr on a terminal; return what it wrote to stdout and what the terminal was sent."""
    code = f"import sys; from pathlib import Path; from flows.cli import main; main(Path({str(root)!r}))"
    ours, theirs = pty.openpty()
    env = environment(TERM="xterm", COLUMNS="100")
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=theirs, env=env, cwd=root, text=True
    ) as process:
        os.close(theirs)
        sent = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux: the other end is closed
                break
            if not part:
                break
            sent += part
        assert process.stdout is not None
        output = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0, sent.decode()
    return output, sent.decode()


def test_a_person_who_waits_sees_a_bar(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "workspace", n_images=8)
    coco, labelme = tmp_path / "coco", tmp_path / "labelme"
    for arguments, last, told in (
        (("export-labels", "coco", str(coco)), "copying images", "8 images"),
        (("import", "coco", str(coco), "--name", "again"), "reading what was written", "again: 8 images"),
        (("export-labels", "labelme", str(labelme)), "copying images", "16 images"),
        (("use", str(labelme)), "copying files", "holds your annotations"),
    ):
        output, sent = run_on_terminal(root, *arguments)
        assert told in output
        assert last in sent
        assert "100%" in sent
        assert "100%" not in output  # the bar is none of the command's output


def test_the_demo_is_drawn_before_ones_eyes(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "workspace", n_images=0)
    output, sent = run_on_terminal(root, "demo", "--images", "6")
    assert "6 annotated images drawn" in output
    assert "drawing" in sent
    assert "100%" in sent
