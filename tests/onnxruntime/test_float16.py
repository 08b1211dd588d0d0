from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as peer
import pytest
from onnx import numpy_helper, parser
from onnxruntime.transformers import float16 as theirs

from fornix.errors import NotSupported
from fornix.onnxruntime.transformers import float16 as ours

MODEL = """<ir_version: 8, opset_import: ["" : 17]> m (float[N, 3, 8, 8] x) => (float[N, 10] y)
    <float[10] c = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
     float[4] scales = {1, 1, 0.5, 0.5}> {
    a = Conv <pads = [1, 1, 1, 1]> (x, w)
    b = Relu (a)
    r = Resize <mode = "linear"> (b, , scales)
    f = Flatten (r)
    g = Gemm <transB = 1> (f, v, c)
    m = Max (g, c)
    y = Softmax (m)
}"""


def model(rng: np.random.Generator) -> onnx.ModelProto:
    made = parser.parse_model(MODEL)
    for name, shape in (("w", (4, 3, 3, 3)), ("v", (10, 64))):
        array = (rng.standard_normal(shape) * 0.2).astype(np.float32)
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    return made


def result(message: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    options = peer.SessionOptions()
    options.log_severity_level = 4
    session = peer.InferenceSession(message.SerializeToString(), options)
    kind = np.float16 if "float16" in session.get_inputs()[0].type else np.float32
    found: np.ndarray[Any, Any] = session.run(None, {"x": x.astype(kind)})[0]
    return found


@pytest.mark.parametrize("how", [{}, {"keep_io_types": True}, {"keep_io_types": ["y"]},
    {"op_block_list": ["Conv", "Max"]},
    {"force_fp16_initializers": True, "op_block_list": ["Gemm"]},
    {"max_finite_val": 1e4, "min_positive_val": 1e-7}])  # fmt: skip
def test_models_compute_in_onnxruntime_what_its_own_conversion_does(
    how: dict[str, Any], rng: np.random.Generator
) -> None:
    given = model(rng)
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    wide = result(given, x)
    converted = theirs.convert_float_to_float16(
        onnx.ModelProto.FromString(given.SerializeToString()), **how
    )
    changed = ours.convert_float_to_float16(given, **how)
    assert type(changed) is onnx.ModelProto
    found, wanted = result(changed, x), result(converted, x)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found.astype(np.float32), wide, atol=4e-3)
    np.testing.assert_allclose(found.astype(np.float32), wanted.astype(np.float32), atol=4e-3)


def test_files_are_converted_too(tmp_path: Path, rng: np.random.Generator) -> None:
    given, path = model(rng), str(tmp_path / "m.onnx")
    onnx.save(
        onnx.ModelProto.FromString(given.SerializeToString()),
        path,
        save_as_external_data=True,
        size_threshold=0,
    )
    x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
    found = result(ours.convert_float_to_float16(path), x)
    np.testing.assert_allclose(found.astype(np.float32), result(given, x), atol=4e-3)


def test_tensors_are_rounded_as_in_onnxruntime() -> None:
    array = np.array([1e-9, -1e-9, 0, 1e9, -1e9, np.inf, 0.1, 3e-8, 70000], np.float32)
    np.testing.assert_array_equal(
        ours.convert_np_to_float16(array), theirs.convert_np_to_float16(array)
    )
    found, wanted = (numpy_helper.from_array(array[:5], "t") for _ in range(2))
    assert ours.float_to_float16_max_diff(found) == pytest.approx(
        theirs.float_to_float16_max_diff(wanted)
    )
    np.testing.assert_array_equal(
        numpy_helper.to_array(ours.convert_tensor_float_to_float16(found)),
        numpy_helper.to_array(theirs.convert_tensor_float_to_float16(wanted)),
    )
    integers = numpy_helper.from_array(np.array([1, 2]))
    assert ours.convert_tensor_float_to_float16(integers) is integers
    assert str(ours.make_value_info_from_tensor(found)) == str(
        theirs.make_value_info_from_tensor(wanted)
    )


def test_lists_are_those_of_onnxruntime() -> None:
    assert ours.DEFAULT_OP_BLOCK_LIST == theirs.DEFAULT_OP_BLOCK_LIST
    assert ours.ALWAYS_FLOAT_INPUTS == theirs.ALWAYS_FLOAT_INPUTS


def test_what_cannot_be_converted_is_told(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="a model or its path is required, found int"):
        ours.convert_float_to_float16(3)
    with pytest.raises(NotSupported, match="force_fp16_inputs and use_bfloat16_as_blocked"):
        ours.convert_float_to_float16(model(rng), force_fp16_inputs={"Resize": [2]})
    with pytest.raises(ValueError, match="a TensorProto is required, found int"):
        ours.convert_tensor_float_to_float16(3)
    with pytest.raises(ValueError, match="a TensorProto of float32 is required"):
        ours.float_to_float16_max_diff(numpy_helper.from_array(np.array([1])))
