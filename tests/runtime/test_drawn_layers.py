"""Convolutions and pools drawn at random: sessions compile each of them, and compute what it is.

What the compiler refuses runs its NumPy kernel, which is right, and slow: nobody would see it. The
second cache holds next to nothing here, as schedules ask for more of images that it does not hold.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fornix.compile import program
from fornix.compile.cache import ObjectCache
from fornix.compile.memo import Memo
from fornix.compile.target import Target
from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession, SessionOptions
from tests.compare import assert_same
from tests.compile.levels import target

KINDS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
HOSTS = ["host", *(pytest.param(x, marks=pytest.mark.slow) for x in ("x86-64-v3", "x86-64"))]
SMALL = 8 << 10
"""Bytes of the second cache."""
SIDES = {1: (1, 6, 57, 130), 2: (1, 5, 16, 31), 3: (2, 5, 9)}
"""Extents of what has so many axes."""
CHANNELS, FILTERS = (1, 3, 20, 130), (1, 2, 3, 20, 33)


@pytest.fixture(params=HOSTS)
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with hardly a second cache, for which nothing is compiled yet."""
    chosen = dataclasses.replace(target(request.param), l2_bytes=SMALL)
    monkeypatch.setattr(Target, "host", lambda: chosen)
    memo = Memo(ObjectCache())
    monkeypatch.setattr(program, "memo", lambda: memo)


def windows(rng: np.random.Generator, sides: Sequence[int]) -> dict[str, Any]:
    """Attributes of windows with half of their reach as padding, so that all images hold one."""
    taps = [int(rng.choice([1, 2, 3, 3, 5, 6])) for _ in sides]
    dilations = [int(rng.choice([1, 1, 1, 2])) for _ in sides]
    pads = [((k - 1) * d + 1) // 2 for k, d in zip(taps, dilations, strict=True)]
    strides = [int(rng.choice([1, 2, 2, 3])) for _ in sides]
    return {"kernel_shape": taps, "strides": strides, "dilations": dilations, "pads": pads * 2}


def layer(kind: str, seed: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A layer with extents that are declared or open, and perhaps a Relu or an Add behind it."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    axes = int(rng.choice([1, 2, 2, 2, 3]))
    sides = [int(rng.choice(SIDES[axes])) for _ in range(axes)]
    group = int(rng.choice([1, 1, 1, 2, 4]))
    channels, filters = (group * int(rng.choice(some)) for some in (CHANNELS, FILTERS))
    attributes = windows(rng, sides)
    weights = []
    if kind.startswith("Conv"):
        attributes["group"] = group
        ends = (filters, channels // group) if kind == "Conv" else (channels, filters // group)
        taps = attributes["kernel_shape"]
        w = rng.standard_normal((*ends, *taps), np.float32) / math.sqrt(channels * math.prod(taps))
        weights = [numpy_helper.from_array(w.astype(np.float32), "w")]
    x = rng.standard_normal((int(rng.integers(1, 3)), channels, *sides), np.float32)
    dims = ["N", channels, *"DHW"[:axes]] if rng.random() < 0.4 else x.shape
    names = ["x", *(weight.name for weight in weights)]
    nodes = [helper.make_node(kind, names, ["y"], **attributes)]
    if rng.random() < 0.5:
        nodes += [helper.make_node("Relu", ["y"], ["z"]), helper.make_node("Add", "yz", ["s"])]
    result = helper.make_empty_tensor_value_info(nodes[-1].output[0])
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)
    graph = helper.make_graph(nodes, "layer", [given], [result], weights)
    imports = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10), {"x": x}


def check(kind: str, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    model, feeds = layer(kind, seed)
    (wanted,) = ReferenceEvaluator(model).run(None, feeds)
    found = []
    for threads in (1, 2):
        options = SessionOptions(intra_op_num_threads=threads)
        with caplog.at_level(logging.WARNING):
            session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
        assert not wanted.size or all(place.kernels for place in session.placement())
        assert "refused" not in caplog.text
        found.append(session.run(None, feeds)[0])
    assert found[0].tobytes() == found[1].tobytes()
    size = float(np.abs(wanted).max(initial=1))
    assert_same(found[0], wanted, rtol=1e-4, atol=1e-5 * size)


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_a_drawn_layer_is_compiled(kind: str, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    check(kind, seed, caplog)


@pytest.mark.slow
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2, 42))
def test_many_drawn_layers_are_compiled(
    kind: str, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    check(kind, seed, caplog)
