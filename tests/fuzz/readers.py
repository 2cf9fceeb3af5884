"""Every reader of what people, other tools and other machines give: real files of each, and how it is called."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from PIL import Image
from starlette.requests import Request

from keypipe.annotations.labelme import LabelmeOptions, decode_image_data, format_labelme, parse_labelme, to_shapes
from keypipe.annotations.machine import find_untouched, to_machine_document
from keypipe.annotations.shapes import parse_shapes
from keypipe.dataset.coco import format_coco, to_coco
from keypipe.dataset.yolo import format_labels, to_data_yaml, to_yolo
from keypipe.exchange.coco import parse_coco_labels
from keypipe.exchange.deeplabcut import parse_collected_data
from keypipe.exchange.yolo import YoloTexts, parse_yolo_labels
from keypipe.files.texts import decode_text
from keypipe.inference.model_info import parse_model_info
from keypipe.inference.predictor import Thresholds
from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint, Visibility
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from keypipe.keypoints.skeleton import parse_schema, schema_to_mapping
from keypipe.serving.model import ServedModel, open_model
from keypipe.serving.uploads import read_image
from keypipe.splits.groups import parse_groups
from keypipe.splits.manifest import Manifest, ManifestLine, format_manifest, read_manifest
from tasks.check import check_workspace
from tasks.commands.sources.label_sources import read_mapping
from tasks.engine.door.training import engine
from tasks.grading.sigmas import read_sigmas
from tests.imports import ROOT
from tests.onnx_files import metadata_of, raw_output, write_constant_model

SCHEMA = parse_schema(
    {
        "classes": {
            "cow": {"keypoints": ["nose", "left_ear", "right_ear"], "skeleton": [["nose", "left_ear"]]},
            "门": {"keypoints": ["hinge", "latch"]},
        },
        "aliases": {"snout": "nose"},
    }
)
SIZE = (100, 80)
_POINTS = {"nose": Keypoint(20.5, 30), "left_ear": Keypoint(25, 35.25, Visibility.OCCLUDED)}
INSTANCES = (
    Instance("cow", (10, 10, 60, 60), _POINTS),
    Instance("门", (50, 20, 90, 70), {"hinge": Keypoint(55, 25)}),
)
IMAGES = [AnnotatedImage(f"raw/{n}.jpg", SIZE, f"{n:032x}", INSTANCES, f"{n}.json") for n in range(3)]


class Reader(NamedTuple):
    """A reader: real files, and what is done with bytes; it may end in a ``PoseError`` and in no other error."""

    seeds: list[bytes]
    read: Callable[[bytes], Any]


def _labelme() -> Reader:
    own = format_labelme(to_shapes(INSTANCES), "1.jpg", SIZE)
    picture = io.BytesIO()
    Image.new("RGB", (20, 16)).save(picture, "JPEG")
    embedded = json.loads(own) | {"imageData": base64.b64encode(picture.getvalue()).decode()}
    box = {"label": "cow", "points": [[1, 2], [50, 60]], "shape_type": "rectangle", "group_id": "1", "score": 0.5}
    point = {"label": "nose", "points": [[3.5, 4]], "shape_type": "point", "group_id": 1.0, "description": "occluded"}
    outline = {"label": "cow", "points": [[1, 2], [5, 6], [7, 1]], "shape_type": "polygon", "difficult": True}
    xal = {"version": "2.4", "shapes": [box, point | {"difficult": True}, outline], "imagePath": "..\\1.jpg"}

    def read(content: bytes) -> None:
        file = parse_labelme(content)
        find_untouched(file)
        parse_shapes(file, SIZE, SCHEMA, LabelmeOptions(box_from_points=0.1), "1.json")
        if file.has_image_data:
            decode_image_data(file)

    found = Prediction("cow", 0.9, (1, 2, 50, 60), [PredictedKeypoint("nose", 3.5, 4, 0.8)])
    drawn = to_machine_document([found], "1.jpg", SIZE, LabelmeOptions(), 0.5)
    return Reader([own.encode(), *(json.dumps(seed).encode() for seed in (embedded, xal, drawn))], read)


def _coco() -> Reader:
    own = to_coco(IMAGES, SCHEMA)
    one = {"id": 1, "image_id": "1", "category_id": 0, "keypoint": [[1, 2], [3, 4]], "area": 1.0}
    two = {"id": 2, "image_id": 1, "category_id": 0, "bbox": [1, 2, 0, 9], "keypoints": [1, 2, 2, 3, 4, 3]}
    script = {
        "images": [{"id": "1", "file_name": "C:\\a\\1.jpg", "width": 100, "height": 80}],
        "annotations": [one, two],
        "categories": [{"id": 0, "name": "cow", "keypoint": [1, 2], "skeleton": [[0, 1]]}],
    }
    carried = format_coco(own)
    own.info |= {"keypipe_schema": schema_to_mapping(SCHEMA)}
    return Reader([carried, format_coco(own), json.dumps(script).encode()], parse_coco_labels)


_DATA = to_data_yaml(SCHEMA, ["train", "val"], [0.1] * len(SCHEMA.slots))


def _yolo_rows() -> Reader:
    rows = format_labels(to_yolo(instance, SIZE, SCHEMA) for instance in INSTANCES).encode()
    scores = b"0 0.5 0.5 0.4 0.2 0.4 0.45 0.97 0 0 0.02 0.6 0.55 0.8 0.91\n"

    def read(content: bytes) -> None:
        text = decode_text(content, "1.txt")
        for data in (_DATA, {}):
            parse_yolo_labels(YoloTexts({"1.jpg": text}, {"1.jpg": SIZE}, {"1.jpg": "1.txt"}, data))

    return Reader([rows, rows * 3, scores, b"0 0.5 0.5 0.4 0.2 0.4 0.45 0.3 0.3\n", b"cow\nhorse\n"], read)


def _data_yaml() -> Reader:
    rows = format_labels(to_yolo(instance, SIZE, SCHEMA) for instance in INSTANCES)
    own = yaml.safe_dump(_DATA | {"keypipe_schema": schema_to_mapping(SCHEMA)}, allow_unicode=True).encode()
    roboflow = (
        b"train: ../train/images\nval: ../valid/images\nkpt_shape: [5, 3]\nflip_idx: [0, 2, 1, 3, 4]\n"
        b"nc: 2\nnames: ['cow', 'x']\nroboflow:\n  version: 3\n"
    )
    by_class = b"names:\n  0: cow\n  1: gate\nkpt_shape: [5, 3]\nkpt_names:\n  0: [a, b, c]\n  1: &n [yes, 12:30]\n"
    path = _scratch() / "data.yaml"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        data = read_mapping(path, None)
        parse_yolo_labels(YoloTexts({"1.jpg": rows}, {"1.jpg": SIZE}, {"1.jpg": "1.txt"}, data))

    return Reader([own, roboflow, by_class], read)


def _dlc() -> Reader:
    single = (
        b"scorer,A,A,A,A\nbodyparts,snout,snout,tail,tail\ncoords,x,y,x,y\nlabeled-data/d 1/1.png,10.5,20,30.5,40\n"
    )
    several = (
        b"scorer,,,A,A,A,A,A,A\nindividuals,,,m1,m1,m2,m2,single,single\n"
        b"bodyparts,,,snout,snout,snout,snout,lamp,lamp\ncoords,,,x,y,x,y,x,y\n"
        b"labeled-data,c,1.png,1,2,3,4,,\nlabeled-data,c,2.png,,,3,4,5,6\n"
    )
    return Reader([single, several], lambda content: parse_collected_data(decode_text(content, "C.csv"), "C.csv"))


def _manifest() -> Reader:
    lines = tuple(ManifestLine(f"raw/{n}.jpg", f"{n:032x}", "train", "g1", f"{n:016x}", "1") for n in range(3))
    texts = [format_manifest(Manifest(lines, draw)).encode() for draw in (1, 2)]
    path = _scratch() / "manifest.csv"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_manifest(path)

    return Reader(texts, read)


def _groups() -> Reader:
    text = "image,animal\n1.jpg,a\na/2.jpg,牛\n3.json,\n".encode()
    return Reader([text, b"\xef\xbb\xbf" + text], lambda content: parse_groups(decode_text(content, "g.csv"), "animal"))


def _sigmas() -> Reader:
    root = _scratch() / "sigmas"
    (root / "data").mkdir(parents=True, exist_ok=True)
    real = (ROOT / "data/sigmas.yaml").read_bytes()
    own = b"area_rule: box\narea_factor: 0.53\nsigmas:\n  nose: 0.026\n  left_ear: 0.035\n"

    def read(content: bytes) -> None:
        (root / "data/sigmas.yaml").write_bytes(content)
        read_sigmas(root)

    return Reader([real[:200].rpartition(b"\n")[0] + b"\n" + own, own, own], read)


def _params() -> Reader:
    root = _scratch() / "params"
    root.mkdir(exist_ok=True)
    (root / "dvc.yaml").write_text("stages: {}\n")  # names the sections that must be there; read anew each time

    def read(content: bytes) -> None:
        (root / "params.yaml").write_bytes(content)
        check_workspace(root)

    training: Any = engine()  # Ultralytics' own defaults are no input; they would be parsed anew for each one
    training.read_train_arguments = cache(training.read_train_arguments)
    whole = (ROOT / "params.yaml").read_text(encoding="utf-8")
    sections = [f"{text.rstrip()}\n" for text in re.split(r"\n(?=\w)", whole) if ":" in text]
    head = "".join(text for text in sections if text.startswith(("seed", "schema")))
    others = [text for text in sections if not text.startswith(("seed", "schema"))]
    lean = [re.sub(r"[ \t]*#.*", "", head + text) for text in others]  # the whole file takes ten times as long
    return Reader([text.encode() for text in (whole, *lean * 5)], read)


def _onnx_metadata() -> Reader:
    seeds = [json.dumps(metadata_of(SCHEMA, own=own)).encode() for own in (True, False)]

    def read(content: bytes) -> None:
        try:
            metadata = json.loads(content)
        except (ValueError, RecursionError):
            return
        if isinstance(metadata, Mapping):  # an ONNX file holds texts alone
            parse_model_info({key: value if isinstance(value, str) else repr(value) for key, value in metadata.items()})

    return Reader(seeds, read)


def _server() -> Reader:
    model = _served_model()
    pictures = []
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF"):
        picture = io.BytesIO()
        Image.fromarray(noise).save(picture, kind)
        pictures.append(picture.getvalue())
    form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="1.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    forms = [form + pictures[0] + b"\r\n--x--\r\n", form.replace(b'; filename="1.jpg"', b"") + b"1\r\n--x--\r\n"]

    def read(content: bytes) -> None:
        kind = b"multipart/form-data; boundary=x" if content[:2] == b"--" else b"image/jpeg"
        headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content, "more_body": False}

        request = Request({"type": "http", "method": "POST", "headers": headers, "path": "/predict"}, receive)
        image, name = asyncio.run(read_image(request, 1 << 21))
        model.predict(image, name, model.thresholds)

    return Reader([*pictures, *forms], read)


@cache
def _served_model() -> ServedModel:
    output = raw_output(SCHEMA, [("cow", 0.9, [32, 32, 20, 20], {"nose": (30, 30, 0.9)})])
    path = write_constant_model(_scratch() / "model.onnx", output, metadata_of(SCHEMA))
    return open_model(path, Thresholds(), max_megapixels=4)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="keypipe-fuzz-")


def _scratch() -> Path:
    return Path(_folder().name)


READERS: dict[str, Callable[[], Reader]] = {
    "labelme": _labelme,
    "COCO": _coco,
    "YOLO rows": _yolo_rows,
    "data.yaml": _data_yaml,
    "DeepLabCut csv": _dlc,
    "manifest": _manifest,
    "groups": _groups,
    "sigmas": _sigmas,
    "params.yaml": _params,
    "ONNX metadata": _onnx_metadata,
    "server's bodies": _server,
}
