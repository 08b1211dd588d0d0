"""Random numbers within a native call: NumPy's own functions fill memory that the call has.

They draw what the kernels would draw, from the generator of the session, which is locked while the
call goes on; with a seed, from one that begins anew each time.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.compile import machine as words
from fornix.dtype import FLOAT64
from fornix.ir.graph import Value
from fornix.runtime.control.lists import list_way
from fornix.runtime.control.places import Place, Places
from fornix.runtime.native import BYTES_PER_NANOSECOND, OPERATIONS_PER_NANOSECOND
from fornix.runtime.providers import ControlNode, NotAsCompiled
from fornix.runtime.shortcuts.generic import LONGEST, ArrayType

if TYPE_CHECKING:
    from fornix.runtime.control.flow import Flow

STATE_BYTES = 32
"""Of what a generator is in: PCG64 has a number of 128 bits, and another that never changes."""
NANOSECONDS = 5
"""What a number takes, roughly."""
_FUNCTIONS = {"normal": "random_standard_normal_fill", "uniform": "random_standard_uniform_fill"}
"""Functions of a generator, a count and memory for so many numbers."""


def is_draw(control: ControlNode | None) -> bool:
    """Whether a node is one that draws."""
    node = None if control is None else control.node
    return node is not None and (node.domain, node.op_type) == ("fornix.parts", "Drawn")


def is_written(control: ControlNode | None) -> bool:
    """Whether a node that has neither machine code nor bodies can be written into a call."""
    return is_draw(control) or list_way(control) is not None


def draw(flow: Flow, control: ControlNode, places: Places, wanted: Mapping[Value, Place]) -> None:
    """Let a node draw; raises NotAsCompiled where NumPy's functions are not at hand."""
    from fornix.ops.random import seeded  # noqa: PLC0415 - kept programs do without operators

    given = {key: attribute.value for key, attribute in control.node.attributes.items()}
    (output,) = control.outputs
    function = _function(given["kind"])
    if not function:
        raise NotAsCompiled("this NumPy has no functions that fill memory with random numbers")
    inputs = [value for value in control.inputs if value is not None]
    type_: ArrayType = tuple(given.get("shape", ())), FLOAT64.numpy
    if inputs:
        like = flow.place_of(inputs[0], places)
        if like.type is None:
            raise NotAsCompiled("nobody says how many numbers are drawn")
        type_ = like.type[0], FLOAT64.numpy
    source = control.plan.scope.random() if "seed" not in given else seeded(given["seed"])
    flow.kept.append(source)
    if "seed" in given:
        _begin(flow, source)
    elif source.bit_generator.lock not in flow.locks:
        flow.locks.append(source.bit_generator.lock)
    record = np.array([function, source.bit_generator.ctypes.bit_generator.value], np.int64)
    flow.kept.append(record)
    place = flow.target(output, type_, wanted)
    flow.agree(place.type, type_)
    count = flow.formulas.of(math.prod(type_[0]))
    if not flow.loops:
        weight = NANOSECONDS * BYTES_PER_NANOSECOND * OPERATIONS_PER_NANOSECOND
        work = flow.formulas.apply(words.MULTIPLY, count, flow.formulas.number(weight))
        flow.check_work(work, LONGEST)
    flow.do(words.FILL, place.address, flow.formulas.number(record.ctypes.data), count)
    places[output] = Place(place.address, flow.formulas.named(type_), place.stays)


def _begin(flow: Flow, source: np.random.Generator) -> None:
    """Let a generator begin anew."""
    state = ctypes.c_void_p.from_address(source.bit_generator.ctypes.state_address).value
    if not _begins(source, state):
        raise NotAsCompiled("what state a generator is in is not where it is expected")
    first = np.frombuffer(ctypes.string_at(state or 0, STATE_BYTES), np.int64)
    flow.kept.append(first)
    number = flow.formulas.number
    target = number(state or 0)
    flow.do(words.COPY, target, number(first.ctypes.data), number(STATE_BYTES))


def _begins(source: np.random.Generator, state: int | None) -> bool:
    """Whether a generator draws the same again once its state is what it was, as it is then."""
    if not state:
        return False
    first = ctypes.string_at(state, STATE_BYTES)
    drawn = [source.standard_normal(4), source.random(4)]
    ctypes.memmove(state, first, STATE_BYTES)
    again = [source.standard_normal(4), source.random(4)]
    ctypes.memmove(state, first, STATE_BYTES)
    return np.array_equal(drawn, again)


@cache
def _function(kind: str) -> int:
    """The address of the function for a distribution; 0 if it is not there."""
    from numpy.random import _generator  # noqa: PLC0415 - loaded with the first generator

    try:
        library: Any = ctypes.CDLL(_generator.__file__)
        found = getattr(library, _FUNCTIONS[kind])
    except (AttributeError, OSError):
        return 0
    return ctypes.cast(found, ctypes.c_void_p).value or 0
