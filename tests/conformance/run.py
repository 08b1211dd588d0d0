"""Run conformance cases and print what fails: ``python -m tests.conformance.run Conv MaxPool``.

Without arguments every case runs whose operators all have a kernel.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter

from fornix.reference import ReferenceEvaluator

from fornix import ops
from tests.compare import assert_same
from tests.conformance.cases import Case, cases


def is_runnable(case: Case) -> bool:
    """Whether every operator of the case is declared and has a kernel or a body."""
    for domain, name in case.operators:
        operator = ops.find(domain, name)
        if operator is None or not (operator.rules.keys() & {"kernel", "body"}):
            return False
    return True


def check_case(case: Case) -> None:
    """Raise unless the reference evaluator gives the outputs that the standard states."""
    evaluator = ReferenceEvaluator(case.model)
    for inputs, expected in case.data_sets:
        stored = {initializer.name for initializer in case.model.graph.initializer}
        names = [value.name for value in case.model.graph.input if value.name not in stored]
        if len(names) < len(inputs):
            names = [value.name for value in case.model.graph.input]
        results = evaluator.run(None, dict(zip(names, inputs, strict=False)))
        assert len(results) >= len(expected)
        for result, wanted in zip(results, expected, strict=False):
            assert_same(result, wanted, rtol=case.rtol, atol=case.atol)


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
            check_case(case)
            counts["passed"] += 1
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
            counts["failed"] += 1
            print(f"{case.name}: {type(error).__name__}: {str(error)[:600]}")
            if len(names) == 1:
                traceback.print_exc(limit=-3)
    print(dict(counts))


if __name__ == "__main__":
    main(sys.argv[1:])
