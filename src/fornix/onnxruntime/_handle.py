"""What programs find that reach for a session's native part: the session, by other signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fornix.runtime import IOBinding, NodeArg, OrtValue, RunOptions

if TYPE_CHECKING:
    from fornix.onnxruntime._session import Session
    from fornix.onnxruntime.capi.onnxruntime_pybind11_state import OrtValueVector


class Handle:
    """A session under the names of onnxruntime's native one."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        """What both have under one name."""
        return getattr(self._session, name)

    @property
    def inputs_meta(self) -> list[NodeArg]:
        """The inputs that must be fed."""
        return self._session.get_inputs()

    @property
    def outputs_meta(self) -> list[NodeArg]:
        """The outputs."""
        return self._session.get_outputs()

    def run_with_ort_values(
        self,
        input_dict_ort_values: Mapping[str, OrtValue],
        output_names: Sequence[str],
        run_options: RunOptions | None = None,
    ) -> OrtValueVector:
        """Results by name: what is fed comes first here."""
        from fornix.onnxruntime.capi.onnxruntime_pybind11_state import (  # noqa: PLC0415 - a circle
            OrtValueVector,
        )

        found = self._session.run_with_ort_values(output_names, input_dict_ort_values, run_options)
        return OrtValueVector(found)

    def run_with_iobinding(
        self, io_binding: IOBinding, run_options: RunOptions | None = None
    ) -> None:
        """Run on what is bound."""
        self._session.run_with_iobinding(io_binding, run_options)
