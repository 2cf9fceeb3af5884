"""A validator that keeps the predictions that its figures come from."""

from __future__ import annotations

from typing import Any

from ultralytics.models.yolo.pose import PoseValidator

from keypipe.keypoints.rows import Row


class RecordingValidator(PoseValidator):  # type: ignore[misc]
    """Keeps every prediction in original pixels, best score first within an image.

    Attributes:
        rows: the predictions of the last validation.
    """

    rows: list[Row]

    def init_metrics(self, model: Any) -> None:
        """Start anew: one validator validates every epoch."""
        super().init_metrics(model)
        self.rows = []

    def update_metrics(self, preds: Any, batch: Any) -> None:
        """Take in a batch."""
        super().update_metrics(preds, batch)
        marker = f"/images/{self.args.split}/"
        for index, pred in enumerate(preds):
            prepared = self._prepare_batch(index, batch)
            scaled = self.scale_preds(self._prepare_pred(pred), prepared)
            name = str(prepared["im_file"]).rpartition(marker)[2]
            columns = (scaled["cls"], scaled["conf"], scaled["bboxes"], scaled["keypoints"])
            for cls, conf, box, keypoints in zip(*(c.tolist() for c in columns), strict=True):
                self.rows.append((name, int(cls), float(conf), box, keypoints))
