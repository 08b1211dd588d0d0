from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix import InferenceSession
from fornix.errors import NotSupported
from fornix.reference import ReferenceEvaluator
from tests.ops.grads.harness import TRAINING, Array, Case, check, random
from tests.ops.grads.test_expand import model

T, B, I, H = 3, 2, 2, 2


def layer(gates: int, directions: int = 1, seed: int = 1) -> list[Array]:
    """X, W, R and B of a layer."""
    return [
        random(T, B, I, seed=seed),
        random(directions, gates * H, I, seed=seed + 1),
        random(directions, gates * H, H, seed=seed + 2),
        random(directions, 2 * gates * H, seed=seed + 3),
    ]


def state(directions: int = 1, seed: int = 7) -> Array:
    return random(directions, B, H, seed=seed)


STATIC: dict[str, Any] = {"dims": ["static"]}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("of", [0, 1])
def test_outputs_and_last_states(name: str, of: int) -> None:
    check(name, layer(GATES[name]), {"hidden_size": H}, outputs=2, of=of, **STATIC)


@pytest.mark.parametrize("name", GATES)
def test_both_directions_with_first_states(name: str) -> None:
    inputs = [*layer(GATES[name], 2), None, state(2)]
    inputs += [state(2, 8)] if name == "LSTM" else []
    check(name, inputs, {"hidden_size": H, "direction": "bidirectional"}, **STATIC)


@pytest.mark.parametrize("name", GATES)
def test_batch_first_and_backward(name: str) -> None:
    x, *weights = layer(GATES[name])
    first = state().transpose(1, 0, 2)
    attributes = {"hidden_size": H, "direction": "reverse", "layout": 1}
    check(name, [x.transpose(1, 0, 2), *weights, None, first], attributes, **STATIC)


def test_what_belongs_to_one_cell_only() -> None:
    check("GRU", layer(3), {"hidden_size": H, "linear_before_reset": 1}, **STATIC)
    cells = [*layer(4), None, state(), state(seed=8), random(1, 3 * H, seed=9)]
    check("LSTM", cells, {"hidden_size": H}, outputs=3, of=2, **STATIC)
    plain = layer(4)[:3]
    check("LSTM", plain, {"hidden_size": H, "activations": ["Tanh", "Softsign", "Tanh"]}, **STATIC)


def test_batch_and_length_of_any_extent() -> None:
    check("LSTM", layer(4), {"hidden_size": H}, of_inputs=[0], constants=[1, 2, 3])


DECLINED: list[tuple[str, dict[str, Any], list[Any], str]] = [
    ("LSTM", {"input_forget": 1}, [], "with input_forget it has no derivative here"),
    ("GRU", {"clip": 3.0}, [], "with clip it has no derivative here"),
    ("RNN", {"activations": ["Elu"]}, [], "with the activation Elu it has no derivative here"),
    ("RNN", {}, [np.array([3, 2], np.int32)], "with sequence_lens it has no derivative here"),
]


@pytest.mark.parametrize(("name", "attributes", "more", "message"), DECLINED)
def test_what_is_declined(
    name: str, attributes: dict[str, Any], more: list[Any], message: str
) -> None:
    case = Case(name, [*layer(GATES[name]), *more], {"hidden_size": H, **attributes})
    with pytest.raises(NotSupported, match=message):
        case.gradients(["x0"])


def test_the_extents_of_weights_have_to_be_known() -> None:
    case = Case("RNN", layer(1), {"hidden_size": H}, dims="symbolic")
    with pytest.raises(NotSupported, match="the extents of R have to be known before a run"):
        case.gradients(["x0"])


SCAN = f"""g (double[3] s, double[2, 4, 3] x, double[3] w) => (last, ys, ds, dx, dw, dds) {{
    last, ys = Scan <body = b (double[3] a, double[2, 3] r) => (n, y) {{
        k = Mul(a, w)
        m = Sin(k)
        p = ReduceMean <axes = [0], keepdims = 0> (r)
        n = Add(m, p)
        q = Mul(r, a)
        y = Mul(q, n)
    }}, num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1],
        scan_input_directions = [%d], scan_output_directions = [%d]> (s, x)
    u = ReduceSum <keepdims = 0> (last)
    v = ReduceSumSquare <keepdims = 0> (ys)
    z = Add(u, v)
    ds, dx, dw = {TRAINING}.Gradient <xs = ["s", "x", "w"], y = "z"> (s, x, w)
    dds = {TRAINING}.Gradient <xs = ["s"], y = "ds"> (s)
}}"""


def scanned(s: Any, x: Any, w: Any, back: int, front: int) -> Any:
    """The loss in PyTorch."""
    import torch

    rows, ys = list(x.unbind(1)), []
    for r in reversed(rows) if back else rows:
        n = torch.sin(s * w) + r.mean(0)
        ys.append(r * s * n)
        s = n
    return s.sum() + sum((y**2).sum() for y in (reversed(ys) if front else ys))


@pytest.mark.parametrize(("back", "front"), [(0, 0), (1, 0), (0, 1)])
def test_scans_go_back_along_any_axis(back: int, front: int) -> None:
    import torch

    feeds = {"s": random(3), "x": random(2, 4, 3, seed=1), "w": random(3, seed=2)}
    message = model(SCAN % (back, front), opset=17)
    s, x, w = (torch.tensor(value, requires_grad=True) for value in feeds.values())
    first = torch.autograd.grad(scanned(s, x, w, back, front), [s, x, w], create_graph=True)
    second = torch.autograd.grad(first[0].sum(), s)
    for runner in (ReferenceEvaluator(message), InferenceSession(message.SerializeToString())):
        found = runner.run(None, feeds)[2:]
        for one, other in zip(found, (*first, *second), strict=True):
            np.testing.assert_allclose(one, other.detach().numpy(), rtol=1e-9)
