"""All annotated objects, class by class, and what shapes of them are usual."""

from __future__ import annotations

from keypipe.annotations.readings import Folder
from keypipe.diagnosis.columns import ClassObjects, Gathering
from keypipe.diagnosis.outliers import Examiner, learn_shapes
from keypipe.keypoints.skeleton import Schema


def gather_objects(folder: Folder) -> dict[str, ClassObjects]:
    """Lay the objects of all files without faults together, by class."""
    gathering = Gathering(folder.files)
    at_fault = {fault.file for fault in folder.faults}
    for number, reading in enumerate(folder.files.readings()):
        if reading.file.image and reading.file.source not in at_fault:
            gathering.add(number, reading.file.image.size_wh, reading.objects, "")
    return gathering.by_class


def learn_examiners(objects: dict[str, ClassObjects], schema: Schema) -> dict[str, Examiner]:
    """Learn what shapes are usual for each class of which enough is annotated."""
    examiners: dict[str, Examiner] = {}
    for name, skeleton in schema.classes.items():
        column = {keypoint: number for number, keypoint in enumerate(skeleton.keypoints)}
        partners = skeleton.partners()
        flip = [column[partners.get(keypoint, keypoint)] for keypoint in skeleton.keypoints]
        examiner = learn_shapes(objects[name].rows.points, flip)
        if examiner:
            examiners[name] = examiner
    return examiners
