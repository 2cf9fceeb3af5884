"""Train, val and test: how images get a split and keep it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.splits.assignment import Aside, Split, assign_splits
    from keypipe.splits.contents import Sample
    from keypipe.splits.manifest import Manifest, ManifestLine, format_manifest, parse_manifest, read_manifest
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        assignment=(
            "Aside",
            "Split",
            "assign_splits",
        ),
        contents=("Sample",),
        manifest=(
            "Manifest",
            "ManifestLine",
            "format_manifest",
            "parse_manifest",
            "read_manifest",
        ),
    )

__all__ = [
    "Aside",
    "Manifest",
    "ManifestLine",
    "Sample",
    "Split",
    "assign_splits",
    "format_manifest",
    "parse_manifest",
    "read_manifest",
]
