"""Adapters in runs: tensors of a file that are fed to inputs of the model by their names."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fornix.format.adapters import Adapter, read_adapter, write_adapter
from fornix.runtime.values import OrtValue


class LoraAdapter:
    """Tensors for inputs, or for initializers that may be fed; `RunOptions` make them active."""

    def __init__(self) -> None:
        self.parameters: dict[str, np.ndarray[Any, np.dtype[Any]]] = {}
        """By the name of the input; none before something is loaded."""

    def Load(self, file_path: str | os.PathLike[str], /) -> None:  # noqa: N802 - theirs
        """Map the tensors of a file; raises NoSuchFile, and FormatError for no adapter."""
        self.parameters = read_adapter(file_path).parameters


class AdapterFormat:
    """A file of an adapter: what is read from one, or is to be written to one."""

    def __init__(self, adapter: Adapter | None = None) -> None:
        self._adapter = adapter or Adapter()

    @staticmethod
    def read_adapter(file_path: str | os.PathLike[str]) -> AdapterFormat:
        """What is in a file; raises NoSuchFile, and FormatError for no adapter."""
        return AdapterFormat(read_adapter(file_path))

    def export_adapter(self, file_path: str | os.PathLike[str]) -> None:
        """Write a file; raises DTypeError for texts."""
        write_adapter(self._adapter, file_path)

    def get_format_version(self) -> int:
        """The version of the file's layout."""
        return self._adapter.format_version

    def set_adapter_version(self, adapter_version: int) -> None:
        """Which version the adapter is."""
        self._adapter.adapter_version = int(adapter_version)

    def get_adapter_version(self) -> int:
        """Which version the adapter is."""
        return self._adapter.adapter_version

    def set_model_version(self, model_version: int) -> None:
        """For which version of the model it is."""
        self._adapter.model_version = int(model_version)

    def get_model_version(self) -> int:
        """For which version of the model it is."""
        return self._adapter.model_version

    def set_parameters(self, params: dict[str, OrtValue]) -> None:
        """The tensors by name."""
        self._adapter.parameters = {name: value.numpy() for name, value in params.items()}

    def get_parameters(self) -> dict[str, OrtValue]:
        """The tensors by name: views of the file, if they were read."""
        return {name: OrtValue(array) for name, array in self._adapter.parameters.items()}
