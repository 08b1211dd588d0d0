from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import load_file, save_file

import fornix
from tests.cli.command import DIGITS, call, save

TEXT = """<ir_version: 10, opset_import: ["": 20]>
    g (float[N, 3] x, float[3] v) => (float[N, 3] y, float[N, 3] z) <float[3] w = {1, 2, 3}> {
        a = Mul(x, w) b = Add(a, v) y = Neg(b) z = Abs(a) }"""
X = np.array([[1, -2, 3]], np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path, TEXT)


def test_extract_cuts_between_values(tmp_path: Path, model: Path) -> None:
    part = tmp_path / "part.onnx"
    outcome = call("extract", model, "--from", "a", "--from", "v", "--to", "y", "-o", part)
    assert (outcome.code, outcome.err) == (0, "")
    assert "a: float32[N, 3]" in outcome.out
    onnx.checker.check_model(onnx.load(part), full_check=True)
    [y] = ReferenceEvaluator(onnx.load(part)).run(None, {"a": X, "v": X[0]})
    np.testing.assert_array_equal(y, -(X + X[0]))


def test_extract_begins_at_the_inputs_that_are_needed(tmp_path: Path, model: Path) -> None:
    part = tmp_path / "part.onnx"
    told = call("extract", model, "--to", "z", "-o", part, "--json").json
    shapes = {"inputs": {"x": "float32[N, 3]"}, "outputs": {"z": "float32[N, 3]"}}
    assert told == {"written": str(part), **shapes, "nodes": 2}


def test_extract_says_what_is_missing(tmp_path: Path, model: Path) -> None:
    outcome = call("extract", model, "--from", "a", "-o", tmp_path / "part.onnx")
    assert outcome.code == 2
    assert "can be computed only with more inputs: v" in outcome.err
    outcome = call("extract", model, "--to", "yy", "-o", tmp_path / "part.onnx")
    assert "found 'yy'; did you mean 'y'?" in outcome.err


def test_merge_links_by_option_by_name_and_by_place(tmp_path: Path, model: Path) -> None:
    header = '<ir_version: 10, opset_import: ["": 20]>'
    named = save(
        tmp_path, f"{header} h (float[N, 3] y) => (float[N, 3] r) {{ r = Exp(y) }}", "named.onnx"
    )
    placed = save(
        tmp_path, f"{header} h (float[N, 3] q) => (float[N, 3] r) {{ r = Exp(q) }}", "placed.onnx"
    )
    merged = tmp_path / "merged.onnx"
    wanted = {
        (named,): np.exp(-(X * [1, 2, 3] + X[0])),
        (placed,): np.exp(-(X * [1, 2, 3] + X[0])),
        (placed, "--link", "z=q", "--prefix", "p/"): np.exp(np.abs(X * [1, 2, 3])),
    }
    for arguments, expected in wanted.items():
        outcome = call("merge", model, *arguments, "-o", merged)
        assert (outcome.code, outcome.err) == (0, "")
        found = ReferenceEvaluator(onnx.load(merged)).run(None, {"x": X, "v": X[0]})
        np.testing.assert_allclose(found[-1], expected, rtol=1e-6)


def test_merge_refuses_names_that_are_in_both(tmp_path: Path, model: Path) -> None:
    outcome = call("merge", model, model, "--link", "y=x", "-o", tmp_path / "merged.onnx")
    assert outcome.code == 2
    assert "prefix the names of one" in outcome.err
    outcome = call("merge", model, model, "--link", "y", "-o", tmp_path / "merged.onnx")
    assert "--link: output=input is required, found 'y'" in outcome.err


def test_rename_reaches_every_use(tmp_path: Path, model: Path) -> None:
    renamed = tmp_path / "renamed.onnx"
    outcome = call(
        "rename", model, "x=data", "a=scaled", "w=weight", "--prefix", "m/", "-o", renamed
    )
    assert (outcome.code, outcome.err) == (0, "")
    found = onnx.load(renamed)
    onnx.checker.check_model(found)
    assert [value.name for value in found.graph.input] == ["m/data", "m/v"]
    assert list(found.graph.node[0].input) == ["m/data", "m/weight"]
    assert list(found.graph.node[1].input) == ["m/scaled", "m/v"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["xx=data"], "the name of a value or node is required, found 'xx'; did you mean 'x'?"),
        (["x=v"], "a name that no other value has is required for 'x', found 'v'"),
        (["x=q", "v=q"], "a name that no other value has is required"),
        (["x"], "rename: old=new is required, found 'x'"),
    ],
)
def test_rename_refuses_what_would_be_ambiguous(
    tmp_path: Path, model: Path, names: list[str], message: str
) -> None:
    outcome = call("rename", model, *names, "-o", tmp_path / "renamed.onnx")
    assert outcome.code == 2
    assert message in outcome.err


def test_names_can_be_exchanged(tmp_path: Path, model: Path) -> None:
    renamed = tmp_path / "renamed.onnx"
    assert call("rename", model, "y=z", "z=y", "-o", renamed).code == 0
    assert [value.name for value in onnx.load(renamed).graph.output] == ["z", "y"]


def test_set_shape_infers_what_follows(tmp_path: Path) -> None:
    shaped = tmp_path / "shaped.onnx"
    told = call("set-shape", DIGITS, "image=4,1,8,8", "-o", shaped, "--json").json
    assert told["inputs"] == {"image": "float32[4, 1, 8, 8]"}
    assert all(type_.startswith("float32[4, ") for type_ in told["outputs"].values())
    onnx.checker.check_model(onnx.load(shaped), full_check=True)
    again = tmp_path / "again.onnx"
    told = call("set-shape", shaped, "image=batch,1,8,8", "-o", again, "--json").json
    assert all(type_.startswith("float32[batch, ") for type_ in told["outputs"].values())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("picture=1,1,8,8", "an input (image) is required, found 'picture'"),
        ("image=1,1,8", "'image' has 4 axes, found 3 extents"),
        ("image=1,-1,8,8", "numbers and names of extents are required, found '-1'"),
        ("image", "set-shape: input=extents is required, found 'image'"),
    ],
)
def test_set_shape_refuses_what_is_no_shape(tmp_path: Path, shape: str, message: str) -> None:
    outcome = call("set-shape", DIGITS, shape, "-o", tmp_path / "shaped.onnx")
    assert outcome.code == 2
    assert message in outcome.err


def test_set_shape_refuses_what_the_model_cannot_take(tmp_path: Path) -> None:
    outcome = call("set-shape", DIGITS, "image=N,2,8,8", "-o", tmp_path / "shaped.onnx")
    assert outcome.code == 1
    assert "Conv" in outcome.err
    assert not (tmp_path / "shaped.onnx").exists()


def test_text_becomes_a_model_again(tmp_path: Path) -> None:
    text, again = tmp_path / "digits.onnxtxt", tmp_path / "digits.onnx"
    assert call("text", DIGITS, "-o", text).code == 0
    assert call("text", text, "-o", again).code == 0
    assert onnx.load(again) == onnx.load(DIGITS)


def test_outline_and_inline_are_opposites(tmp_path: Path) -> None:
    layer = "{b} = Neg({a}) {c} = Abs({b}) {d} = Sqrt({c}) {e} = Gelu({d})"
    names = [("x", "e1"), ("e1", "e2"), ("e2", "y")]
    layers = " ".join(
        layer.format(a=a, b=f"b{i}", c=f"c{i}", d=f"d{i}", e=e) for i, (a, e) in enumerate(names)
    )
    header = '<ir_version: 10, opset_import: ["": 21]> g (float[N] x) => (float[N] y)'
    model = save(tmp_path, f"{header} {{ {layers} }}")
    folded, opened, plain = (tmp_path / name for name in ("f.onnx", "o.onnx", "p.onnx"))
    assert call("outline", model, "-o", folded, "--json").json["nodes"] == 3
    assert [x.name for x in onnx.load(folded).functions] == ["Block1"]
    assert call("inline", folded, "-o", opened, "--json").json["nodes"] == 12
    assert call("inline", folded, "-o", plain, "--only", "Gelu", "--json").json["nodes"] == 3
    assert "Erf" in {node.op_type for node in onnx.load(plain).functions[0].node}
    expected = ReferenceEvaluator(onnx.load(model)).run(None, {"x": X[0]})
    for path in (folded, opened, plain):
        found = fornix.ReferenceEvaluator(path).run(None, {"x": X[0]})
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    assert call("outline", model, "-o", folded, "--least", "5", "--json").json["nodes"] == 12


def test_inline_replaces_operators_that_others_define(tmp_path: Path) -> None:
    header = '<ir_version: 10, opset_import: ["": 21]> g (float[N] x) => (float[N] y)'
    model = save(tmp_path, f"{header} {{ y = Gelu(x) }}")
    output = tmp_path / "plain.onnx"
    assert call("inline", model, "-o", output, "--json").json["nodes"] == 1
    assert call("inline", model, "-o", output, "--operators", "--json").json["nodes"] > 5
    outcome = call("inline", model, "-o", output, "--only", "Glu")
    assert outcome.code == 2
    assert "a function or operator that the model uses is required, found 'Glu'" in outcome.err


def test_split_and_join_are_opposites(tmp_path: Path, model: Path) -> None:
    parts, whole, tuned = (tmp_path / name for name in ("p.onnx", "w.onnx", "t.onnx"))
    call("split", model, "-o", parts, "--least", "0")
    assert (tmp_path / "p.onnx.data").stat().st_size == 12
    call("split", model, "-o", parts, "--least", "0", "--data", "w.safetensors")
    found = load_file(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(found["w"], [1, 2, 3])
    call("join", parts, "-o", whole)
    save_file({"w": found["w"] * 2}, tmp_path / "w.safetensors")
    call("join", model, "-o", tuned, "--weights", tmp_path / "w.safetensors")
    for path, weight in ((whole, found["w"]), (tuned, found["w"] * 2)):
        [stored] = onnx.load(path, load_external_data=False).graph.initializer
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored), weight)
    outcome = call("join", model, "-o", tuned, "--weights", model)
    assert outcome.code == 1
    assert "header" in outcome.err
