"""`IOBinding`: where a session reads its feeds and writes its results, set once for many runs.

Decides what memory a name is bound to. Results go into the caller's memory without a copy where
the code writes row-major arrays that nothing else of the run lies in; see `runtime.targets`.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.dtype import STRING, DType
from fornix.errors import DTypeError, InvalidUse
from fornix.runtime.values import OrtValue, OrtValueVector, check_device

if TYPE_CHECKING:
    from fornix.runtime.session import InferenceSession

Array = np.ndarray[Any, np.dtype[Any]]


class IOBinding:
    """Feeds and results of a session, bound to memory by name."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Array | None] = {}
        self._made: list[OrtValue] = []

    @property
    def feeds(self) -> Mapping[str, Any]:
        """What is bound to inputs."""
        return self._inputs

    @property
    def names(self) -> list[str]:
        """The outputs that are bound, in the order of binding.

        Raises InvalidUse if none is.
        """
        if not self._outputs:
            raise InvalidUse("IOBinding: one output at least must be bound, found none")
        return [*self._outputs]

    @property
    def targets(self) -> dict[str, Array]:
        """Where results go that are not to have memory of their own, by name."""
        return {name: array for name, array in self._outputs.items() if array is not None}

    @property
    def _iobinding(self) -> IOBinding:
        """What programs take for the native binding: the binding."""
        return self

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        """Read input ``name`` from an array whenever the session runs."""
        self._inputs[self._input(name)] = arr_on_cpu

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Sequence[int],
        buffer_ptr: int,
    ) -> None:
        """Read input ``name`` from the address ``buffer_ptr``, which must stay valid."""
        check_device(device_type, "IOBinding.bind_input")
        self._inputs[self._input(name)] = _at(buffer_ptr, shape, element_type)

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Read input ``name`` from a value."""
        self._inputs[self._input(name)] = _value_of(ortvalue, "bind_ortvalue_input").value

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Write output ``name`` to the address ``buffer_ptr``; without it, to memory of its own."""
        check_device(device_type, "IOBinding.bind_output")
        if buffer_ptr is None:
            self._outputs[self._output(name)] = None
            return
        if element_type is None or shape is None:
            raise InvalidUse(
                f"IOBinding.bind_output: '{name}' at an address must have an element type and a "
                "shape, found none"
            )
        self._outputs[self._output(name)] = _at(buffer_ptr, shape, element_type)

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Write output ``name`` into the memory of a tensor."""
        self._outputs[self._output(name)] = _value_of(ortvalue, "bind_ortvalue_output").numpy()

    def synchronize_inputs(self) -> None:
        """Nothing: the CPU's memory needs no waiting for."""

    def synchronize_outputs(self) -> None:
        """Nothing: a run is over when it returns."""

    def get_outputs(self) -> list[OrtValue]:
        """The results of the last run, in the order in which outputs were bound."""
        return list(self._made)

    def get_outputs_as_ortvaluevector(self) -> OrtValueVector:
        """The same."""
        return OrtValueVector(self._made)

    def copy_outputs_to_cpu(self) -> list[Any]:
        """The results of the last run as arrays, lists and dicts: copies, as memory is bound."""
        return [np.array(v.value) if v.is_tensor() else v.value for v in self._made]

    def clear_binding_inputs(self) -> None:
        """Forget what inputs are bound to."""
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        """Forget what outputs are bound to, and the results."""
        self._outputs.clear()
        self._made.clear()

    def keep(self, results: Sequence[OrtValue]) -> None:
        """Note the results of a run."""
        self._made = list(results)

    def _input(self, name: str) -> str:
        return self._known(name, self._session.input_names, "input")

    def _output(self, name: str) -> str:
        return self._known(name, self._session.output_names, "output")

    def _known(self, name: str, names: Sequence[str], what: str) -> str:
        if name not in names:
            raise InvalidUse(
                f"IOBinding: one of the {what}s {', '.join(names) or '(none)'} is required, "
                f"found {name!r}"
            )
        return name


def _value_of(value: Any, what: str) -> OrtValue:
    if not isinstance(value, OrtValue):
        raise InvalidUse(f"IOBinding.{what}: an OrtValue is required, found {type(value).__name__}")
    return value


def _at(address: int, shape: Sequence[int], element_type: Any) -> Array:
    """An array over memory that the caller vouches for."""
    try:
        dtype = DType.of(element_type)
    except (DTypeError, TypeError) as error:
        raise InvalidUse(f"IOBinding: {error}") from error
    size = math.prod(shape) * dtype.numpy.itemsize
    if dtype is STRING or min(shape, default=0) < 0 or (size and not address):
        raise InvalidUse(
            "IOBinding: the address of numbers and extents of 0 or more are required, found "
            f"{dtype}{list(shape)} at {address}"
        )
    if not size:
        return np.empty(tuple(shape), dtype.numpy)
    memory = memoryview((ctypes.c_uint8 * size).from_address(address))
    return np.frombuffer(memory, np.uint8).view(dtype.numpy).reshape(tuple(shape))
