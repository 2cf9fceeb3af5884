"""Which findings of the diagnosis are reported, and which stop the pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from keypipe.diagnosis.findings import KINDS, Finding, at_or_above, count_findings
from keypipe.errors import DatasetError
from tasks.workspace import params as read

_MAX_SPELT_OUT = 20


class DoctorParams(read.Section):
    """The section ``doctor`` of ``params.yaml``."""

    fail_on: Literal["error", "warning", "never"] = "error"
    ignore: list[str] = Field(default=[])

    @classmethod
    def find_problems(cls, values: Mapping[str, Any]) -> dict[str, str]:
        """Return what is wrong with the names of kinds."""
        ignored = values.get("ignore", [])
        unknown = [kind for kind in ignored if kind not in KINDS] if isinstance(ignored, list) else []
        if not unknown:
            return {}
        return {"ignore": f"no such kind of finding: {', '.join(map(str, unknown))} (known: {', '.join(KINDS)})"}


def without_ignored(findings: Iterable[Finding], params: DoctorParams) -> list[Finding]:
    """Leave out the findings of kinds that are not to be reported."""
    return [found for found in findings if found.kind not in params.ignore]


def stop_at(findings: Sequence[Finding], params: DoctorParams) -> None:
    """Stop where a finding is as grave as ``doctor.fail_on`` says.

    Raises:
        DatasetError: it is; all such findings are in the message, or the first of them.
    """
    grave = at_or_above(findings, params.fail_on)
    if not grave:
        return
    lines = [f"{format_counts(grave)}, and doctor.fail_on is {params.fail_on!r}"]
    lines += [f"  {found}" for found in grave[:_MAX_SPELT_OUT]]
    if len(grave) > _MAX_SPELT_OUT:
        lines.append(f"  ... and {len(grave) - _MAX_SPELT_OUT} more")
    lines.append("look at them with `keypipe doctor`; doctor.fail_on and doctor.ignore say what stops the pipeline")
    raise DatasetError("\n".join(lines))


def format_counts(findings: Sequence[Finding]) -> str:
    """Return a phrase such as ``2 errors and 5 warnings``."""
    numbers = {severity: sum(kinds.values()) for severity, kinds in count_findings(findings).items()}
    nouns = {"error": "error", "warning": "warning", "info": "note"}
    parts = [f"{count} {nouns[name]}{'s' if count > 1 else ''}" for name, count in numbers.items() if count]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts) or "no findings"
