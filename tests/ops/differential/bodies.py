"""Models around operators that a node alone does not show: bodies, optionals, made sequences.

Each maker draws a model for one schema version and one element type, with feeds, and says what the
outputs are, by Python's own loops over NumPy arrays. Bodies move elements, so that they take every
element type, and read values from around them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fornix import ops
from fornix.dtype import BOOL, INT64, DType
from fornix.ir.types import TensorType
from fornix.ops.types import type_of
from tests.ops.differential.draw import contents
from tests.ops.differential.oracles import IR_VERSION, NATIVE

COMPARES_INTEGERS = 9
"""Opset from which Less takes integers, and Scan axes in place of a batch."""
SEQUENCES = 11
"""Version of the operators on sequences, which take fewer element types than optionals do."""
BARE = 18
"""Opset from which optionals may be plain values."""
PREVIEW = "ai.onnx.preview"


@dataclass(frozen=True)
class Drawn:
    """A model with its feeds, and its outputs; an output that is None is not said."""

    model: onnx.ModelProto
    feeds: Mapping[str, Any]
    expected: Sequence[Any]


class Draft:
    """A model that grows: what NumPy has no type for is stored in it, the rest is fed."""

    def __init__(self, rng: np.random.Generator, opset: int, dtype: DType) -> None:
        self.rng = rng
        self.opset = opset
        self.dtype = dtype
        self.feeds: dict[str, Any] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.stored: list[onnx.TensorProto] = []

    def chance(self) -> bool:
        return bool(self.rng.random() < 0.5)

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def whole(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))

    def value(self, name: str, array: Any) -> Any:
        """``array``, known to the model as ``name``."""
        if array.dtype.char in NATIVE:
            self.feeds[name] = array
            self.inputs.append(info(name, DType.of(array.dtype)))
        else:
            self.stored.append(numpy_helper.from_array(array, name))
        return array

    def tensor(self, name: str, shape: Sequence[int]) -> Any:
        """A drawn tensor of the element type in question."""
        return self.value(name, contents(self.rng, self.dtype, tuple(shape)))

    def done(
        self,
        nodes: Sequence[onnx.NodeProto],
        outputs: Mapping[str, Any],
        domains: Mapping[str, int] | None = None,
    ) -> Drawn:
        """The model of ``nodes`` whose ``outputs`` are these."""
        made = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph(nodes, "drawn", self.inputs, made, self.stored)
        imports = {"": self.opset, **(domains or {})}
        opsets = [helper.make_opsetid(*pair) for pair in imports.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return Drawn(model, self.feeds, list(outputs.values()))


def info(name: str, dtype: DType, shape: Sequence[int] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype.code, shape)


def node(name: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node; names are split at blanks, and ``-`` leaves one out."""
    read = ["" if x == "-" else x for x in inputs.split()]
    return helper.make_node(name, read, outputs.split(), **attributes)


def body(nodes: Sequence[onnx.NodeProto], inputs: Any, outputs: Any) -> onnx.GraphProto:
    return helper.make_graph(
        nodes, "body", [info(*x) for x in inputs], [info(*x) for x in outputs]
    )  # fmt: skip


def if_(draft: Draft) -> Drawn:
    """Either of two values from around, and both in the order that nested conditions say."""
    shape = [draft.whole(1, 3) for _ in range(draft.whole(0, 2))]
    a, b = draft.tensor("a", shape), draft.tensor("b", shape)
    first, second = (bool(draft.value(n, np.array(draft.chance()))) for n in ("c", "d"))

    def branch(one: str, other: str, prefix: str) -> onnx.GraphProto:
        names = [f"{prefix}{one}", f"{prefix}{other}"]
        nodes = [node("Identity", x, y) for x, y in zip((one, other), names, strict=True)]
        return body(nodes, [], [(name, draft.dtype) for name in names])

    inner = node("If", "d", "u v", then_branch=branch("a", "b", "p"),
                 else_branch=branch("b", "a", "q"))  # fmt: skip
    nested = body([inner], [], [("u", draft.dtype), ("v", draft.dtype)])
    chosen = node("If", "c", "y z", then_branch=nested, else_branch=branch("b", "a", "r"))
    y, z = (a, b) if first and second else (b, a)
    return draft.done([chosen], {"y": y, "z": z})


def loop(draft: Draft) -> Drawn:
    """Two values change places, and the first of them is collected; outside says when to stop."""
    shape = [draft.whole(1, 3) for _ in range(draft.whole(0, 2))]
    p, q = draft.tensor("p", shape), draft.tensor("q", shape)
    compares = draft.opset >= COMPARES_INTEGERS
    trips = draft.whole(0, 4) if not compares or draft.chance() else None
    begins = draft.pick((None, True, False))
    limit = draft.whole(0, 3)
    if compares:
        draft.value("limit", np.array(limit))
    if trips is not None:
        draft.value("trips", np.array(trips))
    if begins is not None:
        draft.value("begins", np.array(begins))
    goes_on = node("Less", "i limit", "more") if compares else node("Identity", "c", "more")
    moved = [node("Identity", *pair) for pair in (("b", "x"), ("a", "y"), ("a", "z"))]
    given = [("i", INT64, ()), ("c", BOOL, ()), *((n, draft.dtype, shape) for n in "ab")]
    results = [("more", BOOL, ()), *((name, draft.dtype, shape) for name in "xyz")]
    looped = node(
        "Loop",
        f"{'-' if trips is None else 'trips'} {'-' if begins is None else 'begins'} p q",
        "last_p last_q all",
        body=body([goes_on, *moved], given, results),
    )
    count, going, collected = 0, begins is not False, []
    while going and (trips is None or count < trips):
        collected.append(p)
        p, q = q, p
        going = count < limit if compares else True
        count += 1
    every = np.stack(collected) if collected else None
    return draft.done([looped], {"last_p": p, "last_q": q, "all": every})


def scan(draft: Draft) -> Drawn:
    """The state is what was read last, and what it was before is written."""
    if draft.opset < COMPARES_INTEGERS:
        return scan_of_batches(draft)
    rank, steps = draft.whole(1, 3), draft.whole(1, 4)
    shape = [draft.whole(1, 3) for _ in range(rank - 1)]
    ins, outs = draft.whole(0, rank - 1), draft.whole(0, rank - 1)
    turns = draft.whole(0, 1), draft.whole(0, 1)
    x = draft.tensor("x", [*shape[:ins], steps, *shape[ins:]])
    state = draft.tensor("s", shape)
    axes = [n - rank if draft.chance() else n for n in (ins, outs)]
    scanned = node(
        "Scan", "s x", "last all", num_scan_inputs=1, body=shift(draft.dtype, shape),
        scan_input_axes=[axes[0]], scan_output_axes=[axes[1]],
        scan_input_directions=[turns[0]], scan_output_directions=[turns[1]],
    )  # fmt: skip
    rows = list(np.moveaxis(x, ins, 0))
    last, written = shifted(state, rows[::-1] if turns[0] else rows)
    every = np.stack(written[::-1] if turns[1] else written, axis=outs)
    return draft.done([scanned], {"last": last, "all": every})


def scan_of_batches(draft: Draft) -> Drawn:
    """Scan-8: each entry of the batch by itself, sequences in the second axis."""
    batch, steps = draft.whole(1, 3), draft.whole(1, 4)
    shape = [draft.whole(1, 3) for _ in range(draft.whole(0, 2))]
    x, state = draft.tensor("x", [batch, steps, *shape]), draft.tensor("s", [batch, *shape])
    is_reverse = draft.chance()
    scanned = node("Scan", "- s x", "last all", num_scan_inputs=1, body=shift(draft.dtype, shape),
                   directions=[int(is_reverse)])  # fmt: skip
    found = [
        shifted(state[b], list(x[b][::-1]) if is_reverse else list(x[b])) for b in range(batch)
    ]
    outputs = {
        "last": np.stack([last for last, _ in found]),
        "all": np.stack([np.stack(written) for _, written in found]),
    }
    return draft.done([scanned], outputs)


def shift(dtype: DType, shape: Sequence[int]) -> onnx.GraphProto:
    moved = [node("Identity", "read", "kept"), node("Identity", "state", "written")]
    names = [("state", dtype, shape), ("read", dtype, shape)]
    return body(moved, names, [("kept", dtype, shape), ("written", dtype, shape)])


def shifted(state: Any, rows: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The last state, and what `shift` writes."""
    return rows[-1], [state, *rows[:-1]]


def sequence_map(draft: Draft) -> Drawn:
    """Each element behind a tensor from outside, and beside an element of another sequence."""
    shape = [draft.whole(1, 3), draft.whole(1, 2)]
    count = draft.whole(1, 3)
    one, other = ([draft.tensor(f"{name}{i}", shape) for i in range(count)] for name in ("a", "b"))
    lead = draft.tensor("lead", shape)
    lists = [node("SequenceConstruct", " ".join(f"{n}{i}" for i in range(count)), f"list_{n}")
             for n in ("a", "b")]  # fmt: skip
    joined = [
        node("Concat", "front x", "behind", axis=0),
        node("Concat", "x y", "beside", axis=1),
    ]
    names = [(name, draft.dtype) for name in ("x", "front", "y")]
    inner = body(joined, names, [("behind", draft.dtype), ("beside", draft.dtype)])
    mapped = node("SequenceMap", "list_a lead list_b", "behinds besides", body=inner)
    return draft.done([*lists, mapped], {
        "behinds": [np.concatenate([lead, x]) for x in one],
        "besides": [np.concatenate([x, y], 1) for x, y in zip(one, other, strict=True)],
    })  # fmt: skip


def optional(draft: Draft) -> Drawn:
    """What is put in comes out; an optional that was made empty says so."""
    x = draft.tensor("x", [draft.whole(0, 3) for _ in range(draft.whole(0, 2))])
    held = helper.make_tensor_type_proto(draft.dtype.code, None)
    nodes = [
        node("Optional", "x", "some"),
        node("Optional", "", "none", type=held),
        node("OptionalGetElement", "some", "y"),
        node("OptionalHasElement", "some", "is_some"),
        node("OptionalHasElement", "none", "is_none"),
    ]
    outputs: dict[str, Any] = {"y": x, "is_some": np.array(True), "is_none": np.array(False)}
    if draft.dtype in element_types("SequenceEmpty", SEQUENCES):
        nodes += [
            node("SequenceConstruct", "x x", "list"),
            node("Optional", "list", "many"),
            node("OptionalGetElement", "many", "z"),
        ]
        outputs["z"] = [x, x]
    if draft.opset >= BARE:
        nodes += [
            node("OptionalGetElement", "x", "bare"),
            node("OptionalHasElement", "x", "is_bare"),
            node("OptionalHasElement", "", "is_nothing"),
        ]
        outputs |= {"bare": x, "is_bare": np.array(True), "is_nothing": np.array(False)}
    return draft.done(nodes, outputs)


def sequence_empty(draft: Draft) -> Drawn:
    """A sequence without elements takes one of its type."""
    x = draft.tensor("x", [draft.whole(0, 3)])
    nodes = [
        node("SequenceEmpty", "", "none", dtype=draft.dtype.code),
        node("SequenceLength", "none", "before"),
        node("SequenceInsert", "none x", "one"),
        node("SequenceLength", "one", "after"),
    ]
    return draft.done(nodes, {"before": np.array(0), "after": np.array(1), "one": [x]})


def flex_attention(draft: Draft) -> Drawn:
    """Scores that are cut off and weights that are halved, by graphs in the precision asked for."""
    wide = DType.of("double" if draft.dtype.bits == 64 else "float")
    shape = (draft.whole(1, 2), draft.whole(1, 2), draft.whole(1, 3), draft.whole(1, 3))
    q, k, v = (
        draft.value(n, np.asarray(draft.rng.standard_normal(shape)).astype(draft.dtype.numpy))
        for n in "qkv"
    )
    given: dict[str, Any] = {}
    if draft.chance():
        given["score_mod"] = body([node("Tanh", "s", "t")], [("s", wide)], [("t", wide)])
    if draft.chance():
        double = node("Add", "w w", "t")
        given["prob_mod"] = body([double], [("w", wide)], [("t", wide)])
    attended = node("FlexAttention", "q k v", "y", domain=PREVIEW, **given)
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = q @ np.swapaxes(k, 2, 3) / np.sqrt(shape[3])
    scores = np.tanh(scores) if "score_mod" in given else scores
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    y = (2 * weights if "prob_mod" in given else weights) @ v
    draft.opset = 26
    return draft.done([attended], {"y": y.astype(draft.dtype.numpy)}, {PREVIEW: 1})


MAKERS: dict[str, Callable[[Draft], Drawn]] = {
    "If": if_,
    "Loop": loop,
    "Optional": optional,
    "Scan": scan,
    "SequenceEmpty": sequence_empty,
    "SequenceMap": sequence_map,
    "FlexAttention": flex_attention,
}
ELEMENTS = {"If": "V", "Loop": "V", "Scan": "V", "Optional": "V", "FlexAttention": "T1"}
"""The type variable that says what elements may be; those of sequences are SequenceConstruct's."""


def schemas(name: str) -> list[Any]:
    """The schema versions of ``name``, oldest first."""
    return list(ops.operators()[PREVIEW if name == "FlexAttention" else "", name].schemas)


def element_types(name: str, opset: int) -> list[DType]:
    """The element types that version ``opset`` of ``name`` takes."""
    schema = next(x for x in schemas(name) if x.since_version == opset)
    if name in ELEMENTS:
        spellings = schema.constraints[ELEMENTS[name]].members
    else:
        held = ops.schema_of("", "SequenceConstruct", opset)
        spellings = held.constraints["T"].members
    found = map(type_of, sorted(spellings))
    return [t.dtype for t in found if isinstance(t, TensorType) and t.dtype is not None]


def drawn(name: str, *, seed: int, every: int = 1) -> Iterator[tuple[int, DType, Drawn]]:
    """A model for every schema version of ``name`` and every element type, or each so-manieth."""
    rng = np.random.default_rng(seed)
    kinds = [
        (x.since_version, t) for x in schemas(name) for t in element_types(name, x.since_version)
    ]
    for opset, dtype in kinds[seed % every :: every]:
        yield opset, dtype, MAKERS[name](Draft(rng, opset, dtype))
