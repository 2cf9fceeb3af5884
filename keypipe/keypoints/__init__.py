"""Skeletons, instances and their keypoints: the values that every other package speaks of."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint, Visibility
    from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
    from keypipe.keypoints.skeleton import Schema, Skeleton, compare_schemas, parse_schema, schema_to_mapping
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        instances=("AnnotatedImage", "Instance", "Keypoint", "Visibility"),
        predictions=("PredictedKeypoint", "Prediction"),
        skeleton=("Schema", "Skeleton", "compare_schemas", "parse_schema", "schema_to_mapping"),
    )

__all__ = [
    "AnnotatedImage",
    "Instance",
    "Keypoint",
    "PredictedKeypoint",
    "Prediction",
    "Schema",
    "Skeleton",
    "Visibility",
    "compare_schemas",
    "parse_schema",
    "schema_to_mapping",
]
