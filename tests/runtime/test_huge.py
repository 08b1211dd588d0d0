"""Results that no memory holds: both engines say which node asks for them, before they run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix import InferenceSession
from fornix.errors import Fail, FornixError, ShapeError
from fornix.format.text import parse_model
from fornix.reference import ReferenceEvaluator
from fornix.runtime import memory

HUGE = 10**15
"""Elements of float32 that are more than addresses of a process reach."""
TURNED = f"ConvTranspose <strides = [{HUGE}]> "
X, ROW = np.ones(4, np.float32), np.ones((10**7, 1), np.float32)
ENGINES = (ReferenceEvaluator, InferenceSession)

CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a count": (
        "g (float[4] x, int64[1] n) => (float y) { y = Tile(x, n) }",
        {"x": X, "n": np.array([HUGE])},
        r"Tile, opset 24\): output must .*\[4000000000000000\] of 16,000,000,000,000,000 bytes; a",
    ),
    "a shape": (
        "g (int64[1] n) => (float y) { z = ConstantOfShape(n) y = Relu(z) }",
        {"n": np.array([HUGE])},
        r"node for 'z' \(ConstantOfShape, opset 24\): output must fit into memory, found",
    ),
    "pads": (
        'g (float[4] x, int64[2] n) => (float y) { y = Pad <mode = "wrap"> (x, n) }',
        {"x": X, "n": np.array([0, HUGE])},
        r"node for 'y' \(Pad, opset 24\): output must fit into memory, found",
    ),
    "pads of a convolution": (
        f"g (float[1,1,4] x, float[1,1,2] w) => (float y) {{ y = Conv <pads=[{HUGE}, 0]> (x, w) }}",
        {"x": X[None, None], "w": np.ones((1, 1, 2), np.float32)},
        r"node for 'y' \(Conv, opset 24\): Y must fit into memory, found",
    ),
    "strides of a transposed convolution": (
        f"g (float[1,1,4] x, float[1,1,2] w) => (float y) {{ y={TURNED}(x, w) }}",
        {"x": X[None, None], "w": np.ones((1, 1, 2), np.float32)},
        r"node for 'y' \(ConvTranspose, opset 24\): Y must fit into memory, found",
    ),
    "broadcasting of extents that are open": (
        "g (float[N, 1] a, float[1, M] b) => (float[N, M] y) { y = Add(a, b) }",
        {"a": ROW, "b": ROW.T},
        r"node for 'y' \(Add, opset 24\): C must fit .*, found float32\[10000000, 10000000\]",
    ),
    "a product": (
        "g (float[N, 1] a, float[1, M] b) => (float[N, M] y) { c = MatMul(a, b) y = Softmax(c) }",
        {"a": ROW, "b": ROW.T},
        r"node for 'c' \(MatMul, opset 24\): Y must fit into memory, found",
    ),
    "a range": (
        "g (int64 a, int64 b, int64 c) => (int64[N] y) { y = Range(a, b, c) }",
        {"a": np.array(0), "b": np.array(HUGE), "c": np.array(1)},
        r"node for 'y' \(Range, opset 24\): output must fit into memory, found",
    ),
}  # fmt: skip


def message_of(text: str) -> Any:
    return parse_model(f'<ir_version: 10, opset_import: ["" : 24]> {text}')


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CASES)
def test_what_memory_cannot_hold_is_told_with_its_node(engine: Any, name: str) -> None:
    text, feeds, message = CASES[name]
    runs = engine(message_of(text))
    for _ in range(3):  # later runs of a session take other ways
        with pytest.raises(Fail, match=message):
            runs.run(None, feeds)


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_go_on_after_what_memory_cannot_hold(engine: Any) -> None:
    runs = engine(message_of("g (float[4] x, int64[1] n) => (float y) { y = Tile(x, n) }"))
    for count in (2, HUGE, 2):
        feeds = {"x": X, "n": np.array([count])}
        if count == HUGE:
            with pytest.raises(Fail):
                runs.run(None, feeds)
        else:
            assert runs.run(None, feeds)[0].tolist() == [1.0] * 8


@pytest.mark.parametrize("engine", ENGINES)
def test_extents_beyond_64_bits_are_no_extents(engine: Any) -> None:
    text = "g (float[4] x, int64[2] n) => (float y) { y = Pad(x, n) }"
    feeds = {"x": X, "n": np.full(2, 2**63 - 1)}
    with pytest.raises(ShapeError, match=r"Pad, opset 24\): an extent of at most 2\^63 - 1"):
        engine(message_of(text)).run(None, feeds)


@pytest.mark.parametrize("engine", ENGINES)
def test_memory_that_a_kernel_takes_on_its_way_is_told_too(engine: Any) -> None:
    text = "g (float[1, 1, 2] x, int64 n) => (float y) { y = DFT <onesided = 1, axis = 1> (x, n) }"
    feeds = {"x": np.ones((1, 1, 2), np.float32), "n": np.array(HUGE)}
    with pytest.raises(FornixError, match=r"node for 'y' \(DFT, opset 24\)"):
        engine(message_of(text)).run(None, feeds)


def test_what_is_repeated_in_place_has_to_fit_too() -> None:
    model = message_of("g (float[1] x, int64[1] n) => (float y) { y = Expand(x, n) }")
    feeds = {"x": X[:1], "n": np.array([HUGE])}
    message = r"node for 'y' \(Expand, opset 24\): output must fit into memory, found \[1000000"
    for engine in ENGINES:
        with pytest.raises(Fail, match=message):
            engine(model).run(None, feeds)


def test_results_are_copies_which_have_to_fit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = message_of("g (float[2] x) => (float y) { y = Identity(x) }")
    session = InferenceSession(model, providers=["ReferenceExecutionProvider"])

    def refuse(_: object) -> None:
        raise MemoryError("no")

    monkeypatch.setattr(memory, "owned", refuse)
    with pytest.raises(
        Fail, match=r"node for 'y' \(Identity\): 'y' must fit into memory, found too"
    ):
        session.run(None, {"x": X[:2]})


def test_what_code_would_compute_ahead_has_to_fit_too() -> None:
    rois = ", ".join(["0"] * 5)
    text = f"""g (float[1, 1, 2, 2] x) => (float y) <float[1, 5] r = {{{rois}}}>
        {{ y = MaxRoiPool <pooled_shape = [1, {2**63 - 1}]> (x, r) }}"""
    session = InferenceSession(message_of(text))
    [place] = session.placement()
    assert place.reason.startswith("memory for what is computed ahead is missing: ")
    with pytest.raises(Fail, match=r"MaxRoiPool, opset 24\): Y must fit into memory, found"):
        session.run(None, {"x": np.ones((1, 1, 2, 2), np.float32)})
