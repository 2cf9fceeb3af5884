"""What is wrong, or probably wrong, with annotations and their images."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.diagnosis.diagnosis import Diagnosis, diagnose
    from keypipe.diagnosis.duplicates import find_duplicates
    from keypipe.diagnosis.findings import KINDS, Finding, Kind, count_findings, sort_findings
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        diagnosis=("Diagnosis", "diagnose"),
        duplicates=("find_duplicates",),
        findings=("KINDS", "Finding", "Kind", "count_findings", "sort_findings"),
    )

__all__ = ["KINDS", "Diagnosis", "Finding", "Kind", "count_findings", "diagnose", "find_duplicates", "sort_findings"]
