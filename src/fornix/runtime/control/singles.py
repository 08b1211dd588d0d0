"""Iterations whose values are single texts, whole numbers and truths as one function of Python.

Decides which bodies are written so: those of a few operators on tensors of one element, and what
takes such out of lists and sequences. They are Python's own values there, of which no array is made
before the last iteration. Sequences of such tensors may be carried: they are lists of arrays, which
nodes of sequences make anew. Other tensors may be handed on whole (`held`). Anything else is left
to `turning`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fornix.dtype import BOOL, INT64, STRING
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.types import SequenceType
from fornix.runtime.control import held
from fornix.runtime.control.held import Held, HeldList, NotSingle, Variable
from fornix.runtime.control.turning import Turned
from fornix.runtime.feeds import are_texts
from fornix.runtime.shortcuts.straight import StraightWay, compiled_lines

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
KINDS: dict[np.dtype[Any], type] = {
    np.dtype(object): str, np.dtype(np.int64): int, np.dtype(bool): bool
}  # fmt: skip
MOST = 1 << 63
"""Whole numbers are less, and not less than its negative."""


class Single(NamedTuple):
    """The one element of a tensor: the variable that holds it."""

    name: str
    kind: type
    shape: tuple[int, ...]


class Listed(NamedTuple):
    """The elements of a tensor of one axis, or of a sequence of tensors of one element each.

    They are read when an iteration asks for them: few iterations may meet many elements.
    """

    name: str
    kind: type
    shape: tuple[int, ...]
    """That of each."""
    is_sequence: bool
    form: str
    """What takes the element at a place."""

    @classmethod
    def sequence(cls, name: str, kind: type, shape: tuple[int, ...]) -> Listed:
        """A sequence of tensors of one element each."""
        form = _taken(f"element({{}}[{{}}], {_DTYPES[kind]}, {shape})", kind)
        return cls(name, kind, shape, is_sequence=True, form=form)


def single_turns(
    graph: Graph, captured: Sequence[Value], values: Sequence[Any], form: Turned
) -> StraightWay | None:
    """The body of a Loop or a Scan on `Turns` and what it captures, as `turning` has it.

    ``values`` of its inputs and of what it captures are like those that it is made for. Whatever is
    wrong in a run it raises, or what Python raises, and has done nothing.
    """
    try:
        return Writer(graph, captured, values, form).made()
    except NotSingle:
        return None


class Writer:
    """Lines for the nodes of a body, and the variables that hold its values."""

    def __init__(
        self, graph: Graph, captured: Sequence[Value], values: Sequence[Any], form: Turned
    ) -> None:
        self.graph, self.form = graph, form
        names = [f"given{number}" for number in range(len(captured))]
        own = values[len(graph.inputs) :]
        self.given = dict(zip(captured, zip(names, own, strict=True), strict=True))
        """What is captured: the variables, and arrays or lists like those that are in them."""
        self.samples = dict(zip(graph.inputs, values, strict=False))
        self.found: dict[Value, Variable] = {}
        self.bound: dict[str, Any] = {
            "array": np.array, "text": _text, "texts": _texts, "element": _element,
            "whole": _whole, "stacked": _stacked, "inserted": _inserted, "erased": _erased,
            **held.BOUND,
            **{name: dtype for dtype, kind in KINDS.items() for name in [_DTYPES[kind]]},
        }  # fmt: skip
        self.begin: list[str] = []
        self.lines: list[str] = []
        self.level = 1
        self._count = 0

    def made(self) -> StraightWay:
        """The function."""
        rest = iter(self.graph.inputs)
        leading, carried, slices, _ = (list(islice(rest, count)) for count in self.form)
        told = 1 if leading else 0
        for value, name, kind in zip(leading, ("at", "True"), (int, bool), strict=False):
            shape = getattr(value.type, "shape", None)
            self.found[value] = Single(name, kind, (1,) if shape else ())
        for number, value in enumerate(slices):
            shape, kind = self._kind(self.samples[value])
            self.begin.append(_listing(f"source{number}", f"turns.sources[{number}]", kind))
            self.found[value] = Single(f"source{number}[at]", kind, shape)
        changing = [
            (n, a, b)
            for n, (a, b) in enumerate(zip(carried, self.graph.outputs[told:], strict=False))
            if a is not b
        ]
        for number, value, _ in changing:
            name, source = f"carried{number}", f"turns.carried[{number}]"
            found = self._carried(name, value)
            taken = _taken(source, found.kind) if isinstance(found, Single) else source
            self.begin.append(f"{name} = {taken}")
            self.found[value] = found
        self.walk(self.graph)
        return self._assembled(leading, changing, told)

    def _assembled(
        self, leading: Sequence[Value], changing: Sequence[tuple[int, Value, Value]], told: int
    ) -> StraightWay:
        """The function of what has been written."""
        rows = [self.single(v) for v in self.graph.outputs[told + self.form.carried :]]
        turn = [f"row{n}.append({row.name})" for n, row in enumerate(rows)]
        if leading and self.graph.outputs[0] is not leading[1]:
            turn.append(f"goes_on = {self.single(self.graph.outputs[0]).name}")
        pairs = [(self.of(a), self.of(b)) for _, a, b in changing]
        if not all(_are_alike(a, b) for a, b in pairs):
            raise NotSingle
        if pairs:
            old, new = (", ".join(one.name for one in ones) for ones in zip(*pairs, strict=True))
            turn.append(f"[{old}] = [{new}]")
        turn.append("at += 1")
        names = ", ".join(name for name, _ in self.given.values())
        lines = [
            f"[turns, {names}] = given",
            "at, limit, goes_on = turns.iteration, turns.limit, True",
            *(f"row{n} = []" for n, _ in enumerate(rows)),
            *self.begin,
            "while goes_on and at < limit:",
            *self.lines,
            *(f"  {line}" for line in turn),
            "turns.iteration, turns.goes_on = at, goes_on",
            *(f"turns.carried[{n}] = {_array(self.of(a))}" for n, a, _ in changing),
            *(
                f"turns.scanned[{n}] = "
                f"stacked(turns.scanned[{n}], row{n}, {_DTYPES[row.kind]}, {row.shape})"
                for n, row in enumerate(rows)
            ),
            "return given",
        ]
        source = "\n ".join(["def straight(given, run):", *lines])
        exec(compiled_lines(source), self.bound)  # noqa: S102 - nobody's text but ours
        way: StraightWay = self.bound.pop("straight")
        return way

    def walk(self, graph: Graph) -> None:
        """Write the nodes of ``graph``."""
        for node in graph.nodes:
            if all(value.constant is not None for value in node.outputs):
                continue
            rules = held.RULES if self._is_held(node) else {**held.RULES, **_RULES}
            rule = None if node.domain else rules.get(node.op_type)
            if rule is None or len(node.outputs) > 1:
                raise NotSingle
            self.found[node.outputs[0]] = rule(self, node)

    def _is_held(self, node: Node) -> bool:
        """Whether a node reads what is handed on whole."""
        read = [self.of(value) for value in node.inputs if value and value.constant is None]
        return any(isinstance(one, Held | HeldList) for one in read)

    def of(self, value: Value | None) -> Variable:
        """What holds ``value``."""
        if value is None:
            raise NotSingle
        if value not in self.found:
            self.found[value] = self._outer(value)
        return self.found[value]

    def single(self, value: Value | None) -> Single:
        """The same of a tensor of one element."""
        found = self.of(value)
        if not isinstance(found, Single):
            raise NotSingle
        return found

    def array(self, value: Value | None) -> Held:
        """The same of any tensor, as an array."""
        found = self.of(value)
        if isinstance(found, HeldList) or (isinstance(found, Listed) and found.is_sequence):
            raise NotSingle
        if isinstance(found, Held):
            return found
        rank = len(found.shape) if isinstance(found, Single) else 1
        name = _array(found) if isinstance(found, Single) else found.name
        return Held(name, _dtype(found.kind), rank)

    def element(self, source: str, dtype: np.dtype[Any]) -> Single:
        """What holds the element that ``source`` gives, of an array of a type."""
        kind = KINDS.get(dtype)
        if kind is None:
            raise NotSingle
        return self.put(f"text({source})" if kind is str else source, kind, ())

    def put(self, expression: str, kind: type, shape: tuple[int, ...]) -> Single:
        """Write what computes an element."""
        name = self.name()
        self.line(f"{name} = {expression}")
        return Single(name, kind, shape)

    def line(self, text: str) -> None:
        self.lines.append("  " * self.level + text)

    def name(self) -> str:
        """That of a new variable."""
        self._count += 1
        return f"v{self._count}"

    def bind(self, thing: object) -> str:
        """A name for what never changes."""
        name = self.name()
        self.bound[name] = thing
        return name

    def _outer(self, value: Value) -> Variable:
        """What holds a value from outside of the body; read ahead of all iterations."""
        name = self.name()
        if value.constant is not None:
            array = value.constant.numpy()
            found = self._look(name, array)
            self.bound[name] = array.item() if isinstance(found, Single) else array
            return found
        if value not in self.given:
            raise NotSingle
        source, sample = self.given[value]
        found = self._look(source, sample)
        if not isinstance(found, Single):
            return found
        self.begin.append(f"{name} = {_taken(source, found.kind)}")
        return found._replace(name=name)

    def _carried(self, name: str, value: Value) -> Variable:
        """What a variable holds for a value that is carried: of a sequence as the body declares."""
        sample, declared = self.samples[value], value.type
        if isinstance(sample, np.ndarray) and not _is_single(sample):
            return held.of(name, sample)
        is_empty = isinstance(sample, list) and not sample
        if not (is_empty and isinstance(declared, SequenceType)):
            return self._look(name, sample)
        listed = held.declared(name, declared)
        kind, extents = KINDS.get(listed.dtype), getattr(declared.elem, "shape", ())
        if kind is None or any(d != 1 for d in extents):
            return listed
        return Listed.sequence(name, kind, (1,) * listed.rank)

    def _look(self, name: str, sample: Any) -> Variable:
        """What a variable holds for a value like ``sample``."""
        if isinstance(sample, list):
            if not all(_is_single(one) and one.shape == sample[0].shape for one in sample):
                return held.of(name, sample)
            shape, kind = self._kind(sample[0] if sample else None)
            return Listed.sequence(name, kind, shape)
        if _is_single(sample):
            shape, kind = self._kind(sample)
            return Single(name, kind, shape)
        if isinstance(sample, np.ndarray) and sample.ndim == 1 and sample.dtype in KINDS:
            kind = KINDS[sample.dtype]
            return Listed(name, kind, (), is_sequence=False, form=_taken("{}", kind, "{}"))
        return held.of(name, sample)

    @staticmethod
    def _kind(sample: Any) -> tuple[tuple[int, ...], type]:
        """The shape and the class of a single element."""
        if not _is_single(sample):
            raise NotSingle
        return sample.shape, KINDS[sample.dtype]


def _is_single(sample: Any) -> bool:
    """Whether it is a tensor of one element that Python has a class for."""
    return isinstance(sample, np.ndarray) and sample.size == 1 and sample.dtype in KINDS


def _dtype(kind: type) -> np.dtype[Any]:
    return next(dtype for dtype, own in KINDS.items() if own is kind)


def _taken(source: str, kind: type, place: str = "") -> str:
    """What takes the element, or that at a ``place``, out of an array."""
    found = f"{source}.item({place})"
    return f"text({found})" if kind is str else found


def _listing(name: str, source: str, kind: type) -> str:
    """The line that lists the elements of an array."""
    checked = f"texts({source})" if kind is str else source
    return f"{name} = {checked}.reshape(-1).tolist()"


def _text(found: object) -> str:
    """``found``, a text; raises TypeError if it is something else."""
    if not isinstance(found, str):
        raise TypeError("a text is required")
    return found


def _texts(array: Array) -> Array:
    """``array``, of texts alone; raises TypeError."""
    if not are_texts(array):
        raise TypeError("texts are required")
    return array


def _element(array: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """One ``array`` of a sequence; raises TypeError if it does not look as told."""
    if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
        raise TypeError("a tensor of one element is required")
    return array


def _whole(number: int) -> int:
    """``number``, if 64 bits hold it; raises OverflowError."""
    if not -MOST <= number < MOST:
        raise OverflowError
    return number


def _stacked(
    before: Sequence[Array], found: Sequence[Any], dtype: np.dtype[Any], shape: tuple[int, ...]
) -> Sequence[Array] | Array:
    """The rows ``before``, and one of each element that is ``found``."""
    rows: Array = np.fromiter(found, dtype, len(found)).reshape(-1, *shape)
    return [*before, *(rows[n, ...] for n in range(len(rows)))] if before else rows


def _inserted(before: Sequence[Array], new: Array, place: int) -> list[Array]:
    """``before`` with an array more; raises IndexError if there is no such place."""
    if not -len(before) <= place <= len(before):
        raise IndexError
    made = [*before]
    made.insert(place, new)
    return made


def _erased(before: Sequence[Array], place: int) -> list[Array]:
    """``before`` without the array at a place; raises IndexError."""
    made = [*before]
    del made[place]
    return made


def _array(one: Variable) -> str:
    """What makes an array of an element; what is more is what it is."""
    if not isinstance(one, Single):
        return one.name
    return f"array({'[' * len(one.shape)}{one.name}{']' * len(one.shape)}, {_DTYPES[one.kind]})"


_DTYPES = {str: "text_type", int: "int_type", bool: "bool_type"}
"""Variables that hold the element types of arrays."""
Rule: TypeAlias = Callable[[Writer, Node], "Variable"]


def _elementwise(form: str, kinds: set[type], result: type | None = None) -> Rule:
    """Of elements of one of some ``kinds`` what a ``form`` says, of that kind or another."""

    def rule(writer: Writer, node: Node) -> Single:
        read = [writer.single(value) for value in node.inputs]
        kind = read[0].kind
        if node.attributes or kind not in kinds or any(one.kind is not kind for one in read):
            raise NotSingle
        shape = max((one.shape for one in read), key=len)
        return writer.put(form.format(*(one.name for one in read)), result or kind, shape)

    return rule


def _where(writer: Writer, node: Node) -> Single:
    holds, one, other = (writer.single(value) for value in node.inputs)
    if one.kind is not other.kind:
        raise NotSingle
    shape = max(holds.shape, one.shape, other.shape, key=len)
    return writer.put(f"{one.name} if {holds.name} else {other.name}", one.kind, shape)


def _cast(writer: Writer, node: Node) -> Single:
    """Truths and whole numbers as each other; numbers as texts."""
    one, kind = writer.single(node.inputs[0]), _CODES.get(node.attr("to"))
    if kind is None or (one.kind, kind) not in _CASTS:
        raise NotSingle
    return writer.put(f"{kind.__name__}({one.name})", kind, one.shape)


def _regex_full_match(writer: Writer, node: Node) -> Single:
    one, name = writer.single(node.inputs[0]), writer.name()
    if one.kind is not str:
        raise NotSingle
    try:
        writer.bound[name] = re.compile(node.attr("pattern", ""), re.ASCII).fullmatch
    except (re.error, ValueError):
        raise NotSingle from None
    return writer.put(f"{name}({one.name}) is not None", bool, one.shape)


def _numbers(node: Node, attribute: str) -> list[int] | None:
    """Those that a node is told by an input or, in older versions, by an attribute."""
    if attribute in node.attributes:
        return [*node.attributes[attribute].value]
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is None:
        return None
    if value.constant is None:
        raise NotSingle
    return [*map(int, value.constant.numpy().reshape(-1))]


def _squeeze(writer: Writer, node: Node) -> Single:
    one, axes = writer.single(node.inputs[0]), _numbers(node, "axes")
    rank = len(one.shape)
    return one._replace(shape=(1,) * (0 if axes is None else rank - _distinct(axes, rank)))


def _unsqueeze(writer: Writer, node: Node) -> Single:
    one, axes = writer.single(node.inputs[0]), _numbers(node, "axes") or []
    rank = len(one.shape) + len(axes)
    _distinct(axes, rank)
    return one._replace(shape=(1,) * rank)


def _distinct(axes: Sequence[int], rank: int) -> int:
    """How many ``axes`` there are, each of which is one of a rank's."""
    if any(not -rank <= axis < rank for axis in axes):
        raise NotSingle
    if len({axis % rank for axis in axes}) < len(axes):
        raise NotSingle
    return len(axes)


def _reshape(writer: Writer, node: Node) -> Single:
    one, shape = writer.single(node.inputs[0]), _numbers(node, "shape")
    if shape is None or sorted(shape)[1:] != [1] * (len(shape) - 1) or {*shape} - {1, -1}:
        raise NotSingle
    return one._replace(shape=(1,) * len(shape))


def _gather(writer: Writer, node: Node) -> Single:
    data, place = writer.of(node.inputs[0]), writer.single(node.inputs[1])
    axis = node.attributes.get("axis")
    if not isinstance(data, Listed) or data.is_sequence or place.kind is not int:
        raise NotSingle
    if axis is not None and axis.value not in {0, -1}:
        raise NotSingle
    return writer.put(data.form.format(data.name, place.name), data.kind, place.shape)


def _sequence_at(writer: Writer, node: Node) -> Single:
    values, place = _sequence(writer, node), _position(writer, node, 1)
    return writer.put(values.form.format(values.name, place), values.kind, values.shape)


def _sequence(writer: Writer, node: Node) -> Listed:
    """The sequence that a node reads."""
    values = writer.of(node.inputs[0])
    if not isinstance(values, Listed) or not values.is_sequence:
        raise NotSingle
    return values


def _position(writer: Writer, node: Node, number: int) -> str | None:
    """The place in a sequence that an input says, if there is one."""
    if len(node.inputs) <= number or node.inputs[number] is None:
        return None
    place = writer.single(node.inputs[number])
    if place.kind is not int or len(place.shape) > 1:
        raise NotSingle
    return place.name


def _sequence_insert(writer: Writer, node: Node) -> Listed:
    values, one = _sequence(writer, node), writer.single(node.inputs[1])
    if (one.kind, one.shape) != (values.kind, values.shape):
        raise NotSingle
    place, name = _position(writer, node, 2), writer.name()
    made = f"[*{values.name}, {_array(one)}]"
    if place is not None:
        made = f"inserted({values.name}, {_array(one)}, {place})"
    writer.line(f"{name} = {made}")
    return values._replace(name=name)


def _sequence_erase(writer: Writer, node: Node) -> Listed:
    values, place, name = _sequence(writer, node), _position(writer, node, 1), writer.name()
    writer.line(f"{name} = erased({values.name}, {-1 if place is None else place})")
    return values._replace(name=name)


def _sequence_length(writer: Writer, node: Node) -> Single:
    return writer.put(f"len({_sequence(writer, node).name})", int, ())


def _if(writer: Writer, node: Node) -> Variable:
    """Both sides, of which what they give is alike."""
    holds, name = writer.single(node.inputs[0]), writer.name()
    if holds.kind is not bool:
        raise NotSingle
    given: list[Variable] = []
    for side, line in (("then_branch", f"if {holds.name}:"), ("else_branch", "else:")):
        writer.line(line)
        writer.level += 1
        graph: Graph = node.attributes[side].value
        writer.walk(graph)
        given.append(writer.of(graph.outputs[0]))
        writer.line(f"{name} = {given[-1].name}")
        writer.level -= 1
    if not _are_alike(*given):
        raise NotSingle
    return given[0]._replace(name=name)


def _are_alike(one: Variable, other: Variable) -> bool:
    """Whether variables hold the same but for their names."""
    return type(one) is type(other) and one[1:] == other[1:]


_CODES = {INT64.code: int, BOOL.code: bool, STRING.code: str}
"""Kinds by the numbers of element types."""
_CASTS = {(bool, int), (int, bool), (int, str)}
"""What they are, and what Cast makes of them as Python does."""
_RULES: Mapping[str, Rule] = {
    "StringConcat": _elementwise("{} + {}", {str}),
    "Equal": _elementwise("{} == {}", {str, int, bool}, bool),
    "Less": _elementwise("{} < {}", {int}, bool),
    "LessOrEqual": _elementwise("{} <= {}", {int}, bool),
    "Greater": _elementwise("{} > {}", {int}, bool),
    "GreaterOrEqual": _elementwise("{} >= {}", {int}, bool),
    "And": _elementwise("{} and {}", {bool}),
    "Or": _elementwise("{} or {}", {bool}),
    "Xor": _elementwise("{} != {}", {bool}),
    "Not": _elementwise("not {}", {bool}),
    "Add": _elementwise("whole({} + {})", {int}),
    "Sub": _elementwise("whole({} - {})", {int}),
    "Mul": _elementwise("whole({} * {})", {int}),
    "Where": _where,
    "Cast": _cast,
    "RegexFullMatch": _regex_full_match,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Gather": _gather,
    "SequenceAt": _sequence_at,
    "SequenceInsert": _sequence_insert,
    "SequenceErase": _sequence_erase,
    "SequenceLength": _sequence_length,
    "If": _if,
}
