"""How good predictions are: OKS, average precision, keypoint errors, and how sure the figures are."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.evaluation.bootstrap import Interval, Intervals, measure_intervals
    from keypipe.evaluation.evaluation import Evaluation, evaluate, flatten_figures
    from keypipe.evaluation.keypoint_errors import Errors, GroupError, KeypointError, Reliability
    from keypipe.evaluation.matching import Detection, confuse_classes, match_instances
    from keypipe.evaluation.oks import compute_oks, object_areas
    from keypipe.evaluation.sigmas import COCO_PERSON_SIGMAS, estimate_sigmas, resolve_sigmas
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        bootstrap=("Interval", "Intervals", "measure_intervals"),
        evaluation=("Evaluation", "evaluate", "flatten_figures"),
        keypoint_errors=("Errors", "GroupError", "KeypointError", "Reliability"),
        matching=("Detection", "confuse_classes", "match_instances"),
        oks=("compute_oks", "object_areas"),
        sigmas=("COCO_PERSON_SIGMAS", "estimate_sigmas", "resolve_sigmas"),
    )

__all__ = [
    "COCO_PERSON_SIGMAS",
    "Detection",
    "Errors",
    "Evaluation",
    "GroupError",
    "Interval",
    "Intervals",
    "KeypointError",
    "Reliability",
    "compute_oks",
    "confuse_classes",
    "estimate_sigmas",
    "evaluate",
    "flatten_figures",
    "match_instances",
    "measure_intervals",
    "object_areas",
    "resolve_sigmas",
]
