from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.dtype import FLOAT32, INT32
from fornix.errors import Fail, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import Fact, tensor
from tests.ops.harness import check_lowering, check_node, fact_of, infer_op, lower_op, peer, run_op

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
STEPS, BATCH, INPUT, HIDDEN = 5, 3, 4, 2
RTOL = ATOL = 1e-5  # float32: sums of at most 6 products, through 5 steps


def inputs_of(name: str, directions: int, seed: int = 0) -> list[Any]:
    random = np.random.default_rng(seed)
    rows = GATES[name] * HIDDEN

    def array(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float32)

    return [
        array(STEPS, BATCH, INPUT),
        array(directions, rows, INPUT),
        array(directions, rows, HIDDEN),
        array(directions, 2 * rows),
    ]


def states_of(name: str, directions: int) -> list[Any]:
    random = np.random.default_rng(9)
    count = 2 if name == "LSTM" else 1
    shape = (directions, BATCH, HIDDEN)
    return [random.standard_normal(shape).astype(np.float32) for _ in range(count)]


def agree(name: str, inputs: list[Any], attributes: dict[str, Any], opset: int = 14) -> None:
    outputs = 3 if name == "LSTM" else 2
    attributes = {"hidden_size": HIDDEN, **attributes}
    wanted = peer(name, inputs, attributes, outputs=outputs, opset=opset)
    check_node(name, inputs, attributes, opset=opset, expected=wanted, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [None, [5, 2, 3], [1, 5, 4]])
def test_directions_and_lengths_agree_with_onnxruntime(
    name: str, direction: str, lengths: list[int] | None
) -> None:
    directions = 2 if direction == "bidirectional" else 1
    lens = None if lengths is None else np.array(lengths, np.int32)
    inputs = [*inputs_of(name, directions), lens, *states_of(name, directions)]
    agree(name, inputs, {"direction": direction})


@pytest.mark.parametrize("name", GATES)
def test_biases_and_states_may_be_left_out(name: str) -> None:
    agree(name, inputs_of(name, 1)[:3], {})


@pytest.mark.parametrize(
    ("activation", "alpha", "beta"),
    [
        ("Relu", None, None),
        ("Affine", 0.7, 0.1),
        ("LeakyRelu", 0.2, None),
        ("ThresholdedRelu", 0.3, None),
        ("ScaledTanh", 0.9, 0.8),
        ("HardSigmoid", 0.3, 0.4),
        ("Elu", 0.6, None),
        ("Softsign", None, None),
        ("Softplus", None, None),
    ],
)
def test_activations_agree_with_onnxruntime(
    activation: str, alpha: float | None, beta: float | None
) -> None:
    attributes: dict[str, Any] = {"activations": [activation]}
    attributes |= {} if alpha is None else {"activation_alpha": [alpha]}
    attributes |= {} if beta is None else {"activation_beta": [beta]}
    agree("RNN", inputs_of("RNN", 1), attributes)


def test_parameters_go_to_the_activations_that_take_them() -> None:
    attributes = {
        "activations": ["Sigmoid", "LeakyRelu", "Tanh", "HardSigmoid", "Tanh", "Elu"],
        "activation_alpha": [0.2, 0.3, 0.5],
        "activation_beta": [0.4],
        "direction": "bidirectional",
    }
    agree("LSTM", inputs_of("LSTM", 2), attributes)


@pytest.mark.parametrize("name", ["RNN", "GRU"])
def test_clip_bounds_what_activations_see(name: str) -> None:
    agree(name, inputs_of(name, 1), {"clip": 0.3})


@pytest.mark.parametrize("linear", [0, 1])
def test_gru_resets_before_or_after_the_product(linear: int) -> None:
    agree("GRU", inputs_of("GRU", 1), {"linear_before_reset": linear})


def test_lstm_peepholes_agree_with_onnxruntime() -> None:
    peepholes = np.random.default_rng(3).standard_normal((1, 3 * HIDDEN)).astype(np.float32)
    agree("LSTM", [*inputs_of("LSTM", 1), None, *states_of("LSTM", 1), peepholes], {})


def test_lstm_couples_input_and_forget_gates() -> None:
    agree("LSTM", inputs_of("LSTM", 1), {"input_forget": 1})


@pytest.mark.parametrize("name", GATES)
def test_batch_first_is_the_same_layer(name: str) -> None:
    inputs, states = inputs_of(name, 2), states_of(name, 2)
    attributes = {"hidden_size": HIDDEN, "direction": "bidirectional"}
    outputs = 3 if name == "LSTM" else 2
    every, *last = run_op(name, [*inputs, None, *states], attributes, outputs=outputs)
    turned = [inputs[0].swapaxes(0, 1), *inputs[1:], None, *(s.swapaxes(0, 1) for s in states)]
    wanted = [every.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in last)]
    check_node(name, turned, attributes | {"layout": 1}, expected=wanted, rtol=1e-6)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
def test_layers_are_lowered_to_scans(name: str, direction: str, layout: int) -> None:
    directions = 2 if direction == "bidirectional" else 1
    inputs, states = inputs_of(name, directions), states_of(name, directions)
    if layout:
        inputs[0], states = inputs[0].swapaxes(0, 1), [state.swapaxes(0, 1) for state in states]
    attributes = {"hidden_size": HIDDEN, "direction": direction, "layout": layout}
    outputs = 3 if name == "LSTM" else 2
    for lengths in (None, np.array([5, 2, 0], np.int32)):
        check_lowering(name, [*inputs, lengths, *states], attributes, outputs=outputs)
    check_lowering(name, inputs[:3], attributes, outputs=outputs)


def test_variants_of_layers_are_lowered() -> None:
    peepholes = np.random.default_rng(3).standard_normal((1, 3 * HIDDEN)).astype(np.float32)
    given = [*inputs_of("LSTM", 1), None, *states_of("LSTM", 1), peepholes]
    check_lowering("LSTM", given, outputs=3)
    check_lowering("LSTM", given[:4], {"input_forget": 1, "clip": 0.5}, outputs=3)
    names = {"activations": ["HardSigmoid", "Elu"], "activation_alpha": [0.3, 0.5]}
    for linear in (0, 1):
        attributes = {"linear_before_reset": linear, **names}
        check_lowering("GRU", inputs_of("GRU", 1), attributes, outputs=2)


@pytest.mark.parametrize("name", GATES)
def test_narrow_layers_are_lowered(name: str) -> None:
    inputs = [x.astype(np.float16) for x in inputs_of(name, 1)]
    check_lowering(name, inputs, outputs=2, rtol=2e-3, atol=2e-3)  # two steps of float16
    check_lowering(name, [inputs[0][:0], *inputs[1:]], outputs=2)


def test_lengths_beyond_the_steps_are_refused_by_the_lowering_too() -> None:
    lens = np.array([6, 1, 1], np.int32)
    with pytest.raises(Fail, match=r"index 6 is out of range \[0, 5\]"):
        lower_op("RNN", [*inputs_of("RNN", 1), lens])


@pytest.mark.parametrize("name", GATES)
def test_shapes_stay_symbolic(name: str) -> None:
    steps, batch = symbol("S"), symbol("N")
    rows = GATES[name] * HIDDEN
    facts = [
        tensor(FLOAT32, (steps, batch, INPUT)),
        tensor(FLOAT32, (1, rows, INPUT)),
        tensor(FLOAT32, (1, rows, HIDDEN)),
    ]
    every, last = infer_op(name, facts, {"hidden_size": HIDDEN}, outputs=2)
    assert every.shape == (steps, 1, batch, HIDDEN)
    assert last.shape == (1, batch, HIDDEN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"direction": "sideways"}, "direction must be forward, reverse or bidirectional"),
        ({"direction": "bidirectional"}, "must begin with the number of directions"),
        ({"hidden_size": 7}, "must end with hidden_size=7"),
        ({"activations": ["Tanh"] * 2}, "activations must name 3 functions"),
        ({"activations": ["Tanh", "Tan", "Tanh"]}, "got 'Tan'"),
    ],
)
def test_contradictory_attributes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("LSTM", inputs_of("LSTM", 1), {"hidden_size": HIDDEN, **change})


def test_lengths_beyond_the_steps_are_refused() -> None:
    lens = np.array([6, 1, 1], np.int32)
    inputs = [*inputs_of("RNN", 1), lens]
    with pytest.raises(ShapeError, match=r"sequence_lens must hold lengths in \[0, 5\]"):
        run_op("RNN", inputs)
    with pytest.raises(ShapeError, match=r"sequence_lens must hold lengths in \[0, 5\]"):
        infer_op("RNN", [fact_of(x) for x in inputs])


def test_initial_states_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"initial states must be \[1, 3, 2\]"):
        run_op("RNN", [*inputs_of("RNN", 1), None, np.zeros((1, 1, 2), np.float32)])


def test_biases_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"B must be \[1, 4\], found \[1, 2\]"):
        run_op("RNN", [*inputs_of("RNN", 1)[:3], np.zeros((1, 2), np.float32)])


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (0, (5, 3), r"X must have 3 axes, found X\[5, 3\]"),
        (0, (5, 3, 3), r"X\[5, 3, 3\] and W\[1, 8, 4\] must end with the same number of inputs"),
        (1, (1, 8, 4, 1), "W must have 3 axes"),
        (1, (0, 8, 4), "must begin with the number of directions of 'forward', 1"),
        (1, (1, 9, 4), r"W\[1, 9, 4\] must have 4 rows for each of 2 hidden elements"),
        (2, (1, 7, 2), r"R\[1, 7, 2\] must have 4 rows for each of 2 hidden elements"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    index: int, shape: tuple[int, ...], message: str
) -> None:
    inputs = inputs_of("LSTM", 1)[:3]
    inputs[index] = np.zeros(shape, np.float32)
    with pytest.raises(ShapeError, match=message):
        run_op("LSTM", inputs, {"hidden_size": HIDDEN})
    with pytest.raises(ShapeError, match=message):
        infer_op("LSTM", [tensor(FLOAT32, x.shape) for x in inputs], {"hidden_size": HIDDEN})


def test_peepholes_of_another_shape_are_refused() -> None:
    inputs = [*inputs_of("LSTM", 1), None, *states_of("LSTM", 1), np.zeros((1, 5), np.float32)]
    with pytest.raises(ShapeError, match=r"P must be \[1, 6\], found \[1, 5\]"):
        run_op("LSTM", inputs, {"hidden_size": HIDDEN})


@pytest.mark.parametrize("name", sorted(GATES))
def test_softplus_keeps_its_precision_where_it_vanishes(name: str) -> None:
    x = np.array([-700.0, -50, -20, -3, 0, 3, 700]).reshape(1, -1, 1)
    rows = GATES[name]
    w = np.zeros((1, rows, 1))
    w[:, -1] = 1  # the cell gate, the hidden gate or all there is
    names = ["Softplus"] if name == "RNN" else ["Sigmoid", "Softplus", "Relu"][: rows - 1]
    inputs = [x, w, np.zeros((1, rows, 1))]
    attributes = {"hidden_size": 1, "activations": names}
    wanted = np.logaddexp(0, x[0, :, 0]) * {"RNN": 1, "GRU": 0.5, "LSTM": 0.25}[name]
    for run in (run_op, lower_op):
        found = run(name, inputs, attributes, outputs=2)[1]
        np.testing.assert_allclose(found[0, :, 0], wanted, rtol=1e-15)


@pytest.mark.parametrize("name", sorted(GATES))
def test_loops_read_the_bias_of_as_many_directions_as_there_are(name: str) -> None:
    inputs = inputs_of(name, 1)
    inputs[3] = np.concatenate([inputs[3]] * 2)
    for run in (run_op, lower_op):
        with pytest.raises(ShapeError, match=r"B must be \[1, .*, found \[2, "):
            run(name, inputs, {"hidden_size": HIDDEN}, outputs=2)


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (3, (1, 4), r"B must be \[1, 16\], found \[1, 4\]"),
        (4, (2,), r"sequence_lens must be \[3\], found \[2\]"),
        (5, (1, 4, 2), r"initial_h must be \[1, 3, 2\], found \[1, 4, 2\]"),
        (6, (3, 2), r"initial_c must be \[1, 3, 2\], found \[3, 2\]"),
        (7, (1, 5), r"P must be \[1, 6\], found \[1, 5\]"),
    ],
)
def test_inference_refuses_optional_inputs_that_do_not_fit(
    index: int, shape: tuple[int, ...], message: str
) -> None:
    facts: list[Fact | None] = [tensor(FLOAT32, x.shape) for x in inputs_of("LSTM", 1)[:3]]
    facts += [None] * (index - 3)
    facts.append(tensor(INT32 if index == 4 else FLOAT32, shape))
    with pytest.raises(ShapeError, match=message):
        infer_op("LSTM", facts, {"hidden_size": HIDDEN})
