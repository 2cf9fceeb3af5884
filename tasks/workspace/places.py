"""Where the files that stages share lie in a workspace, relative to its root."""

from __future__ import annotations

from pathlib import Path

# What people write.
PARAMS_FILE = "params.yaml"
LOCAL_FILE = "local.yaml"
RAW = Path("data/raw")
RAW_FILE = Path("data/raw.dvc")
GROUPS = Path("data/groups.csv")
SIGMAS = Path("data/sigmas.yaml")
WEIGHTS = Path("data/weights")
LOCK = Path("dvc.lock")

# What convert and split write.
DERIVED = Path("data/derived")
COCO = Path("data/coco/keypoints.json")
DATASET = Path("data/dataset")
ANNOTATIONS = DATASET / "annotations"
DATA_YAML = DATASET / "data.yaml"
FOLDS = DATASET / "folds"
MANIFEST = DATASET / "manifest.csv"
VIEW = Path("data/yolo")
VIEW_YAML = VIEW / "data.yaml"

# What train writes.
MODELS = Path("models")
BEST = MODELS / "best.pt"
LAST = MODELS / "last.pt"
RECORD = MODELS / "train.json"
EPOCHS = MODELS / "epochs.json"
TIMINGS = MODELS / "timings.json"
PREFLIGHT_FACTS = MODELS / "preflight.json"
PREFLIGHT_PICTURE = MODELS / "preflight.jpg"

# What validate and export write.
EXPORTS = Path("exports")
ONNX = EXPORTS / "model.onnx"
LATENCY = EXPORTS / "latency.json"
METRICS = Path("metrics")
REPORTS = Path("reports")

# What is neither data nor result: scratch, leases, failures; may be removed when nothing runs.
STATE = Path(".keypipe")
SCRATCH = STATE / "tmp"
FAILURES = STATE / "failures"
FINISHED = STATE / "finished"
TRAINING = STATE / "train"
PROGRESS = STATE / "progress.json"
PARSED = STATE / "cache/annotations.msgpack"
PIXELS = STATE / "cache/pixels.jsonl"
VIEW_MEMORY = STATE / "cache/view"
REPLACED = STATE / "replaced"
ENGINE = STATE / "ultralytics"
OUTBOX = STATE / "outbox"

# What MLflow writes, unless a server is named.
DATABASE = Path("mlflow.db")
ARTIFACTS = Path("mlartifacts")

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"


def report_folder(name: str) -> Path:
    """Return the folder of the report of a stage or command."""
    return REPORTS / name


def metrics_file(stage: str) -> Path:
    """Return the file of a stage's figures."""
    return METRICS / f"{stage}.json"
