"""Which provider runs which nodes, in onnxruntime's words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from fornix.runtime import Placement


@dataclass(frozen=True)
class OrtEpAssignedNode:
    """A node of the optimized model."""

    name: str
    domain: str
    op_type: str


@dataclass(frozen=True)
class OrtEpAssignedSubgraph:
    """Nodes that a provider took together: those of one kernel, or one that has none."""

    ep_name: str
    nodes: tuple[OrtEpAssignedNode, ...]

    def get_nodes(self) -> list[OrtEpAssignedNode]:
        """The nodes."""
        return list(self.nodes)


def assigned(placements: Iterable[Placement]) -> Sequence[OrtEpAssignedSubgraph]:
    """The parts of a model, as they were taken."""
    found: list[OrtEpAssignedSubgraph] = []
    for (provider, kernels), places in groupby(placements, lambda p: (p.provider, p.kernels)):
        nodes = [OrtEpAssignedNode(p.node, p.domain, p.op_type) for p in places]
        parts = [nodes] if kernels else [[node] for node in nodes]
        found += [OrtEpAssignedSubgraph(provider, tuple(part)) for part in parts]
    return found
