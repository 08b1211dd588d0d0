"""The completeness matrix: what each operator has, rule by rule.

A cell is full if the rule holds at every schema version. `fornix ops --matrix` prints it; a test
demands that what is missing is said in docs/limits.md.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from fornix import ops
from fornix.ops.differentiable import differentiable
from fornix.ops.grads import load
from fornix.ops.op import Operator
from fornix.ops.pointwise import shapes_text
from fornix.ops.training import Gradient
from fornix.ops.types import FLOAT

COLUMNS = ("schema", "infer", "kernel", "lower", "grad", "adapt", "doc")
"""``lower`` is met by a lowering, by a body, or by saying that the kernel serves (opaque); ``grad``
by a derivative, by a body, or because there can be none; ``adapt`` by saying how many steps from
one version to the next rewrite nodes, the others taking them over as they are."""

NO_DERIVATIVE = {
    "ai.onnx.ml": "fitted",
    "ai.onnx.preview.training": "optimizer",
}
"""Why operators have no derivative that could have one, by domain: models of ai.onnx.ml are fitted
elsewhere and applied here, and the steps of optimizers are not optimized. Others lack it."""

MISSING = {"Loop": "what its steps compute would have to be kept, and only a run tells how many"}
"""Why derivatives are missing."""

WIDTH, BROADCASTS = 96, 7
"""Columns of descriptions; the opset from which on shapes broadcast as in NumPy."""

REGISTERED = "registered"
"""The family of operators that users registered."""

REQUIRED = ("schema", "infer", "kernel", "doc")
"""Columns that every operator has to fill."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What an operator has of one column; the text is empty if that is nothing."""

    text: str
    is_full: bool
    reason: str = ""
    """Why it has nothing better, where the text does not say it."""


def families(domain: str = "") -> dict[str, list[Operator]]:
    """The operators by the module that declares them, in order; last those of users.

    They are those of the standard, or those that are contributed for ``domain``.
    """
    table = ops.contributed(domain) if domain else ops.operators()
    left = dict.fromkeys(table.values())
    found: dict[str, list[Operator]] = {}
    for family in ops.CONTRIBUTED[domain] if domain else ops.FAMILIES:
        module = importlib.import_module(f"fornix.ops.{family}")
        declared = dict.fromkeys(x for x in vars(module).values() if isinstance(x, Operator))
        found[family] = [operator for operator in declared if operator in left]
        for operator in found[family]:
            del left[operator]
    return found | ({REGISTERED: list(left)} if left else {})


def matrix() -> dict[Operator, dict[str, Cell]]:
    """The row of each operator."""
    return {operator: row(operator) for operator in ops.operators().values()}


def row(operator: Operator) -> dict[str, Cell]:
    """The cells of ``operator`` by column."""
    count = len(operator.schemas)
    steps = [
        {(one.since_version, two.since_version), (two.since_version, one.since_version)}
        for one, two in pairwise(operator.schemas)
    ]
    adapted = sum(bool(step & operator.adapters.keys()) for step in steps)
    described = bool(description(operator))
    return {
        "schema": Cell(str(count), is_full=count > 0),
        "infer": part(sum(has(operator, "infer")), count),
        "kernel": part(sum(has(operator, "kernel")), count),
        "lower": lowering(operator),
        "grad": derivative(operator),
        "adapt": adapters(adapted, len(steps)),
        "doc": Cell("yes" if described else "", described),
    }


def has(operator: Operator, kind: str) -> list[bool]:
    """Whether the ``kind`` rule holds, by schema version."""
    return [operator.rule(kind, x.since_version) is not None for x in operator.schemas]


def part(found: int, count: int) -> Cell:
    """The cell of a rule that holds ``found`` times out of ``count``."""
    if found == count:
        return Cell("all", is_full=True)
    return Cell(f"{found} of {count}" if found else "", is_full=False)


def adapters(found: int, steps: int) -> Cell:
    """How nodes get from one version to the next: steps without an adapter change no node."""
    if not steps:
        return Cell("one version", is_full=True)
    return Cell(f"{found} of {steps}" if found else "as it is", is_full=True)


def lowering(operator: Operator) -> Cell:
    """How compiled code gets at the newest version of ``operator``."""
    newest = operator.schemas[-1].since_version
    for kind in ("lower", "body"):
        if operator.rule(kind, newest) is not None:
            return Cell(kind, is_full=True)
    why = operator.rule("opaque", newest)
    return Cell("", is_full=False) if why is None else Cell("opaque", is_full=True, reason=why())


def derivative(operator: Operator) -> Cell:
    """How gradients pass the newest version of ``operator``."""
    load()
    newest = operator.schemas[-1]
    if operator is Gradient:
        return Cell("expanded", is_full=True)  # to nodes that have derivatives
    for kind in ("grad", "body"):
        if operator.rule(kind, newest.since_version) is not None:
            return Cell(kind, is_full=True)
    has_floats = [
        any(FLOAT.members & newest.allowed(formal) for formal in formals)
        for formals in (newest.inputs, newest.outputs)
    ]
    if not all(has_floats):
        return Cell("no floats", is_full=True)
    inputs, _ = differentiable(newest)
    if all(one is False for one in inputs):
        return Cell("constant", is_full=True)  # the standard calls no input differentiable
    if newest.is_deprecated and not operator.domain:
        return Cell("deprecated", is_full=True)  # before the opsets that gradients need
    word = NO_DERIVATIVE.get(operator.domain, "missing")
    return Cell(word, is_full=False, reason=MISSING.get(operator.name, ""))


def description(operator: Operator) -> str:
    """What the newest version of ``operator`` does: the docstring of its kernel."""
    newest = operator.schemas[-1]
    kernel = operator.rule("kernel", newest.since_version)
    text = (inspect.getdoc(kernel) or "") if kernel is not None else ""
    common_shape = getattr(kernel, "common_shape", None)
    if common_shape is None:
        return text
    more = [shapes_text(newest, common_shape)]
    types = newest.allowed(newest.outputs[0])
    if {"tensor(float16)", "tensor(bfloat16)"} & types and "tensor(bool)" not in types:
        more.append("Computes float16 and bfloat16 in float32.")
    old = operator.schemas[0].attributes
    if "broadcast" in old and operator.schemas[0].since_version < BROADCASTS:
        more.append(f"Before opset {BROADCASTS}, shapes are equal unless ``broadcast`` is 1; then")
        more.append(f"{newest.inputs[1].name} is aligned with the axes from ``axis`` on.")
    return text + "\n\n" + textwrap.fill(" ".join(more), WIDTH)


def gaps() -> Iterator[tuple[Operator, str]]:
    """Every operator and required column that it does not fill."""
    for operator, cells in matrix().items():
        for column in REQUIRED:
            if not cells[column].is_full:
                yield operator, column
