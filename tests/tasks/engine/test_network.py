"""No stage looks up or connects to any other host: nothing is downloaded, and nobody is told."""

from __future__ import annotations

from pathlib import Path

from tests.workspace import make_workspace, run_stage

WATCH = """
import os, sys

def watch(event, args):
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    if str(host) not in ("127.0.0.1", "::1", "localhost", "None"):
        with open(os.environ["WATCH_LOG"], "a") as log:
            import traceback
            print(event, host, sys.argv[0], *traceback.format_stack(limit=30)[:-1], file=log)

sys.addaudithook(watch)
"""


def test_no_stage_reaches_for_the_network(tmp_path: Path) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(WATCH)
    log = tmp_path / "reached"
    formats = ["onnx", "torchscript", "openvino"]
    params = {"train.epochs": 1, "train.plots": True, "export.formats": formats}
    root = make_workspace(tmp_path / "workspace", n_images=12, **params)
    text = (root / "params.yaml").read_text().replace("cow:", "奶牛:")
    (root / "params.yaml").write_text(text, encoding="utf-8")
    for source in (root / "data/raw").rglob("*.json"):
        source.write_text(source.read_text().replace('"cow"', '"奶牛"'), encoding="utf-8")
    for stage in ("convert", "split", "train", "validate", "export"):
        done = run_stage(root, stage, PYTHONPATH=str(tmp_path / "hook"), WATCH_LOG=str(log))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "glyph" not in (done.stdout + done.stderr).lower(), (
            "Chinese names are drawn with the font of the package"
        )
    assert not log.exists(), log.read_text()
    assert list((root / "models").glob("*.png")) or list((root / "models").glob("*.jpg"))


def test_the_watch_itself_works(tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / "sitecustomize.py").write_text(WATCH)
    log = tmp_path / "reached"
    code = "import socket\ntry: socket.getaddrinfo('example.invalid', 80)\nexcept OSError: pass"
    env = {"PYTHONPATH": str(tmp_path), "WATCH_LOG": str(log)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    assert "example.invalid" in log.read_text()
