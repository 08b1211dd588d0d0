"""The domain ``ai.onnx.preview.training``: Gradient, and the optimizers Adagrad, Adam, Momentum.

An optimizer updates any number of tensors in one node; the states of a tensor stand in parallel
groups of inputs and outputs. Gradient stands for the nodes that compute gradients of its graph:
`fornix.ops.grads` builds them, and nothing ever runs a Gradient itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fornix.dtype import FLOAT64
from fornix.errors import NotSupported, require
from fornix.ir.dim import DimLike, equal, known
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, const, select
from fornix.ops.fact import Array, Fact
from fornix.ops.geometry import shape_text
from fornix.ops.op import op
from fornix.ops.types import F32, F64, FLOAT, I64, TENSOR

Update = Callable[..., Sequence[Array]]

Adagrad = op(
    """Adagrad <decay_factor: float = 0.0, epsilon: float = 1e-06, norm_coefficient: float = 0.0>
               (R: T1, T: T2, inputs: each T3+) => (outputs: each T3+)""",
    since=1, domain="ai.onnx.preview.training", T1=F32 | F64, T2=I64, T3=F32 | F64,
)  # fmt: skip


@Adagrad.infer
def infer_adagrad(R: Fact, T: Fact, *inputs: Fact, **_: float) -> tuple[Fact, ...]:
    _check_facts(R, T)
    return _infer_updates(inputs, 2)


@Adagrad.kernel
def adagrad(
    R: Array,
    T: Array,
    *inputs: Array,
    decay_factor: float,
    epsilon: float,
    norm_coefficient: float,
) -> tuple[Array, ...]:
    """One step of AdaGrad on tensors X with gradients G and accumulated squares H.

    r = R / (1 + T · decay_factor),   g = G + norm_coefficient · X
    H′ = H + g²,   X′ = X − r · g / (√H′ + epsilon);   inputs X…, G…, H… → outputs X′…, H′…
    Source: ONNX ai.onnx.preview.training Adagrad-1; Duchi, Hazan and Singer, "Adaptive subgradient
    methods for online learning and stochastic optimization", 2011.
    """
    _check_scalars(R, T)
    rate = R.reshape(()) / (1 + T.reshape(()) * decay_factor)

    def update(x: Array, gradient: Array, squares: Array) -> tuple[Array, ...]:
        g = gradient + norm_coefficient * x
        total = squares + g * g
        return x - rate * g / (np.sqrt(total) + epsilon), total

    return _updated(update, inputs, 2)


@Adagrad.lower
def lower_adagrad(
    R: Tensor,
    T: Tensor,
    *inputs: Tensor,
    decay_factor: float,
    epsilon: float,
    norm_coefficient: float,
) -> tuple[Tensor, ...]:
    rate = cast(_only(R), FLOAT64) / (1 + cast(_only(T), FLOAT64) * decay_factor)

    def update(x: Scalar, gradient: Scalar, squares: Scalar) -> tuple[Scalar, ...]:
        g = gradient + norm_coefficient * x
        total = squares + g * g
        root = cast(apply("sqrt", total) + epsilon, FLOAT64)
        return cast(x, FLOAT64) - rate * cast(g, FLOAT64) / root, total

    return _lower_updated(update, inputs, 2)


Adam = op(
    """Adam <alpha: float = 0.9, beta: float = 0.999, epsilon: float = 1e-06,
             norm_coefficient: float = 0.0, norm_coefficient_post: float = 0.0>
            (R: T1, T: T2, inputs: each T3+) => (outputs: each T3+)""",
    since=1, domain="ai.onnx.preview.training", T1=F32 | F64, T2=I64, T3=F32 | F64,
)  # fmt: skip


@Adam.infer
def infer_adam(R: Fact, T: Fact, *inputs: Fact, **_: float) -> tuple[Fact, ...]:
    _check_facts(R, T)
    return _infer_updates(inputs, 3)


@Adam.kernel
def adam(
    R: Array,
    T: Array,
    *inputs: Array,
    alpha: float,
    beta: float,
    epsilon: float,
    norm_coefficient: float,
    norm_coefficient_post: float,
) -> tuple[Array, ...]:
    """One step of Adam on tensors X with gradients G, momenta V and accumulated squares H.

    g = G + norm_coefficient · X,   V′ = α·V + (1 − α)·g,   H′ = β·H + (1 − β)·g²
    r = R · √(1 − βᵀ) / (1 − αᵀ), or R at T = 0,   X′ = X − r · V′ / (√H′ + epsilon), then
    X′ · (1 − norm_coefficient_post);   inputs X…, G…, V…, H… → outputs X′…, V′…, H′…
    Source: ONNX ai.onnx.preview.training Adam-1; Kingma and Ba, "Adam: a method for stochastic
    optimization", 2015.
    """
    _check_scalars(R, T)
    rate, step = R.reshape(()), int(T.reshape(()))
    if step > 0:
        rate = np.asarray(rate * float(np.sqrt(1 - beta**step) / (1 - alpha**step)), R.dtype)

    def update(x: Array, gradient: Array, momentum: Array, squares: Array) -> tuple[Array, ...]:
        g = gradient + norm_coefficient * x
        v = alpha * momentum + (1 - alpha) * g
        h = beta * squares + (1 - beta) * (g * g)
        moved = x - rate * (v / (np.sqrt(h) + epsilon))
        return (1 - norm_coefficient_post) * moved, v, h

    return _updated(update, inputs, 3)


@Adam.lower
def lower_adam(
    R: Tensor,
    T: Tensor,
    *inputs: Tensor,
    alpha: float,
    beta: float,
    epsilon: float,
    norm_coefficient: float,
    norm_coefficient_post: float,
) -> tuple[Tensor, ...]:
    step = cast(_only(T), FLOAT64)
    fading, fading_squares = (apply("pow", const(base, FLOAT64), step) for base in (alpha, beta))
    correction = cast(apply("sqrt", 1 - fading_squares) / (1 - fading), R.dtype)
    rate = select(step > 0, _only(R) * correction, _only(R))

    def update(
        x: Scalar, gradient: Scalar, momentum: Scalar, squares: Scalar
    ) -> tuple[Scalar, ...]:
        g = gradient + norm_coefficient * x
        v = alpha * momentum + (1 - alpha) * g
        h = beta * squares + (1 - beta) * (g * g)
        moved = _moved(x, rate, v / (apply("sqrt", h) + epsilon))
        return (1 - norm_coefficient_post) * moved, v, h

    return _lower_updated(update, inputs, 3)


Momentum = op(
    """Momentum <alpha: float, beta: float, mode: string, norm_coefficient: float>
                (R: T1, T: T2, inputs: each T3+) => (outputs: each T3+)""",
    since=1, domain="ai.onnx.preview.training", T1=F32 | F64, T2=I64, T3=F32 | F64,
)  # fmt: skip

MODES = ("standard", "nesterov")


@Momentum.infer
def infer_momentum(R: Fact, T: Fact, *inputs: Fact, mode: str, **_: float) -> tuple[Fact, ...]:
    _check_mode(mode)
    _check_facts(R, T)
    return _infer_updates(inputs, 2)


@Momentum.kernel
def momentum(
    R: Array,
    T: Array,
    *inputs: Array,
    alpha: float,
    beta: float,
    mode: str,
    norm_coefficient: float,
) -> tuple[Array, ...]:
    """One step of gradient descent with momentum on tensors X with gradients G and momenta V.

    g = G + norm_coefficient · X,   V′ = α·V + β·g (β = 1 at T = 0)
    X′ = X − R · V′, with "nesterov" X − R · (g + α·V′);   inputs X…, G…, V… → outputs X′…, V′…
    Source: ONNX ai.onnx.preview.training Momentum-1.
    """
    _check_mode(mode)
    _check_scalars(R, T)
    rate, share = R.reshape(()), beta if int(T.reshape(())) > 0 else 1.0

    def update(x: Array, gradient: Array, momentum: Array) -> tuple[Array, ...]:
        g = gradient + norm_coefficient * x
        v = alpha * momentum + share * g
        return x - rate * (g + alpha * v if mode == "nesterov" else v), v

    return _updated(update, inputs, 2)


@Momentum.lower
def lower_momentum(
    R: Tensor,
    T: Tensor,
    *inputs: Tensor,
    alpha: float,
    beta: float,
    mode: str,
    norm_coefficient: float,
) -> tuple[Tensor, ...]:
    _check_mode(mode)

    def update(x: Scalar, gradient: Scalar, momentum: Scalar) -> tuple[Scalar, ...]:
        share = select(_only(T) > 0, const(beta, x.dtype), const(1.0, x.dtype))
        g = gradient + norm_coefficient * x
        v = alpha * momentum + share * g
        return _moved(x, _only(R), g + alpha * v if mode == "nesterov" else v), v

    return _lower_updated(update, inputs, 2)


Gradient = op(
    "Gradient <xs: strings, y: string, zs: strings?> (Inputs: each T1+) => (Outputs: each T2+)",
    since=1, domain="ai.onnx.preview.training", T1=TENSOR, T2=FLOAT,
).opaque("nodes that compute the gradients replace it before a model is compiled")  # fmt: skip


@Gradient.infer
def infer_gradient(*inputs: Fact, xs: list[str], **_: object) -> tuple[Fact, ...]:
    return tuple(Fact(fact.type) for fact in inputs[: len(xs)])


@Gradient.kernel
def gradient(*inputs: Array, y: str, **_: object) -> Array:
    """Gradients of the tensor ``y`` of the same graph, or of the sum of its elements, by ``xs``.

    Outputs[i][*S] = ∂ Σ y / ∂ xs[i][*S] where the tensors named in xs and zs have the values of
    the inputs, in that order. zs are held constant, and so is all that depends on neither.
    Gradients of gradients are gradients. Runs replace the node by those that compute it.
    Source: ONNX ai.onnx.preview.training Gradient-1.
    """
    raise NotSupported(f"it needs the graph in which '{y}' is computed; run the model it is in")


def _check_mode(mode: str) -> None:
    require(mode in MODES, f"mode must be one of {', '.join(MODES)}, got {mode!r}")


def _check_scalars(R: Array, T: Array) -> None:
    for name, x in (("R", R), ("T", T)):
        require(x.size == 1, f"{name} must be a scalar, got {name}{shape_text(x.shape)}")


def _check_facts(R: Fact, T: Fact) -> None:
    for name, x in (("R", R), ("T", T)):
        shape = x.shape if x.has_rank else ()
        fits = all(known(extent) in {None, 1} for extent in shape)
        require(fits, f"{name} must be a scalar, got {name}{shape_text(shape)}")


def _groups(count: int, states: int) -> int:
    """Number of tensors that ``count`` inputs update: each brings a gradient and its states."""
    require(
        count % (states + 1) == 0,
        f"inputs must hold {states + 1} tensors for each that is updated, got {count} in all",
    )
    return count // (states + 1)


def _updated(update: Update, inputs: Sequence[Array], states: int) -> tuple[Array, ...]:
    """``update`` on every tensor with its gradient and states, results group by group."""
    count = _groups(len(inputs), states)
    results: list[Sequence[Array]] = []
    for index in range(count):
        x, *others = inputs[index::count]
        for other in others:
            _check_state(index, x.shape, other.shape)
        updated = update(x, *others)
        kept = (x, *others[1:])
        results.append(
            [np.asarray(new).astype(old.dtype) for new, old in zip(updated, kept, strict=True)]
        )
    return tuple(result for group in zip(*results, strict=True) for result in group)


def _check_state(index: int, wanted: Sequence[DimLike], found: Sequence[DimLike]) -> None:
    fits = len(found) == len(wanted) and all(
        equal(one, other) is not False for one, other in zip(found, wanted, strict=True)
    )
    require(
        fits,
        f"gradient and states of X[{index}] must have its shape {shape_text(wanted)}, "
        f"got {shape_text(found)}",
    )


def _only(x: Tensor) -> Scalar:
    """The element of a tensor that has one."""
    require(all(equal(n, 1) is not False for n in x.shape), f"got shape {shape_text(x.shape)}")
    return x[(0,) * x.rank]


def _moved(x: Scalar, rate: Scalar, direction: Scalar) -> Scalar:
    """``x − rate · direction`` in the wider dtype of ``x`` and ``rate``."""
    wide = FLOAT64 if FLOAT64 in {x.dtype, rate.dtype} else x.dtype
    return cast(x, wide) - cast(rate, wide) * cast(direction, wide)


def _lower_updated(
    update: Callable[..., Sequence[Scalar]], inputs: Sequence[Tensor], states: int
) -> tuple[Tensor, ...]:
    """`_updated` for lowerings."""
    count = _groups(len(inputs), states)

    def updated(group: Sequence[Tensor], k: int) -> Tensor:
        old = (group[0], *group[2:])[k]
        return compute(
            old.shape, lambda *i: cast(update(*(x[i] for x in group))[k], old.dtype)
        )  # fmt: skip

    return tuple(updated(inputs[i::count], k) for k in range(states) for i in range(count))


def _infer_updates(inputs: Sequence[Fact], states: int) -> tuple[Fact, ...]:
    """Facts of the outputs: of every input but the gradients."""
    count = _groups(len(inputs), states)
    for index in range(count):
        given = [fact.shape for fact in inputs[index::count] if fact.has_rank]
        for other in given[1:]:
            _check_state(index, given[0], other)
    kept = [*inputs[:count], *inputs[2 * count :]]
    return tuple(Fact(fact.type) for fact in kept)
