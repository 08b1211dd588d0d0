"""What is wrong about fornix's answer to a case, told by comparing it with every oracle's.

A finding is a sentence. An oracle that is known to be wrong on a case is not asked; one that
refuses says nothing, unless all refuse: then fornix must refuse too, with an error of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from fornix import ops
from fornix.dtype import DType
from fornix.errors import FornixError
from fornix.ops.call import NotLowered, check_arity
from tests.compare import assert_same
from tests.ops.differential.mistakes import is_excused
from tests.ops.differential.oracles import ORACLES, Oracle
from tests.ops.differential.refused import Refused
from tests.ops.differential.space import Case
from tests.ops.harness import check_inference, lower_op, run_op

PEERS = ("onnx.reference",)
"""Who may be asked about cases that are wrong: formulas take what they are given."""
LACKING = ("NOT_IMPLEMENTED", "InsertedPrecisionFreeCast", "MLDataType for", "No Op registered")
"""What peers say when they lack an operator or a dtype, rather than refuse a case."""
EPSILONS = 64
"""Rounding steps by which sums and elementary functions of two libraries differ."""
ONE_STEP = 2
"""Half precision is rounded once, from float32 results that may differ: to neighbours at most."""
ROTATED = 8
"""Rotated queries and keys are rounded as a cache keeps them, before scores multiply them."""
HALF_EPSILONS = 48
"""Peers compute half precision in half precision, each sum rounded at every step."""


@dataclass(frozen=True)
class Finding:
    """One disagreement: what kind, with whom, and the details."""

    kind: str
    oracle: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind} [{self.oracle}] {self.text}"


def answer(case: Case) -> list[Any]:
    """fornix's outputs, after the checks that precede every run of a node."""
    schema = ops.schema_of(case.domain, case.name, case.opset)
    check_arity(schema, case.inputs, case.outputs)
    return run_op(case.name, case.inputs, case.attributes, **case.where)


def judge(case: Case, answers: Counter[str] | None = None) -> Iterator[Finding]:
    """Every disagreement about a legal ``case``; ``answers`` counts who answered."""
    answers = Counter() if answers is None else answers
    try:
        found = answer(case)
    except FornixError as error:
        answers["cases"] += 1
        yield from _refused(case, error)
    except Exception as error:  # noqa: BLE001 - that is the finding
        answers["cases"] += 1
        yield Finding("crash", "fornix", f"{type(error).__name__}: {error}")
    else:
        yield from _answered(case, found, ORACLES, answers)


def judge_hostile(
    case: Case, answers: Counter[str] | None = None, peers: Sequence[str] = PEERS
) -> Iterator[Finding]:
    """Every disagreement about a ``case`` that may be wrong: fornix may refuse what it wants to.

    onnxruntime is left out by default: some wrong cases end its process.
    """
    answers = Counter() if answers is None else answers
    try:
        found = answer(case)
    except FornixError:
        answers["cases"] += 1
        return
    except Exception as error:  # noqa: BLE001 - that is the finding
        answers["cases"] += 1
        yield Finding("crash", "fornix", f"{type(error).__name__}: {error}")
        return
    oracles = {name: ORACLES[name] for name in peers}
    for finding in _answered(case, found, oracles, answers):
        if not any(text in finding.text for text in LACKING):
            yield finding


def _answered(
    case: Case, found: list[Any], oracles: Mapping[str, Oracle], answers: Counter[str]
) -> Iterator[Finding]:
    """What is said against the outputs ``found``."""
    answers["cases"] += 1
    yield from _own_rules(case, found)
    refusals = []
    for name, oracle in oracles.items():
        try:
            wanted = oracle(case, found)
        except Refused as refusal:
            refusals.append(str(refusal))
            continue
        answers[name] += 1
        if not is_excused(case, name):
            yield from compared(case, name, found, wanted)
    if len(refusals) == len(oracles):
        yield Finding("alone", "all", " | ".join(refusals))


def _refused(case: Case, error: FornixError) -> Iterator[Finding]:
    """Who answers what fornix refuses."""
    for name, oracle in ORACLES.items():
        try:
            oracle(case, None)
        except Refused:
            continue
        if not is_excused(case, name):
            yield Finding("refusal", name, f"{type(error).__name__}: {error}")


def _own_rules(case: Case, found: list[Any]) -> Iterator[Finding]:
    """What inference and lowering of fornix say against its kernel."""
    if any(isinstance(x, dict) for x in case.inputs):
        return  # the harness states no facts of maps
    try:
        check_inference(case.name, case.inputs, case.attributes, found, **case.where)
    except Exception as error:  # noqa: BLE001 - that is the finding
        yield Finding("inference", "fornix", f"{type(error).__name__}: {error}")
    for is_symbolic in (False, True):
        try:
            lowered = lower_op(
                case.name, case.inputs, case.attributes, is_symbolic=is_symbolic, **case.where
            )
        except NotLowered:
            continue
        except Exception as error:  # noqa: BLE001 - that is the finding
            yield Finding("lowering", "fornix", f"{type(error).__name__}: {error}")
        else:
            yield from compared(case, "lowering", lowered, found)


def compared(case: Case, oracle: str, found: list[Any], wanted: list[Any]) -> Iterator[Finding]:
    """Where ``found`` is not what the oracle ``wanted``."""
    for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
        rtol, atol = tolerance(case, oracle, one, other)
        if oracle == "onnx.reference":
            one, other = _without_overflow(one, other)
        try:
            if other is None:  # optional, and this oracle leaves it out
                continue
            assert_same(one, other, rtol=rtol, atol=atol)
        except (AssertionError, ValueError, TypeError) as error:
            text = " ".join(str(error).split())[:400]
            yield Finding("output", oracle, f"output {index}: {text}")


def _without_overflow(found: Any, wanted: Any) -> tuple[Any, Any]:
    """Half precision that is finite in both: the reference overflows, or makes NaN, on the way."""
    if not isinstance(found, np.ndarray) or found.dtype.name not in {"float16", "bfloat16"}:
        return found, wanted
    if getattr(wanted, "shape", None) != found.shape or wanted.dtype != found.dtype:
        return found, wanted
    finite = np.isfinite(found) & np.isfinite(wanted)
    return np.where(finite, found, 0), np.where(finite, wanted, 0)


def is_float(x: Any) -> bool:
    return x.dtype.kind in "fc" or DType.of(x.dtype).is_float


def tolerance(case: Case, oracle: str, found: Any, wanted: Any) -> tuple[float, float]:
    """How far the two may be apart: (relative, absolute)."""
    if isinstance(found, list):
        return max(
            (tolerance(case, oracle, f, w) for f, w in zip(found, wanted, strict=False)),
            default=(0.0, 0.0),
        )
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fcV" or found.size == 0:
        return 0.0, float(case.title in ROUNDED)
    dtype = DType.of(found.dtype)
    if dtype.kind not in {"float", "complex"} or case.name in EXACT:
        return 0.0, 0.0
    floats = [x for x in (found, *case.inputs) if isinstance(x, np.ndarray) and is_float(x)]
    eps = max(float(ml_dtypes.finfo(x.dtype).eps) for x in floats)
    if case.title in COARSE:
        return 0.0, COARSE[case.title]
    steps = EPSILONS
    if dtype.is_float and dtype.bits < 32:
        once = ROTATED if case.attributes.get("do_rotary") else ONE_STEP
        steps = once if oracle == "widened" else HALF_EPSILONS
    magnitude = np.abs(found.astype(np.complex128 if dtype.kind == "complex" else np.float64))
    finite = magnitude[np.isfinite(magnitude)]
    scale = float(finite.max()) if finite.size else 1.0
    return steps * eps, steps * eps * min(max(1.0, scale), 1e6)


EXACT = frozenset(
    "Abs Ceil Floor Identity Max Min Neg Not Relu Round Sign Where Clip Transpose Concat Split Tile"
    " Reshape Flatten Squeeze Unsqueeze Slice Pad Gather GatherElements GatherND Expand".split()
)
"""Operators that move and select numbers without computing new ones."""

ROUNDED = frozenset(
    f"com.microsoft.{name}"
    for name in (
        "QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearConv",
        "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid",
        "QLinearSoftmax", "QLinearWhere", "QuantizeLinear",
    )
)  # fmt: skip
"""Operators whose quanta may be neighbours: onnxruntime multiplies and adds in another order."""

COARSE = {"com.microsoft.DynamicQuantizeLSTM": 0.05}
"""How far results may be from those of onnxruntime, which rounds all states alike."""
