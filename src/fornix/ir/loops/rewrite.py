"""Walking and rewriting loop scalars: visiting, substitution of loop variables, guarding.

Nothing here recurses over expressions, however deep they are; only integers that are loaded to
index loads are visited by recursion, once per level of gathering.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from fornix.ir.dim.expression import (
    Atom,
    Dim,
    DimLike,
    Replaced,
    atom_key,
    atoms,
    substitute,
)
from fornix.ir.loops.index import Loaded, Variable
from fornix.ir.loops.scalar import (
    FALSE,
    TRUE,
    Apply,
    Load,
    Scalar,
    apply,
    gathered,
    load,
    select,
)


def walk(*roots: Scalar) -> Iterator[Scalar]:
    """Every scalar of ``roots`` once, operands first; those inside index expressions included."""
    seen: set[Scalar] = set()
    waiting = [(root, False) for root in reversed(roots)]
    while waiting:
        node, ready = waiting.pop()
        if ready:
            yield node
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            if node.dims:
                waiting += [(a.expr, False) for a in loaded(*node.dims)]
            waiting += [(part, False) for part in reversed(node.args)]


def loaded(*dims: DimLike) -> list[Loaded]:
    """The integers loaded from memory that ``dims`` contain, in a fixed order."""
    found = {a for d in dims if _may_load(d) for a in atoms(d) if isinstance(a, Loaded)}
    return sorted(found, key=atom_key) if found else []


def _may_load(d: DimLike) -> bool:
    """Whether ``d`` is more than a polynomial of loop variables; most indices are no more."""
    return isinstance(d, Dim) and not all(type(a) is Variable for m in d.terms for a in m)


class Substitution:
    """Free loop variables replaced by ``values``, in scalars that have parts in common."""

    def __init__(self, values: Mapping[Atom, DimLike]) -> None:
        self.values = values
        self._done: dict[Scalar, Scalar] = {}
        self._memo: Replaced = {}

    def of(self, root: Scalar) -> Scalar:
        """``root`` with variables replaced, simplified anew; symbols cannot be replaced."""
        if root.variables.isdisjoint(self.values):
            return root
        done, values, memo = self._done, self.values, self._memo
        if root not in done:
            _rebuild(_operands_first(root, values.keys(), done), values, done, memo)
        return done[root]


def substitute_scalar(root: Scalar, values: Mapping[Atom, DimLike]) -> Scalar:
    """``root`` with free loop variables replaced, simplified anew; symbols cannot be replaced."""
    return Substitution(values).of(root)


def exchanged(root: Scalar, old: Loaded, new: DimLike) -> Scalar:
    """``root`` with ``new`` for an integer that its indices load."""
    done: dict[Scalar, Scalar] = {}
    _rebuild(_operands_first(root, None), {old: new}, done, {})
    return done[root]


def _rebuild(
    nodes: Sequence[Scalar],
    values: Mapping[Atom, DimLike],
    done: dict[Scalar, Scalar],
    memo: Replaced,
) -> None:
    """Note what ``nodes``, operands first, are with atoms replaced."""
    for node in nodes:
        args = tuple([done.get(a, a) for a in node.args])
        dims = tuple([substitute(d, values, memo) for d in node.dims])
        done[node] = node.rebuild(args, dims)


def replace(root: Scalar, values: Mapping[Scalar, Scalar]) -> Scalar:
    """``root`` with whole scalars replaced; not inside index expressions."""
    done = dict(values)
    for node in _operands_first(root, None):
        if node not in done:
            args = tuple(done[a] for a in node.args)
            done[node] = node if args == node.args else node.rebuild(args, node.dims)
    return done[root]


def _operands_first(
    root: Scalar, names: Collection[Atom] | None, known: Mapping[Scalar, Scalar] | None = None
) -> list[Scalar]:
    """The scalars of ``root`` that depend on ``names`` (all if None), operands first.

    Without those that are ``known``, and what only these are made of.
    """
    found: list[Scalar] = []
    seen: set[Scalar] = set()
    waiting: list[Scalar | None] = [root]
    open_: list[Scalar] = []
    while waiting:
        node = waiting.pop()
        if node is None:  # all operands of the last that was opened are found
            found.append(open_.pop())
        elif node in seen or (known and node in known):
            continue
        elif names is None or not node.variables.isdisjoint(names):
            seen.add(node)
            if node.args:
                open_.append(node)
                waiting.append(None)
                waiting += node.args
            else:
                found.append(node)
    return found


def guarded(root: Scalar, guard: Scalar) -> Scalar:
    """A scalar equal to ``root`` where ``guard`` holds, that neither reads nor fails elsewhere.

    Loads are guarded, checked indices become 0 and integer divisors 1 where the guard is false.
    """
    if guard is TRUE:
        return root
    done: dict[Scalar, Scalar] = {}
    for node in _operands_first(root, None):
        args = tuple(done[a] for a in node.args)
        dims = tuple(_guarded_dim(d, guard) for d in node.dims)
        if isinstance(node, Load):
            inner = apply("and", guard, args[0]) if args else guard
            done[node] = load(node.buffer, dims[0], inner, node.default)
        elif isinstance(node, Apply) and node.op in {"div", "mod", "fmod"}:
            divisor = args[1] if node.dtype.is_float else select(guard, args[1], 1)
            done[node] = apply(node.op, args[0], divisor)
        else:
            done[node] = node.rebuild(args, dims)
    return done[root]


def _guarded_dim(dim: DimLike, guard: Scalar) -> DimLike:
    inside = loaded(dim)
    if not inside or not isinstance(dim, Dim) or guard is FALSE:
        return dim
    safe: dict[Atom, DimLike] = {
        a: gathered(select(guard, guarded(a.expr, guard), 0), a.extent, wraps=a.wraps)
        for a in inside
    }
    return dim.substitute(safe)
