"""The model of a session as it was given: read when somebody asks for it, once for all threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fornix.errors import Fail
from fornix.forks import tell
from fornix.format.limits import Limits
from fornix.runtime.options import SessionOptions
from fornix.runtime.stored.shelf import Shelf

if TYPE_CHECKING:
    from fornix.ir.graph import Model
    from fornix.reference.source import ModelSource


class GivenModel:
    """What a session was made from; sessions whose program was kept may never read it."""

    def __init__(
        self,
        source: ModelSource,
        shelf: Shelf | None,
        options: SessionOptions,
        limits: Limits,
        label: str,
    ) -> None:
        """``label`` is what errors call it."""
        self._source: ModelSource | None = source
        self._shelf, self._options, self._limits, self._label = shelf, options, limits, label
        self._model: Model | None = None
        self.forget()
        tell(self)

    def forget(self) -> None:
        """In the child of a fork: whoever was reading the model is not there."""
        self._lock = threading.RLock()

    @property
    def model(self) -> Model:
        """The graph; raises Fail if the file is no longer what the kept program was made from."""
        if self._model is not None:
            return self._model
        with self._lock:
            return self._once()

    def _once(self) -> Model:
        """The model, read unless another thread has read it."""
        if self._model is None:
            self._model, self._source = self._read(), None
        return self._model

    def _read(self) -> Model:
        from fornix.reference.source import as_model  # noqa: PLC0415 - kept programs do without
        from fornix.runtime.adapting import adapted  # noqa: PLC0415 - likewise

        if self._source is None:
            raise TypeError("a model is let go once it is read")
        is_late = self._shelf is not None and self._shelf.interface is not None
        if is_late and self._shelf and not self._shelf.is_for(self._source):
            raise Fail(
                f"{self._label}: the file must stay as it is while sessions use it, it has changed"
            )
        return adapted(as_model(self._source, limits=self._limits), self._options)
