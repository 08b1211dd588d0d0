from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser
from onnxruntime.tools import onnx_model_utils as peer

from fornix import onnxruntime as ort
from fornix.errors import InvalidArgument
from fornix.onnxruntime.tools import onnx_model_utils as ours
from fornix.onnxruntime.tools.make_dynamic_shape_fixed import make_dynamic_shape_fixed_helper
from fornix.onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

TEXT = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[N, 3, K] x, float[N] q) => (float[A, B, C] y) {
        h = Transpose <perm = [1, 0, 2]> (x)
        c = Identity (h)
        y = Relu (c)
    }"""


def model() -> onnx.ModelProto:
    return parser.parse_model(TEXT)


def inputs(message: Any) -> str:
    return str(list(message.graph.input))


@pytest.mark.parametrize("name", ["N", "Z"])
def test_extents_are_fixed_by_name(name: str) -> None:
    found, wanted = model(), model()
    ours.make_dim_param_fixed(found.graph, name, 4)
    peer.make_dim_param_fixed(wanted.graph, name, 4)
    assert found == wanted


def test_shapes_of_inputs_are_fixed() -> None:
    found, wanted = model(), model()
    ours.make_input_shape_fixed(found.graph, "x", [2, 3, 5])
    peer.make_input_shape_fixed(wanted.graph, "x", [2, 3, 5])
    assert inputs(found) == inputs(wanted)
    ours.fix_output_shapes(found)
    assert [d.dim_value for d in found.graph.output[0].type.tensor_type.shape.dim] == [3, 2, 5]
    assert ours.is_fixed_size_tensor(found.graph.output[0])
    assert not ours.is_fixed_size_tensor(model().graph.output[0])


WRONG = {
    "an input \\(x, q\\) is required, found 'z'": ("z", [2, 3, 5]),
    "input 'x' has 3 axes, found 2 extents": ("x", [2, 3]),
    "axis 1 is 3, and cannot become 4": ("x", [2, 4, 5]),
}


@pytest.mark.parametrize("words", WRONG)
def test_shapes_that_do_not_fit_are_refused(words: str) -> None:
    with pytest.raises(ValueError):
        peer.make_input_shape_fixed(model().graph, *WRONG[words])
    with pytest.raises(InvalidArgument, match=words):
        ours.make_input_shape_fixed(model().graph, *WRONG[words])


def test_shapes_are_inferred_with_their_symbols() -> None:
    pytest.importorskip("sympy")  # which torch brings along; theirs cannot do without
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference as Theirs

    found, wanted = (kind.infer_shapes(model()) for kind in (SymbolicShapeInference, Theirs))
    assert type(found) is onnx.ModelProto
    shapes = [
        {v.name: str(v.type) for v in m.graph.value_info if v.name == "h"} for m in (found, wanted)
    ]
    assert shapes[0] == shapes[1] != {}


@pytest.mark.parametrize("opset", [17, 21])
def test_opsets_are_updated(tmp_path: Path, opset: int) -> None:
    onnx.save(model(), tmp_path / "model.onnx")
    log = logging.getLogger("test")
    found = ours.update_onnx_opset(tmp_path / "model.onnx", opset, tmp_path / "new.onnx", log)
    assert ours.get_opsets_imported(found) == {"ai.onnx": opset}
    assert ours.get_opsets_imported(onnx.load(tmp_path / "new.onnx")) == {"ai.onnx": opset}
    assert peer.get_opsets_imported(found) == {"ai.onnx": opset}


def test_models_are_optimized_from_file_to_file(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "model.onnx")
    ours.optimize_model(tmp_path / "model.onnx", tmp_path / "new.onnx")
    saved = onnx.load(tmp_path / "new.onnx")
    assert [node.op_type for node in saved.graph.node] == ["Transpose", "Relu"]
    ours.optimize_model(
        tmp_path / "model.onnx", tmp_path / "other.onnx", use_external_initializers=True
    )
    for name in ("disable", "basic", "extended", "layout", "all"):
        assert int(ours.get_optimization_level(name)) == int(peer.get_optimization_level(name))
    with pytest.raises(InvalidArgument, match=r"a level is one of disable, .* found 'much'"):
        ours.get_optimization_level("much")


def test_sessions_pickle_as_what_they_are(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "model.onnx")
    made = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is ort.InferenceSession
    feeds = {"x": np.ones((2, 3, 4), np.float32), "q": np.ones(2, np.float32)}
    np.testing.assert_array_equal(again.run(None, feeds)[0], made.run(None, feeds)[0])


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        (["--dim_param", "K", "--dim_value", "5"], [0, 3, 5]),
        (["--input_name", "x", "--input_shape", "2,3,5"], [2, 3, 5]),
    ],
)
def test_extents_are_fixed_from_the_command_line(
    arguments: list[str], shape: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")
    onnx.save(model(), source)
    monkeypatch.setattr("sys.argv", ["tool", *arguments, source, target])
    make_dynamic_shape_fixed_helper()
    dims = onnx.load(target).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == shape


def test_a_command_line_that_fixes_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tool", "--dim_param", "K", "a.onnx", "b.onnx"])
    with pytest.raises(SystemExit):
        make_dynamic_shape_fixed_helper()
    assert "--dim_param with --dim_value, or --input_name with" in capsys.readouterr().err
