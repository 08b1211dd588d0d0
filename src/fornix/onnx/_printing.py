"""The part of `onnx.helper` that prints graphs in the older, lossy form.

`fornix.format.text` has the notation that can be read again.
"""

from __future__ import annotations

from collections.abc import Callable

from fornix.format.messages import (
    AttributeProto,
    GraphProto,
    NodeProto,
    TensorProto,
    TensorShapeProto,
    TypeProto,
    ValueInfoProto,
)
from fornix.onnx._dtypes import tensor_dtype_to_field

# Characters of a string attribute that are shown.
_SHOWN = 64


def printable_attribute(
    attr: AttributeProto, subgraphs: bool = False
) -> str | tuple[str, list[GraphProto]]:
    """``attr`` as text; with ``subgraphs`` also the graphs that it only names."""
    text, graphs = _attribute(attr)
    return (text, graphs) if subgraphs else text


def _attribute(attr: AttributeProto) -> tuple[str, list[GraphProto]]:
    graphs = [attr.g] if attr.HasField("g") else []
    text = _single(attr)
    if text is None:
        text = _several(attr)
        graphs = list(attr.graphs) if text.startswith("[ <graph") else graphs
    return f"{attr.name} = {text}", graphs


def _single(attr: AttributeProto) -> str | None:
    """The value of an attribute that is no list; the first that is set counts."""
    fields: dict[str, Callable[[], str]] = {
        "f": lambda: _float(attr.f),
        "i": lambda: str(attr.i),
        "s": lambda: repr(_text(attr.s)),
        "t": lambda: _tensor(attr.t),
        "g": lambda: f"<graph {attr.g.name}>",
        "tp": lambda: f"<Type Proto {attr.tp}>",
        "sparse_tensor": lambda: "<Sparse Tensor>",
    }
    return next((text() for name, text in fields.items() if attr.HasField(name)), None)  # type: ignore[arg-type]


def _several(attr: AttributeProto) -> str:
    """The value of an attribute that is a list; the first that is not empty counts."""
    lists: dict[str, Callable[[], str]] = {
        "floats": lambda: f"[{', '.join(map(_float, attr.floats))}]",
        "ints": lambda: f"[{', '.join(map(str, attr.ints))}]",
        "strings": lambda: str([_text(x) for x in attr.strings]),
        "tensors": lambda: "[<Tensor>, ...]",
        "sparse_tensors": lambda: "[<Sparse Tensor>, ...]",
        "type_protos": lambda: f"[ {', '.join(f'<Type Proto {x}>' for x in attr.type_protos)} ]",
        "graphs": lambda: f"[ {', '.join(f'<graph {x.name}>' for x in attr.graphs)} ]",
    }
    return next((text() for name, text in lists.items() if getattr(attr, name)), "<Unknown>")


def _float(value: float) -> str:
    return f"{value:.15g}"


def _text(value: bytes) -> str:
    text = value.decode(errors="ignore")
    return text if len(text) < _SHOWN else f"{text[:_SHOWN]}...<+len={len(text) - _SHOWN}>"


def _tensor(tensor: TensorProto) -> str:
    if tensor.dims:
        return "<Tensor>"
    return f"<Scalar Tensor {getattr(tensor, tensor_dtype_to_field(tensor.data_type))}>"


def printable_dim(dim: TensorShapeProto.Dimension) -> str:
    """A dim: its value, its symbol, or "?"."""
    which = dim.WhichOneof("value")
    return "?" if which is None else str(getattr(dim, which))


def printable_type(t: TypeProto) -> str:
    """A type, as in "FLOAT, Nx3"; only tensors are spelled out."""
    kind = t.WhichOneof("value")
    if kind != "tensor_type":
        return "" if kind is None else f"Unknown type {kind}"
    text = TensorProto.DataType.Name(t.tensor_type.elem_type)
    if not t.tensor_type.HasField("shape"):
        return text
    return f"{text}, {_dims(list(map(printable_dim, t.tensor_type.shape.dim)))}"


def _dims(dims: list[str]) -> str:
    return "x".join(dims) or "scalar"


def printable_value_info(v: ValueInfoProto) -> str:
    """A value by name and type."""
    return f"%{v.name}[{printable_type(v.type)}]"


def printable_tensor_proto(t: TensorProto) -> str:
    """A tensor by name, dtype and dims."""
    return f"%{t.name}[{TensorProto.DataType.Name(t.data_type)}, {_dims(list(map(str, t.dims)))}]"


def printable_node(
    node: NodeProto, prefix: str = "", subgraphs: bool = False
) -> str | tuple[str, list[GraphProto]]:
    """``node`` as text; with ``subgraphs`` also the graphs of its attributes."""
    text, graphs = _node(node, prefix)
    return (text, graphs) if subgraphs else text


def _node(node: NodeProto, prefix: str) -> tuple[str, list[GraphProto]]:
    graphs: list[GraphProto] = []
    attributes = []
    for attr in node.attribute:
        text, inner = _attribute(attr)
        attributes.append(text)
        graphs += inner
    outputs = ", ".join(f"%{name}" for name in node.output)
    head = f"{outputs} = " if outputs else ""
    listed = f"[{', '.join(sorted(attributes))}]" if attributes else ""
    inputs = ", ".join(f"%{name}" for name in node.input)
    return f"{prefix}{head}{node.op_type}{listed}({inputs})", graphs


def printable_graph(graph: GraphProto, prefix: str = "") -> str:
    """``graph`` as text, its subgraphs behind it."""
    lines = _head(graph, prefix)
    graphs: list[GraphProto] = []
    for node in graph.node:
        text, inner = _node(node, f"{prefix}  ")
        lines.append(text)
        graphs += inner
    outputs = ", ".join(f"%{output.name}" for output in graph.output)
    lines += [f"{prefix}  return {outputs}".rstrip(), f"{prefix}}}"]
    return "\n".join([*lines, *(f"\n{printable_graph(inner)}" for inner in graphs)])


def _head(graph: GraphProto, prefix: str) -> list[str]:
    """The lines up to the opening brace: inputs and, if there are any, initializers."""
    lines: list[str] = []
    header = f"graph {graph.name}"
    if graph.input:
        held = {tensor.name for tensor in graph.initializer}
        inputs = {value.name for value in graph.input}
        required = [printable_value_info(x) for x in graph.input if x.name not in held]
        optional = [printable_value_info(x) for x in graph.input if x.name in held]
        rest = [printable_tensor_proto(x) for x in graph.initializer if x.name not in inputs]
        header += " ("
        for title, group in (
            ("", required),
            (" optional inputs with matching initializers (", optional),
            (" initializers (", rest),
        ):
            if title and group:
                header += title
            if group:
                lines += [prefix + header, *(f"{prefix}  {text}" for text in group)]
                header = ""
            if group or not title:
                header += ")" if not header else " )"
    return [*lines, f"{prefix}{header} {{"]
