from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from fornix.dtype import DType
from fornix.errors import FornixError
from fornix.runtime import InferenceSession, SessionOptions
from tests.compile.native import assert_close

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
FUNCTIONS = {"RNN": 1, "LSTM": 3, "GRU": 2}
ACTIVATIONS = ["Sigmoid", "Tanh", "Relu", "HardSigmoid", "Elu", "LeakyRelu", "Softsign", "Affine"]
EXTENTS = [(5, 3), (1, 1), (2, 7), (9, 1), (3, 40)]
"""Steps and sequences; more sequences than a chunk has rows, and fewer than a block."""
DTYPES = [np.float32] * 4 + [np.float64, np.float16, ml_dtypes.bfloat16]


class Layer:
    """A layer of random kind, sizes and attributes, and random feeds for it."""

    def __init__(self, name: str, seed: int) -> None:
        self.random = random = np.random.default_rng(seed)
        self.name, self.dtype = name, np.dtype(random.choice(np.array(DTYPES, object)))
        self.direction = str(random.choice(["forward", "reverse", "bidirectional"]))
        self.layout = int(random.integers(2))
        self.ways = 1 + (self.direction == "bidirectional")
        self.hidden = int(random.choice([1, 2, 7, 16, 17, 40, 64]))
        self.input = int(random.choice([1, 3, 8, 33]))
        self.has = {part: bool(random.integers(2)) for part in ("B", "lens", "state", "P")}
        self.weights = {k: self.array(*shape) for k, shape in self.weight_shapes().items()}

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        rows = GATES[self.name] * self.hidden
        shapes: dict[str, tuple[int, ...]] = {
            "W": (self.ways, rows, self.input),
            "R": (self.ways, rows, self.hidden),
        }
        if self.has["B"]:
            shapes["B"] = (self.ways, 2 * rows)
        if self.has["P"] and self.name == "LSTM":
            shapes["P"] = (self.ways, 3 * self.hidden)
        return shapes

    def array(self, *shape: int) -> Any:
        spread = 1 / np.sqrt(shape[-1])
        return self.random.uniform(-spread, spread, shape).astype(self.dtype)

    def attributes(self) -> dict[str, Any]:
        found: dict[str, Any] = {"direction": self.direction, "hidden_size": self.hidden}
        if self.layout:
            found["layout"] = 1
        if self.random.integers(2):
            found["clip"] = 0.5
        if self.random.integers(2):
            count = FUNCTIONS[self.name] * self.ways
            found["activations"] = [str(x) for x in self.random.choice(ACTIVATIONS, count)]
        if self.name == "GRU":
            found["linear_before_reset"] = int(self.random.integers(2))
        if self.name == "LSTM":
            found["input_forget"] = int(self.random.integers(2))
        return found

    def feeds(self, steps: int, batch: int) -> dict[str, Any]:
        found = {"X": self.array(steps, batch, self.input)}
        if self.has["lens"]:
            found["lens"] = self.random.integers(steps + 1, size=batch).astype(np.int32)
        if self.has["state"]:
            found["h"] = self.array(self.ways, batch, self.hidden)
            if self.name == "LSTM":
                found["c"] = self.array(self.ways, batch, self.hidden)
        if self.layout:
            found |= {k: v.swapaxes(0, 1).copy() for k, v in found.items() if k != "lens"}
        return found

    def model(
        self,
        feeds: Mapping[str, Any],
        fed: tuple[str, ...] = (),
        more: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The layer as a model of open extents; weights ``fed`` are inputs, ``more`` are stored."""
        weights = {**self.weights, **(more or {})}
        given = {*feeds, *weights}
        names = ["X", "W", "R", "B", "lens", "h", "c", "P"]
        outputs = ["Y", "Y_h", "Y_c"][: 3 if self.name == "LSTM" else 2]
        node = helper.make_node(
            self.name, [k if k in given else "" for k in names], outputs, **self.attributes()
        )
        while not node.input[-1]:
            node.input.pop()
        code = DType.of(self.dtype).code
        order = [1, 0, 2] if self.layout else [0, 1, 2]
        open_ = {"X": ["S", "N", self.input], "h": [self.ways, "N", self.hidden]}
        open_["c"] = open_["h"]
        inputs = [
            helper.make_tensor_value_info("lens", TensorProto.INT32, ["N"])
            if k == "lens"
            else helper.make_tensor_value_info(k, code, [open_[k][axis] for axis in order])
            for k in feeds
        ]
        inputs += [helper.make_tensor_value_info(k, code, self.weights[k].shape) for k in fed]
        stored = [numpy_helper.from_array(w, k) for k, w in weights.items() if k not in fed]
        results = [helper.make_tensor_value_info(k, code, None) for k in outputs]
        graph = helper.make_graph([node], "layer", inputs, results, stored)
        imports = [helper.make_opsetid("", 22)]
        return helper.make_model(graph, ir_version=10, opset_imports=imports).SerializeToString()


def session(model: bytes, provider: str = "CPUExecutionProvider", threads: int = 1) -> Any:
    options = SessionOptions(intra_op_num_threads=threads)
    return InferenceSession(model, options, providers=[provider])


def check_layer(layer: Layer) -> None:
    model = layer.model(layer.feeds(1, 1))
    fast, slow = session(model), session(model, "ReferenceExecutionProvider")
    assert [place.reason for place in fast.placement()] == [""]
    for extents in EXTENTS:
        feeds = layer.feeds(*extents)
        for found, wanted in zip(fast.run(None, feeds), slow.run(None, feeds), strict=True):
            # Sums in another order differ by some roundings, which later steps carry on.
            assert_close(found, wanted, 512 if layer.dtype.itemsize > 2 else 4)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("seed", range(2))
def test_layers_equal_their_kernels(name: str, seed: int) -> None:
    check_layer(Layer(name, seed))


@pytest.mark.slow
@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("seed", range(2, 60))
def test_more_layers_equal_their_kernels(name: str, seed: int) -> None:
    check_layer(Layer(name, seed))


@pytest.mark.parametrize("name", GATES)
def test_sequences_in_several_chunks_give_the_same_bits_for_any_threads(name: str) -> None:
    layer = Layer(name, 3)
    feeds = layer.feeds(4, 70)
    model = layer.model(feeds)
    one = session(model).run(None, feeds)
    for found, wanted in zip(session(model, threads=3).run(None, feeds), one, strict=True):
        np.testing.assert_array_equal(found, wanted)
    for n in (0, 31, 69):
        [found, *_] = session(model).run(None, sequence(feeds, n, layer.layout))
        np.testing.assert_array_equal(found, one[0].take([n], 0 if layer.layout else 2))


def sequence(feeds: Mapping[str, Any], n: int, layout: int) -> dict[str, Any]:
    """Sequence ``n`` alone."""
    return {k: v[n : n + 1] if layout or k == "lens" else v[:, n : n + 1] for k, v in feeds.items()}


@pytest.mark.parametrize("name", GATES)
def test_weights_may_be_fed(name: str) -> None:
    layer = Layer(name, 5)
    feeds = layer.feeds(3, 2)
    weights = {k: layer.weights[k] for k in ("W", "R")}
    stored = session(layer.model(feeds)).run(None, feeds)
    layer.random = np.random.default_rng(0)
    fed = layer.model(feeds, ("W", "R"))
    wanted = session(fed, "ReferenceExecutionProvider").run(None, feeds | weights)
    assert len(stored) == len(wanted)
    for found, expected in zip(session(fed).run(None, feeds | weights), wanted, strict=True):
        assert_close(found, expected, 512 if layer.dtype.itemsize > 2 else 4)


@pytest.mark.parametrize("name", GATES)
def test_weights_of_open_extents_are_as_the_hidden_size_says(name: str) -> None:
    layer = Layer(name, 5)
    feeds = layer.feeds(3, 2)
    model = ModelProto.FromString(layer.model(feeds, ("W", "R")))
    feeds |= {k: layer.weights[k] for k in ("W", "R")}
    for declared in model.graph.input:
        for axis, dim in enumerate(declared.type.tensor_type.shape.dim):
            dim.dim_param = f"{declared.name}_{axis}"
    found = session(model.SerializeToString())
    assert {place.reason for place in found.placement()} == {""}
    plain = session(model.SerializeToString(), "ReferenceExecutionProvider")
    wanted = plain.run(None, feeds)
    for ours, expected in zip(found.run(None, feeds), wanted, strict=True):
        assert_close(ours, expected, 512 if layer.dtype.itemsize > 2 else 4)
    with pytest.raises(FornixError, match="hidden elements"):
        found.run(None, feeds | {"R": feeds["R"][:, :, :-1]})


@pytest.mark.parametrize("name", GATES)
def test_wrong_lengths_give_the_error_of_the_kernel(name: str) -> None:
    layer = Layer(name, 0)
    layer.has |= {"lens": True, "state": False}
    feeds = layer.feeds(3, 2)
    model = layer.model(feeds)
    feeds["lens"][1] = 4
    messages = []
    for provider in ("CPUExecutionProvider", "ReferenceExecutionProvider"):
        with pytest.raises(FornixError, match="sequence_lens must hold lengths in") as raised:
            session(model, provider).run(None, feeds)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


def test_stored_states_are_where_every_run_begins() -> None:
    layer = Layer("GRU", 1)
    layer.has |= {"state": False, "lens": False}
    feeds = layer.feeds(4, 2)
    shape = (2, layer.ways) if layer.layout else (layer.ways, 2)
    running = session(layer.model(feeds, more={"h": layer.array(*shape, layer.hidden)}))
    first = running.run(None, feeds)
    running.run(None, layer.feeds(4, 2))
    for found, wanted in zip(running.run(None, feeds), first, strict=True):
        np.testing.assert_array_equal(found, wanted)
