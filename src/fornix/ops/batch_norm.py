"""BatchNormalization and Dropout: what a model does differently in training.

The standard has told training from inference by ``is_test`` (until opset 6), by the number of
outputs (until 13) and by ``training_mode``; the kernels keep that apart from the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fornix.dtype import BOOL as BOOL_DTYPE
from fornix.dtype import FLOAT32, FLOAT64, DType
from fornix.errors import ConvertError, require
from fornix.ir.dim import DimLike, equal
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.loops import Scalar, Tensor, cast, compute, index, reduce
from fornix.ops.adapt import (
    constant_input,
    drop_inputs,
    dtype_of,
    put_ahead,
    put_behind,
    stored,
    trim_outputs,
)
from fornix.ops.call import InferNode, LowerNode, RunNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import agreed_shape, shape_text, single
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, widened
from fornix.ops.scalar import sqrt
from fornix.ops.types import BF16, BOOL, F8, FLOAT

BatchNormalization = (
    op("""BatchNormalization <consumed_inputs: ints, epsilon: float = 1e-05, is_test: int = 0,
                              momentum: float = 0.9, spatial: int = 1>
                             (X: T, scale: T, B: T, mean: T, var: T)
                          => (Y: T, mean: T?, var: T?, saved_mean: T?, saved_var: T?)""",
       since=1, T=FLOAT)
    .since(6, """BatchNormalization <epsilon: float = 1e-05, is_test: int = 0,
                                     momentum: float = 0.9, spatial: int = 1>
                                    (X: T, scale: T, B: T, mean: T, var: T)
                                 => (Y: T, mean: T?, var: T?, saved_mean: T?, saved_var: T?)""")
    .since(7, """BatchNormalization <epsilon: float = 1e-05, momentum: float = 0.9,
                                     spatial: int = 1>
                                    (X: T, scale: T, B: T, mean: T, var: T)
                                 => (Y: T, mean: T?, var: T?, saved_mean: T?, saved_var: T?)""")
    .since(9, """BatchNormalization <epsilon: float = 1e-05, momentum: float = 0.9>
                                    (X: T, scale: T, B: T, mean: T, var: T)
                                 => (Y: T, mean: T?, var: T?, saved_mean: T?, saved_var: T?)""")
    .since(14, """BatchNormalization <epsilon: float = 1e-05, momentum: float = 0.9,
                                      training_mode: int = 0>
                                     (X: T, scale: T, B: T, input_mean: U, input_var: U)
                                  => (Y: T, running_mean: U?, running_var: U?)""",
           T=+BF16, U=FLOAT | BF16)
    .since(15, """BatchNormalization <epsilon: float = 1e-05, momentum: float = 0.9,
                                      training_mode: int = 0>
                                     (X: T, scale: T1, B: T1, input_mean: T2, input_var: T2)
                                  => (Y: T, running_mean: T2?, running_var: T2?)""",
           T1=FLOAT | BF16, T2=FLOAT | BF16)
)  # fmt: skip


@BatchNormalization.infer
def infer_batch_normalization(
    x: Fact,
    scale: Fact,
    b: Fact,
    mean: Fact,
    var: Fact,
    *,
    spatial: int = 1,
    node: InferNode,
    **_: float,
) -> tuple[Fact, ...]:
    statistics = _statistics_shape(x.shape, spatial) if x.has_rank else None
    for name, other in (("scale", scale), ("B", b), ("mean", mean), ("var", var)):
        if other.has_rank and statistics is not None:
            _check_statistics(name, other.shape, x.shape, statistics)
    ranks = {other.rank for other in (scale, b, mean, var) if other.has_rank}
    require(len(ranks) < 2, "scale, B, mean and var must have one rank, found several")
    dtype = None if node.version < TYPED_STATISTICS else mean.dtype
    running = tensor(dtype, agreed_shape(statistics, scale, b, mean, var))
    if not x.has_rank:
        return (x, running, running, running, running)[: node.output_count]
    return (tensor(x.dtype, x.shape), running, running, running, running)[: node.output_count]


TYPED_STATISTICS = 14
"""Schema version from which the mean and variance have a type of their own."""


def _statistics_shape(x: Sequence[DimLike], spatial: int) -> tuple[DimLike, ...]:
    """Shape of scale, bias, mean and variance: [C], or [C, *S] where each place has its own.

    X of rank 1 counts as one channel.
    """
    require(len(x) >= 1, "X must have rank 1 or more, found a scalar")
    if len(x) == 1:
        return (1,)
    return tuple(x[1:2] if spatial else x[1:])


def _check_statistics(
    name: str, shape: Sequence[DimLike], x: Sequence[DimLike], wanted: Sequence[DimLike]
) -> None:
    fits = len(shape) == len(wanted) and all(
        equal(a, b) is not False for a, b in zip(shape, wanted, strict=True)
    )
    require(
        fits,
        f"{name} must have the shape {shape_text(wanted)} for X{shape_text(x)}, "
        f"got {name}{shape_text(shape)}",
    )


@BatchNormalization.kernel
def batch_normalization_1(
    x: Array,
    scale: Array,
    b: Array,
    mean: Array,
    var: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    is_test: int = 0,
    node: RunNode,
) -> Array | tuple[Array, ...]:
    """Standardize every channel, then scale and shift it, by given statistics or the batch's own.

    y = (x − mean) / √(var + epsilon) · scale + b;  x[N, C, *S] · scale[C] → y[N, C, *S].
    With more than one output (and, until opset 6, is_test=0) in training: the statistics are those
    of the batch, and mean · momentum + batch · (1 − momentum) is returned. spatial=0 keeps
    statistics for each place, [C, *S]. Source: ONNX BatchNormalization-9.
    """
    arrays = (x, scale, b, mean, var)
    if node.output_count == 1 or is_test:
        return _normalized(*arrays, epsilon, spatial)
    return _trained(*arrays, epsilon, momentum, spatial)


@BatchNormalization.kernel(since=14)
def batch_normalization(
    x: Array,
    scale: Array,
    b: Array,
    mean: Array,
    var: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> tuple[Array, ...]:
    """Standardize every channel, then scale and shift it, by given statistics or the batch's own.

    y = (x − mean) / √(var + epsilon) · scale + b;  x[N, C, *S] · scale[C] → y[N, C, *S].
    With training_mode the statistics are those of the batch, the variance being the population's,
    and mean · momentum + batch · (1 − momentum) is returned.
    Computes in the widest of the input types, float32 at least. Source: ONNX BatchNormalization-15.
    """
    arrays = (x, scale, b, mean, var)
    if not training_mode:
        return _normalized(*arrays, epsilon, 1), mean, var
    return _trained(*arrays, epsilon, momentum, 1)[:3]


@BatchNormalization.lower
def lower_batch_normalization(
    x: Tensor,
    scale: Tensor,
    b: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    is_test: int = 0,
    training_mode: int = 0,
    node: LowerNode,
) -> tuple[Tensor, ...]:
    trains = not is_test and node.output_count > 1
    if node.version >= TYPED_STATISTICS:
        trains = bool(training_mode)
    wide = FLOAT64 if FLOAT64 in {t.dtype for t in (x, scale, b, mean, var)} else FLOAT32
    own = own_mean, own_var = _lower_own(x, wide, spatial) if trains else (mean, var)

    def factor(*place: DimLike) -> Scalar:
        deviation: Scalar = sqrt(cast(own_var[place], wide) + epsilon)
        return cast(scale[place], wide) / deviation

    def shift(*place: DimLike) -> Scalar:
        return cast(b[place], wide) - cast(own_mean[place], wide) * factors[place]

    def at(*i: DimLike) -> Scalar:
        place = (0,) if x.rank == 1 else i[1 : 1 + scale.rank]
        return cast(cast(x[i], wide) * factors[place] + shifts[place], x.dtype)

    factors = compute(scale.shape, factor)
    shifts = compute(scale.shape, shift)
    running = [
        _lower_blend(old, new, momentum if trains else 1.0)
        for old, new in zip((mean, var), own, strict=True)
    ]
    saved = [cast_tensor(t, mean.dtype) for t in own]
    return (compute(x.shape, at), *running, *saved)[: node.output_count]


def _lower_own(x: Tensor, wide: DType, spatial: int) -> tuple[Tensor, Tensor]:
    """Mean and population variance of each channel, or place, over the batch."""
    shape = _statistics_shape(x.shape, spatial)
    rest = x.shape[1 + len(shape) :]
    count = cast(index(math.prod((x.shape[0], *rest))), wide)

    def place(n: DimLike, c: tuple[DimLike, ...], s: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        return (n,) if x.rank == 1 else (n, *c, *s)

    def mean_of(element: Callable[..., Scalar]) -> Tensor:
        def at(*c: DimLike) -> Scalar:
            box = (x.shape[0], *rest)
            return reduce("sum", box, lambda n, *s: element(place(n, c, s), c)) / count

        return compute(shape, at)

    def squared(at: tuple[DimLike, ...], c: tuple[DimLike, ...]) -> Scalar:
        deviation = cast(x[at], wide) - mean[c]
        return deviation * deviation

    mean = mean_of(lambda at, _: cast(x[at], wide))
    return mean, mean_of(squared)


def _lower_blend(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    """The running statistic after a batch; with momentum 1, as it was."""
    if momentum == 1:
        return old
    wide = new.dtype

    def at(*c: DimLike) -> Scalar:
        return cast(cast(old[c], wide) * momentum + new[c] * (1 - momentum), old.dtype)

    return compute(old.shape, at)


def _normalized(
    x: Array, scale: Array, b: Array, mean: Array, var: Array, epsilon: float, spatial: int
) -> Array:
    """``x`` standardized by these statistics: one multiplication and one addition per element."""
    wanted = _statistics_shape(x.shape, spatial)
    for name, other in (("scale", scale), ("B", b), ("mean", mean), ("var", var)):
        _check_statistics(name, other.shape, x.shape, wanted)
    shape = (1,) if x.ndim == 1 else (*scale.shape, *[1] * (x.ndim - 1 - scale.ndim))
    wide = _widest(x, scale, b, mean, var)
    factor = scale.astype(wide) / np.sqrt(var.astype(wide) + wide.type(epsilon))
    shift = b.astype(wide) - mean.astype(wide) * factor
    y: Array = x.astype(wide) * factor.reshape(shape)
    y += shift.reshape(shape)
    return y.astype(x.dtype, copy=False)


def _widest(*arrays: Array) -> np.dtype[Any]:
    """The widest of the arrays' types, float32 at least."""
    return np.result_type(*(widened(x).dtype for x in arrays))


def _trained(
    x: Array,
    scale: Array,
    b: Array,
    mean: Array,
    var: Array,
    epsilon: float,
    momentum: float,
    spatial: int,
) -> tuple[Array, ...]:
    """``x`` standardized by its own statistics, the running statistics, and its own."""
    wide = x.astype(_widest(x, scale, b, mean, var))
    axes = (0,) if x.ndim == 1 or not spatial else (0, *range(2, x.ndim))
    shape = _statistics_shape(x.shape, spatial)
    for name, other in (("mean", mean), ("var", var)):
        _check_statistics(name, other.shape, x.shape, shape)
    batch_mean = np.mean(wide, axis=axes).reshape(shape)
    batch_var = np.var(wide, axis=axes).reshape(shape)
    y = _normalized(x, scale, b, batch_mean, batch_var, epsilon, spatial)
    running = [
        (widened(old) * widened(old).dtype.type(momentum) + new * new.dtype.type(1 - momentum))
        for old, new in ((mean, batch_mean), (var, batch_var))
    ]
    outputs = [statistic.astype(mean.dtype) for statistic in (*running, batch_mean, batch_var)]
    return y, *outputs


@BatchNormalization.adapt(6, 7)
def batch_normalization_6_to_7(node: Node, _: Graph) -> None:
    """From opset 7 on, more than one output means training."""
    is_test = node.attr("is_test", 0)
    node.remove_attribute("is_test")
    if is_test:
        trim_outputs(node, 1, ("mean", "var", "saved_mean", "saved_var"))


@BatchNormalization.adapt(7, 6)
def batch_normalization_7_to_6(node: Node, _: Graph) -> None:
    node.set_attribute("is_test", int(len(node.outputs) == 1))


@BatchNormalization.adapt(7, 9)
def batch_normalization_7_to_9(node: Node, graph: Graph) -> None:
    """Statistics of each place are statistics of channels, once places are channels."""
    spatial = node.attr("spatial", 1)
    node.remove_attribute("spatial")
    if spatial:
        return
    trim_outputs(node, 1, ("mean", "var", "saved_mean", "saved_var"))
    shape = Node("", "Shape", node.inputs[:1])
    graph.insert_before(node, shape)
    put_ahead(node, graph, 0, "Flatten", axis=1)
    flat = stored(node, graph, np.array([-1], np.int64))
    for statistic in range(1, len(node.inputs)):
        put_ahead(node, graph, statistic, "Reshape", flat)
    put_behind(node, graph, "Reshape", shape.output)


@BatchNormalization.adapt(9, 14)
def batch_normalization_9_to_14(node: Node, _: Graph) -> None:
    if len(node.outputs) > 1:
        node.set_attribute("training_mode", 1)
        trim_outputs(node, 3, ("saved_mean", "saved_var"))


@BatchNormalization.adapt(14, 9)
def batch_normalization_14_to_9(node: Node, _: Graph) -> None:
    trains = node.attr("training_mode", 0)
    node.remove_attribute("training_mode")
    if not trains:
        trim_outputs(node, 1, ("running_mean", "running_var"))
    else:  # all statistics, or training is not what the outputs say
        missing = TRAINING_OUTPUTS - len(node.outputs)
        node.set_outputs([*node.outputs, *(Value() for _ in range(missing))])


TRAINING_OUTPUTS = 5
"""Outputs of BatchNormalization-9 in training: Y, and a running and a saved mean and variance."""


Dropout = (
    op("""Dropout <consumed_inputs: ints?, is_test: int = 0, ratio: float = 0.5>
                  (data: T) => (output: T, mask: T?)""", since=1, T=FLOAT, deterministic=False)
    .since(6, "Dropout <is_test: int = 0, ratio: float = 0.5> (data: T) => (output: T, mask: T?)")
    .since(7, "Dropout <ratio: float = 0.5> (data: T) => (output: T, mask: T?)")
    .since(10, "Dropout <ratio: float = 0.5> (data: T) => (output: T, mask: T1?)", T1=BOOL)
    .since(12, """Dropout <seed: int?>
                          (data: T, ratio: T1?, training_mode: T2?) => (output: T, mask: T2?)""",
           T1=FLOAT, T2=BOOL)
    .since(13, T=+BF16)
    .since(22, T=+F8, T1=+(F8 | BF16))
)  # fmt: skip


@Dropout.infer
def infer_dropout(
    data: Fact,
    ratio: Fact | float | None = None,
    training_mode: Fact | None = None,
    *,
    is_test: int = 0,
    seed: int = 0,
    node: InferNode,
) -> tuple[Fact, ...]:
    for name, given in (("ratio", ratio), ("training_mode", training_mode)):
        if isinstance(given, Fact) and given.has_rank:
            require(
                all(equal(extent, 1) is not False for extent in given.shape),
                f"{name} must have one element, found shape {shape_text(given.shape)}",
            )
    mask = data.dtype if node.version < BOOLEAN_MASK else BOOL_DTYPE
    shape = data.shape
    return (tensor(data.dtype, shape), tensor(mask, shape))[: node.output_count]


BOOLEAN_MASK = 10
"""Schema version from which the mask is boolean; before, it has the type of the data."""


@Dropout.kernel
def dropout_1(
    data: Array, *, ratio: float = 0.5, is_test: int = 0, node: RunNode
) -> tuple[Array, ...]:
    """Zero a random part of the elements and scale the others by 1 / (1 − ratio).

    data[*S] → output[*S], mask[*S] (1 where kept, in the dtype of the data). is_test=1 keeps all.
    Source: ONNX Dropout-6.
    """
    output, mask = _dropped(data, 0.0 if is_test else ratio, node.random)
    return output, mask.astype(data.dtype)


@Dropout.kernel(since=7)
def dropout_7(data: Array, *, ratio: float = 0.5, node: RunNode) -> tuple[Array, Array]:
    """The data as they are: these versions know inference only; the mask says that all are kept.

    Source: ONNX Dropout-7 and Dropout-10.
    """
    mask = data.dtype if node.version < BOOLEAN_MASK else np.dtype(np.bool_)
    return data, np.ones(data.shape, mask)


@Dropout.kernel(since=12)
def dropout(
    data: Array,
    ratio: Array | None = None,
    training_mode: Array | None = None,
    *,
    seed: int | None = None,
    node: RunNode,
) -> tuple[Array, Array]:
    """In training, zero a random part of the elements and scale the others by 1 / (1 − ratio).

    data[*S] → output[*S], mask[*S] (true where kept); otherwise the data as they are. A seed gives
    the stream of NumPy's RandomState, as the standard's cases do. Raises ShapeError unless
    0 ≤ ratio < 1. Source: ONNX Dropout-13.
    """
    trains = training_mode is not None and bool(single(training_mode, "training_mode"))
    part = DEFAULT_RATIO if ratio is None else float(single(ratio, "ratio"))
    return _dropped(data, part if trains else 0.0, _stream(seed, node.random))


@Dropout.lower
def lower_dropout_1(
    data: Tensor, *, ratio: float = 0.5, is_test: int = 0, node: LowerNode
) -> tuple[Tensor, Tensor]:
    if not is_test and ratio:
        node.decline(DROPS)
    return data, compute(data.shape, lambda *_: 1, data.dtype)


@Dropout.lower(since=7)
def lower_dropout_7(data: Tensor, *, ratio: float = 0.5, node: LowerNode) -> tuple[Tensor, Tensor]:
    mask = data.dtype if node.version < BOOLEAN_MASK else BOOL_DTYPE
    return data, compute(data.shape, lambda *_: 1, mask)


@Dropout.lower(since=12)
def lower_dropout(
    data: Tensor,
    ratio: Tensor | None = None,
    training_mode: Tensor | None = None,
    *,
    seed: int | None = None,
    node: LowerNode,
) -> tuple[Tensor, Tensor]:
    if training_mode is not None and single(node.constant(2), "training_mode"):
        node.decline(DROPS)
    return data, compute(data.shape, lambda *_: 1, BOOL_DTYPE)


DROPS = "it draws random numbers"
"""Why training stays with the kernel."""

DEFAULT_RATIO = 0.5


def _stream(seed: int | None, fallback: np.random.Generator) -> Stream:
    """A source of uniform numbers, reproducible where there is a seed."""
    if seed is None:
        return fallback
    return np.random.RandomState(seed % 2**32)


Stream = np.random.Generator | np.random.RandomState


def _dropped(data: Array, ratio: float, random: Stream) -> tuple[Array, Array]:
    """``data`` with the part ``ratio`` zeroed and the rest scaled, and what was kept."""
    require(0 <= ratio < 1, f"ratio must be in [0, 1), got {ratio:g}")
    if ratio == 0:
        return data, np.ones(data.shape, np.bool_)
    kept = np.asarray(random.uniform(0.0, 1.0, data.shape) >= ratio)
    wide = widened(data)
    output = np.where(kept, wide * wide.dtype.type(1 / (1 - ratio)), wide.dtype.type(0))
    return output.astype(data.dtype, copy=False), kept


@Dropout.adapt(6, 7)
def dropout_6_to_7(node: Node, _: Graph) -> None:
    if not node.attr("is_test", 0):
        raise ConvertError("it trains (is_test=0), which opsets 7 to 11 cannot say")
    node.remove_attribute("is_test")


@Dropout.adapt(7, 6)
def dropout_7_to_6(node: Node, _: Graph) -> None:
    node.set_attribute("is_test", 1)


@Dropout.adapt(7, 10)
def dropout_7_to_10(node: Node, graph: Graph) -> None:
    """The mask becomes boolean; whoever reads it gets the type of the data as before."""
    if len(node.outputs) > 1 and node.outputs[1].is_used:
        to = dtype_of(node.inputs[0], "data").code
        put_behind(node, graph, "Cast", index=1, to=to)


@Dropout.adapt(10, 7)
def dropout_10_to_7(node: Node, graph: Graph) -> None:
    if len(node.outputs) > 1 and node.outputs[1].is_used:
        put_behind(node, graph, "Cast", index=1, to=BOOL_DTYPE.code)


@Dropout.adapt(10, 12)
def dropout_10_to_12(node: Node, graph: Graph) -> None:
    ratio = node.remove_attribute("ratio")
    if ratio is not None and ratio.ref is None:
        node.set_input(1, stored(node, graph, np.array(ratio.value, np.float32)))


@Dropout.adapt(12, 10)
def dropout_12_to_10(node: Node, graph: Graph) -> None:
    ratio = constant_input(node, 1, "opset 10 takes ratio as an attribute")
    trains = constant_input(node, 2, "opset 10 knows Dropout in inference only")
    if trains is not None and bool(trains):
        raise ConvertError("it trains (training_mode is true), which opset 10 cannot say")
    node.remove_attribute("seed")
    drop_inputs(node, graph, 1)
    if ratio is not None:
        node.set_attribute("ratio", float(ratio))
