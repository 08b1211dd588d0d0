"""What is wrong with a node is told alike by the evaluator and by sessions, whatever they know."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fornix import InferenceSession
from fornix.errors import FornixError, SchemaError
from fornix.format.text import parse_model
from fornix.reference import ReferenceEvaluator

ONES = np.ones((2, 3), np.float32)
ML = "ai.onnx.ml"
TRAINING = "ai.onnx.preview.training"
MOMENTUM = f'{TRAINING}.Momentum <alpha=0.5, beta=0.5, mode="standard", norm_coefficient=0.0>'
GIVEN = "imputed_value_floats"
GRAMS = (
    'max_gram_length = 1, max_skip_count = 0, min_gram_length = 1, mode = "TF", '
    "ngram_counts: ints = [], ngram_indexes = [0], pool_int64s = [1]"
)

CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "an axis of what concatenates nothing": (
        "g (float[2, 3] x) => (float y) { y = Concat <axis = 7> (x) }",
        {"x": ONES},
        "axis must be in [-2, 1] for rank 2, got 7",
    ),
    "an axis of what splits nothing": (
        "g (float[2, 3] x) => (float y) { y = Split <axis = -9, num_outputs = 1> (x) }",
        {"x": ONES},
        "axis must be in [-2, 1] for rank 2, got -9",
    ),
    "lengths of what splits nothing": (
        "g (float[2, 3] x) => (float y) <int64[1] n = {1}> { y = Split <axis = 1> (x, n) }",
        {"x": ONES},
        "the entries of split must add up to 3, got [1], which is 1",
    ),
    "a frame step of four axes": (
        "g (float[1, 8] x, int64[1, 1, 1, 1] s) => (float y) { y = STFT (x, s) }",
        {"x": np.ones((1, 8), np.float32), "s": np.ones((1, 1, 1, 1), np.int64)},
        "frame_step must be a scalar, or have one axis, found shape [1, 1, 1, 1]",
    ),
    "a size of two axes": (
        "g (int64[1, 1] n) => (float y) { y = HannWindow (n) }",
        {"n": np.array([[4]])},
        "size must be a scalar, or have one axis, found shape [1, 1]",
    ),
    "no number of classes": (
        "g (int64[2] i, float d, float[2] v) => (float y) { y = OneHot (i, d, v) }",
        {"i": np.arange(2), "d": np.array(np.inf, np.float32), "v": np.ones(2, np.float32)},
        "depth must be a number of classes, got inf",
    ),
    "a way to round that there is not": (
        'g (float[2, 3] x, float[1] l) => (float y) { y = CastLike <round_mode = "even"> (x, l) }',
        {"x": ONES, "l": np.ones(1, np.float32)},
        "round_mode must be up, down or nearest, found 'even'",
    ),
    "a length that a stored list says": (
        "g (float[N] x) => (float y) <int64[1] n = {9}> { y = Split <axis = 0> (x, n) }",
        {"x": np.ones(3, np.float32)},
        "the entries of split must add up to 3, got [9], which is 9",
    ),
    "several diagonals": (
        "g (float[2, 3] x, int64[K] k) => (float[2, 3] y) { y = Trilu (x, k) }",
        {"x": ONES, "k": np.arange(3)},
        "k must have one element, found shape [3]",
    ),
    "values for another number of features": (
        f"g (float[N, F] x) => (float y) {{ y = {ML}.Imputer <{GIVEN} = [1.0, 2.0]> (x) }}",
        {"x": ONES},
        "imputed_value_floats must have one entry or one per feature (3), got 2",
    ),
    "words without lengths": (
        f"g (int64[4] x) => (float y) {{ y = TfIdfVectorizer <{GRAMS}> (x) }}",
        {"x": np.arange(4)},
        "ngram_counts must say where each length begins in 1 words, found none",
    ),
    "an axis of what concatenates one value of unknown rank": (
        "g (float[] x) => (float y) { y = Concat <axis = 7> (x) }",
        {"x": ONES},
        "axis must be in [-2, 1] for rank 2, got 7",
    ),
    "pads of what has an unknown rank": (
        "g (float[] x) => (float y) <int64[2] p = {0, 0}> { y = Pad (x, p) }",
        {"x": ONES},
        "pads must have 4 entries, two for each of 2 axes, got [0, 0]",
    ),
    "a permutation of what has an unknown rank": (
        "g (float[] x) => (float y) { y = Transpose <perm = [0, 1, 2]> (x) }",
        {"x": ONES},
        "perm must be a permutation of [0, 1], data having rank 2, got [0, 1, 2]",
    ),
    "steps of an optimizer": (
        f"g (float[1] r, int64[2] t, float[2] x) => (float y) {{ y,v = {MOMENTUM} (r,t,x,x,x) }}",
        {"r": np.ones(1, np.float32), "t": np.arange(2), "x": np.ones(2, np.float32)},
        "T must be a scalar, got T[2]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_both_engines_refuse_in_the_same_words(name: str) -> None:
    text, feeds, finding = CASES[name]
    head = f'<ir_version: 10, opset_import: ["" : 25, "{ML}" : 1, "{TRAINING}" : 1]> '
    told = []
    for engine in (ReferenceEvaluator, InferenceSession):
        with pytest.raises(FornixError) as raised:
            engine(parse_model(head + text)).run(None, feeds)
        told.append(str(raised.value))
    assert told[0] == told[1]
    assert told[0].startswith("node for 'y' (")
    assert told[0].endswith(f": {finding}")


def test_steps_along_one_place_may_be_of_any_size() -> None:
    text = f"""<ir_version: 10, opset_import: ["" : 21]> g (float[1, 1, 2, 2] x,
        float[1, 1, 1, 1] w) => (float y) {{ y = Conv <dilations = [{2**63 - 1}, 1]> (x, w) }}"""
    feeds = {"x": np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)}
    feeds["w"] = np.full((1, 1, 1, 1), 2, np.float32)
    for engine in (ReferenceEvaluator, InferenceSession):
        [y] = engine(parse_model(text)).run(None, feeds)
        assert y.reshape(-1).tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize("target", [[0, -1], [-1, 0], [0, 0, -1], [0, 0, 1, -1, 1, 1]])
def test_what_is_left_without_elements_is_what_is_not_copied(target: list[int]) -> None:
    values = ", ".join(map(str, target))
    text = f"""<ir_version: 10, opset_import: ["" : 21]> g (float[A, B, C] x) => (float[] y)
        <int64[{len(target)}] t = {{{values}}}> {{ y = Reshape (x, t) }}"""
    for shape in ((0, 0, 0), (0, 0, 5), (0, 4, 5)):
        x = np.zeros(shape, np.float32)
        rest = [n for axis, n in enumerate(shape) if axis >= len(target) or target[axis] != 0]
        wanted = [
            shape[a] if n == 0 else math.prod(rest) if n < 0 else n for a, n in enumerate(target)
        ]
        for engine in (ReferenceEvaluator, InferenceSession):
            assert engine(parse_model(text)).run(None, {"x": x})[0].shape == tuple(wanted)


@pytest.mark.parametrize(
    "node", ["Relu (x, x)", "Relu <rate = 1> (x)", "Concat (x)", "Concat <axis = 0.5> (x)"]
)
def test_what_no_schema_describes_is_of_one_class(node: str) -> None:
    text = f'<ir_version: 10, opset_import: ["" : 21]> g (float[2] x) => (float y) {{ y = {node} }}'
    told = []
    for engine in (ReferenceEvaluator, InferenceSession):
        with pytest.raises(SchemaError) as raised:
            engine(parse_model(text)).run(None, {"x": ONES[0, :2]})
        told.append(str(raised.value))
    assert told[0] == told[1]


WINDOWS = {
    "AveragePool": "AveragePool <kernel_shape = [3], STEP> (x)",
    "Conv": "Conv <STEP> (x, w)",
    "ConvInteger": "ConvInteger <STEP> (b, v)",
    "FusedConv": "com.microsoft.FusedConv <STEP> (x, w)",
    "LpPool": "LpPool <kernel_shape = [3], STEP> (x)",
    "MaxPool": "MaxPool <kernel_shape = [3], STEP> (x)",
    "NhwcMaxPool": "com.microsoft.NhwcMaxPool <kernel_shape = [3, 1], STEP> (c)",
}


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("name", WINDOWS)
def test_images_smaller_than_a_window_are_refused_by_code_for_any_size(
    name: str, step: int
) -> None:
    """Of some of them, formulas and onnxruntime make an empty result, of others not even that."""
    steps = f"[{step}, 1]" if name == "NhwcMaxPool" else f"[{step}]"
    text = f"""<ir_version: 10, opset_import: ["" : 22, "com.microsoft" : 1]>
    g (float[1, 2, H] x, float[4, 2, 3] w) => (y) <int64[1] last = {{3}}> {{
        b = Cast <to = 2> (x)
        v = Cast <to = 3> (w)
        o = Unsqueeze (b, last)
        c = Transpose <perm = [0, 2, 3, 1]> (o)
        y = {WINDOWS[name].replace("STEP", f"strides = {steps}")}
    }}"""
    session = InferenceSession(parse_model(text))
    assert all(place.kernels for place in session.placement())
    evaluator = ReferenceEvaluator(parse_model(text))
    weights = np.ones((4, 2, 3), np.float32)
    for height in (5, 3, 2, 1, 4, 2):
        feeds = {"x": np.full((1, 2, height), 2, np.float32), "w": weights}
        if height >= 3:
            [found], [wanted] = session.run(None, feeds), evaluator.run(None, feeds)
            np.testing.assert_array_equal(found, wanted)
            continue
        for runner in (session, evaluator):
            with pytest.raises(FornixError, match="must hold a window of reach 3, got extent"):
                runner.run(None, feeds)
