"""Resize by scales and to sizes that only a run tells: compiled code equals the NumPy kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from fornix import InferenceSession, SessionOptions
from fornix.compile.identity import processor
from fornix.dtype import FLOAT32
from fornix.errors import FornixError
from fornix.ir.dim import equal, minimum, symbol
from fornix.ir.loops import Load, Store, stored, tensor, walk
from fornix.onnx import helper, parser
from fornix.ops.interpolate import TRANSFORMATIONS, Sampling
from fornix.ops.interpolate_loops import OpenAxis, lower_resample_all
from fornix.runtime.native import NativeStep
from fornix.system import is_mappable
from tests.runtime.stored.kept_models import recalled, use_cache, write

NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
STORED = [0.7, 1.7, 1.5, 0.625, 2.4, 0.31, 1.0, 3.0]
"""Scales: two that are simple fractions, and those that a rounded product makes whole or not."""


def resize_model(attributes: dict[str, Any], inputs: str, stored: str = "", opset: int = 19) -> Any:
    """A Resize that reads what ``inputs`` and ``stored`` declare of x, r, s and n."""
    given = "".join(name if f"] {name}" in f"{inputs} {stored}" else "-" for name in "xrsn")
    read = ", ".join(given.replace("-", " "))
    head = f'<ir_version: 9, opset_import: ["" : {opset}]>'
    text = f"{head} f ({inputs}) => (float[A, B, P, Q] y) <{stored}> {{ y = Resize ({read}) }}"
    model = parser.parse_model(text)
    node = model.graph.node[0]
    node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    return model


def pair(model: Any, threads: int = 1) -> tuple[InferenceSession, InferenceSession]:
    options = SessionOptions()
    options.intra_op_num_threads = threads
    return (
        InferenceSession(model, options, providers=["CPUExecutionProvider"]),
        InferenceSession(model, providers=["ReferenceExecutionProvider"]),
    )


def is_compiled(session: InferenceSession) -> bool:
    assert session._programs is not None
    return all(isinstance(step, NativeStep) for step in session._programs.whole.steps)


def check(sessions: tuple[InferenceSession, InferenceSession], feeds: dict[str, Any]) -> None:
    compiled, reference = sessions
    [expected] = reference.run(None, feeds)
    for _ in range(2):  # the long way, and then the short one
        [found] = compiled.run(None, feeds)
        np.testing.assert_allclose(found, expected, rtol=3e-5, atol=3e-5, strict=True)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_stored_fractions_make_extents_of_a_run(mode: str) -> None:
    attributes = {"mode": mode}
    sessions = pair(
        resize_model(attributes, "float[N, C, H, W] x", "float[4] s = {1, 1, 0.7, 2.4}")
    )
    assert is_compiled(sessions[0])
    rng = np.random.default_rng(0)
    for extents in ((10, 5), (20, 15), (30, 1), (3, 7)):  # products that are all but whole numbers
        check(sessions, {"x": rng.standard_normal((1, 2, *extents)).astype("f")})


@pytest.mark.parametrize("length", [10, 4096, 4097, 8191, 12289])
def test_formulas_of_fractions_serve_as_far_as_floats_are_exact(length: int) -> None:
    stored = f"float[4] s = {{1, 1, 1, {4095 / 4096}}}"  # times 4096: what float32 holds
    sessions = pair(resize_model({}, "float[A, B, C, L] x", stored))
    check(sessions, {"x": np.random.default_rng(0).random((1, 1, 2, length)).astype("f")})


def test_scales_that_are_fed_tell_extents() -> None:
    sessions = pair(resize_model({"mode": "linear"}, "float[N, C, H, W] x, float[4] s"))
    assert is_compiled(sessions[0])
    x = np.random.default_rng(0).standard_normal((1, 2, 6, 9)).astype("f")
    for scales in ((1, 1, 0.7, 2.4), (1, 2, 1, 1), (1, 1, 0.1, 2)):
        check(sessions, {"x": x, "s": np.array(scales, "f")})


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_rows_become_fewer_or_more_from_run_to_run(mode: str) -> None:
    declared = "float[2, 3, H, W] x, int64[4] n"
    attributes = {"mode": mode, "exclude_outside": int(mode == "cubic")}
    one, two = (pair(resize_model(attributes, declared), threads) for threads in (1, 2))
    assert is_compiled(one[0])
    x = np.random.default_rng(0).standard_normal((2, 3, 12, 17)).astype("f")
    for extents in ((5, 9), (40, 40), (12, 33), (1, 17), (13, 1), (5, 9)):
        feeds = {"x": x, "n": np.array([2, 3, *extents])}
        check(one, feeds)
        np.testing.assert_array_equal(one[0].run(None, feeds)[0], two[0].run(None, feeds)[0])


def test_along_the_last_axis_as_few_rows_are_resized_as_there_are_before_or_after() -> None:
    h, w, p, q = (symbol(name) for name in "HWPQ")
    axes = {2: OpenAxis(h, p, None), 3: OpenAxis(w, q, None)}
    x = tensor("x", (1, 3, h, w), FLOAT32)
    y = stored(lower_resample_all(x, axes, Sampling("linear", "half_pixel")))
    assert y.buffer is not None
    assert isinstance(y.buffer.source, Store)
    read = {node.buffer for node in walk(y.buffer.source.value) if isinstance(node, Load)}
    [rows] = [buffer for buffer in read if buffer.dtype is FLOAT32 and len(buffer.shape) == 4]
    assert equal(rows.elements, 3 * minimum(h, p) * q) is True


@pytest.mark.parametrize("scale", [0.0, -2.0, np.nan, np.inf])
def test_fed_scales_are_positive_numbers(scale: float) -> None:
    sessions = pair(resize_model({}, "float[1, 1, H, W] x, float[4] s"))
    feeds = {"x": np.ones((1, 1, 2, 3), "f"), "s": np.array([1, 1, scale, 2], "f")}
    for session in sessions:
        with pytest.raises(FornixError, match="scales must be positive, got"):
            session.run(None, feeds)


def test_infinite_neighbours_without_weight_leave_no_nan() -> None:
    sessions = pair(resize_model({"mode": "linear"}, "float[1, 1, H, W] x, int64[4] n"))
    x = np.array([[np.inf, 1, np.nan, 2, -np.inf]], "f").reshape(1, 1, 1, 5)
    for width in (5, 10, 15, 3):
        check(sessions, {"x": x, "n": np.array([1, 1, 1, width])})


@pytest.mark.parametrize("dtype", ["float16", "double", "uint8", "int32", "bfloat16"])
def test_other_types_are_resized_by_scales_of_a_run(dtype: str) -> None:
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
        f (float[1, 2, H, W] x, float[4] s) => ({dtype}[A, B, P, Q] y) {{
            z = Cast <to = {TYPES[dtype]}> (x)
            y = Resize <mode = "linear"> (z, , s) }}"""
    sessions = pair(parser.parse_model(text))
    x = np.random.default_rng(0).uniform(0, 100, (1, 2, 5, 7)).astype("f")
    feeds = {"x": x, "s": np.array([1, 1, 1.7, 0.7], "f")}
    [found], [expected] = (session.run(None, feeds) for session in sessions)
    np.testing.assert_allclose(
        found.astype("f"), expected.astype("f"), rtol=1e-5 if dtype == "double" else 1e-2, atol=1
    )


TYPES = {"float16": 10, "double": 11, "uint8": 2, "int32": 6, "bfloat16": 16}


@pytest.mark.parametrize("opset", [7, 9, 10])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_scales_of_earlier_versions_make_extents_of_a_run(opset: int, mode: str) -> None:
    name = "Resize" if opset == 10 else "Upsample"
    scales = "[1.0, 1.0, 1.7, 1.3]" if opset == 7 else "{1, 1, 1.7, 1.3}"
    how = f'<mode = "{mode}", scales = {scales}> (x)' if opset == 7 else f'<mode = "{mode}"> (x, s)'
    stored = "" if opset == 7 else f"<float[4] s = {scales}>"
    sessions = pair(
        parser.parse_model(f"""<ir_version: 9, opset_import: ["" : {opset}]>
        f (float[1, 2, H, W] x) => (float[A, B, P, Q] y) {stored} {{ y = {name} {how} }}""")
    )
    assert is_compiled(sessions[0])
    x = np.random.default_rng(0).standard_normal((1, 2, 10, 7)).astype("f")
    check(sessions, {"x": x})


def upsample_of_fed_scales(mode: str) -> tuple[InferenceSession, InferenceSession]:
    return pair(
        parser.parse_model(f"""<ir_version: 9, opset_import: ["" : 9]>
        f (float[N, 2, H, W] x, float[4] s) => (float[A, B, P, Q] y) {{
            y = Upsample <mode = "{mode}"> (x, s) }}""")
    )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample_takes_scales_that_are_fed(mode: str) -> None:
    sessions = upsample_of_fed_scales(mode)
    assert is_compiled(sessions[0])
    rng = np.random.default_rng(0)
    for scales in ((1, 1, 2, 2), (1, 1, 1.7, 1), (1, 1, 1, 1), (2, 1, 3, 1.3)):
        for extents in ((10, 7), (1, 40)):
            x = rng.standard_normal((1, 2, *extents)).astype("f")
            check(sessions, {"x": x, "s": np.array(scales, "f")})


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (0.99, "scales must be at least 1, got"),
        (np.nan, "scales must be at least 1, got"),
        (np.inf, "scales must be positive, got"),
    ],
)
def test_upsample_refuses_fed_scales_that_shrink(scale: float, message: str) -> None:
    feeds = {"x": np.ones((1, 2, 2, 3), "f"), "s": np.array([1, 1, scale, 2], "f")}
    for session in upsample_of_fed_scales("nearest"):
        with pytest.raises(FornixError, match=rf"\(Upsample, opset 9\): {message}"):
            session.run(None, feeds)


@pytest.mark.skipif(not (is_mappable() and processor()), reason="programs are kept on Linux")
def test_kept_programs_resize_by_scales_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cache(tmp_path, monkeypatch)
    head = '<ir_version: 9, opset_import: ["" : 18]> f '
    text = "(float[1, 1, H, W] x, float[4] s) => (float[A, B, P, Q] y) {"
    path = write(tmp_path / "model.onnx", f'{head}{text} y = Resize <mode = "cubic"> (x, , s) }}')
    reference = InferenceSession(path, providers=["ReferenceExecutionProvider"])
    for session in (InferenceSession(path), recalled(path)):
        for scale in (1.7, 0.6):
            x = np.random.default_rng(0).standard_normal((1, 1, 6, 9)).astype("f")
            check((session, reference), {"x": x, "s": np.array([1, 1, scale, 2.2], "f")})


def test_crops_are_as_large_as_a_run_says() -> None:
    text = """<ir_version: 9, opset_import: ["" : 18, "com.microsoft" : 1]>
        f (float[N, 2, H, W] x, float[R, 4] r, int32[R] b, int32[2] n) => (float[R, 2, P, Q] y) {
            y = com.microsoft.CropAndResize <extrapolation_value = 3.0> (x, r, b, n) }"""
    model = parser.parse_model(text)
    sessions = pair(model)
    assert is_compiled(sessions[0])
    peer = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 2, 9, 12)).astype("f")
    for size in ((4, 5), (1, 3), (7, 1)):
        rois = np.concatenate([rng.uniform(-0.1, 0.4, (3, 2)), rng.uniform(0.5, 1.1, (3, 2))], 1)
        feeds = {"x": x, "r": rois.astype("f"), "b": i32(0, 1, 1), "n": i32(*size)}
        check(sessions, feeds)
        [wanted] = peer.run(None, feeds)
        np.testing.assert_allclose(sessions[0].run(None, feeds)[0], wanted, rtol=3e-5, atol=3e-5)
    with pytest.raises(FornixError, match="crop_size must be a height and a width, got"):
        sessions[0].run(None, feeds | {"n": i32(-1, 2)})


def i32(*values: int) -> Any:
    return np.array(values, np.int32)


def random_case(rng: np.random.Generator) -> Any:
    """A model that resizes in some way."""
    mode = str(rng.choice(["nearest", "linear", "cubic"]))
    transformation = str(rng.choice(TRANSFORMATIONS))
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": transformation}
    if mode == "nearest":
        attributes["nearest_mode"] = str(rng.choice(NEAREST))
    else:
        attributes["antialias"] = int(rng.integers(2))
        attributes["exclude_outside"] = int(rng.integers(2))
    attributes["axes"] = [2, 3] if rng.integers(2) else [3, -2]
    told = str(rng.choice(["stored", "scales", "sizes"]))
    inputs, stored = "float[N, 2, H, W] x", []
    if transformation == "tf_crop_and_resize":
        attributes["extrapolation_value"] = 7.0
        inputs += ", float[4] r"
    if told == "stored":
        one, other = rng.choice(STORED, 2)
        stored.append(f"float[2] s = {{{one}, {other}}}")
    elif told == "scales":
        inputs += ", float[2] s"
    else:
        attributes["keep_aspect_ratio_policy"] = str(
            rng.choice(["stretch", "not_larger", "not_smaller"])
        )
        inputs += ", int64[2] n"
    opset = 18 if transformation != "half_pixel_symmetric" else 19
    return resize_model(attributes, inputs, ", ".join(stored), opset)


def random_feeds(rng: np.random.Generator, model: Any) -> dict[str, Any]:
    extents = (int(rng.integers(1, 3)), 2, *rng.integers(1, 24, 2))
    given: dict[str, Any] = {
        "x": rng.standard_normal(extents).astype("f"),
        "s": rng.uniform(0.15, 3, 2).astype("f"),
        "n": rng.integers(1, 40, 2),
        "r": np.concatenate([rng.uniform(-0.2, 0.4, 2), rng.uniform(0.5, 1.3, 2)]).astype("f"),
    }
    return {value.name: given[value.name] for value in model.graph.input}


def check_random(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_case(rng)
    sessions = pair(model, threads=1 + seed % 2)
    assert is_compiled(sessions[0])
    for _ in range(4):
        check(sessions, random_feeds(rng, model))


@pytest.mark.parametrize("seed", range(6))
def test_resize_in_any_way_is_compiled(seed: int) -> None:
    check_random(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 150))
def test_resize_in_any_other_way_is_compiled(seed: int) -> None:
    check_random(seed)


@pytest.mark.parametrize("transformation", ["asymmetric", "half_pixel"])
@pytest.mark.parametrize("nearest", NEAREST)
@pytest.mark.parametrize("extents", ["A, B, C, D", "2, 3, 9, 17"])
def test_nearest_elements_by_whole_numbers_and_fractions_are_the_same(
    extents: str, nearest: str, transformation: str, rng: np.random.Generator
) -> None:
    attributes = {"nearest_mode": nearest, "coordinate_transformation_mode": transformation}
    x = rng.standard_normal((2, 3, 9, 17)).astype(np.float32)
    for scales in ((3, 4), (2.5, 0.75)):
        stored = f"float[4] s = {{1, 1, {scales[0]}, {scales[1]}}}"
        model = resize_model(attributes, f"float[{extents}] x", stored)
        one, two = (pair(model, threads) for threads in (1, 2))
        [expected] = one[1].run(None, {"x": x})
        for session in (one[0], two[0]):
            assert is_compiled(session)
            np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected, strict=True)


@pytest.mark.parametrize(
    ("nearest", "scale", "kernels"),
    [("floor", 3.0, 1), ("ceil", 3.0, 2), ("floor", 2.5, 2), ("ceil", 1.25, 1)],
)
def test_rows_that_are_looked_up_are_written_before_they_are_repeated(
    nearest: str, scale: float, kernels: int
) -> None:
    attributes = {"nearest_mode": nearest, "coordinate_transformation_mode": "asymmetric"}
    stored = f"float[4] s = {{1, 1, {scale}, {scale}}}"
    sessions = pair(resize_model(attributes, "float[1, 3, 8, 40] x", stored))
    entries = sessions[0].profile({"x": np.zeros((1, 3, 8, 40), np.float32)}).entries
    assert len(entries) == kernels
