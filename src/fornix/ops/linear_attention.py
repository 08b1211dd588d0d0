"""LinearAttention: attention as a recurrence over a matrix per head, without softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from fornix.dtype import FLOAT32
from fornix.errors import require
from fornix.ir.dim import DimLike, divide, equal, known
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, reduce, scan
from fornix.ops.attention import split_heads
from fornix.ops.call import BodyNode, InferNode, LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import agreed_shape, of_rank, shape_text
from fornix.ops.op import op
from fornix.ops.types import BF16, F16, F32

LinearAttention = op(
    """LinearAttention <chunk_size: int = 64, kv_num_heads: int, q_num_heads: int,
                        scale: float = 0.0, update_rule: string = "gated_delta">
                       (query: T, key: T, value: T, past_state: S?, decay: T?, beta: T?)
                    => (output: T, present_state: S)""",
    since=27, T=BF16 | F16 | F32, S=BF16 | F16 | F32, undetermined=True,
)  # fmt: skip

UPDATE_RULES = ("linear", "gated", "delta", "gated_delta")


@LinearAttention.infer
def infer_linear_attention(
    query: Fact,
    key: Fact,
    value: Fact,
    past_state: Fact | None = None,
    decay: Fact | None = None,
    beta: Fact | None = None,
    *,
    q_num_heads: int,
    kv_num_heads: int,
    update_rule: str = "gated_delta",
    chunk_size: int = 64,
    scale: float = 0.0,
    node: InferNode,
) -> tuple[Fact, ...]:
    _check_rule(update_rule, decay, beta)
    _check_counts(q_num_heads, kv_num_heads)
    shapes = []
    for name, fact in (("query", query), ("key", key), ("value", value)):
        shape = of_rank(fact, 3, name).shape
        require(
            len(shape) == 3,
            f"{name} must be [batch, length, heads·size], found {name}{shape_text(shape)}",
        )
        shapes.append(shape)
    q, k, v = shapes
    size = _size(k[2], kv_num_heads)
    _check_lengths((q, k, v), (_size(q[2], q_num_heads), size))
    [key_size] = agreed_shape((_size(q[2], q_num_heads),), (size,))
    gates = {"decay": decay, "beta": beta}
    given = {name: x.shape for name, x in gates.items() if x is not None and x.has_rank}
    for name, gate in given.items():
        _check_gate(name, gate, agreed_shape(q, k, v), _widths(kv_num_heads, key_size)[name])
    batch, length = agreed_shape(q[:2], k[:2], v[:2], *(gate[:2] for gate in given.values()))
    new = (batch, kv_num_heads, key_size, _size(v[2], kv_num_heads))
    if past_state is not None and past_state.has_rank:
        _check_past(past_state.shape, new)
    state = agreed_shape(new, past_state)
    return (
        tensor(query.dtype, (state[0], length, q_num_heads * state[3])),
        tensor(query.dtype if past_state is None else past_state.dtype, state),
    )


def _size(hidden: DimLike, heads: int) -> DimLike:
    length = known(hidden)
    require(
        length is None or length % heads == 0,
        f"an extent that {heads} heads divide is required, found {hidden}",
    )
    return divide(hidden, heads)


def _check_lengths(shapes: Sequence[Sequence[DimLike]], sizes: Sequence[DimLike]) -> None:
    """Require one batch, one length and one size of queries and keys, where they are known."""
    pairs = [(shapes[0][axis], other[axis]) for other in shapes[1:] for axis in (0, 1)]
    require(
        all(equal(one, other) is not False for one, other in (*pairs, sizes)),
        "query, key and value must have one batch, length and key size, found "
        + ", ".join(map(shape_text, shapes)),
    )


def _check_gate(
    name: str, gate: Sequence[DimLike], key: Sequence[DimLike], widths: Sequence[DimLike]
) -> None:
    """Require one of ``widths`` numbers for every step of ``key``."""
    fits = len(gate) == 3 and all(
        equal(one, other) is not False for one, other in zip(gate[:2], key, strict=False)
    )
    wanted = shape_text((*key[:2], " or ".join(map(str, widths))))
    require(
        fits and any(known(gate[2] - width) in {None, 0} for width in widths),
        f"{name} must be {wanted}, found {shape_text(gate)}",
    )


def _widths(heads: int, key_size: DimLike) -> dict[str, tuple[DimLike, ...]]:
    """How many numbers decay has for a step: for each head or each of its keys; and beta."""
    return {"decay": (heads, heads * key_size), "beta": (heads, 1)}


def _check_past(past: Sequence[DimLike], state: Sequence[DimLike]) -> None:
    fits = len(past) == len(state) and all(
        equal(one, other) is not False for one, other in zip(past, state, strict=True)
    )
    require(fits, f"past_state must be {shape_text(state)}, found {shape_text(past)}")


def _check_rule(update_rule: str, decay: object, beta: object) -> None:
    require(
        update_rule in UPDATE_RULES,
        f"update_rule must be among {', '.join(UPDATE_RULES)}, got {update_rule!r}",
    )
    for name, given, takes in (
        ("decay", decay, update_rule.startswith("gated")),
        ("beta", beta, update_rule.endswith("delta")),
    ):
        require(
            (given is not None) == takes,
            f"update_rule {update_rule!r} {'needs' if takes else 'excludes'} the input {name}",
        )


def _check_counts(q_num_heads: int, kv_num_heads: int) -> None:
    require(
        kv_num_heads > 0 and q_num_heads > 0 and q_num_heads % kv_num_heads == 0,
        f"q_num_heads must be a positive multiple of kv_num_heads={kv_num_heads}, "
        f"got {q_num_heads}",
    )


@LinearAttention.kernel
def linear_attention(
    query: Array,
    key: Array,
    value: Array,
    past_state: Array | None = None,
    decay: Array | None = None,
    beta: Array | None = None,
    *,
    q_num_heads: int,
    kv_num_heads: int,
    update_rule: str = "gated_delta",
    chunk_size: int = 64,
    scale: float = 0.0,
) -> tuple[Array, Array]:
    """Read values back from a state S that every step decays, corrects and adds to.

    Per head and step t, with S₀ = past_state or 0:

    * S ← exp(decayₜ) · S                      gated, gated_delta
    * vₜ ← betaₜ · (vₜ − Sᵀ·kₜ)                delta, gated_delta
    * S ← S + kₜ ⊗ vₜ;   output = scale · Sᵀ·qₜ

    query[B, T, H·D] · key[B, T, G·D] · value[B, T, G·E] → output[B, T, H·E], present_state
    [B, G, D, E]. H/G query heads in a row share a state. decay is [B, T, G·D] or one per head,
    [B, T, G]; beta [B, T, G] or [B, T, 1]. scale 0 means 1/√D. Computes in float32; present_state
    has the dtype of past_state, else that of query. chunk_size does not change the result.
    Source: ONNX LinearAttention-27.
    """
    _check_rule(update_rule, decay, beta)
    _check_counts(q_num_heads, kv_num_heads)
    q, k, v = (
        split_heads(_packed(x, name), heads, name, attribute).astype(np.float32)
        for x, name, heads, attribute in (
            (query, "query", q_num_heads, "q_num_heads"),
            (key, "key", kv_num_heads, "kv_num_heads"),
            (value, "value", kv_num_heads, "kv_num_heads"),
        )
    )
    batch, groups, length, size = k.shape
    _check_lengths((query.shape, key.shape, value.shape), (q.shape[3], size))
    for name, given in (("decay", decay), ("beta", beta)):
        if given is not None:
            _check_gate(name, given.shape, key.shape, _widths(groups, size)[name])
    gate = None if decay is None else np.exp(_per_head(decay, groups))
    rate = None if beta is None else _per_head(beta, groups)
    state = _initial(past_state, (batch, groups, size, v.shape[3]))
    grouped = q.reshape(batch, groups, q_num_heads // groups, length, size)
    result = np.empty((*grouped.shape[:4], v.shape[3]), np.float32)
    for step in range(length):
        k_t, v_t = k[:, :, step, None], v[:, :, step, None]
        if gate is not None:
            state = state * gate[:, :, step, :, None]
        if rate is not None:
            v_t = rate[:, :, step, None] * (v_t - k_t @ state)
        state = state + k_t.swapaxes(2, 3) * v_t
        result[:, :, :, step] = grouped[:, :, :, step] @ state
    result *= np.float32(scale or (1 / math.sqrt(size) if size else 1))
    output = result.transpose(0, 3, 1, 2, 4).reshape(batch, length, q_num_heads * v.shape[3])
    kept = (query if past_state is None else past_state).dtype
    return output.astype(query.dtype), state.astype(kept)


@LinearAttention.body(since=27)
def linear_attention_body(*, node: BodyNode) -> str:
    heads, scale = node.attributes["kv_num_heads"], node.attributes["scale"]
    zeros = """
        Batch = Shape <start = 0, end = 1> (query)
        Values = Shape <start = 3> (V)
        Form = Concat <axis = 0> (Batch, KvHeads, Size, Values)
        Start = ConstantOfShape (Form)"""
    own = """
        WideSize = Cast <to = 1> (Size)
        Root = Sqrt (WideSize)
        Scale = Reciprocal (Root)"""
    step, walked = _step_body(node)
    return f"""
        Zero = Constant <value_ints = [0]> ()
        Minus = Constant <value_ints = [-1]> ()
        KvHeads = Constant <value_ints = [{heads}]> ()
        QHeads = Constant <value_ints = [{node.attributes["q_num_heads"]}]> ()
        Divided = Concat <axis = 0> (Zero, Zero, KvHeads, Minus)
        Shared = Concat <axis = 0> (Zero, Zero, QHeads, Minus)
        {_walked("Q", "query", "Shared")}
        {_walked("K", "key", "Divided")}
        {_walked("V", "value", "Divided")}
        {_walked("Faded", "decay", "Divided") if node.has(4) else ""}
        {"D = Exp (Faded)" if node.has(4) else ""}
        {_walked("B", "beta", "Each") if node.has(5) else ""}
        Size = Shape <start = 3> (K)
        {"Start = Cast <to = 1> (past_state)" if node.has(3) else zeros}
        {f"Scale = Constant <value_floats = [{scale!r}]> ()" if scale else own}
        End, Steps = Scan <num_scan_inputs = {len(walked)}, body = {step}> (
            Start, {", ".join(walked)})
        Ordered = Transpose <perm = [1, 0, 2]> (Steps)
        Scaled = Mul (Ordered, Scale)
        output = CastLike (Scaled, query)
        present_state = CastLike (End, {"past_state" if node.has(3) else "query"})
    """


def _walked(name: str, source: str, form: str) -> str:
    """``name`` [T, B, heads, size]: ``source`` by steps, its heads apart as ``form`` says."""
    apart = f"Reshape (Wide{name}, {form})" if form != "Each" else f"Unsqueeze (Wide{name}, Minus)"
    return f"""
        Wide{name} = Cast <to = 1> ({source})
        Heads{name} = {apart}
        {name} = Transpose <perm = [1, 0, 2, 3]> (Heads{name})"""


def _step_body(node: BodyNode) -> tuple[str, list[str]]:
    """The graph of one step, from a state s to t and the output o, and what is walked along."""
    gated = """
            column = Unsqueeze (d, minus)
            faded = Mul (s, column)"""
    corrected = """
            row = Unsqueeze (k, two)
            had = MatMul (row, faded)
            old = Squeeze (had, two)
            gap = Sub (v, old)
            new = Mul (b, gap)"""
    names = ["q", "k", "v", *(["d"] if node.has(4) else []), *(["b"] if node.has(5) else [])]
    text = f"""step (s, {", ".join(names)}) => (t, o)
        {{
            minus = Constant <value_ints = [-1]> ()
            two = Constant <value_ints = [2]> ()
            {gated if node.has(4) else "faded = Identity (s)"}
            {corrected if node.has(5) else "new = Identity (v)"}
            left = Unsqueeze (k, minus)
            right = Unsqueeze (new, two)
            added = Mul (left, right)
            t = Add (faded, added)
            grouping = Constant <value_ints = [0, {node.attributes["kv_num_heads"]}, -1]> ()
            sizes = Shape <start = 2> (q)
            form = Concat <axis = 0> (grouping, sizes)
            rows = Reshape (q, form)
            found = MatMul (rows, t)
            flat = Constant <value_ints = [0, -1]> ()
            o = Reshape (found, flat)
        }}"""
    return text, [name.upper() for name in names]


@LinearAttention.lower
def lower_linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    q_num_heads: int,
    kv_num_heads: int,
    update_rule: str = "gated_delta",
    chunk_size: int = 64,
    scale: float = 0.0,
    node: LowerNode,
) -> tuple[Tensor, Tensor]:
    _check_rule(update_rule, decay, beta)
    _check_counts(q_num_heads, kv_num_heads)
    (batch, length, keys), groups = key.shape, kv_num_heads
    size, width = known(_size(keys, groups)), _size(value.shape[2], groups)
    if size is None:
        node.decline("the size of a key is known at run time only")
    gate, rate = _reader(decay, groups, size, node), _reader(beta, groups, size, node)

    def step(t: DimLike, state: Tensor) -> Tensor:
        def decayed(b: DimLike, g: DimLike, d: DimLike, e: DimLike) -> Scalar:
            old = state[b, g, d, e]
            return old if gate is None else old * apply("exp", gate(b, t, g, d))

        def corrected(b: DimLike, g: DimLike, e: DimLike) -> Scalar:
            v = cast(value[b, t, g * width + e], FLOAT32)
            if rate is None:
                return v
            read = reduce("sum", size, lambda d: k(b, g, d) * decayed(b, g, d, e))
            return rate(b, t, g, 0) * (v - read)

        def k(b: DimLike, g: DimLike, d: DimLike) -> Scalar:
            return cast(key[b, t, g * size + d], FLOAT32)

        added = compute((batch, groups, width), corrected)
        return compute(
            state.shape, lambda b, g, d, e: decayed(b, g, d, e) + k(b, g, d) * added[b, g, e]
        )

    shape = (batch, groups, size, width)
    (history,) = scan(length, [_lower_initial(past_state, shape)], step)
    shared, factor = q_num_heads // groups, scale or (1 / math.sqrt(size) if size else 1.0)

    def output(b: DimLike, t: DimLike, column: DimLike) -> Scalar:
        h = column // width
        e = column - h * width

        def product(d: DimLike) -> Scalar:
            q = cast(query[b, t, h * size + d], FLOAT32)
            return q * history[t + 1, b, h // shared, d, e]

        return cast(reduce("sum", size, product) * factor, query.dtype)

    y = compute((batch, length, q_num_heads * width), output)
    kept = (query if past_state is None else past_state).dtype
    return y, compute(shape, lambda *i: cast(history[(length, *i)], kept))


def _lower_initial(past: Tensor | None, shape: tuple[DimLike, ...]) -> Tensor:
    """`_initial` for lowerings."""
    if past is None:
        return compute(shape, lambda *_: 0, FLOAT32)
    _check_past(past.shape, shape)
    return compute(shape, lambda *i: cast(past[i], FLOAT32))


def _reader(
    x: Tensor | None, groups: int, size: int, node: LowerNode
) -> Callable[[DimLike, DimLike, DimLike, DimLike], Scalar] | None:
    """By batch, step, head and key: what x[B, T, 1 or G or G·D] says in float32."""
    if x is None:
        return None
    given, width = x, known(x.shape[2])
    if width is None:
        node.decline("how finely decay or beta is given is known at run time only")
    per_head = 0 if width == 1 else width // groups
    require(
        width in {1, groups, groups * size},
        f"decay and beta must be given per head, per key or once, found {shape_text(x.shape)}",
    )

    def read(b: DimLike, t: DimLike, g: DimLike, d: DimLike) -> Scalar:
        place = g * per_head + (d if per_head > 1 else 0)
        return cast(given[b, t, place], FLOAT32)

    return read


def _packed(x: Array, name: str) -> Array:
    require(
        x.ndim == 3,
        f"{name} must be [batch, length, heads·size], found {name}{shape_text(x.shape)}",
    )
    return x


def _per_head(x: Array, groups: int) -> Array:
    """x[B, T, W] as [B, heads, T, W/heads] in float32."""
    heads = groups if x.shape[2] % groups == 0 else 1
    split = x.reshape(*x.shape[:2], heads, x.shape[2] // heads)
    return split.swapaxes(1, 2).astype(np.float32)


def _initial(past: Array | None, shape: tuple[int, ...]) -> Array:
    if past is None:
        return np.zeros(shape, np.float32)
    _check_past(past.shape, shape)
    return past.astype(np.float32)
