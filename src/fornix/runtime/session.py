"""`InferenceSession`: names and behaviour of onnxruntime's, on the NumPy kernels.

Decides what a session accepts and gives back. Evaluation is `fornix.reference.plan`'s, checking of
feeds `feeds`'s.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fornix.errors import FornixWarning, InvalidArgument, NotSupported
from fornix.ir.graph import Model, Value
from fornix.ir.types import TensorType
from fornix.reference.plan import Environment, Plan, Scope
from fornix.reference.source import ModelSource, as_model
from fornix.runtime.feeds import checked_feeds

PROVIDERS = ("CPUExecutionProvider",)
"""Execution providers that sessions can use."""


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output of a model.

    `type` is spelled ``tensor(float)``; `shape` holds extents, names of symbolic extents, or None
    where nothing is known.
    """

    name: str
    type: str
    shape: list[int | str | None]

    @classmethod
    def of(cls, value: Value) -> NodeArg:
        """What the model declares of ``value``."""
        declared = value.type
        shape = (declared.shape or ()) if isinstance(declared, TensorType) else ()
        extents = [extent if isinstance(extent, int | None) else str(extent) for extent in shape]
        return cls(value.name, "" if declared is None else declared.constraint, extents)


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """Where a model comes from, as it says itself."""

    producer_name: str
    graph_name: str
    domain: str
    description: str
    graph_description: str
    version: int
    custom_metadata_map: dict[str, str]


class InferenceSession:
    """A model, loaded and ready to run.

    ``path_or_bytes`` is a path, the bytes of a model, a message or an IR model. ``providers`` names
    where to run, each entry a name or a pair of name and options: a name that is not available
    gives a warning if another is, and InvalidArgument otherwise. Sessions may be called from
    several threads at once; those made from a path pickle.
    """

    def __init__(
        self,
        path_or_bytes: ModelSource,
        sess_options: None = None,
        providers: Sequence[str | tuple[str, Mapping[str, Any]]] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        if sess_options is not None:
            raise NotSupported(
                "InferenceSession: session options come with the compiler, "
                f"found {type(sess_options).__name__}; leave sess_options out"
            )
        if provider_options is not None and len(provider_options) != len(providers or ()):
            raise InvalidArgument(
                f"InferenceSession: provider_options must have one entry per provider, "
                f"{len(providers or ())}, found {len(provider_options)}"
            )
        self._providers = _available(providers)
        self._path: Path | None = None
        if isinstance(path_or_bytes, str | os.PathLike):
            self._path = Path(path_or_bytes).absolute()
        self._label = self._path.name if self._path else "the model"
        self._model: Model = as_model(path_or_bytes)
        graph = self._model.graph
        self._plan = Plan(graph, _scope(self._model))
        self._inputs = [value for value in graph.inputs if not value.is_initializer]
        self._overridable = {v.name: v for v in graph.inputs if v.is_initializer}
        self._by_name = {value.name: value for node in graph.nodes for value in node.outputs}
        self._by_name |= {value.name: value for value in (*graph.inputs, *graph.outputs)}

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: None = None,
    ) -> list[Any]:
        """Results by ``output_names``, in their order; None or none stands for all outputs.

        Any value of the main graph may be asked for by name. Results are the caller's own: arrays
        that share no memory with feeds, weights or later runs. Raises InvalidArgument if feeds or
        names do not fit the model, and the errors of operators with their node ahead.
        """
        if run_options is not None:
            raise NotSupported(
                "InferenceSession.run: run options come with the compiler, "
                f"found {type(run_options).__name__}; leave run_options out"
            )
        feeds = checked_feeds(input_feed, self._inputs, self._overridable, self._label)
        wanted = self._wanted(output_names)
        values: Environment = {}
        self._plan.run(feeds, values, keep=frozenset(wanted))
        return [_owned(values[value]) for value in wanted]

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that must be fed."""
        return [NodeArg.of(value) for value in self._inputs]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs of the model."""
        return [NodeArg.of(value) for value in self._model.graph.outputs]

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Initializers that may be fed in place of their stored data."""
        return [NodeArg.of(value) for value in self._overridable.values()]

    def get_modelmeta(self) -> ModelMetadata:
        """Where the model comes from."""
        model = self._model
        return ModelMetadata(
            model.producer_name,
            model.graph.name,
            model.domain,
            model.doc_string,
            model.graph.doc_string,
            model.model_version,
            dict(model.metadata),
        )

    def get_providers(self) -> list[str]:
        """Execution providers in use, the preferred first."""
        return list(self._providers)

    def _wanted(self, names: Sequence[str] | None) -> list[Value]:
        if not names:
            return list(self._model.graph.outputs)
        for name in names:
            if name not in self._by_name:
                outputs = ", ".join(value.name for value in self._model.graph.outputs)
                raise InvalidArgument(
                    f"{self._label}: fetches must name its values (its outputs are {outputs}), "
                    f"found {name!r}"
                )
        return [self._by_name[name] for name in names]

    def __reduce__(self) -> tuple[Any, ...]:
        if self._path is None:
            raise TypeError(
                "InferenceSession: only a session made from a path pickles, this one was made from "
                "bytes or a message; save the model and open it by its path"
            )
        return InferenceSession, (self._path, None, self._providers)


def _scope(model: Model) -> Scope:
    return Scope(model.opset_imports, model.function_table)


def _available(
    providers: Sequence[str | tuple[str, Mapping[str, Any]]] | None,
) -> list[str]:
    """The providers of the list that there are, all of them for None."""
    if providers is None:
        return list(PROVIDERS)
    names = [entry if isinstance(entry, str) else entry[0] for entry in providers]
    found = [name for name in names if name in PROVIDERS]
    absent = [name for name in names if name not in PROVIDERS]
    if absent:
        message = (
            f"InferenceSession: providers must be among {', '.join(PROVIDERS)}, "
            f"found {', '.join(absent)}"
        )
        if not found:
            raise InvalidArgument(message)
        warnings.warn(f"{message}; running on {', '.join(found)}", FornixWarning, stacklevel=3)
    return found or list(PROVIDERS)


def _owned(value: Any) -> Any:
    """``value`` in memory of its own, C-contiguous and writable."""
    if isinstance(value, list):
        return [_owned(item) for item in value]
    if isinstance(value, np.ndarray):
        return np.array(value, order="C")
    return value
