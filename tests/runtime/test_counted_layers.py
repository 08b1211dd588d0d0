"""Layers of networks behind rows that data choose: compiled, they give what their kernels do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from fornix import InferenceSession
from fornix.onnx import parser

HEAD = '<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1, "ai.onnx.ml" : 4]>\n'
ROUNDING = 1e-5
"""Sums of a few hundred float32, in another order than NumPy's."""


@dataclass
class Case:
    """A row's extents, what is done with some rows, and inputs besides."""

    row: str
    nodes: str
    inputs: dict[str, str] = field(default_factory=dict)


QUANTIZED = """s = Constant <value_float = 0.5> ()
    z = Constant <value = uint8 {3}> ()
    a = QuantizeLinear (some, s, z)
    """
CASES = {
    "LpPool": Case("2, 6, 6", "y = LpPool <kernel_shape = [3, 3], p = 1> (some)"),
    "SpaceToDepth": Case("2, 6, 4", "y = SpaceToDepth <blocksize = 2> (some)"),
    "GroupNormalization": Case(
        "4, 6", "y = GroupNormalization <num_groups = 2> (some, k, k)", {"k": "float[4]"}
    ),
    "GroupNorm": Case(
        "3, 2, 4",
        "y = com.microsoft.GroupNorm <activation = 1, groups = 2> (some, k, k)",
        {"k": "float[4]"},
    ),
    "attention of batches": Case(
        "3, 8", "y = com.microsoft.Attention <num_heads = 2> (some, w)", {"w": "float[8, 24]"}
    ),
    "attention of rows": Case(
        "8",
        """z = Constant <value_ints = [0]> ()
        one = Unsqueeze (some, z)
        y = com.microsoft.Attention <num_heads = 2, unidirectional = 1> (one, w)""",
        {"w": "float[8, 24]"},
    ),
    "QAttention": Case(
        "3, 8",
        QUANTIZED + "y = com.microsoft.QAttention <num_heads = 2> (a, w, b, s, s, , z, z)",
        {"w": "uint8[8, 24]", "b": "float[24]"},
    ),
    "MultiHeadAttention": Case(
        "3, 8", "y = com.microsoft.MultiHeadAttention <num_heads = 2> (some, some, some)"
    ),
    "keys of another length": Case(
        "8",
        """z = Constant <value_ints = [0]> ()
        one = Unsqueeze (some, z)
        y = com.microsoft.MultiHeadAttention <num_heads = 2> (one, k, k)""",
        {"k": "float[1, 5, 8]"},
    ),
    "Attention": Case(
        "3, 8", "y = Attention <q_num_heads = 2, kv_num_heads = 2> (some, some, some)"
    ),
    "RotaryEmbedding": Case(
        "3, 8",
        """p = Constant <value_ints = [1]> ()
        y = com.microsoft.RotaryEmbedding <num_heads = 2> (some, p, c, c)""",
        {"c": "float[5, 2]"},
    ),
    "EmbedLayerNormalization": Case(
        "5",
        """i = Cast <to = 6> (some)
        j = Abs (i)
        y, m = com.microsoft.EmbedLayerNormalization (j, , t, t, , k, k)""",
        {"t": "float[8, 4]", "k": "float[4]"},
    ),
    "MatMulInteger": Case(
        "8",
        """a, s, z = DynamicQuantizeLinear (some)
        y = MatMulInteger (a, w, z)""",
        {"w": "uint8[8, 3]"},
    ),
    "QLinearMatMul": Case(
        "8",
        QUANTIZED + "y = QLinearMatMul (a, s, z, w, s, z, s, z)",
        {"w": "uint8[8, 3]"},
    ),
    "QGemm": Case(
        "8",
        QUANTIZED + "y = com.microsoft.QGemm <transB = 1> (a, s, z, w, s, z)",
        {"w": "uint8[3, 8]"},
    ),
    "QLinearConv": Case(
        "2, 6, 4",
        QUANTIZED + "y = QLinearConv (a, s, z, w, s, z, s, z)",
        {"w": "uint8[3, 2, 3, 3]"},
    ),
    "ConvInteger": Case(
        "2, 6, 4", QUANTIZED + "y = ConvInteger (a, w, z)", {"w": "uint8[3, 2, 3, 3]"}
    ),
    "pools of bytes": Case(
        "4, 6, 2",
        QUANTIZED
        + """b = com.microsoft.NhwcMaxPool <kernel_shape = [2, 2]> (a)
        c = com.microsoft.QLinearGlobalAveragePool <channels_last = 1> (b, s, z, s, z)
        d = com.microsoft.QLinearConcat <axis = 1> (s, z, b, s, z, c, s, z)
        y = com.microsoft.DequantizeLinear (d, s, z)""".replace("[2, 2]", "[1, 6]"),
    ),
    "DeformConv": Case(
        "2, 3, 4",
        """n = Shape <end = 1> (some)
        r = Constant <value_ints = [4, 3, 3]> ()
        e = Concat <axis = 0> (n, r)
        o = Expand (h, e)
        y = DeformConv (some, w, o)""",
        {"w": "float[3, 2, 1, 2]", "h": "float[1]"},
    ),
    "ReverseSequence": Case(
        "8",
        """n = Shape <end = 1> (some)
        t = Constant <value_ints = [3]> ()
        k = Expand (t, n)
        y = ReverseSequence <batch_axis = 0, time_axis = 1> (some, k)""",
    ),
    "MaxRoiPool": Case(
        "5",
        """z = Constant <value_floats = [0.0, 1.0, 1.0, 1.0, 1.0]> ()
        a = Abs (some)
        r = Mul (a, z)
        y = MaxRoiPool <pooled_shape = [1, 2]> (x0, r)""",
        {"x0": "float[1, 2, 8, 8]"},
    ),
    "DFT": Case("6, 1", "y = DFT (some)"),
    "CenterCropPad": Case(
        "3, 6",
        """s = Constant <value_ints = [4, 4]> ()
        y = CenterCropPad <axes = [1, 2]> (some, s)""",
    ),
    "Col2Im": Case(
        "4, 6",
        """i = Constant <value_ints = [3, 4]> ()
        b = Constant <value_ints = [2, 2]> ()
        y = Col2Im (some, i, b)""",
    ),
    "tables": Case(
        "3",
        """i = Cast <to = 7> (some)
        a = ai.onnx.ml.OneHotEncoder <cats_int64s = [0, 1, 2]> (i)
        b = ai.onnx.ml.LabelEncoder <keys_int64s = [0, 1], values_floats = [1.5, 2.5]> (i)
        c = ai.onnx.ml.FeatureVectorizer <inputdimensions = [3, 3]> (b, some)
        s = Constant <value_ints = [0, 3, 1]> ()
        d = ai.onnx.ml.ArrayFeatureExtractor (c, s)
        f = Flatten (a)
        y = Concat <axis = 1> (d, f)""",
    ),
}


def numbers(random: np.random.Generator, type_: str) -> np.ndarray[Any, Any]:
    """Small whole numbers, of which sums are exact."""
    name, extents = type_.rstrip("]").split("[")
    shape = [int(n) for n in extents.split(",")]
    least = 0 if name == "uint8" else -3
    return random.integers(least, 4, shape).astype(name.replace("float", "float32"))


@pytest.mark.parametrize("name", CASES)
def test_rows_that_a_condition_chooses_pass_through_compiled_layers(name: str) -> None:
    case = CASES[name]
    random = np.random.default_rng(5)
    given = {k: numbers(random, type_) for k, type_ in case.inputs.items()}
    declared = ", ".join(f"{type_} {k}" for k, type_ in case.inputs.items())
    text = f"""f (float[N, {case.row}] x, bool[N] keep{declared and ", "}{declared}) => (y) {{
        some = Compress <axis = 0> (x, keep)
        {case.nodes}
    }}"""
    model = parser.parse_model(HEAD + text).SerializeToString()
    compiled = InferenceSession(model)
    assert not [place for place in compiled.placement() if not place.kernels]
    reference = InferenceSession(model, providers=["ReferenceExecutionProvider"])
    for count, share in ((7, 0.5), (7, 0.5), (3, 0.0), (20, 1.0), (3, 0.0), (5, 0.7)):
        keep = random.random(count) < share
        keep[0] |= name == "MatMulInteger"  # of nothing there is no greatest element
        feeds = {"x": numbers(random, f"float[{count}, {case.row}]"), "keep": keep, **given}
        [found], [wanted] = (session.run(None, feeds) for session in (compiled, reference))
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=ROUNDING, atol=ROUNDING)
