"""Train, val and test: how images get a split and keep it, and what a test split can decide."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.splits.assignment import Aside, Split, assign_splits
    from keypipe.splits.balance import count_features
    from keypipe.splits.contents import Sample
    from keypipe.splits.manifest import Manifest, ManifestLine, format_manifest, parse_manifest, read_manifest
    from keypipe.splits.power import Power, decidable_margin, find_power, groups_needed
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        assignment=(
            "Aside",
            "Split",
            "assign_splits",
        ),
        balance=("count_features",),
        contents=("Sample",),
        manifest=(
            "Manifest",
            "ManifestLine",
            "format_manifest",
            "parse_manifest",
            "read_manifest",
        ),
        power=(
            "Power",
            "decidable_margin",
            "find_power",
            "groups_needed",
        ),
    )

__all__ = [
    "Aside",
    "Manifest",
    "ManifestLine",
    "Power",
    "Sample",
    "Split",
    "assign_splits",
    "count_features",
    "decidable_margin",
    "find_power",
    "format_manifest",
    "groups_needed",
    "parse_manifest",
    "read_manifest",
]
