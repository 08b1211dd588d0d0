"""Adapters whose errors are onnxruntime's too: what is no adapter is a RuntimeError there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fornix.errors import FornixError, InvalidUse
from fornix.format.adapters import read_adapter
from fornix.onnxruntime._errors import translated
from fornix.runtime import adapters


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except FornixError as error:
        raise translated(error, {FornixError: InvalidUse}) from error.__cause__


class LoraAdapter(adapters.LoraAdapter):
    """Tensors for inputs, or for initializers that may be fed; `RunOptions` make them active."""

    def Load(self, file_path: str | os.PathLike[str], /) -> None:
        """Map the tensors of a file; raises InvalidUse for no adapter."""
        with _reading():
            super().Load(file_path)


class AdapterFormat(adapters.AdapterFormat):
    """A file of an adapter: what is read from one, or is to be written to one."""

    @staticmethod
    def read_adapter(file_path: str | os.PathLike[str]) -> AdapterFormat:
        """What is in a file; raises InvalidUse for no adapter."""
        with _reading():
            return AdapterFormat(read_adapter(file_path))
