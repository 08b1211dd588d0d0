from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fornix.dtype import DType
from fornix.errors import Fail
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Load, Tensor, compute, stored, tensor
from fornix.ir.types import TensorType
from tests.ir import lowerings as lower
from tests.ir.interpreter import Array, Machine, interpret
from tests.ops.harness import peer

F32 = 2e-6
"""Sums of at most some hundred float32 products of magnitude 1, in another order."""

SHAPES = ["static", "symbolic"]


def argument(name: str, array: Array, shapes: str) -> tuple[Tensor, dict[str, int]]:
    """A tensor for ``array``; symbolic: equal extents other than 1 share a symbol."""
    dims: list[DimLike] = list(array.shape)
    symbols = {}
    if shapes == "symbolic":
        symbols = {f"n{n}": n for n in array.shape if n != 1}
        dims = [n if n == 1 else symbol(f"n{n}") for n in array.shape]
    return tensor(name, dims, DType.of(array.dtype)), symbols


def run(
    rule: Any, *arrays: Array | None, shapes: str = "static", kernels: Any = None, **attributes: Any
) -> list[Array]:
    """The outputs of a lowering, interpreted."""
    tensors: list[Tensor | None] = []
    feeds: dict[str, Array] = {}
    symbols: dict[str, int] = {}
    for k, array in enumerate(arrays):
        if array is None:
            tensors.append(None)
            continue
        x, own = argument(f"x{k}", array, shapes)
        tensors.append(x)
        symbols |= own
        feeds[f"x{k}"] = array
    results = rule(*tensors, **attributes)
    outputs = results if isinstance(results, tuple) else (results,)
    return [interpret(y, feeds, symbols, kernels) for y in outputs]


def close(found: Array, wanted: Any, *, rtol: float = F32, atol: float = F32) -> None:
    wanted = np.asarray(wanted)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(
        found.astype(np.float64), wanted.astype(np.float64), rtol=rtol, atol=atol
    )


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# ── rows ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_equals_torch(approximate: str, dtype: Any) -> None:
    x = normal(3, 17, dtype=dtype) * 3
    wanted = torch.nn.functional.gelu(torch.from_numpy(x), approximate=approximate)
    (y,) = run(lower.lower_gelu, x, approximate=approximate, shapes="symbolic")
    close(y, wanted.numpy())


def test_one_function_is_kernel_and_lowering_to_the_bit() -> None:
    x = normal(64)
    (y,) = run(lower.lower_gelu, x)
    np.testing.assert_array_equal(y, lower.gelu(x))


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 7, 1), (4, 0, 3), (2, 3, 0)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_equals_torch(shape: tuple[int, ...], axis: int, shapes: str) -> None:
    x = normal(*shape) * 5
    (y,) = run(lower.lower_softmax, x, axis=axis, shapes=shapes)
    close(y, torch.from_numpy(x).softmax(axis).numpy())


def test_softmax_of_float16_is_computed_in_float32() -> None:
    x = normal(3, 50).astype(np.float16)
    (y,) = run(lower.lower_softmax, x)
    wanted = torch.from_numpy(x.astype(np.float32)).softmax(-1).numpy().astype(np.float16)
    close(y, wanted, rtol=1e-3)


def test_softmax_of_nan_is_nan() -> None:
    x = np.array([[1.0, np.nan, 2.0], [1.0, np.inf, 0.0], [1.0, 2.0, 3.0]], np.float32)
    (y,) = run(lower.lower_softmax, x)
    close(y, torch.from_numpy(x).softmax(-1).numpy())


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(("shape", "axis"), [((4, 10), -1), ((2, 3, 5), 1), ((3, 1), -1)])
def test_layer_normalization_equals_onnxruntime(
    shape: tuple[int, ...], axis: int, shapes: str
) -> None:
    x = normal(*shape)
    scale, bias = normal(*shape[axis:], seed=1), normal(*shape[axis:], seed=2)
    found = run(lower.lower_layer_normalization, x, scale, bias, axis=axis, shapes=shapes)
    wanted = peer("LayerNormalization", [x, scale, bias], {"axis": axis}, outputs=3)
    for y, z in zip(found, wanted, strict=True):
        close(y, z, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8, np.int8])
def test_arg_max_breaks_ties_as_asked(dtype: Any, last: int, shapes: str) -> None:
    x = np.random.default_rng(3).integers(0, 4, (5, 9, 2)).astype(dtype)
    (y,) = run(lower.lower_arg_max, x, axis=1, select_last_index=last, keepdims=0, shapes=shapes)
    wanted = 8 - x[:, ::-1].argmax(1) if last else x.argmax(1)
    close(y, wanted)


def test_arg_max_finds_the_first_nan_as_numpy_does() -> None:
    x = np.array([[1, np.nan, 3, np.nan], [3, 1, 3, -np.inf], [-np.inf] * 4], np.float32)
    (y,) = run(lower.lower_arg_max, x, axis=1, keepdims=0)
    close(y, x.argmax(1))
    (y,) = run(lower.lower_arg_max, x, axis=1, keepdims=0, select_last_index=1)
    close(y, [3, 2, 3])


# ── movement ───────────────────────────────────────────────────────────────────────────────────


def node_of(shape: tuple[DimLike, ...]) -> Any:
    return SimpleNamespace(output_types=(TensorType(DType.of("float32"), shape),))


@pytest.mark.parametrize(
    ("shape", "new"), [((2, 3, 4), (6, 4)), ((2, 3, 4), (4, 3, 2)), ((0, 3), (3, 0)), ((1,), ())]
)
def test_reshape_of_a_transpose_equals_numpy(shape: tuple[int, ...], new: tuple[int, ...]) -> None:
    x = normal(*shape)

    def rule(data: Tensor) -> Tensor:
        return lower.lower_reshape(lower.lower_transpose(data), node=node_of(new))

    (y,) = run(rule, x)
    np.testing.assert_array_equal(y, x.T.reshape(new))


def test_reshape_and_transpose_cancel_in_the_address() -> None:
    s, b = symbol("S", least=1), symbol("B", least=1)
    x = tensor("x", (b, s, 768), DType.of("float32"))
    heads = lower.lower_reshape(x, node=node_of((b, s, 12, 64)))
    turned = lower.lower_transpose(heads, perm=[0, 2, 1, 3])
    back = lower.lower_transpose(turned, perm=[0, 2, 1, 3])
    merged = lower.lower_reshape(back, node=node_of((b, s, 768)))
    machine = stored(merged).buffer
    assert machine is not None
    source: Any = machine.source
    assert isinstance(source.value, Load)
    assert source.value.address == source.address


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(
    ("starts", "ends", "steps"),
    [
        ([0, 1], [4, 5], [1, 2]),
        ([-1, -1], [-100, -100], [-1, -2]),
        ([3, 6], [0, 1], [-2, -3]),
        ([2, 100], [100, -100], [1, -1]),
        ([4, 0], [1, 7], [1, 1]),
    ],
)
def test_slice_equals_numpy(
    starts: list[int], ends: list[int], steps: list[int], shapes: str
) -> None:
    x = normal(5, 7)

    def rule(data: Tensor) -> Tensor:
        return lower.lower_slice(data, starts, ends, steps=steps)

    (y,) = run(rule, x, shapes=shapes)
    wanted = peer("Slice", [x, *map(np.array, (starts, ends, [0, 1], steps))])[0]
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("extents", [(2, 3, 1), (0, 2, 0), (5,)])
def test_concat_equals_numpy(extents: tuple[int, ...], axis: int, shapes: str) -> None:
    def part(n: int) -> Array:
        return normal(*((n, 4) if axis == 0 else (4, n)), seed=n)

    parts = [part(n) for n in extents]
    (y,) = run(lower.lower_concat, *parts, axis=axis, shapes=shapes)
    np.testing.assert_array_equal(y, np.concatenate(parts, axis))


def test_concat_of_bools_keeps_the_dtype() -> None:
    parts = [np.array([True, False]), np.array([True])]
    (y,) = run(lower.lower_concat, *parts, axis=0)
    np.testing.assert_array_equal(y, [True, False, True])


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_gather_counts_from_the_end_too(dtype: Any, shapes: str) -> None:
    x = normal(3, 5, 2)
    ids = np.array([[0, -1], [4, -5], [2, 2]], dtype)
    (y,) = run(lower.lower_gather, x, ids, axis=1, shapes=shapes)
    np.testing.assert_array_equal(y, np.take(x, ids, axis=1))


@pytest.mark.parametrize("wrong", [5, -6, 2**40])
def test_gather_out_of_range_fails_with_index_and_range(wrong: int) -> None:
    ids = np.array([0, wrong])
    with pytest.raises(Fail, match=rf"index {wrong} is out of range \[-5, 4\]"):
        run(lower.lower_gather, normal(5, 2), ids)


def test_gather_from_an_empty_axis_fails() -> None:
    with pytest.raises(Fail):
        run(lower.lower_gather, normal(0, 2), np.array([0]))
    (y,) = run(lower.lower_gather, normal(0, 2), np.zeros(0, np.int64))
    assert y.shape == (0, 2)


def test_a_view_that_ignores_a_gathered_index_keeps_its_check() -> None:
    def rule(data: Tensor, ids: Tensor) -> Tensor:
        return lower.lower_gather(compute((4,), lambda _: data[0] * 1.0), ids)

    (y,) = run(rule, normal(1), np.array([3, 0]))
    assert y.shape == (2,)
    with pytest.raises(Fail, match="index 4 is out of range"):
        run(rule, normal(1), np.array([3, 4]))


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("scales", [[1.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.5, 2.25]])
def test_upsample_nearest_equals_onnxruntime(scales: list[float], shapes: str) -> None:
    x = normal(1, 2, 4, 8)
    (y,) = run(lower.lower_upsample, x, scales=scales, shapes=shapes)
    wanted = peer("Upsample", [x], {"scales": scales}, opset=7)[0]
    np.testing.assert_array_equal(y, wanted)


# ── contractions and windows ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((2, 1, 3, 4), (6, 4, 1)),
        ((3, 0), (0, 2)),
        ((0, 4), (4, 2)),
    ],
)
def test_matmul_equals_numpy(a: tuple[int, ...], b: tuple[int, ...], shapes: str) -> None:
    x, y = normal(*a), normal(*b, seed=1)
    (z,) = run(lower.lower_matmul, x, y, shapes=shapes)
    close(z, x @ y)


def test_matmul_of_integers_wraps() -> None:
    x = np.array([[100, 100]], np.int8)
    (z,) = run(lower.lower_matmul, x, x.T.copy())
    np.testing.assert_array_equal(z, x @ x.T)


CONVOLUTIONS: list[dict[str, Any]] = [
    {},
    {"strides": [2, 3]},
    {"dilations": [2, 1], "pads": [1, 2, 2, 0]},
    {"group": 2, "pads": [1, 1, 1, 1]},
    {"group": 4, "strides": [2, 1], "dilations": [1, 2], "pads": [0, 1, 2, 3]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("attributes", CONVOLUTIONS)
def test_convolution_equals_onnxruntime(attributes: dict[str, Any], shapes: str) -> None:
    x = normal(2, 4, 7, 6)
    w = normal(8, 4 // attributes.get("group", 1), 3, 2, seed=1)
    b = normal(8, seed=2)
    (y,) = run(lower.lower_conv, x, w, b, shapes=shapes, **attributes)
    close(y, peer("Conv", [x, w, b], attributes)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3])
def test_convolution_of_other_ranks_equals_torch(rank: int) -> None:
    x, w = normal(1, 3, *[5] * rank), normal(2, 3, *[3] * rank, seed=1)
    (y,) = run(lower.lower_conv, x, w, pads=[1] * 2 * rank)
    wanted = torch.nn.functional.__dict__[f"conv{rank}d"](
        torch.from_numpy(x), torch.from_numpy(w), padding=1
    )
    close(y, wanted.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "dilations": [2, 3]},
    ],
)
def test_max_pool_equals_onnxruntime(attributes: dict[str, Any], shapes: str) -> None:
    x = normal(2, 3, 8, 7)
    (y,) = run(lower.lower_max_pool, x, shapes=shapes, **attributes)
    np.testing.assert_array_equal(y, peer("MaxPool", [x], attributes)[0])


def test_max_pool_of_uint8_pads_with_its_least_value() -> None:
    x = np.random.default_rng(0).integers(0, 255, (1, 1, 5, 5)).astype(np.uint8)
    (y,) = run(lower.lower_max_pool, x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    np.testing.assert_array_equal(
        y, peer("MaxPool", [x], {"kernel_shape": [3, 3], "pads": [1] * 4}, opset=12)[0]
    )


# ── recurrence ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(("exclusive", "reverse"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_cumsum_equals_onnxruntime(exclusive: int, reverse: int, dtype: Any, shapes: str) -> None:
    x = (normal(3, 5, 2) * 10).astype(dtype)
    attributes = {"exclusive": exclusive, "reverse": reverse}
    (y,) = run(lower.lower_cumsum, x, axis=1, shapes=shapes, **attributes)
    close(y, peer("CumSum", [x, np.array(1)], attributes)[0], rtol=1e-6, atol=1e-5)


def test_cumsum_of_nothing_is_nothing() -> None:
    (y,) = run(lower.lower_cumsum, normal(0, 3), axis=0, shapes="symbolic")
    assert y.shape == (0, 3)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("everything", [False, True])
def test_lstm_equals_onnxruntime(direction: str, everything: bool, shapes: str) -> None:
    steps, batch, features, hidden = 5, 2, 3, 4
    ways = 2 if direction == "bidirectional" else 1
    x = normal(steps, batch, features)
    w, r = normal(ways, 4 * hidden, features, seed=1), normal(ways, 4 * hidden, hidden, seed=2)
    inputs: list[Array | None] = [x, w, r]
    if everything:
        inputs += [
            normal(ways, 8 * hidden, seed=3),
            np.array([5, 2], np.int32),
            normal(ways, batch, hidden, seed=4),
            normal(ways, batch, hidden, seed=5),
            normal(ways, 3 * hidden, seed=6),
        ]
    attributes = {"hidden_size": hidden, "direction": direction}
    found = run(lower.lower_lstm, *inputs, shapes=shapes, **attributes)
    wanted = peer("LSTM", inputs, attributes, outputs=3)
    for y, z in zip(found, wanted, strict=True):
        close(y, z, rtol=1e-5, atol=1e-5)


# ── writes where data says, tables, Python kernels ─────────────────────────────────────────────


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_scatter_nd_equals_onnxruntime(reduction: str, dtype: Any, shapes: str) -> None:
    data = (normal(4, 5, 3) * 9).astype(dtype)
    indices = np.array([[[0, 1], [3, -1]], [[0, 1], [-4, 2]]])
    updates = (normal(2, 2, 3, seed=1) * 9).astype(dtype)
    (y,) = run(
        lambda a, i, u: lower.lower_scatter_nd(a, static(i), u, reduction=reduction),
        data,
        indices,
        updates,
        shapes=shapes,
    )
    close(y, peer("ScatterND", [data, indices, updates], {"reduction": reduction})[0])


def static(indices: Tensor) -> Tensor:
    """The last extent of indices, the depth, is always known."""
    return compute((*indices.shape[:-1], 2), lambda *i: indices[i])


def test_scatter_out_of_range_fails_with_index_and_range() -> None:
    with pytest.raises(Fail, match=r"index 4 is out of range \[-4, 3\]"):
        run(lower.lower_scatter_nd, normal(4), np.array([[4]]), normal(1))


def test_an_opaque_kernel_runs_in_python() -> None:
    def top_k(x: Array, *, k: int, axis: int, largest: int) -> tuple[Array, Array]:
        order = np.argsort(-x if largest else x, axis=axis, kind="stable")
        ids = np.take(order, range(k), axis)
        return np.take_along_axis(x, ids, axis), ids

    x = normal(3, 7)
    found = run(lambda x: lower.lower_top_k(lower.lower_gelu(x), 2), x, kernels={"TopK": top_k})
    wanted = peer("TopK", [lower.gelu(x), np.array([2])], outputs=2)
    for y, z in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(y, z)


def random_trees(count: int, depth: int, features: int, targets: int) -> dict[str, Any]:
    """Attributes of an ensemble of full and of lopsided trees with random thresholds."""
    rng = np.random.default_rng(0)
    nodes: list[tuple[Any, ...]] = []
    leaves: list[tuple[Any, ...]] = []

    def grow(tree: int, level: int) -> int:
        node = sum(n[0] == tree for n in nodes)
        nodes.append(())
        nodes[-1] = (tree, node, 0, 0.0, "LEAF", 0, 0)
        at = len(nodes) - 1
        if level == depth or (level and rng.random() < 0.3):
            leaves.extend((tree, node, t, rng.standard_normal()) for t in range(targets))
        else:
            children = grow(tree, level + 1), grow(tree, level + 1)
            split = (int(rng.integers(features)), float(np.float32(rng.standard_normal())))
            nodes[at] = (tree, node, *split, "BRANCH_LEQ", *children)
        return node

    for tree in range(count):
        grow(tree, 0)
    names = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    node_lists = zip(*nodes, strict=True)
    found = {f"nodes_{n}": list(v) for n, v in zip(names, node_lists, strict=True)}
    leaf_names = ("treeids", "nodeids", "ids", "weights")
    leaf_lists = zip(*leaves, strict=True)
    found |= {f"target_{n}": list(v) for n, v in zip(leaf_names, leaf_lists, strict=True)}
    return found | {"n_targets": targets}


@pytest.mark.parametrize("shapes", SHAPES)
def test_tree_ensemble_equals_onnxruntime(shapes: str) -> None:
    attributes = random_trees(4, 5, features=3, targets=2)
    x = normal(30, 3, seed=5)
    (y,) = run(lower.lower_tree_ensemble_regressor, x, shapes=shapes, **attributes)
    (wanted,) = peer("TreeEnsembleRegressor", [x], attributes, domain="ai.onnx.ml", opset=3)
    close(y, wanted)


def test_the_interpreter_runs_what_is_stored_once() -> None:
    x = tensor("x", (4,), DType.of("float32"))
    once = stored(compute((4,), lambda i: x[i] * 2.0))
    twice = compute((4,), lambda i: once[i] + once[3 - i])
    machine = Machine({"x": np.arange(4, dtype=np.float32)}, {}, {})
    np.testing.assert_array_equal(machine.contents(stored(twice).buffer), [6, 6, 6, 6])
    assert sum(b.name.startswith("stored") for b in machine.memory) == 2
