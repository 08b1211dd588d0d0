"""Nodes of com.microsoft held to onnxruntime: kernel, inference and lowering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.ops.harness import check_lowering, check_node, peer

DOMAIN = "com.microsoft"


def agree(
    name: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any] | None = None,
    *,
    outputs: int = 1,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    lowered: bool = True,
    symbolic: bool = True,
    domain: str = DOMAIN,
) -> list[Any]:
    """Check a node against onnxruntime, whose outputs it gives.

    Unless ``lowered``, a lowering may be missing; unless ``symbolic``, it may ask for extents.
    """
    expected = peer(
        name, inputs, attributes, opset=1 if domain else 23, outputs=outputs, domain=domain
    )
    where: dict[str, Any] = {"domain": domain, "opset": 1 if domain else 23}
    check_node(name, inputs, attributes, expected=expected, rtol=rtol, atol=atol, **where)
    if lowered:
        check_lowering(name, inputs, attributes, outputs=outputs, symbolic=symbolic, **where)
    return expected
