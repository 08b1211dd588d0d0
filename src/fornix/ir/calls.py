"""Which model functions call which, and how many nodes they come to once every call is expanded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from fornix.errors import ValidationError
from fornix.ir import walk
from fornix.ir.graph import Function, Model

Key = tuple[str, str, str]


def calls(function: Function | Model, table: dict[Key, Function]) -> list[Function]:
    """The functions that nodes of ``function`` call at any depth, once per call."""
    root = function.graph if isinstance(function, Model) else function
    keys = ((node.domain, node.op_type, node.overload) for node in walk.nodes(root))
    return [table[key] for key in keys if key in table]


def recursions(model: Model) -> Iterator[tuple[str, str]]:
    """Each function that is met again within its own call, and the chain of calls to there."""
    table = model.function_table
    done: set[Key] = set()
    for first in [table[function.key] for function in model.functions]:
        path: dict[Key, Function] = {first.key: first}
        stack = [iter(dict.fromkeys(calls(first, table)))]
        while stack and first.key not in done:
            callee = next(stack[-1], None)
            if callee is None:
                stack.pop()
                done.add(path.popitem()[0])
            elif callee.key in path:
                chain = list(path.values())
                loop = [*chain[chain.index(path[callee.key]) :], callee]
                yield callee.label, " → ".join(function.name for function in loop)
            elif callee.key not in done:
                path[callee.key] = callee
                stack.append(iter(dict.fromkeys(calls(callee, table))))


def expanded_nodes(model: Model) -> int:
    """Nodes of ``model`` with those of the function behind every call, and the calls themselves.

    Raises ValidationError if a function calls itself.
    """
    table = model.function_table
    own = {key: sum(1 for _ in walk.nodes(function)) for key, function in table.items()}
    called = {key: Counter(f.key for f in calls(table[key], table)) for key in table}
    callers: dict[Key, list[Key]] = {key: [] for key in table}
    for key, inner in called.items():
        for callee in inner:
            callers[callee].append(key)
    waiting = {key: len(inner) for key, inner in called.items()}
    ready = [key for key, count in waiting.items() if not count]
    sizes: dict[Key, int] = {}
    while ready:
        key = ready.pop()
        sizes[key] = own[key] + sum(n * sizes[callee] for callee, n in called[key].items())
        for caller in callers[key]:
            waiting[caller] -= 1
            if not waiting[caller]:
                ready.append(caller)
    if len(sizes) < len(table):
        raise ValidationError("functions must not call themselves")
    main = sum(1 for _ in walk.nodes(model.graph))
    return main + sum(sizes[function.key] for function in calls(model, table))
