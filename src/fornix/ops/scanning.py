"""What Loop and Scan say of what their bodies read and give: nothing that needs their rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fornix.errors import ShapeError, require
from fornix.ir.graph import Graph
from fornix.ops.fact import Array


def truth(cond: Array) -> bool:
    """Whether the one element of ``cond`` holds; raises ShapeError if it has others."""
    if cond.size != 1:
        raise ShapeError(f"a condition must have one element, found shape {list(cond.shape)}")
    return bool(cond.item())


def told_shapes(body: Graph) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of the number of an iteration, and of the condition, that ``body`` is told.

    They are scalars, or of one element where the body declares that: PyTorch's exporter does.
    """
    types = [value.type for value in body.inputs[:2]]
    ranks = [len(getattr(type_, "shape", None) or ()) for type_ in types]
    places, truths = ((1,) if rank == 1 else () for rank in [*ranks, 0, 0][:2])
    return places, truths


@dataclass(frozen=True)
class Scanning:
    """Which inputs and outputs of a Scan are scanned, along which axes, in which direction."""

    SINCE: ClassVar = 9
    """The opset from which on it is so; before, it was done for each entry of a batch."""

    states: int
    input_axes: list[int]
    input_backward: list[bool]
    output_axes: list[int]
    output_backward: list[bool]

    @classmethod
    def of(
        cls,
        inputs: int,
        outputs: int,
        num_scan_inputs: int,
        scan_input_axes: list[int] | None = None,
        scan_input_directions: list[int] | None = None,
        scan_output_axes: list[int] | None = None,
        scan_output_directions: list[int] | None = None,
    ) -> Scanning:
        """The attributes, completed; raises ShapeError on wrong counts."""
        states = inputs - num_scan_inputs
        require(
            states >= 0 and num_scan_inputs >= 1,
            f"num_scan_inputs must be in [1, {inputs}], got {num_scan_inputs}",
        )
        require(
            states <= outputs,
            f"loop state variables are outputs, too: {outputs} at most, but num_scan_inputs = "
            f"{num_scan_inputs} leaves {states} of the {inputs} inputs",
        )
        scanned = outputs - states
        for name, given, count in (
            ("scan_input_axes", scan_input_axes, num_scan_inputs),
            ("scan_input_directions", scan_input_directions, num_scan_inputs),
            ("scan_output_axes", scan_output_axes, scanned),
            ("scan_output_directions", scan_output_directions, scanned),
        ):
            require(
                not given or len(given) == count,
                f"{name} must have {count} entries, got {given}",
            )
        return cls(
            states,
            scan_input_axes or [0] * num_scan_inputs,
            [bool(d) for d in scan_input_directions or [0] * num_scan_inputs],
            scan_output_axes or [0] * scanned,
            [bool(d) for d in scan_output_directions or [0] * scanned],
        )
