"""``keypipe predict`` against ``yolo predict`` with the same ONNX file: the time an image, and that of the start."""
