"""What a first ``params.yaml`` should say of a folder, each value with its reason: looks at the data, asks nobody."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.proposal.edges import propose_edges
    from keypipe.proposal.geometry import Geometry, measure_geometry
    from keypipe.proposal.groups import propose_groups
    from keypipe.proposal.marks import Marks
    from keypipe.proposal.training import Machine, propose_training
    from keypipe.proposal.values import Proposal
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        edges=("propose_edges",),
        geometry=(
            "Geometry",
            "measure_geometry",
        ),
        groups=("propose_groups",),
        marks=("Marks",),
        training=(
            "Machine",
            "propose_training",
        ),
        values=("Proposal",),
    )

__all__ = [
    "Geometry",
    "Machine",
    "Marks",
    "Proposal",
    "measure_geometry",
    "propose_edges",
    "propose_groups",
    "propose_training",
]
