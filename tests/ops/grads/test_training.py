from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fornix import InferenceSession
from fornix.reference import ReferenceEvaluator

CLASSES, BATCH, STEPS = 5, 8, 6
NAMES = ("w1", "b1", "scale", "shift", "w2", "b2")
GRADIENTS = ", ".join(f"d{name}" for name in NAMES)

# A convolution, a normalization by the batch, a pool and a linear layer, trained by `optimizer`.
NETWORK = """
<ir_version: 10, opset_import: ["": 22, "ai.onnx.preview.training": 1]>
train (float[N, 2, 8, 8] x, int64[N] labels, int64 t, {parameters}, {states}) => ({results})
{{
    zero = Constant <value_floats = [0.0, 0.0, 0.0, 0.0]> ()
    h = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    n = BatchNormalization <training_mode = 1> (h, scale, shift, zero, zero)
    a = Gelu (n)
    p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)
    f = Flatten (p)
    scores = Gemm <transB = 1> (f, w2, b2)
    loss = SoftmaxCrossEntropyLoss (scores, labels)
    {gradients} = ai.onnx.preview.training.Gradient <xs = [{quoted}], zs = ["x", "labels"],
                                                     y = "loss"> ({names}, x, labels)
    rate = Constant <value_float = 0.05> ()
    {results_but_loss} = ai.onnx.preview.training.{optimizer} (rate, t, {names}, {gradients},
                                                               {state_names})
}}
"""
SHAPES = {"w1": (4, 2, 3, 3), "b1": (4,), "scale": (4,), "shift": (4,),
          "w2": (CLASSES, 64), "b2": (CLASSES,)}  # fmt: skip

OPTIMIZERS: dict[str, tuple[str, int, Any]] = {
    "Momentum": (
        'Momentum <alpha = 0.9, beta = 1.0, mode = "standard", norm_coefficient = 0.0>',
        1,
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    ),
    "Adam": (
        "Adam <alpha = 0.9, beta = 0.999, epsilon = 1e-12>",
        2,
        lambda parameters: torch.optim.Adam(parameters, lr=0.05, eps=1e-12),
    ),
}


def network(optimizer: str, states: int) -> onnx.ModelProto:
    state_names = [f"{name}_{i}" for i in range(states) for name in NAMES]
    results = [f"{name}_new" for name in (*NAMES, *state_names)]
    text = NETWORK.format(
        parameters=", ".join(f"float{list(SHAPES[name])} {name}" for name in NAMES),
        states=", ".join(f"float{list(SHAPES[name[:-2]])} {name}" for name in state_names),
        results=", ".join(["loss", *results]),
        results_but_loss=", ".join(results),
        gradients=GRADIENTS,
        quoted=", ".join(f'"{name}"' for name in NAMES),
        names=", ".join(NAMES),
        state_names=", ".join(state_names),
        optimizer=optimizer,
    )
    return onnx.parser.parse_model(text)


class Peer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64, CLASSES),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_network_learns_as_its_peer_does(name: str) -> None:
    optimizer, states, make_optimizer = OPTIMIZERS[name]
    message = network(optimizer, states)
    runner: Any
    for runner in (ReferenceEvaluator(message), InferenceSession(message.SerializeToString())):
        torch.manual_seed(0)
        peer = Peer()
        step = make_optimizer(peer.parameters())
        given = [value.detach().numpy().copy() for value in peer.parameters()]
        given += [np.zeros_like(value) for value in given * states]
        keys = [value.name for value in message.graph.input[3:]]
        random = np.random.default_rng(0)
        x = random.standard_normal((BATCH, 2, 8, 8)).astype(np.float32)
        labels = random.integers(0, CLASSES, BATCH)
        losses = []
        for count in range(STEPS):
            step.zero_grad()
            loss = nn.functional.cross_entropy(peer(torch.tensor(x)), torch.tensor(labels))
            loss.backward()
            step.step()
            t = np.array(count + (name == "Adam"))
            feeds = {"x": x, "labels": labels, "t": t, **dict(zip(keys, given, strict=True))}
            found, *given = runner.run(None, feeds)
            losses.append(float(found))
            assert losses[-1] == pytest.approx(loss.item(), rel=2e-3)
        assert losses[-1] < losses[0] / 2
        if name == "Momentum":
            for one, other in zip(given, peer.parameters(), strict=False):
                np.testing.assert_allclose(one, other.detach().numpy(), rtol=1e-3, atol=1e-4)
