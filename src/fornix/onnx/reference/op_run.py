"""What `onnx.reference.op_run` offers: the base class of operators written in Python.

A subclass computes in ``_run`` what a node gives; its attributes come as keywords, and are
attributes of the instance. `ReferenceEvaluator` takes such classes as ``new_ops``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fornix.format.messages import (
    AttributeProto,
    GraphProto,
    NodeProto,
    SparseTensorProto,
    TypeProto,
)
from fornix.onnx import defs, helper
from fornix.onnx._own import owned
from fornix.onnx.numpy_helper import to_array

__all__ = [
    "DefaultNone",
    "Graph",
    "OnnxType",
    "OpFunction",
    "OpRun",
    "OpRunExpand",
    "RefAttrName",
    "RuntimeContextError",
    "RuntimeImplementationError",
    "RuntimeTypeError",
    "SparseTensor",
    "to_sparse_tensor",
]


class RuntimeTypeError(RuntimeError):
    """A value is not of the type that the operator requires."""


class RuntimeContextError(RuntimeError):
    """An implementation depends on what is known only with the node around."""


class RuntimeImplementationError(NotImplementedError):
    """Nothing implements an operator."""


class DefaultNone:
    """Stands for a parameter that is not set, where None would be a value."""


class RefAttrName:
    """Stands for an attribute of the function that a node stands in."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class OnnxType:
    """An attribute that is a type."""

    def __init__(self, type_proto: TypeProto) -> None:
        self.type_proto = owned(type_proto, TypeProto)

    def __repr__(self) -> str:
        return f"OnnxType({self.type_proto!r})"


class SparseTensor:
    """A sparse tensor: its values and where they are."""

    def __init__(
        self, values: np.ndarray[Any, Any], indices: np.ndarray[Any, Any], shape: tuple[int, ...]
    ) -> None:
        self.values = values
        self.indices = indices
        self.shape = shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        dtype: np.dtype[Any] = self.values.dtype
        return dtype


class Graph:
    """A graph in a list of graphs."""

    __slots__ = ("g",)

    def __init__(self, g: GraphProto) -> None:
        self.g = g


def to_sparse_tensor(att: SparseTensorProto) -> SparseTensor:
    """A sparse tensor as arrays."""
    return SparseTensor(to_array(att.values), to_array(att.indices), tuple(att.dims))


_VALUES: Mapping[int, Callable[[AttributeProto], Any]] = {
    AttributeProto.FLOAT: lambda att: np.float32(att.f),
    AttributeProto.FLOATS: lambda att: [np.float32(x) for x in att.floats],
    AttributeProto.INT: lambda att: att.i,
    AttributeProto.INTS: lambda att: list(att.ints),
    AttributeProto.STRING: lambda att: att.s.decode(),
    AttributeProto.STRINGS: lambda att: [x.decode() for x in att.strings],
    AttributeProto.TENSOR: lambda att: to_array(att.t),
    AttributeProto.TENSORS: lambda att: [to_array(x) for x in att.tensors],
    AttributeProto.SPARSE_TENSOR: lambda att: to_sparse_tensor(att.sparse_tensor),
    AttributeProto.SPARSE_TENSORS: lambda att: [to_sparse_tensor(x) for x in att.sparse_tensors],
    AttributeProto.TYPE_PROTO: lambda att: OnnxType(att.tp),
    AttributeProto.TYPE_PROTOS: lambda att: [OnnxType(x) for x in att.type_protos],
    AttributeProto.GRAPHS: lambda att: [Graph(x) for x in att.graphs],
}


class OpRun(abc.ABC):
    """One node, ready to run.

    ``run_params`` says of which evaluation it is part: "opsets", "new_ops" and "log" are required.
    """

    op_domain: ClassVar[str] = ""

    def __init__(
        self, onnx_node: NodeProto, run_params: dict[str, Any], schema: Any = None
    ) -> None:
        if not isinstance(run_params, dict):
            raise TypeError(f"run_params: a dictionary is required, found {type(run_params)}")
        for key in ("opsets", "new_ops"):
            if key not in run_params:
                raise RuntimeError(f"run_params: {key!r} is required, found {sorted(run_params)}")
        if "log" not in run_params:
            raise KeyError("run_params: 'log' is required")
        self.onnx_node = onnx_node
        self.run_params = run_params
        self._schema = schema or getattr(type(self), "op_schema", None) or self._found_schema()
        self.has_subgraph = False
        self.has_linked_attribute = False
        self.attributes_names_: set[str] = set()
        self._load_attributes()

    @abc.abstractmethod
    def _run(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, given the inputs and, by keyword, the attributes."""

    def need_context(self) -> bool:
        """Whether `run` is given all values computed so far, as ``context``."""
        return False

    def run(
        self,
        *args: Any,
        linked_attributes: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        bindings: Any = None,
    ) -> tuple[Any, ...]:
        """The outputs; raises TypeError if ``_run`` cannot take the inputs or gives no tuple."""
        if self.need_context() is (context is None):
            wanted = "is required" if self.need_context() else "must not be given"
            raise RuntimeError(f"{type(self).__name__}: context {wanted}")
        if self.has_linked_attribute is (linked_attributes is None):
            wanted = "are required" if self.has_linked_attribute else "must not be given"
            raise ValueError(f"{type(self).__name__}: linked attributes {wanted}")
        given = {name: getattr(self, name) for name in self.attributes_names_}
        for name, value in given.items():
            if isinstance(value, RefAttrName):
                if linked_attributes is None or value.name not in linked_attributes:
                    raise ValueError(
                        f"{type(self).__name__}: no value for attribute {value.name!r}"
                    )
                given[name] = linked_attributes[value.name]
        if self.has_subgraph:
            given["attributes"] = linked_attributes
        if context is not None:
            given["context"] = context
        try:
            results = self._run(*args, **given)
        except (TypeError, AttributeError) as error:
            raise TypeError(
                f"{type(self).__name__} cannot take inputs of {[type(x).__name__ for x in args]} "
                f"and attributes {sorted(given)}: {error}"
            ) from error
        return self._check_and_fix_outputs(results)

    def _check_and_fix_outputs(self, res: Any) -> tuple[Any, ...]:
        """``res`` with arrays for plain numbers; raises for what is no tuple of values."""
        name = type(self).__name__
        if not isinstance(res, tuple):
            raise TypeError(f"{name}._run: a tuple is required, found {type(res).__name__}")
        if not res:
            raise ValueError(f"{name}._run: one result or more is required, found none")
        fixed = tuple(np.array(x) if np.isscalar(x) else x for x in res)
        for value in fixed:
            if not (isinstance(value, np.ndarray | list | dict) or hasattr(value, "todense")):
                raise TypeError(
                    f"{name}._run: arrays, lists, dictionaries or sparse tensors are required, "
                    f"found {type(value).__name__}"
                )
        return fixed

    def _found_schema(self) -> Any:
        name = type(self).__name__
        for op_type in (name.rpartition("_")[0] or name, self.onnx_node.op_type):
            if defs.has(op_type, domain=self.onnx_node.domain):
                return defs.get_schema(op_type, domain=self.onnx_node.domain)
        return None

    def _load_attributes(self) -> None:
        """Make attributes of the node, and defaults of the schema, attributes of the instance."""
        for attribute in self.onnx_node.attribute:
            if attribute.ref_attr_name:
                self._set(attribute.name, RefAttrName(attribute.ref_attr_name))
                self.has_linked_attribute = True
            elif attribute.type == AttributeProto.GRAPH:
                self._set_graph(attribute)
            else:
                self._set(attribute.name, self._extract_attribute_value(attribute))
        if self._schema is None or self.onnx_node.op_type == "Constant":
            return
        for name, formal in self._schema.attributes.items():
            if hasattr(self, name):
                continue
            if formal.required:
                raise RuntimeError(
                    f"{self.onnx_node.op_type}: attribute {name!r} is required, found none"
                )
            default = formal.default_value
            self._set(name, self._extract_attribute_value(default) if default.type else None)

    def _set(self, name: str, value: Any) -> None:
        setattr(self, name, value)
        self.attributes_names_.add(name)

    def _set_graph(self, attribute: AttributeProto) -> None:
        """Make an evaluator of a subgraph, and ``_run_NAME(context, attributes=…)``."""
        evaluator = self._extract_attribute_value(attribute)
        self.has_subgraph = True
        self.has_linked_attribute |= evaluator.has_linked_attribute
        self._set(attribute.name, evaluator)

        def run_body(
            context: Mapping[str, Any] | None, attributes: Any = None, bindings: Any = None
        ) -> Any:
            return evaluator.run(None, context or {}, attributes=attributes)

        setattr(self, f"_run_{attribute.name}", run_body)

    def _extract_attribute_value(self, att: AttributeProto, ref_att: Any = None) -> Any:
        """The value of an attribute; of a graph, an evaluator."""
        if att.type == AttributeProto.GRAPH:
            new_ops = self.run_params.get("new_ops")
            functions = self.run_params.get("existing_functions")
            return self.run_params["evaluator_cls"](
                att.g,
                opsets=self.run_params["opsets"],
                verbose=max(0, self.run_params.get("verbose", 0) - 2),
                new_ops=None if new_ops is None else list(new_ops.values()),
                functions=None if functions is None else list(functions.values()),
            )
        if att.type not in _VALUES:
            raise AttributeError(f"attribute {att.name!r}: type {att.type} is unknown")
        return _VALUES[att.type](att)

    def _log(self, pattern: str, *args: Any) -> None:
        self.run_params["log"](pattern, *args)

    @staticmethod
    def implicit_inputs(graph: GraphProto) -> list[str]:
        """The names that the nodes of ``graph`` read from outside."""
        ours = owned(graph, GraphProto)
        known = {"", *(x.name for x in ours.initializer), *(x.name for x in ours.input)}
        known |= {x.values.name for x in ours.sparse_initializer}
        read: dict[str, None] = {}
        for node in ours.node:
            read |= dict.fromkeys(name for name in node.input if name not in known)
            known |= set(node.output)
        return list(read)

    @property
    def input(self) -> Sequence[str]:
        """Names of the node's inputs."""
        return self.onnx_node.input

    @property
    def output(self) -> Sequence[str]:
        """Names of the node's outputs."""
        return self.onnx_node.output

    @property
    def op_type(self) -> str:
        """The node's operator."""
        return self.onnx_node.op_type

    @property
    def domain(self) -> str:
        """The domain of the node's operator."""
        return self.onnx_node.domain

    @classmethod
    def infer_name(cls) -> tuple[str, int]:
        """Operator and opset by the class's name: ``Name_13``, or the newest opset."""
        name, _, version = cls.__name__.rpartition("_")
        if name and version.isdigit():
            return name, int(version)
        return cls.__name__, defs.onnx_opset_version()

    @classmethod
    def make_node(
        cls, n_inputs: int | None = None, n_outputs: int | None = None, **kwargs: Any
    ) -> NodeProto:
        """A node for this class; inputs and outputs as few as the schema allows, unless given."""
        op_type, opset = cls.infer_name()
        if n_inputs is None or n_outputs is None:
            schema = defs.get_schema(op_type, opset, cls.op_domain)
            n_inputs = schema.min_input if n_inputs is None else n_inputs
            n_outputs = schema.min_output if n_outputs is None else n_outputs
        inputs = [f"x{index}" for index in range(n_inputs)]
        outputs = [f"y{index}" for index in range(n_outputs)]
        return helper.make_node(op_type, inputs, outputs, domain=cls.op_domain or None, **kwargs)

    @classmethod
    def create(
        cls,
        n_inputs: int | None = None,
        n_outputs: int | None = None,
        verbose: int = 0,
        **kwargs: Any,
    ) -> Any:
        """An instance for the node of `make_node`."""

        def log(pattern: str, *args: Any) -> None:
            if verbose > 1:
                print(pattern % args)  # noqa: T201 - asked for

        opsets = {"": defs.onnx_opset_version()}
        params = {"verbose": verbose, "log": log, "new_ops": None, "opsets": opsets}
        return cls(cls.make_node(n_inputs, n_outputs, **kwargs), params)

    @classmethod
    def eval(cls, *args: Any, n_outputs: int | None = None, verbose: int = 0, **kwargs: Any) -> Any:
        """The result for these inputs and, by keyword, attributes; several as a tuple."""
        instance = cls.create(len(args), n_outputs=n_outputs, verbose=verbose, **kwargs)
        results = instance.run(*args)
        return results[0] if len(results) == 1 else results

    def __str__(self) -> str:
        own = {k: v for k, v in sorted(vars(self).items()) if k in self.attributes_names_}
        told = ", ".join(f"{name}={value}" for name, value in own.items())
        return f"{type(self).__name__}(op_type={self.op_type}{', ' if told else ''}{told})"


class OpRunExpand(OpRun):
    """Says of an operator that it is evaluated by its body; never runs itself."""

    def __new__(cls, *_: Any, **__: Any) -> OpRunExpand:  # noqa: PYI034 - there are no instances
        raise RuntimeError(f"{cls.__name__} is evaluated by its body, and cannot run itself")

    def _run(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        raise RuntimeError(f"{type(self).__name__} is evaluated by its body")


class OpFunction(OpRun):
    """A call of a function, which ``impl`` evaluates."""

    def __init__(
        self,
        onnx_node: NodeProto,
        run_params: dict[str, Any],
        impl: Any = None,
        attributes: Sequence[str] | None = None,
    ) -> None:
        if impl is None:
            raise RuntimeError(f"{onnx_node.op_type}: an evaluator is required, found none")
        super().__init__(onnx_node, run_params)
        self.impl_ = impl
        names = self.attributes_names_ if attributes is None else attributes
        self.attributes_ = {name: getattr(self, name) for name in names}

    def _run(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        names = self.impl_.input_names
        if len(names) != len(args):
            raise RuntimeError(
                f"{self.op_type}: {len(names)} inputs are required, found {len(args)}"
            )
        feeds = dict(zip(names, args, strict=True))
        return tuple(self.impl_.run(None, feeds, attributes={**self.attributes_, **kwargs}))
