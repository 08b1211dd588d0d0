"""Stored data: every tensor has the payload that its dims and dtype require."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from fornix.check.finding import Findings, place, way
from fornix.errors import FornixError
from fornix.format.limits import Limits
from fornix.ir import walk
from fornix.ir.attribute import AttributeKind
from fornix.ir.graph import Model
from fornix.ir.message_tensor import MessageTensor
from fornix.ir.tensor import SparseTensor, Tensor

TENSORS = {
    AttributeKind.TENSOR,
    AttributeKind.TENSORS,
    AttributeKind.SPARSE_TENSOR,
    AttributeKind.SPARSE_TENSORS,
}
"""What attributes hold that stored data can be in."""


def check_tensors(model: Model, findings: Findings, limits: Limits) -> None:
    """Note initializers and attributes whose payload is missing, short, long or unsafe."""
    for subject, tensor in stored(model):
        if isinstance(tensor, MessageTensor) and tensor.is_kept_elsewhere:
            continue
        try:
            if isinstance(tensor, SparseTensor):
                check_order(tensor, subject, findings)
            else:
                limits.check(
                    "tensor_bytes", 0 if tensor.dtype.bits == 0 else tensor.nbytes, subject
                )
                tensor.numpy()
        except FornixError as error:
            findings.error(subject, error)


def check_order(tensor: SparseTensor, subject: str, findings: Findings) -> None:
    """Note indices that are not in ascending order, each once; raises for those out of range."""
    _, indices = tensor.check()
    rows = indices.reshape(len(indices), -1)
    for index, (before, after) in enumerate(pairwise(rows.tolist()), 1):
        if after <= before:
            findings.error(
                subject,
                f"indices have to ascend, each once, found {after} behind {before} at {index}",
            )
            return


def stored(model: Model) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of ``model`` with what messages call it."""
    for graph in walk.graphs(model):
        for value in graph.initializer_values:
            if value.tensor is not None:
                yield f"{way(graph)}initializer '{value.name}'", value.tensor
    for node in walk.nodes(model):
        for attribute in node.attributes.values():
            if attribute.kind not in TENSORS or attribute.value is None:
                continue
            held = attribute.value if isinstance(attribute.value, list) else [attribute.value]
            for tensor in held:
                yield f"{place(node)}, attribute {attribute.name}", tensor
