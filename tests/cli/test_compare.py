from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.cli.command import DIGITS, call, model

ENDS = "(float[N, 4] x) => (float[N, 4] y)"


def pair(folder: Path) -> tuple[Path, Path]:
    first = model(folder, ENDS, "[e] t = Exp(x) [t] y = Elu(t)")
    second = folder / "second.onnx"
    first.rename(second)
    return model(folder, ENDS, "[e] t = Exp(x) [t] y = Elu <alpha = 0.5> (t)"), second


def test_engines_that_agree_give_0() -> None:
    outcome = call("compare", DIGITS, "--with", "onnxruntime")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("fornix and onnxruntime ")
    assert " agree\n  output " in outcome.out


def test_models_that_differ_give_1_and_a_report(tmp_path: Path) -> None:
    first, second = pair(tmp_path)
    feeds = tmp_path / "x.npy"
    np.save(feeds, -np.ones((2, 4), np.float32))
    body = "[e] t = Neg(x) [t] y = Elu%s(t)"
    first = model(tmp_path, ENDS, body % "")
    first = first.rename(tmp_path / "first.onnx")
    second = model(tmp_path, ENDS, body % "<alpha = 0.5>")
    np.save(feeds, np.ones((2, 4), np.float32))
    outcome = call("compare", first, "--with", second, "--feeds", feeds)
    assert outcome.code == 1
    lines = outcome.out.splitlines()
    assert lines[0] == "the model and model.onnx differ"
    assert lines[2] == "first: node 't' (Elu), value 'y'"
    assert lines[5] == "  attribute: Elu has alpha = 1 here, 0.5 there"


def test_json_says_the_same(tmp_path: Path) -> None:
    first, second = pair(tmp_path)
    outcome = call("compare", first, "--with", second, "--shape", "N=2", "--seed", 1, "--json")
    assert outcome.code == 0  # Exp is positive, where Elu is the same for every alpha
    assert outcome.json["agrees"] is True
    assert outcome.json["findings"] == []
    assert outcome.json["sides"] == ["the model", "second.onnx"]


def test_the_smallest_model_is_written(tmp_path: Path) -> None:
    first = model(tmp_path, ENDS, "[e] t = Neg(x) [t] y = Elu(t)")
    values = tmp_path / "values.npz"
    np.savez(values, y=np.zeros((1, 4), np.float32))
    outcome = call("compare", first, "--with", values, "-o", tmp_path / "small.onnx", "--json")
    assert outcome.code == 1
    assert [Path(x).name for x in outcome.json["written"]] == [
        "small.onnx", "small.npz", "small.other.npz"
    ]  # fmt: skip
    again = call(
        "compare", tmp_path / "small.onnx", "--with", tmp_path / "small.other.npz",
        "-i", tmp_path / "small.npz", "--atol", 100,
    )  # fmt: skip
    assert again.code == 0


def test_what_is_not_there_gives_2(tmp_path: Path) -> None:
    outcome = call("compare", DIGITS, "--with", "onnxruntme")
    assert outcome.code == 2
    assert "a model or an .npz is required to compare with" in outcome.err
    outcome = call("compare", DIGITS, "--with", tmp_path / "none.npz")
    assert outcome.code == 2
