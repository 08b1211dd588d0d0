"""Run conformance cases and print what fails: ``python -m tests.conformance.run Conv MaxPool``.

Without arguments every case runs whose operators all have a kernel.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from typing import Any

import numpy as np

from fornix import InferenceSession, ops
from fornix.reference import ReferenceEvaluator
from tests.compare import assert_same
from tests.conformance.cases import Case, cases


def is_runnable(case: Case) -> bool:
    """Whether every operator of the case is declared and has a kernel or a body."""
    for domain, name in case.operators:
        operator = ops.find(domain, name)
        if operator is None or not (operator.rules.keys() & {"kernel", "body"}):
            return False
    return True


def check_case(case: Case, runner: ReferenceEvaluator | InferenceSession) -> None:
    """Raise unless ``runner`` gives the outputs that the standard states."""
    graph = case.model.graph
    stored = {initializer.name for initializer in graph.initializer}
    for inputs, expected in case.data_sets:
        names = [value.name for value in graph.input if value.name not in stored]
        if len(names) < len(inputs):
            names = [value.name for value in graph.input]
        results = runner.run(None, dict(zip(names, inputs, strict=False)))
        assert len(results) >= len(expected)
        for result, wanted in zip(results, expected, strict=False):
            rtol, atol = _tolerance(case, wanted)
            assert_same(result, wanted, rtol=rtol, atol=atol)


SUMMING = {"Attention", "Softmax", "MatMul"}
"""Attention, and the operators that its bodies sum with."""
HALF_STEPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
"""One rounding step of half precision, relative to a number."""


TRANSFORMS = {"DFT", "STFT"}
"""Operators whose expected zeros are rounding noise: 2e-7 beside elements of 45."""
SINGLE_STEP = 2.0**-23
"""One rounding step of float32, relative to a number."""


def _tolerance(case: Case, wanted: Any) -> tuple[float, float]:
    """The tolerances of ``case``, which allow one rounding step where the standard's values do.

    Its values in half precision round every partial sum, kernels sum in float32; its transforms
    leave noise where the exact result is zero.
    """
    names, dtype = {name for _, name in case.operators}, str(getattr(wanted, "dtype", ""))
    step = HALF_STEPS.get(dtype, 0.0) if SUMMING & names else 0.0
    if dtype == "float32" and TRANSFORMS & names:
        step = SINGLE_STEP
    if not step or not wanted.size:
        return case.rtol, case.atol
    magnitude = float(np.abs(wanted.astype(np.float32)).max())
    return max(case.rtol, step), max(case.atol, step * magnitude)


def main(names: list[str]) -> None:
    """Run the cases that use one of the operators ``names``; print failures and counts."""
    counts: Counter[str] = Counter()
    for case in cases().values():
        wanted = not names or any(name in names for _, name in case.operators)
        if not wanted or case.is_random:
            continue
        if not is_runnable(case):
            counts["not runnable"] += 1
            continue
        try:
            check_case(case, ReferenceEvaluator(case.model))
            counts["passed"] += 1
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
            counts["failed"] += 1
            print(f"{case.name}: {type(error).__name__}: {str(error)[:600]}")
            if len(names) == 1:
                traceback.print_exc(limit=-3)
    print(dict(counts))


if __name__ == "__main__":
    main(sys.argv[1:])
