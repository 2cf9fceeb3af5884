"""``keypipe predict`` against ``yolo predict`` with the same ONNX file, process start included.

    python -m benchmarks.prediction [--images 100] [--times 5] [--model FILE --source FOLDER]

Both draw every image into a folder of their own and say what they found (keypipe as JSON, Ultralytics as label files).
The programs take turns. Without ``--model`` a YOLOv8n-pose of random weights for inputs of 640 px is made, and drawings
to run it on; what it finds makes no sense, but it finds something.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import Run, alternate, median, ratios, run
from keypipe.demo import write_demo

CONF = "0.25"


def make_model(folder: Path, imgsz: int) -> Path:
    """Write an ONNX file of random weights and return its path."""
    from tasks.engine.exporting import export
    from tasks.engine.settings import configure
    from tests.pose_checkpoint import write_random_checkpoint

    configure(folder)
    checkpoint = write_random_checkpoint(folder / "random.pt")
    return export(checkpoint, "onnx", imgsz, {"simplify": True}, {}, folder, folder).path


def count_ours(folder: Path) -> int:
    """Return the number of objects that keypipe found."""
    index = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    return sum(entry["objects"] for entry in index["files"])


def count_theirs(folder: Path) -> int:
    """Return the number of objects that Ultralytics found."""
    return sum(len(path.read_text().splitlines()) for path in folder.rglob("*.txt"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--imgsz", type=int, default=640, help="input of the model that is made")
    parser.add_argument("--model", type=Path, help="an ONNX file of your own")
    parser.add_argument("--source", type=Path, help="a folder of images of your own")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = options.model.resolve() if options.model else make_model(folder, options.imgsz)
        source = options.source.resolve() if options.source else folder / "images"
        if not options.source:
            for path in write_demo(folder / "drawn", options.images, size_wh=(640, 480)):
                source.mkdir(exist_ok=True)
                shutil.move(path, source / path.name)
        programs = Path(sys.executable).parent
        env = os.environ | {
            "YOLO_CONFIG_DIR": str(folder / "ultralytics"),
            "YOLO_AUTOINSTALL": "false",
            "YOLO_OFFLINE": "true",
        }
        ours, theirs = folder / "ours", folder / "theirs"

        def keypipe() -> Run:
            shutil.rmtree(ours, ignore_errors=True)
            command = [str(programs / "keypipe"), "predict", str(source), "--model", str(model), "--output", str(ours)]
            return run([*command, "--conf", CONF, "--device", "cpu"], folder)

        def yolo() -> Run:
            shutil.rmtree(theirs, ignore_errors=True)
            command = [str(programs / "yolo"), "pose", "predict", f"model={model}", f"source={source}", f"conf={CONF}"]
            return run([*command, f"project={theirs}", "name=run", "save_txt=True", "device=cpu"], folder, env)

        keypipe()  # neither pays for cold files
        yolo()
        first, second = alternate(keypipe, yolo, options.times)
        found = count_ours(ours), count_theirs(theirs)
        n_images = len([path for path in source.iterdir() if path.suffix in {".jpg", ".jpeg", ".png"}])
    print(f"{n_images} images, {options.times} pairs of runs in turn; objects found: {found[0]} and {found[1]}")
    print(f"{'':16}{'median s':>10}{'peak MB':>10}")
    for name, runs in (("keypipe predict", first), ("yolo predict", second)):
        print(f"{name:16}{median(runs):10.2f}{max(item.total_mb for item in runs):10.0f}")
    print(f"ratio yolo / keypipe: {ratios(second, first)} (target: above 1)")


if __name__ == "__main__":
    main()
