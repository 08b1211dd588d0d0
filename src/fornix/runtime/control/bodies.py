"""Bodies of If, Loop and Scan, compiled for the extents that they meet.

The operator's kernel drives: it decides which body runs, how often and on what. Decides when a body
becomes a model of its own, whose inputs are the body's and whatever it captures: when it runs a
second time. Extents that have been the same so far are numbers in it, those that were not are
symbols, one for those that have always been equal. Bodies whose runs go wrong are left to NumPy
kernels, which then say what is wrong.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np

from fornix.compile.notes import dim_of, dim_text
from fornix.dtype import DType
from fornix.errors import DTypeError, FornixError
from fornix.forks import tell
from fornix.format.mapped import MappedFile
from fornix.ir.clone import clone
from fornix.ir.dim import Dim, DimLike, less, symbol
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.types import OptionalType, SequenceType, TensorType, Type
from fornix.ir.walk import captured_values, nodes
from fornix.reference.scope import Environment, Scope
from fornix.runtime.control.turning import Turned, turning
from fornix.runtime.native import NativeStep
from fornix.runtime.options import SessionOptions
from fornix.runtime.program import Program
from fornix.runtime.programs import Programs
from fornix.runtime.providers import CPUExecutionProvider, NotAsCompiled, Run
from fornix.runtime.shortcuts.generic import ShortWay
from fornix.runtime.shortcuts.shortcut import Shortcut, Steady
from fornix.runtime.sizing.extents import LATE
from fornix.runtime.stored.inner import STORED, BodyPlace, Form

if TYPE_CHECKING:
    from fornix.infer import Inference
    from fornix.reference.plan import Body, Plan
    from fornix.runtime.stored.shelf import Shelf

log = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]
Shapes: TypeAlias = tuple[tuple[int, ...], ...]
Kinds: TypeAlias = tuple[object, ...]
"""Of each value: its element type, or its class if it is no array."""
T = TypeVar("T")
ReadType: TypeAlias = tuple[tuple[DimLike, ...], object]
"""Of a value: its extents, and its kind."""
Compute: TypeAlias = Callable[[Program, Mapping[str, Any], Run], Mapping[Value, Any]]
"""What runs a program on feeds, and gives the values that are left."""

MAX_PROGRAMS = 4
"""Programs of a body for values of the same kinds."""
MAX_FAILED = 2
"""Forms that may have no program before no other is tried: numbers, and symbols for them."""
MAX_MET = 64
"""Sets of extents of which it is remembered which program they run."""
MAX_SEEN = 16
"""Sets of extents that tell numbers from symbols."""


class ListKind(NamedTuple):
    """The kind of a sequence."""

    rank: int | None
    """How many axes its elements have, if that is known."""


class RankChanges(NotAsCompiled):
    """A value has another rank in the next run of a body."""


def compile_bodies(
    node: Node, plan: Plan, options: SessionOptions, shelf: Shelf | None = None
) -> None:
    """Let the bodies of ``node`` run compiled, wherever ``plan`` runs them.

    ``shelf`` is the place of the program that ``plan`` is of.
    """
    if plan.given:
        return  # attributes of a call, which the body alone does not know
    for graph in node.graphs:
        kernels = plan.bodies[graph]
        if not isinstance(kernels, CompiledBody):
            place = BodyPlace.of(shelf, node, graph, plan.graph.nodes) if shelf else None
            plan.bodies[graph] = CompiledBody(graph, _always(kernels), plan.scope, options, place)


def _always(kernels: Body) -> Callable[[], Body]:
    """What gives ``kernels``, which are there."""
    return lambda: kernels


def declare_carried(node: Node, inference: Inference) -> None:
    """Let inputs of a Loop's body whose type nobody declares be of the type that enters there.

    Tensors tell their types themselves, when the body runs; lists and what may be missing do not,
    whether they are handed in or captured.
    """
    for value in captured_values(node):
        type_ = inference.fact(value).type
        if value.type is None and not isinstance(type_, TensorType):
            value.type = _of_numbers(type_)
    if node.op_type != "Loop" or node.domain:
        return
    graph: Graph = node.attributes["body"].value
    for inner, outer in zip(graph.inputs[2:], node.inputs[2:], strict=False):
        type_ = None if outer is None else inference.fact(outer).type
        if inner.type is None and not isinstance(type_, TensorType):
            inner.type = _of_any_shape(type_)


def _of_any_shape(type_: Type | None) -> Type | None:
    """``type_`` without extents, which may be others in the next iteration."""
    if isinstance(type_, TensorType):
        return TensorType(type_.dtype, None)
    if isinstance(type_, SequenceType | OptionalType):
        return type(type_)(_of_any_shape(type_.elem))
    return type_


def _of_numbers(type_: Type | None) -> Type | None:
    """``type_`` with those extents that are the same whatever is fed."""
    if isinstance(type_, TensorType):
        shape = type_.shape
        return TensorType(
            type_.dtype, shape and tuple(d if isinstance(d, int) else None for d in shape)
        )
    if isinstance(type_, SequenceType | OptionalType):
        return type(type_)(_of_numbers(type_.elem))
    return type_


class CompiledBody:
    """A body, and its programs by the kinds of what it reads."""

    def __init__(
        self,
        graph: Graph,
        kernels: Callable[[], Body],
        scope: Scope,
        options: SessionOptions,
        place: BodyPlace | None = None,
    ) -> None:
        """``kernels`` are what runs it without machine code; programs are kept at ``place``."""
        self.graph, self.prepare, self.scope, self.options = graph, kernels, scope, options
        self.place = place
        self._count = len(graph.inputs)
        captured = captured_values(graph)
        self.captured = [v for v in captured if v.constant is None]
        self.stored = [v for v in captured if v.constant is not None]
        self._families: dict[Kinds, Family[_Compiled]] = {}
        self._typed: dict[tuple[Kinds, Form, type[Programs]], _Compiled | None] = {}
        """Programs for types that somebody knows ahead."""
        self._handed_on: dict[tuple[Kinds, Form], Mapping[tuple[int, int], DimLike]] = {}
        self._last: _Compiled | None = None
        self._met: dict[tuple[Kinds, Shapes], _Compiled] = {}
        """Programs for the very extents that values had."""
        self.forget()
        tell(self)

    def forget(self) -> None:
        """In the child of a fork: whoever was making a program is not there."""
        self._lock = threading.RLock()

    @property
    def kernels(self) -> Body:
        """What runs it where it has no program."""
        return self.prepare()

    @property
    def size(self) -> int:
        """How many nodes run, each call of a function counted in full."""
        return self.kernels.size

    def run(self, inputs: Mapping[Value, Any], environment: Environment | None = None) -> list[Any]:
        """Values of the body's outputs."""
        return self.opened(environment or {})(list(inputs.values()))

    def opened(self, environment: Environment) -> Callable[[Sequence[Any]], list[Any]]:
        """What runs it on values of its inputs, again and again in the same ``environment``."""
        captured = [environment.get(v) for v in self.captured]
        return lambda inputs: self.run_on(inputs, captured, lambda: environment)

    def run_on(
        self,
        inputs: Sequence[Any],
        captured: Sequence[Any],
        environment: Callable[[], Environment],
    ) -> list[Any]:
        """Values of the outputs for values of inputs, and of what it captures.

        ``environment`` gives all values that there are, which only kernels ask for.
        """
        if len(inputs) != self._count:
            from fornix.reference.plan import check_count  # noqa: PLC0415 - no program has others

            check_count(self.graph, inputs)
        values = [*inputs, *captured]
        last = self._last
        if last is not None:  # what it takes the short way is of its types
            results = last.at_once(values)
            if results is not None:
                return results
            follower = last.follower
            results = None if follower is None else follower.at_once(values)
            if results is not None:
                self._last = follower
                return results
        return self._slowly(values, environment)

    def computed_by(
        self, compute: Compute, inputs: Sequence[Any], environment: Environment
    ) -> list[Any]:
        """Values of the outputs, where ``compute`` runs the program; raises NotAsCompiled.

        The program knows its nodes, as one that another process kept does not.
        """
        values = [*inputs, *(environment.get(v) for v in self.captured)]
        program = self._program(values)
        if program is None:
            raise NotAsCompiled(f"{self.graph.label} has no program for such values")
        program.programs.whole  # noqa: B018 - made anew where it was kept
        return program.run(values, compute)

    def steady(
        self, values: Sequence[Any], form: Turned | None
    ) -> tuple[Steady, Steady | None] | None:
        """What runs it on values that look like these, with no other look at them than it needs.

        The other one does many iterations, if there is a ``form`` for them: it is given `Turns`,
        and then what the body captures.
        """
        last = self._last  # other threads may take it away
        way = None if last is None else last.at_once
        if isinstance(way, Shortcut):
            if not way.fits(values):
                return None
            many = None if form is None else way.other(form, partial(turning, form=form))
            return way.again, many
        return None if way is None else (way, None)

    def _slowly(self, values: list[Any], environment: Callable[[], Environment]) -> list[Any]:
        """Values of the body's outputs, where the last program has no short way for ``values``."""
        before, program = self._last, self._program(values)
        self._last = program
        if before is not None and program is not before:
            before.follower = program
        if program is not None:
            results = None if program is before else program.at_once(values)
            if results is not None:
                return results
            try:
                return program.run(values)
            except NotAsCompiled as reason:
                log.debug("%s: %s", self.graph.label, reason)
        inputs = dict(zip(self.graph.inputs, values, strict=False))
        return self.kernels.run(inputs, environment())

    def _program(self, values: Sequence[Any]) -> _Compiled | None:
        """The program for ``values``; None the first time, and where there is none."""
        kinds = tuple([x.dtype if type(x) is np.ndarray else type(x) for x in values])
        shapes = tuple([x.shape if type(x) is np.ndarray else () for x in values])
        met = self._met.get((kinds, shapes))
        if met is not None:
            return met
        with self._lock:
            key = (*kinds, *map(len, shapes))
            family = self._families.get(key)
            if family is None:
                kept = self.place.forms(key) if self.place else ()
                family = self._families[key] = Family(kept)
            found = family.program(shapes, lambda form: self._noted(key, kinds, form))
            if found is not None and len(self._met) < MAX_MET:
                self._met[kinds, shapes] = found
            return found

    def typed(self, types: Sequence[ReadType], kind: type[Programs] = Programs) -> _Compiled:
        """The program of a ``kind`` for values of ``types``; raises NotAsCompiled for others."""
        kinds = tuple(dtype for _, dtype in types)
        form = tuple(shape for shape, _ in types)
        with self._lock:
            key = kinds, form, kind
            if key not in self._typed:
                family = self._families.get((*kinds, *map(len, form)))
                made = dict(family.programs).get(form) if family and kind is Programs else None
                self._typed[key] = made or self._compiled(kinds, form, kind)
        program = self._typed[key]
        if program is None:
            raise NotAsCompiled(f"{self.graph.label} has no program for such values")
        return program

    def handed_on(
        self, types: Sequence[ReadType], handed: Mapping[int, int]
    ) -> Mapping[tuple[int, int], DimLike]:
        """Extents of inputs in the next run, by the number of the input and the axis.

        By number, outputs in ``handed`` become its inputs. Raises RankChanges.
        """
        kinds = tuple(dtype for _, dtype in types)
        form = tuple(shape for shape, _ in types)
        with self._lock:
            if handed and (kinds, form) not in self._handed_on:
                self._handed_on[kinds, form] = self._made_of(kinds, form, handed)
        return self._handed_on.get((kinds, form), {})

    def _made_of(
        self, kinds: Kinds, form: Form, handed: Mapping[int, int]
    ) -> Mapping[tuple[int, int], DimLike]:
        """What is found out for `handed_on`."""
        model = self._model(kinds, form)
        shapes: dict[int, list[DimLike]] = {}

        def answer() -> list[list[str] | None] | None:
            shapes.update(_shapes_of(model, handed))
            texts = [[*map(dim_text, shapes[n])] if n in shapes else None for n in handed]
            extents = [d for shape in shapes.values() for d in shape if isinstance(d, Dim)]
            return None if any(d.unknowns for d in extents) else texts

        told = self.place.told(model, f"shapes of {handed}", answer) if self.place else answer()
        if not shapes:
            pairs = zip(handed, told or (), strict=False)
            shapes = {n: [*map(dim_of, texts)] for n, texts in pairs if texts is not None}
        after = {number: shapes[output] for output, number in handed.items() if output in shapes}
        if any(len(shape) != len(form[number]) for number, shape in after.items()):
            raise RankChanges("a value has another rank in the next iteration")
        return {
            (n, axis): extent for n, shape in after.items() for axis, extent in enumerate(shape)
        }

    def _noted(self, key: Kinds, kinds: Kinds, form: Form) -> _Compiled | None:
        """The same as `_compiled`; the next process is told that there is such a program."""
        made = self._compiled(kinds, form)
        if made is not None and self.place is not None and made.programs.is_kept:
            self.place.note(key, form)
        return made

    def _compiled(
        self, kinds: Kinds, form: Form, kind: type[Programs] = Programs
    ) -> _Compiled | None:
        """The program of a ``kind`` for values of these ``kinds`` and extents."""
        try:
            model = self._model(kinds, form)
            shelf = self.place.shelf_for(model) if self.place else None
            return _Compiled(model, self.options, self.scope.random, shelf, kind)
        except FornixError as error:
            log.debug("%s: %s", self.graph.label, error)
            return None

    def _model(self, kinds: Kinds, form: Form) -> Model:
        """The body as a model, whose inputs are named by their numbers."""
        fed = {v: Value() for v in self.captured}
        stored = {v: Value(tensor=v.constant) for v in self.stored}
        graph = clone(self.graph, {**fed, **stored})
        graph.inputs = (*graph.inputs, *fed.values())
        for number, value in enumerate(stored.values()):
            value.name = f"{STORED}{number}"
            graph.add_initializer(value)
        declared = [value.type for value in (*self.graph.inputs, *self.captured)]
        for number, (value, kind, shape) in enumerate(zip(graph.inputs, kinds, form, strict=True)):
            value.name = f"input {number}"
            value.type = _type(kind, shape, declared[number])
        if any(map(_is_contradicted, declared, form)):
            for value in (v for node in nodes(graph) for v in node.outputs):
                value.type = _of_any_extents(value.type)
        for number, value in enumerate(graph.outputs):
            if not value.is_input and not graph.holds(value):
                value.name = f"output {number}"
        return Model(graph, self.scope.imports, functions=self.scope.functions.values())


def _shapes_of(model: Model, outputs: Iterable[int]) -> dict[int, list[DimLike]]:
    """The shapes of those of ``outputs`` of a model that are tensors of a known rank."""
    from fornix.infer import infer_model  # noqa: PLC0415 - kept programs may do without

    inference = infer_model(model)
    facts = {number: inference.fact(model.graph.outputs[number]) for number in outputs}
    return {
        number: list(fact.shape)
        for number, fact in facts.items()
        if isinstance(fact.type, TensorType) and fact.has_rank
    }


def changes(before: DimLike, after: DimLike) -> bool:
    """Whether an extent is to be taken for another one in the next run.

    It is not where it may as well be equal: as one that is declared and one that is computed are.
    """
    if after == before or (before == 1 and not isinstance(after, int) and less(1, after) is False):
        return False  # one element stays, unless none is left
    if False in {less(after, before), less(before, after)}:  # it only grows, or only shrinks
        return True
    names = after.symbols if isinstance(after, Dim) else frozenset[str]()
    own = before.symbols if isinstance(before, Dim) else frozenset[str]()
    is_late = any(name.startswith(LATE) for name in names)
    is_unknown = isinstance(after, Dim) and bool(after.unknowns)
    return is_late or not names.isdisjoint(own) or is_unknown


def _of_any_extents(type_: Type | None) -> Type | None:
    """``type_`` with nothing but the rank of its shape."""
    if not isinstance(type_, TensorType) or type_.shape is None:
        return type_
    return TensorType(type_.dtype, (None,) * len(type_.shape))


def _is_contradicted(declared: Type | None, shape: Sequence[DimLike]) -> bool:
    """Whether numbers that are declared are no such extents; then others may be as wrong."""
    if not isinstance(declared, TensorType) or declared.shape is None:
        return False
    pairs = list(zip(declared.shape, shape, strict=False))
    return any(isinstance(number, int) and number != extent for number, extent in pairs)


def _type(kind: object, shape: Sequence[DimLike], declared: Type | None) -> Type | None:
    """The type of values of a kind; raises DTypeError if it is not known."""
    if isinstance(kind, np.dtype):
        return TensorType(DType.of(kind), tuple(shape))
    if isinstance(kind, ListKind) and isinstance(declared, SequenceType):
        return _ranked(declared, kind.rank)
    if declared is None or isinstance(declared, TensorType):
        raise DTypeError(f"a body is compiled for tensors and what is declared, found {kind}")
    return declared


def _ranked(type_: SequenceType, rank: int | None) -> SequenceType:
    """``type_`` of elements of so many axes, where it does not say how many."""
    elem = type_.elem
    if rank is None or not isinstance(elem, TensorType) or elem.shape is not None:
        return type_
    return SequenceType(TensorType(elem.dtype, (None,) * rank))


class Family(Generic[T]):
    """Programs for values of the same kinds, by the extents that they are for.

    For one thread at a time.
    """

    def __init__(self, kept: Sequence[Form] = ()) -> None:
        """There are programs for ``kept``, which need only be read."""
        self.kept = kept
        self.programs: list[tuple[Form, T | None]] = []
        self.seen: deque[Shapes] = deque(maxlen=MAX_SEEN)

    def program(self, shapes: Shapes, make: Callable[[Form], T | None]) -> T | None:
        """The program for ``shapes``, made now if there is none; None where they come first."""
        fitting = (made for form, made in self.programs if made and _fits(form, shapes))
        found = next(fitting, None)
        if found is None and self._may_grow:
            kept = next((form for form in self.kept if _fits(form, shapes)), None)
            form = kept or self._untried(shapes)
            self.kept = [other for other in self.kept if other != kept]
            if form is not None:
                found = make(form)
                self.programs.append((form, found))
        self.seen.append(shapes)
        return found

    @property
    def _may_grow(self) -> bool:
        """Whether there may be another program."""
        failed = sum(made is None for _, made in self.programs)
        return failed < MAX_FAILED and len(self.programs) - failed < MAX_PROGRAMS

    def _untried(self, shapes: Shapes) -> Form | None:
        """The form of a program for ``shapes``; None where they come first, or all were tried.

        Where there is none with symbols for what differed, numbers have programs of their own.
        """
        forms = [self._form(shapes)] if self.seen else []
        forms += [shapes] if shapes in self.seen else []
        tried = [form for form, _ in self.programs]
        return next((form for form in forms if form not in tried), None)

    def _form(self, shapes: Shapes) -> Form:
        """What is known of extents: numbers where they never differed, symbols elsewhere."""
        history = [*self.seen, shapes]
        names: dict[tuple[int, ...], DimLike] = {}

        def extent(*numbers: int) -> DimLike:
            if len(set(numbers)) == 1:
                return numbers[0]
            return names.setdefault(numbers, symbol(f"extent {len(names)}"))

        return tuple(tuple(map(extent, *ones)) for ones in zip(*history, strict=True))


def _fits(form: Form, shapes: Shapes) -> bool:
    """Whether numbers are as in ``form``, and symbols stand for one number each."""
    known: dict[DimLike, int] = {}
    return all(
        found == (wanted if isinstance(wanted, int) else known.setdefault(wanted, found))
        for one, other in zip(form, shapes, strict=True)
        for wanted, found in zip(one, other, strict=True)
    )


class _Compiled:
    """A body for values of some types."""

    def __init__(
        self,
        model: Model,
        options: SessionOptions,
        random: Callable[[], np.random.Generator],
        shelf: Shelf | None = None,
        kind: type[Programs] = Programs,
    ) -> None:
        self.names = [value.name for value in model.graph.inputs]
        self.outputs = [value.name for value in model.graph.outputs]
        providers = [CPUExecutionProvider()]
        self.programs = kind(lambda: model, providers, options, shelf, random=random)
        self.files = self.programs.general.files
        self.short: ShortWay | Shortcut | None = None
        """The way around the program, if there is one."""
        self.at_once = self._at_once()
        """Gives the outputs, if there is a short way for such values; for others None."""
        self.follower: _Compiled | None = None
        """What ran when this one could not, as for the next rank of a value whose rank grows."""

    def _at_once(self) -> Steady:
        """The short way, which also sees to files and to the order of outputs if there is need."""
        self.short, order = self._short_way()
        if self.short is None or not (self.files or order):
            return self.short or _nothing
        return partial(_ordered, self.files, self.short, order)

    def _short_way(self) -> tuple[ShortWay | Shortcut | None, Sequence[int] | None]:
        """The way around the program: one call if it is nothing but one step.

        Of each output its number among what the step writes, or below 0, ~that of an input; None
        if outputs are what the way gives, in that order.
        """
        program = self.programs.general
        if len(program.inputs) < len(self.names):
            return None, None
        inputs = [program.inputs[name] for name in self.names]
        outputs = [program.outputs[name] for name in self.outputs]
        steps = [step for step in program.steps if isinstance(step, NativeStep)]
        written = {value for step in steps for value in step.writes}
        if not steps or len(steps) < len(program.steps) or not {*outputs} <= {*written, *inputs}:
            return Shortcut(program, inputs, outputs), None
        made = [value for value in dict.fromkeys(outputs) if value in written]
        order = [made.index(v) if v in written else ~inputs.index(v) for v in outputs]
        is_plain = order == list(range(len(order)))
        return ShortWay(steps, inputs=inputs, outputs=made), None if is_plain else order

    def run(self, values: Sequence[Any], compute: Compute = Program.computed) -> list[Any]:
        """The outputs; raises NotAsCompiled if NumPy kernels are to do it."""
        feeds = dict(zip(self.names, values, strict=True))

        def results(program: Program, run: Run) -> list[Any]:
            found = compute(program, feeds, run)
            return [found[program.outputs[name]] for name in self.outputs]

        was_wary = self.programs.is_wary
        try:
            found = self.programs.serve(feeds, results)
        except FornixError as error:  # the body itself knows how its nodes are called
            raise NotAsCompiled(str(error)) from error
        if self.programs.is_wary != was_wary:
            self.at_once = self._at_once()
        elif self.short is not None:
            self.short.open()
        return found


def _ordered(
    files: Sequence[MappedFile], short: Steady, order: Sequence[int] | None, values: list[Any]
) -> list[Any] | None:
    """What ``short`` gives for values, in ``order``, if ``files`` are as they were."""
    for file in files:
        file.check()
    results = short(values)
    if results is None or order is None:
        return results
    return [results[at] if at >= 0 else values[~at] for at in order]


def _nothing(_: list[Any]) -> None:
    """Leave values to the long way."""


__all__ = ["CompiledBody", "RankChanges", "changes", "compile_bodies", "declare_carried"]
