"""Model functions as such: their names, their imports, and that none calls itself."""

from __future__ import annotations

from collections import Counter

from fornix.check.finding import Findings
from fornix.check.header import check_imports
from fornix.format.limits import Limits
from fornix.ir.calls import expanded_nodes, recursions
from fornix.ir.graph import Model


def check_functions(model: Model, findings: Findings, limits: Limits) -> None:
    """Note functions that share a name, lack one, import what is not there, or call themselves."""
    for key, count in Counter(function.key for function in model.functions).items():
        if count > 1:
            label = model.function_table[key].label
            findings.error(label, f"one function of that name is required, found {count}")
    for function in model.functions:
        if not function.name:
            findings.error(function.label, "a name is required, found none")
        check_imports(function, findings)
        names = Counter([*function.attributes, *function.defaults])
        for name, count in names.items():
            if count > 1:
                findings.error(function.label, f"attribute {name} is declared {count} times")
    cycles = list(recursions(model))
    for label, chain in cycles:
        findings.error(label, f"a function must not call itself, found {chain}")
    if not cycles:
        try:
            limits.check("function_nodes", expanded_nodes(model), "model")
        except ValueError as error:
            findings.error("model", error)
