"""The server that people write first: Ultralytics behind FastAPI.

Its model keeps state between images, so that only one request at a time may use it.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool


def make_app(model: str, conf: float) -> FastAPI:
    """Return the application around an ONNX file."""
    from ultralytics import YOLO

    yolo = YOLO(model, task="pose")
    lock = threading.Lock()
    app = FastAPI()

    def find(content: bytes) -> list[dict[str, Any]]:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        with lock:
            (result,) = yolo.predict(image, conf=conf, verbose=False, device="cpu")
        keypoints = result.keypoints.data.tolist() if result.keypoints is not None else []
        return [
            {"class_name": result.names[int(kind)], "score": score, "box_xyxy": box, "keypoints": points}
            for kind, score, box, points in zip(
                result.boxes.cls.tolist(),
                result.boxes.conf.tolist(),
                result.boxes.xyxy.tolist(),
                keypoints,
                strict=True,
            )
        ]

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        content = await request.body()
        return {"predictions": await run_in_threadpool(find, content)}

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
    uvicorn.run(make_app(sys.argv[1], float(sys.argv[3])), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
