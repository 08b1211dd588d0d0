from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import version_converter as peer

import fornix
from fornix.errors import ConvertError, InvalidArgument
from fornix.ir.load import from_message
from fornix.onnx import version_converter
from fornix.reference import ReferenceEvaluator
from tests.conformance.cases import Case, cases
from tests.conformance.run import check_case, is_runnable
from tests.onnx.surface import parameters_of

NEWEST = 28
OPSETS = (1, 7, 9, 11, 12, 13, 17, 18, 21, 25)
FEW_OPSETS = (7, 18)
"""Those of networks, each of which takes NumPy kernels seconds."""
PICTURE = 3 * 224 * 224
"""Elements of a network's input."""

RUNNABLE = [
    case
    for case in cases().values()
    if is_runnable(case) and not case.is_random and "Gradient" not in str(case.operators)
]
FIRST_OF_EACH = list({frozenset(case.operators): case for case in reversed(RUNNABLE)}.values())
QUICK = FIRST_OF_EACH[::8]


def model(text: str, opset: int) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')


def check_there_and_back(case: Case, opset: int) -> None:
    """Whatever ``opset`` can say computes the same there, and in the newest one again."""
    try:
        old = version_converter.convert_version(case.model, opset)
    except ConvertError:
        return
    check_case(replace(case, model=old), ReferenceEvaluator(old))
    new = version_converter.convert_version(old, NEWEST)
    assert {o.version for o in new.opset_import if not o.domain} <= {NEWEST}
    check_case(replace(case, model=new), ReferenceEvaluator(new))


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_some_models_compute_the_same_there_and_back(case: Case) -> None:
    for opset in (7, 11, 13, 18):
        check_there_and_back(case, opset)


@pytest.mark.slow
@pytest.mark.parametrize("case", RUNNABLE, ids=lambda case: case.name)
def test_a_model_computes_the_same_in_every_opset_that_can_say_it(case: Case) -> None:
    fed = [x for inputs, _ in case.data_sets for x in inputs]
    is_network = any(isinstance(x, np.ndarray) and x.size >= PICTURE for x in fed)
    for opset in FEW_OPSETS if is_network else OPSETS:
        check_there_and_back(case, opset)


def results(message: Any, **feeds: Any) -> list[Any]:
    found: list[Any] = ReferenceEvaluator(message).run(None, feeds)
    return found


X = np.arange(24, dtype=np.float32).reshape(1, 6, 4) - 9
OLD: list[tuple[str, int, dict[str, Any]]] = [
    ('(float[1, 6, 4] x) => (int32[1, 6, 4] y) { y = Cast <to: string = "INT32"> (x) }', 1, {}),
    (
        """(float[1, 6, 4] x, float[2] s, float[2] b) => (y)
        { y = GroupNormalization <num_groups = 2> (x, s, b) }""",
        18,
        {"s": np.array([2, 3], np.float32), "b": np.array([1, -1], np.float32)},
    ),
    (
        '(float[1, 6, 4] x, float[3] s) => (y) { y = Upsample <mode: string = "nearest"> (x, s) }',
        9,
        {"s": np.array([1, 2, 3], np.float32)},
    ),
    ("(float[1, 6, 4] x) => (y) { y = GlobalLpPool <p: float = 2.0> (x) }", 1, {}),
    ("(float[1, 6, 4] x) => (y, z) { y, z = Split <axis = 1> (x) }", 13, {}),
    ("(float[1, 6, 4] x) => (y) { y = Concat (x, x) }", 1, {}),
    ("(float[1, 6, 4] x) => (y) { y = Softmax (x) }", 11, {}),
    ("(float[1, 6, 4] x) => (y) { y = Dropout <ratio = 0.25, is_test = 1> (x) }", 6, {}),
]


@pytest.mark.parametrize(("text", "opset", "more"), OLD)
def test_what_old_opsets_say_otherwise_is_said_anew(
    text: str, opset: int, more: dict[str, Any]
) -> None:
    old = model(f"g {text}", opset)
    new = version_converter.convert_version(old, NEWEST)
    for found, wanted in zip(results(new, x=X, **more), results(old, x=X, **more), strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize(("old", "new"), [("bilinear", "linear"), ("bicubic", "cubic")])
def test_modes_of_grid_samples_are_renamed(old: str, new: str) -> None:
    text = """g (float[1, 1, 3, 3] x, float[1, 2, 2, 2] g) => (y)
        {{ y = GridSample <mode = "{}"> (x, g) }}"""
    converted = version_converter.convert_version(model(text.format(old), 16), 20)
    assert converted.graph.node[0].attribute[0].s == new.encode()
    back = version_converter.convert_version(converted, 16)
    assert back.graph.node[0].attribute[0].s == old.encode()


def test_regions_are_not_shifted_before_opset_16() -> None:
    text = """g (float[1, 1, 4, 4] x, float[1, 4] r, int64[1] b) => (y)
        { y = RoiAlign <output_height = 2, output_width = 2> (x, r, b) }"""
    feeds = {
        "x": np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4),
        "r": np.array([[0.5, 0.5, 3, 3]], np.float32),
        "b": np.array([0]),
    }
    old = model(text, 10)
    converted = version_converter.convert_version(old, 16)
    np.testing.assert_allclose(results(converted, **feeds)[0], results(old, **feeds)[0])
    with pytest.raises(ConvertError, match="must be output_half_pixel, found half_pixel"):
        version_converter.convert_version(model(text, 16), 10)


def test_every_node_in_the_way_is_named() -> None:
    text = """g (float[2, 3] x, int64[n] axes) => (y)
        { a = Gelu (x) b = Squeeze (x, axes) c = Mish (a) y = Neg (c) }"""
    with pytest.raises(ConvertError) as caught:
        version_converter.convert_version(model(text, 20), 11)
    lines = str(caught.value).splitlines()
    assert lines[0] == "opset 11 cannot say what 3 nodes of the model do"
    assert [line.split("(")[1].split(",")[0] for line in lines[1:]] == ["Gelu", "Squeeze", "Mish"]
    assert "computed at run time" in lines[2]


def test_subgraphs_and_functions_are_converted_too() -> None:
    message = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 11, "mine": 1]>
        g (bool c, float[2, 3] x) => (y)
        {
            a = mine.f (x)
            y = If (c) <then_branch = t () => (b) { b = ReduceSum <axes = [1], keepdims = 0> (a) },
                        else_branch = e () => (d) { d = ReduceSum <axes = [1], keepdims = 0> (x) }>
        }
        <domain: "mine", opset_import: ["": 11]> f (x) => (y) { y = Unsqueeze <axes = [0]> (x)
            z = Squeeze <axes = [0]> (y) }"""
    )
    message.functions[0].output[:] = ["z"]
    converted = version_converter.convert_version(message, 21)
    assert {o.domain: o.version for o in converted.opset_import} == {"": 21, "mine": 1}
    assert converted.functions[0].opset_import[0].version == 21
    x = np.ones((2, 3), np.float32)
    for condition in (True, False):
        feeds = {"c": np.array(condition), "x": x}
        np.testing.assert_array_equal(results(converted, **feeds)[0], [3, 3])


def test_the_given_model_stays_as_it_is() -> None:
    message = model("g (float[2, 3] x) => (y) { y = ReduceSum <axes = [1]> (x) }", 11)
    before = message.SerializeToString()
    version_converter.convert_version(message, 13)
    assert message.SerializeToString() == before
    ours = from_message(message)
    assert fornix.convert_version(ours, 13).opset_imports[""] == 13
    assert ours.opset_imports[""] == 11


def test_versions_that_do_not_exist_are_refused() -> None:
    message = model("g (float[2] x) => (y) { y = Neg (x) }", 13)
    for opset in (0, NEWEST + 1):
        with pytest.raises(InvalidArgument, match=f"from 1 to 28 is required, found {opset}"):
            version_converter.convert_version(message, opset)


def test_the_signature_is_the_peers() -> None:
    ours = parameters_of(version_converter.convert_version)
    assert ours == parameters_of(peer.convert_version)


def node(text: str, opset: int, inputs: str) -> onnx.ModelProto:
    return model(f"g ({inputs}) => (y) {{ {text} }}", opset)


@pytest.mark.parametrize(
    ("text", "inputs", "source", "target", "message"),
    [
        (
            "y = PRelu (x, s)", "float[2, 3, 4] x, float[3, 4] s", 7, 6,
            r"slope must have 1 element or one per channel, found slope\[3, 4\] for X of rank 3",
        ),
        (
            "y = GroupNormalization <num_groups = 2> (x, s, b)",
            "float[n, c, 4] x, float[2] s, float[2] b", 18, 21,
            "scale and bias go by channel, and their number is not known",
        ),
        (
            "y, z = Split <axis = 0, num_outputs = 2> (x)", "float[n] x", 18, 13,
            "parts are equal or of known lengths, found 2 parts of n",
        ),
        (
            "y = GridSample (x, g)", "float[1, 1, 2, 2, 2] x, float[1, 2, 2, 2, 3] g", 20, 16,
            r"X must be \[N, C, H, W\]",
        ),
        (
            "y = QuantizeLinear (x, s)", "float[2, 3] x, float[3] s", 13, 10,
            r"the scale must be one number, found one of shape \[3\]",
        ),
        (
            "y = OneHot (i, d, v)", "int64[2] i, int64 d, float[2] v", 11, 9,
            "no index of OneHot counts from the end, so it must be a constant",
        ),
        (
            'y = ScatterND <reduction = "max"> (x, i, u)',
            "float[2] x, int64[1, 1] i, float[1] u", 18, 16,
            "reduction must be none or add or mul, found max",
        ),
        (
            'y = Pad <mode = "wrap"> (x, p)', "float[2] x, int64[2] p", 19, 18,
            "mode must be constant or reflect or edge, found wrap",
        ),
        ("y = LpPool <kernel_shape = [2], p = 2.5> (x)", "float[1, 1, 4] x", 1, 2, "of kind int"),
        (
            "y = Scan <num_scan_inputs = 1, body = b (a) => (c) { c = Neg (a) }> (x)",
            "float[2, 3] x", 9, 8, "runs its body for each batch",
        ),
    ],
)  # fmt: skip
def test_what_another_opset_cannot_say_is_told(
    text: str, inputs: str, source: int, target: int, message: str
) -> None:
    with pytest.raises(ConvertError, match=message):
        version_converter.convert_version(node(text, source, inputs), target)


def test_parts_that_are_not_equal_get_lengths() -> None:
    text = "y, z, w = Split <axis = 0, num_outputs = 3> (x)"
    newer = node(text, 18, "float[7] x")
    newer.graph.output.add(name="w")
    older = version_converter.convert_version(newer, 13)
    x = np.arange(7, dtype=np.float32)
    for found, wanted in zip(results(older, x=x), results(newer, x=x), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("text", "inputs", "source", "target"),
    [
        ("y = GroupNormalization <num_groups = 1> (x, s, s)", "float[3] x, float[1] s", 18, 21),
        ("y = TopK (x)", "float[3] x", 1, 10),
    ],
)
def test_nodes_that_are_not_as_their_schema_says_are_told(
    text: str, inputs: str, source: int, target: int
) -> None:
    with pytest.raises(ConvertError, match="cannot say what 1 node of the model do"):
        fornix.convert_version(from_message(node(text, source, inputs)), target)


def test_converting_under_onnxs_name_raises_what_onnx_raises() -> None:
    broken = node("y = Add (x, nowhere)", 13, "float[3] x")
    newer = node("y = Gelu (x)", 20, "float[3] x")
    for model, target in ((broken, 14), (newer, 5)):
        with pytest.raises(RuntimeError):
            version_converter.convert_version(model, target)
        with pytest.raises(version_converter.ConvertError):
            version_converter.convert_version(model, target)
