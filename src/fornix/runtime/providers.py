"""Providers: who runs which nodes, and how.

A session has a list of them. Each node goes to the first provider that takes it; nodes in a row of
one provider are a `Part`, which it turns into steps. To add a provider, derive from `Provider` and
pass an instance to the session, ahead of others that are to run the rest.
"""

from __future__ import annotations

import ctypes
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeAlias

import numpy as np

from fornix.dtype import STRING
from fornix.errors import Fail, FornixWarning, NotSupported
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.types import MapType, OptionalType, SequenceType
from fornix.ir.walk import captured_values
from fornix.runtime.options import SessionOptions
from fornix.runtime.threads import Pool

if TYPE_CHECKING:
    from fornix.compile.support import Support
    from fornix.infer import Inference
    from fornix.reference.plan import Body, Plan
    from fornix.reference.plan import Step as PlannedNode
    from fornix.reference.scope import Scope
    from fornix.runtime.reports.report import Allowance
    from fornix.runtime.sizing.learned import Learned
    from fornix.runtime.stored.shelf import Shelf


class NotAsCompiled(Exception):
    """A run is not what its steps were made for: NumPy kernels do it, or say what is wrong."""


class Unequal(NotAsCompiled):
    """Of extents that were taken for equal, as data alone tell them, one is 1: it broadcasts."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a node runs: in which kernels, or why by its NumPy kernel."""

    node: str
    op_type: str
    domain: str
    kernels: tuple[str, ...]
    reason: str
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """What the steps of one run share: what its symbols are."""

    extents: Mapping[str, int]
    key: tuple[int, ...]
    """The numbers in ``extents``."""
    is_ended: Callable[[], bool] | None = None
    """Asked between kernels whether somebody wants the run to end."""
    targets: Mapping[str, np.ndarray[Any, np.dtype[Any]]] | None = None
    """Where results may be written, by name; elsewhere does too."""
    flag: ctypes.c_int64 | None = None
    """Where native code sees what `is_ended` tells."""

    allowance: Allowance | None = None
    """What NumPy kernels may take."""

    is_looked_at: bool = True
    """Whether texts among the feeds are known to be texts, so that kernels may read them."""

    def check(self) -> None:
        """Raise Fail if somebody wants the run to end."""
        if self.is_ended is not None and self.is_ended():
            raise Fail("the run has been ended: RunOptions.terminate is set")


class TextCode(NamedTuple):
    """The machine code of a family of `compile.text`, and what keeps it."""

    address: int
    owner: object
    support: Support
    """What runs it in one call where no code of numbers is beside it."""


Way: TypeAlias = "Callable[[list[Any], Run], list[Any] | None]"
"""From what a step reads to what it writes; None if that has to be done another way."""


class OwnWay(ABC):
    """A way whose results share memory with nothing else."""

    @abstractmethod
    def __call__(self, given: list[Any], run: Run) -> list[Any] | None:
        """What the node writes; None if its kernel has to."""


class Kernel(NamedTuple):
    """A NumPy kernel of the standard's, for inputs of the types that it has read before."""

    call: Callable[[list[Any]], Sequence[Any]]
    """Raises anything."""
    rule: Callable[..., Any]
    """The same of inputs one by one, to a tuple or the one result."""
    inputs: Sequence[Value | None]
    constants: Mapping[Value, Any]
    """Those of what it reads that never change."""
    may_warn: bool
    """Whether it computes with numbers, of which NumPy may warn: of integers divided by 0, too."""

    @classmethod
    def of(
        cls, planned: PlannedNode, plan: Plan, names: Mapping[Value, Value] | None = None
    ) -> Kernel | None:
        """That of a node in a plan, whose values have other ``names``; None if it has none."""
        call, node = getattr(planned.call, "run", None), planned.node
        if call is None or plan.scope.watch is not None:
            return None
        inputs = node.inputs
        if names is not None:
            inputs = tuple(None if value is None else names.get(value, value) for value in inputs)
        rule = getattr(call, "kernel", lambda *inputs: call([*inputs]))
        return cls(call, rule, inputs, plan.constants, may_warn(node))


def may_warn(node: Node) -> bool:
    """Whether it computes with numbers, itself or in its bodies, of which NumPy may warn."""
    if node.graphs:
        return any(may_warn(inner) for graph in node.graphs for inner in graph.nodes)
    return any(map(_is_of_numbers, node.inputs)) and any(map(_is_of_numbers, node.outputs))


def _is_of_numbers(value: Value | None) -> bool:
    """Whether it may be a tensor of something else than texts."""
    found = None if value is None else value.type
    if isinstance(found, OptionalType):
        found = found.elem
    if value is None or isinstance(found, SequenceType | MapType):
        return False
    return getattr(found, "dtype", None) is not STRING


class Planned(Protocol):
    """What is known of a graph whose nodes run: a `Plan`, or what stands for one that is kept."""

    graph: Graph
    scope: Scope
    constants: dict[Value, Any]
    bodies: dict[Graph, Body]


@dataclass(frozen=True)
class ControlNode:
    """A node, mostly one with bodies, and the plan that has them prepared."""

    node: Node
    plan: Planned
    names: Mapping[Value, Value] = field(default_factory=dict)
    """What its values stand for in the program, where these are others."""

    def outside(self, value: Value) -> Value:
        """What ``value`` stands for in the program."""
        return self.names.get(value, value)

    @property
    def inputs(self) -> list[Value | None]:
        """What it reads itself; None for what is left out."""
        return [None if value is None else self.outside(value) for value in self.node.inputs]

    @property
    def outputs(self) -> list[Value]:
        """What it computes."""
        return [self.outside(value) for value in self.node.outputs]


class Step(ABC):
    """A part of a run: reads some values, gives others."""

    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    owns_results: bool = False
    """Whether its results share memory with nothing else."""
    stored: tuple[Value, ...] = ()
    """Initializers that it holds itself and reads in every run."""
    owns_data: bool = False
    """Whether it has the stored data that it reads, and does not look for them in a run."""
    uses_numpy: bool = False
    """Whether NumPy computes in it, of whose warnings nobody wants to know."""
    learned: Learned | None = None
    """What code of loops learns as it begins."""
    code: TextCode | None = None
    """The machine code for texts, if it is a node that has such a way."""

    @property
    def single(self) -> ControlNode | None:
        """The node, if the step is one that is not compiled."""
        return None

    @property
    def control(self) -> ControlNode | None:
        """The same, if it is one with bodies."""
        found = self.single
        return found if found is not None and found.node.graphs else None

    @property
    def kernel(self) -> Kernel | None:
        """What it calls, if it is the standard's kernel of a node without bodies."""
        return None

    @property
    def way(self) -> Way | None:
        """What may do it in one call, where that is neither code of loops nor a kernel."""
        return None

    def run_by(self, way: Way, values: dict[Value, Any], run: Run) -> bool:
        """Whether ``way`` could do it, and has added the values."""
        results = way([values[value] for value in self.reads], run)
        if results is None:
            run.check()
            if not run.is_looked_at:
                raise NotAsCompiled("what is among the texts has to be looked at first")
            return False
        values.update(zip(self.writes, results, strict=True))
        return True

    @abstractmethod
    def run(self, values: dict[Value, Any], run: Run) -> None:
        """Add the values of `writes` to ``values``; raises NotAsCompiled to have it done again."""

    @abstractmethod
    def placements(self) -> Iterator[Placement]:
        """Where its nodes run."""

    def shrink(self) -> None:  # noqa: B027 - most keep none
        """Give back memory for runs that nobody uses now."""

    def holds(self, run: Run) -> bool:  # noqa: ARG002 - most hold for all
        """Whether it is made for such a run; asked once for each set of extents."""
        return True

    def is_known_to_hold(self, run: Run) -> bool:  # noqa: ARG002 - likewise
        """Whether that is certain without its nodes, which kept programs do not have."""
        return True


@dataclass(frozen=True)
class Part:
    """Nodes in a row that one provider takes."""

    nodes: tuple[Node, ...]
    needed: frozenset[Value]
    """Values of theirs that others read."""
    inference: Inference
    prepare_plan: Callable[[], Plan]
    symbols: frozenset[str]
    """Symbols that the shapes of inputs give numbers."""
    options: SessionOptions
    pool: Pool
    packs: bool = True
    """Whether stored data are to be packed at once."""
    shelf: Shelf | None = None
    """The place of the program."""
    is_wary: bool = False
    """Whether extents that broadcast and data tell are taken for equal only where they are."""

    @property
    def plan(self) -> Plan:
        """The graph prepared for NumPy kernels."""
        return self.prepare_plan()


class Provider(ABC):
    """Somebody who runs nodes."""

    name: ClassVar[str]
    optimizes: ClassVar[bool] = True
    """Whether a session that begins with it optimizes its model unless told otherwise."""

    takes_parts: ClassVar[bool] = False
    """Whether nodes whose results are as long as data say are taken apart for it."""

    def takes(self, node: Node, inference: Inference) -> bool:  # noqa: ARG002 - most take all
        """Whether it runs ``node``."""
        return True

    @abstractmethod
    def compile(self, part: Part) -> Sequence[Step]:
        """Steps that do what the nodes of ``part`` say, in their order."""


class KernelStep(Step):
    """A node that runs its NumPy kernel."""

    uses_numpy = True

    def __init__(self, planned: PlannedNode, plan: Plan, reason: str) -> None:
        node = planned.node
        self.planned, self.plan, self.reason = planned, plan, reason
        captured = captured_values(node) if node.graphs else ()
        found = dict.fromkeys(v for v in (*node.inputs, *captured) if v is not None)
        self.reads = tuple(v for v in found if v.constant is None)
        self.writes = node.outputs

    @cached_property
    def way(self) -> Way | None:
        if self.code is None:
            return None
        from fornix.runtime.text.tables import text_way  # noqa: PLC0415 - few nodes read texts

        return text_way(self.planned.node, self.code, self.kernel)

    @property
    def single(self) -> ControlNode:
        return ControlNode(self.planned.node, self.plan)

    @property
    def kernel(self) -> Kernel | None:
        return Kernel.of(self.planned, self.plan)

    def run(self, values: dict[Value, Any], run: Run) -> None:
        if self.way is None or not self.run_by(self.way, values, run):
            self.plan.evaluate(self.planned, values)

    def placements(self) -> Iterator[Placement]:
        node = self.planned.node
        yield Placement(node.name, node.op_type, node.domain, (), self.reason)


class RestStep(Step):
    """A node with bodies in another form, which has no kernel."""

    def __init__(self, control: ControlNode, reads: Sequence[Value]) -> None:
        self._control = control
        self.reads, self.writes = tuple(reads), tuple(control.outputs)

    @property
    def single(self) -> ControlNode:
        return self._control

    def run(self, values: dict[Value, Any], run: Run) -> None:  # noqa: ARG002 - never called
        raise NotAsCompiled("a node in another form has no kernel")

    def placements(self) -> Iterator[Placement]:
        return iter(())


class ReferenceExecutionProvider(Provider):
    """NumPy kernels, node by node: what the standard says, without any compiler."""

    name = "ReferenceExecutionProvider"
    optimizes = False

    def compile(self, part: Part) -> Sequence[Step]:
        reason = "the reference runs NumPy kernels"
        return [KernelStep(part.plan.steps_by_node[n], part.plan, reason) for n in part.nodes]


class CPUExecutionProvider(Provider):
    """Machine code for this processor; NumPy kernels where there is none."""

    name = "CPUExecutionProvider"
    takes_parts = True

    def compile(self, part: Part) -> Sequence[Step]:
        reason = no_machine_code()
        if not reason:
            from fornix.runtime.prepare import native_steps  # noqa: PLC0415 - imports llvmlite

            try:
                return native_steps(part)
            except MemoryError as error:  # kernels say which node asks for that much
                reason = f"memory for what is computed ahead is missing: {error}"
        return [KernelStep(part.plan.steps_by_node[n], part.plan, reason) for n in part.nodes]


@cache
def no_machine_code() -> str:
    """Why nothing can be compiled here, which is also said in a warning; empty if it can."""
    try:
        from fornix.compile.target import Target  # noqa: PLC0415 - imports llvmlite

        Target.host()
    except (ImportError, OSError, RuntimeError) as error:
        warnings.warn(
            "CPUExecutionProvider: llvmlite, which knows this processor, is required to compile "
            f"models, found {type(error).__name__}: {error}; they run on NumPy kernels, which is "
            "many times slower; try pip install --force-reinstall llvmlite",
            FornixWarning,
            stacklevel=2,
        )
        return f"nothing can be compiled: {error}"
    return ""


def check_machine_code(what: str) -> None:
    """Raise NotSupported if nothing can be compiled here, which ``what`` needs."""
    reason = no_machine_code()
    if reason:
        raise NotSupported(f"{what}: machine code is required, but {reason}")


PROVIDERS: dict[str, type[Provider]] = {
    provider.name: provider for provider in (CPUExecutionProvider, ReferenceExecutionProvider)
}
"""Providers by the name under which sessions know them."""
