"""Concats whose parts lie where the result has them copy nothing, and give what copies give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from fornix import InferenceSession, SessionOptions
from fornix.reference import ReferenceEvaluator
from fornix.runtime import native

CHANNELS = 16


class Network:
    """Layers and Concats of what is there."""

    def __init__(self, rng: np.random.Generator, width: int, *, images: bool = False) -> None:
        """Of ``width`` columns, whose rows are joined, or of images, whose channels are."""
        self.rng, self.width, self.images = rng, width, images
        self.shape: list[Any] = ["N", CHANNELS, 6, 5] if images else ["N", width]
        self.nodes: list[Any] = []
        self.stored: list[Any] = []
        self.channels = {"x": CHANNELS}

    def layer(self, name: str) -> str:
        """A convolution of ``name``, or a product with it."""
        shape = (self.width, self.channels[name], 3, 3) if self.images else (self.width, self.width)
        weights = self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        stored = numpy_helper.from_array(weights.astype(np.float32), f"w{len(self.nodes)}")
        self.stored.append(stored)
        if self.images:
            return self._node("Conv", [name, stored.name], self.width, pads=[1, 1, 1, 1])
        return self._node("MatMul", [name, stored.name], 0)

    def join(self, names: list[str]) -> str:
        """A Concat of ``names``."""
        channels = sum(self.channels[name] for name in names)
        return self._node("Concat", names, channels, axis=int(self.images))

    def _node(self, op_type: str, inputs: list[str], channels: int, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        self.channels[name] = channels
        return name

    def model(self, result: str) -> Any:
        """What gives ``result``."""
        x = helper.make_tensor_value_info("x", 1, self.shape)
        y = helper.make_tensor_value_info(result, 1, None)
        graph = helper.make_graph(self.nodes, "joined", [x], [y], self.stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def fed(self, count: int) -> np.ndarray[Any, Any]:
        """As many images, or rows."""
        return self.rng.standard_normal((count, *self.shape[1:]), np.float32)


def run(model: Any, x: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], list[int]]:
    """The result, the same for any number of threads, and what pieces Concats were cut into."""
    pieces: list[int] = []
    made = native.Bound.__init__

    def noted(bound: native.Bound, *given: Any) -> None:
        made(bound, *given)
        kernels = zip(bound.wiring.kernels, bound.pieces.tolist(), strict=True)
        pieces.extend(count for (kernel, _), count in kernels if kernel.name == "Concat")

    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native.Bound, "__init__", noted)
        for threads in (1, 2):
            options = SessionOptions(intra_op_num_threads=threads)
            session = InferenceSession(model.SerializeToString(), options)
            results += [session.run(None, {"x": x})[0] for _ in range(3)]  # the short ways as well
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    (wanted,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(results[0], wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    return results[0], pieces


def test_parts_of_one_image_are_written_where_the_result_has_them(
    rng: np.random.Generator,
) -> None:
    network = Network(rng, CHANNELS, images=True)
    first, second = network.layer("x"), network.layer("x")
    model = network.model(network.layer(network.join([first, second])))
    assert set(run(model, network.fed(1))[1]) == {0}
    assert all(run(model, network.fed(2))[1])


def test_dense_blocks_copy_nothing(rng: np.random.Generator) -> None:
    network = Network(rng, 16)
    values = [network.layer("x"), network.layer("x")]
    for _ in range(3):
        values.append(network.layer(network.join(values)))
    model = network.model(network.layer(network.join(values)))
    for count in (1, 5, 64):
        _, pieces = run(model, network.fed(count))
        assert len(pieces) >= 4
        assert not any(pieces)


def test_parts_that_end_within_a_line_of_the_cache_are_copied(rng: np.random.Generator) -> None:
    network = Network(rng, 8)
    first = network.layer("x")
    model = network.model(network.layer(network.join([first, network.layer(first)])))
    assert all(run(model, network.fed(3))[1])
    assert set(run(model, network.fed(4))[1]) == {0}


def test_one_value_twice_is_copied(rng: np.random.Generator) -> None:
    network = Network(rng, 16)
    first = network.layer("x")
    model = network.model(network.layer(network.join([first, first])))
    assert all(run(model, network.fed(3))[1])


def test_results_and_feeds_lie_where_others_have_them(rng: np.random.Generator) -> None:
    network = Network(rng, 16)
    first = network.layer("x")
    fed = network.layer(network.join([first, "x"]))
    model = network.model(network.join([fed, network.layer(first)]))
    assert all(run(model, network.fed(3))[1])


@pytest.mark.parametrize("width", [16, 8])
def test_drawn_networks_agree_with_the_kernels(width: int, rng: np.random.Generator) -> None:
    for _ in range(3):
        drawn(Network(rng, width))


@pytest.mark.slow
@pytest.mark.parametrize("width", [16, 32, 24])
def test_drawn_images_agree_with_the_kernels(width: int, rng: np.random.Generator) -> None:
    drawn(Network(rng, width, images=True))


def drawn(network: Network) -> None:
    """Compare a network that is drawn with what NumPy kernels give."""
    values = ["x", network.layer("x"), network.layer("x")]
    for _ in range(8):
        names = [str(name) for name in network.rng.choice(values[1:], 3)]
        is_join = network.rng.integers(2)
        values.append(network.join(names[1:]) if is_join else network.layer(names[0]))
    model = network.model(network.layer(network.join(values[-3:])))
    for count in (1, 3, 8):
        run(model, network.fed(count))
