"""Gradients of one node, compared with central differences and with what a peer says.

`check` puts the node in a graph in which a weighted sum of an output is differentiated: with the
extents declared, with symbolic ones, and (for elementwise operators) without ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fornix.dtype import DType
from fornix.ir.dim import symbol
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.types import TensorType
from fornix.reference import ReferenceEvaluator

Array = np.ndarray[Any, Any]
Peer = Callable[..., torch.Tensor]

LATEST = 28
TRAINING = "ai.onnx.preview.training"

# Central differences of float64: an error of STEP² · f‴ / 6, and of ε / STEP from rounding.
STEP = 1e-5
DIFFERENCES: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-7}
# Float64 against PyTorch; attributes are float32, so constants such as epsilon are off by 6e-8.
PEER: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-9}


def random(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> Array:
    """Numbers between ``low`` and ``high``, none near another or near an integer by chance."""
    return np.random.default_rng(seed).uniform(low, high, shape)


def _declared(array: Array, name: str, dims: str) -> TensorType:
    dtype = DType.of(array.dtype)
    if dims == "unknown":
        return TensorType(dtype, None)
    if dims == "symbolic":
        return TensorType(dtype, tuple(symbol(f"{name}{i}") for i in range(array.ndim)))
    return TensorType(dtype, array.shape)


class Case:
    """A node in a graph whose output ``loss`` is Σ weights · y, y being one of its outputs."""

    def __init__(
        self,
        name: str,
        inputs: Sequence[Array | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        opset: int = LATEST,
        outputs: int = 1,
        of: int = 0,
        dims: str = "static",
        constants: Sequence[int] = (),
    ) -> None:
        self.arrays = {
            f"x{i}": x for i, x in enumerate(inputs) if x is not None and i not in constants
        }
        values = {key: Value(key, _declared(x, key, dims)) for key, x in self.arrays.items()}
        graph = Graph("g", values.values())
        self.values, self.graph = values, graph
        for i in constants:
            fixed = Node("", "Constant", (), 1, {"value": inputs[i]})
            graph.append(fixed)
            values[f"x{i}"] = fixed.output
        self.node = Node(
            "",
            name,
            [None if x is None else values[f"x{i}"] for i, x in enumerate(inputs)],
            [f"y{i}" for i in range(outputs)],
            attributes or {},
        )
        graph.append(self.node)
        y = self.node.outputs[of]
        graph.outputs = [y]
        self.model = Model(graph, {"": opset, TRAINING: 1})
        self.y: Array = ReferenceEvaluator(self.model).run(None, self.arrays)[0]
        self.weights = random(*self.y.shape, seed=7, low=0.5, high=1.5).astype(self.y.dtype)
        w = Value("w", TensorType(DType.of(self.y.dtype), self.y.shape))
        graph.inputs = (*graph.inputs, w)
        weighted = Node("", "Mul", [y, w])
        loss = Node("", "ReduceSum", [weighted.output], ["loss"], {"keepdims": 0})
        graph.append(weighted, loss)
        graph.outputs = [loss.output]

    def feeds(self, **changed: Array) -> dict[str, Array]:
        return {**self.arrays, "w": self.weights, **changed}

    def gradients(self, names: Sequence[str]) -> list[Array]:
        """Gradients of the loss by inputs, as fornix builds and evaluates them."""
        return self.run(names)[1:]

    def run(self, names: Sequence[str]) -> list[Array]:
        """The outputs of the graph, and gradients of the loss by inputs."""
        model = self.model.clone()
        graph = model.graph
        by_name = {x.name: x for x in graph.inputs}
        gradient = Node(
            TRAINING,
            "Gradient",
            [by_name[name] for name in names],
            [f"d{name}" for name in names],
            {"xs": list(names), "y": "loss"},
        )
        graph.append(gradient)
        graph.outputs = (*graph.outputs, *gradient.outputs)
        found: list[Array] = ReferenceEvaluator(model).run(None, self.feeds())
        return found

    def differences(self, name: str) -> Array:
        """The gradient by one input, from central differences."""
        evaluator = ReferenceEvaluator(self.model)
        x = self.arrays[name]
        slopes = np.zeros(x.shape)
        for place in np.ndindex(x.shape):
            loss = []
            for step in (STEP, -STEP):
                moved = x.copy()
                moved[place] += step
                loss.append(float(evaluator.run(None, self.feeds(**{name: moved}))[0]))
            slopes[place] = (loss[0] - loss[1]) / (2 * STEP)
        return slopes

    def peer(self, function: Peer, names: Sequence[str]) -> list[Array]:
        """The gradients that PyTorch gives for ``function`` of all inputs."""
        tensors = {
            name: torch.tensor(x, requires_grad=name in names) for name, x in self.arrays.items()
        }
        y = function(*tensors.values())
        np.testing.assert_allclose(self.y, y.detach().numpy(), **PEER)
        loss = (y * torch.tensor(self.weights)).sum()
        grads = torch.autograd.grad(loss, [tensors[name] for name in names])
        return [g.numpy() for g in grads]


def check(
    name: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    peer: Peer | None = None,
    of_inputs: Sequence[int] | None = None,
    differences: bool = True,
    dims: Sequence[str] = ("static", "symbolic"),
    **where: Any,
) -> None:
    """Check the gradients by the floating-point inputs, or those ``of_inputs``."""
    constants = where.get("constants", ())
    chosen = [
        i
        for i, x in enumerate(inputs)
        if x is not None and x.dtype.kind == "f" and i not in constants
    ]
    names = [f"x{i}" for i in (chosen if of_inputs is None else of_inputs)]
    expected: list[Array] | None = None
    for kind in dims:
        case = Case(name, inputs, attributes, dims=kind, **where)
        found = case.gradients(names)
        if expected is None:
            expected = case.peer(peer, names) if peer is not None else []
            if differences:
                numeric = [case.differences(key) for key in names]
                _assert_close(found, numeric, DIFFERENCES)
                expected = expected or numeric
        assert [x.shape for x in found] == [case.arrays[key].shape for key in names]
        _assert_close(found, expected, PEER if peer is not None else DIFFERENCES)


def _assert_close(
    found: Sequence[Array], expected: Sequence[Array], tolerance: dict[str, Any]
) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)
