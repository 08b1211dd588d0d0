from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

from fornix.cli.results import described
from tests.cli.command import DIGITS, Outcome, call, model, rename_dims

ENTRY = {"name", "type", "dtype", "shape", "min", "mean", "max", "nan", "inf", "first"}
FLOATS = "(float[N, 3] x) => (float[N, 3] y)"
TWO = "(float[N] a, int64[N] b) => (float[N] y, int64[N] z)"
TWICE = "y = Identity(a) z = Identity(b)"


def outputs(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.err
    return {entry["name"]: entry for entry in outcome.json["outputs"]}


def test_the_table_tells_names_types_and_statistics(tmp_path: Path) -> None:
    path = model(tmp_path, "(float[4] x) => (float[4] y)")
    outcome = call("run", path, "-i", "[1, 2, NaN, 6]")
    head, row, last = outcome.out.splitlines()
    assert head.split() == ["output", "type", "min", "mean", "max", "NaN", "first", "values"]
    assert row.split() == ["y", "float32[4]", "1", "3", "6", "1", "1,", "2,", "nan,", "6"]
    assert last.startswith("ran in ")


def test_infinities_get_a_column_where_there_are_any(tmp_path: Path) -> None:
    path = model(tmp_path, "(float[2] x) => (float[2] y)")
    assert "inf" in call("run", path, "-i", "[1, Infinity]").out.splitlines()[0]
    assert "inf" not in call("run", path, "-i", "[1, 2]").out


def test_json_has_stable_keys(tmp_path: Path) -> None:
    path = model(tmp_path, FLOATS)
    told = call("run", path, "--random", "0", "--json").json
    keys = {"model", "load_seconds", "seconds", "inputs", "outputs", "written", "profile"}
    assert set(told) == keys
    assert told["written"] is None
    for entry in (*told["inputs"], *told["outputs"]):
        assert set(entry) == ENTRY
    assert told["inputs"][0]["first"] == told["outputs"][0]["first"]


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "named.npz", "x.json", "table.json", "x.pb"])
def test_every_kind_of_file_feeds_the_same_values(tmp_path: Path, name: str) -> None:
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    file = tmp_path / name
    if name == "x.npy":
        np.save(file, x)
    elif name == "x.npz":
        np.savez(file, whatever=x)
    elif name == "named.npz":
        np.savez(file, x=x, other=np.zeros(2))
    elif file.suffix == ".json":
        held = x.tolist()
        file.write_text(json.dumps({"x": held} if "table" in name else held), encoding="utf-8")
    else:
        file.write_bytes(onnx.numpy_helper.from_array(x).SerializeToString())
    by_name = call("run", model(tmp_path, FLOATS), "--input", f"x={file}", "--json")
    if name == "table.json":  # an object is no array
        assert by_name.code == 1
    else:
        assert outputs(by_name)["y"]["first"] == [1, 2, 3, 4, 5]
    if name != "named.npz":
        by_place = call("run", model(tmp_path, FLOATS), "--input", file, "--json")
        assert (by_place.code == 0) is (name != "x.npz")
        if name != "x.npz":
            assert outputs(by_place)["y"]["first"] == [1, 2, 3, 4, 5]


def test_an_archive_feeds_inputs_by_name(tmp_path: Path) -> None:
    file = tmp_path / "feeds.npz"
    np.savez(file, a=np.array([1.5], np.float32), b=np.array([7]))
    found = outputs(call("run", model(tmp_path, TWO, TWICE), "-i", file, "--json"))
    assert (found["y"]["first"], found["z"]["first"]) == ([1.5], [7])


def test_an_object_in_json_feeds_inputs_by_name(tmp_path: Path) -> None:
    path = model(tmp_path, TWO, TWICE)
    found = outputs(call("run", path, "-i", '{"a": [1], "b": [2]}', "--json"))
    assert (found["y"]["dtype"], found["z"]["dtype"]) == ("float32", "int64")


def test_json_takes_the_declared_element_type(tmp_path: Path) -> None:
    for dtype, text, expected in (
        ("string", '["a", "b"]', ["a", "b"]),
        ("bool", "[true, false]", [True, False]),
        ("bfloat16", "[1.5, 2]", [1.5, 2]),
        ("uint8", "[0, 255]", [0, 255]),
        ("float8e4m3fn", "[0.5, 448]", [0.5, 448]),
    ):
        path = model(tmp_path, f"({dtype}[N] x) => ({dtype}[N] y)")
        (found,) = outputs(call("run", path, "-i", text, "--json")).values()
        assert (found["first"], found["dtype"]) == (expected, dtype)


def test_sequences_and_optionals_come_from_json(tmp_path: Path) -> None:
    path = model(tmp_path, "(seq(float[N]) x) => (float[N] y)", "y = ConcatFromSequence<axis=0>(x)")
    found = outputs(call("run", path, "-i", "[[1, 2], [3]]", "--json"))
    assert found["y"]["first"] == [1, 2, 3]
    path = model(tmp_path, "(optional(float[N]) x) => (bool y)", "y = OptionalHasElement(x)")
    for text, expected in (("x=[1]", True), ("x=absent.json", False)):
        (tmp_path / "absent.json").write_text("null", encoding="utf-8")
        outcome = call(
            "run", path, "-i", text.replace("absent", str(tmp_path / "absent")), "--json"
        )
        assert outputs(outcome)["y"]["first"] == [expected]


def test_maps_come_from_json(tmp_path: Path) -> None:
    body = 'y = ai.onnx.ml.DictVectorizer<string_vocabulary = ["a", "b"]>(x)'
    path = model(tmp_path, "(map(string, float) x) => (float[1, 2] y)", body)
    outcome = call("run", path, "-i", 'x={"b": 2.5}', "--json")
    assert outputs(outcome)["y"]["first"] == [0, 2.5]
    body = "y = ai.onnx.ml.DictVectorizer<int64_vocabulary = [5, 7]>(x)"
    path = model(tmp_path, "(map(int64, float) x) => (float[1, 2] y)", body)
    assert outputs(call("run", path, "-i", 'x={"7": 1}', "--json"))["y"]["first"] == [0, 1]


def test_a_sequence_comes_from_its_message(tmp_path: Path) -> None:
    file = tmp_path / "x.pb"
    arrays = [np.ones(2, np.float32), np.zeros(1, np.float32)]
    file.write_bytes(onnx.numpy_helper.from_list(arrays).SerializeToString())
    path = model(tmp_path, "(seq(float[N]) x) => (float[N] y)", "y = ConcatFromSequence<axis=0>(x)")
    assert outputs(call("run", path, "-i", file, "--json"))["y"]["first"] == [1, 1, 0]


def test_narrow_floats_in_files_of_numpy_are_recognised(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    np.save(file, np.array([1.5, -2], ml_dtypes.bfloat16))
    path = model(tmp_path, "(bfloat16[N] x) => (bfloat16[N] y)")
    assert outputs(call("run", path, "-i", file, "--json"))["y"]["first"] == [1.5, -2]


def test_an_initializer_that_is_an_input_may_be_fed(tmp_path: Path) -> None:
    ends = "(float[1] x, float[1] w) => (float[1] y) <float[1] w = {10}>"
    path = model(tmp_path, ends, "y = Add(x, w)")
    assert outputs(call("run", path, "-i", "[1]", "--json"))["y"]["first"] == [11]
    fed = call("run", path, "-i", "x=[1]", "-i", "w=[2]", "--json")
    assert outputs(fed)["y"]["first"] == [3]


def test_names_with_an_equals_sign_are_names(tmp_path: Path) -> None:
    path = model(tmp_path, "(float[1] x) => (float[1] y)")
    message = onnx.load(path)
    message.graph.input[0].name = message.graph.node[0].input[0] = "a=b"
    onnx.save(message, path)
    assert outputs(call("run", path, "-i", "a=b=[3]", "--json"))["y"]["first"] == [3]


@pytest.mark.parametrize(
    ("dtype", "allowed"),
    [("int64", {0, 1}), ("int32", {0, 1}), ("bool", {False, True}), ("string", None),
     ("uint8", set(range(256))), ("int4", set(range(-8, 8)))],
)  # fmt: skip
def test_random_feeds_stay_within_what_is_promised(
    tmp_path: Path, dtype: str, allowed: set[int] | None
) -> None:
    path = model(tmp_path, f"({dtype}[N] x) => ({dtype}[N] y)")
    found = outputs(call("run", path, "--random", "3", "--dim", "N=500", "--json"))["y"]
    assert found["shape"] == [500]
    if allowed is not None:
        assert set(found["first"]) <= allowed
        assert (found["min"], found["max"]) == (min(allowed), max(allowed))


@pytest.mark.parametrize("dtype", ["float", "double", "float16", "bfloat16", "float8e5m2"])
def test_random_floats_are_normal(tmp_path: Path, dtype: str) -> None:
    path = model(tmp_path, f"({dtype}[N] x) => ({dtype}[N] y)")
    found = outputs(call("run", path, "--random", "3", "--dim", "N=4000", "--json"))["y"]
    assert abs(found["mean"]) < 5 / 4000**0.5  # five deviations of the mean
    assert found["min"] < -2
    assert found["max"] > 2


def test_random_complex_numbers_and_sequences_fit(tmp_path: Path) -> None:
    path = model(tmp_path, "(complex64[2] x) => (complex64[2] y)")
    found = outputs(call("run", path, "--random", "3", "--json"))["y"]
    assert (found["dtype"], found["min"], len(found["first"])) == ("complex64", None, 2)
    ends = "(optional(seq(float[2])) x) => (seq(float[2]) y)"
    path = model(tmp_path, ends, "y = OptionalGetElement(x)")
    assert set(outputs(call("run", path, "--random", "3", "--json"))) == {"y/0", "y/1"}


def test_equal_seeds_give_equal_feeds_and_others_do_not(tmp_path: Path) -> None:
    path = model(tmp_path, TWO, TWICE)
    arguments = ("run", path, "--dim", "N=9", "--json", "--random")
    first = outputs(call(*arguments, "1"))
    assert outputs(call(*arguments, "1")) == first
    assert outputs(call(*arguments, "2"))["y"] != first["y"]


def test_feeding_one_input_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    path = model(tmp_path, TWO, TWICE)
    free = outputs(call("run", path, "--random", "1", "--dim", "N=2", "--json"))
    fed = outputs(call("run", path, "--random", "1", "--dim", "N=2", "-i", "a=[1, 2]", "--json"))
    assert fed["z"] == free["z"]
    assert fed["y"]["first"] == [1, 2]


def test_dims_are_set_by_name_and_else_1(tmp_path: Path) -> None:
    path = model(tmp_path, "(float[N, M, P, 4] x) => (float[A, B, C, D] y)")
    rename_dims(path, {"P": "2*N"})
    found = outputs(call("run", path, "--random", "0", "--dim", "N=3", "--json"))
    assert found["y"]["shape"] == [3, 1, 6, 4]


def test_outputs_are_written_as_numpy_reads_them(tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    path = model(tmp_path, TWO, TWICE)
    outcome = call("run", path, "-i", '{"a": [1.5], "b": [2]}', "-o", out)
    assert outcome.out.endswith(f"and wrote {out}\n")
    with np.load(out) as held:
        assert {key: value.tolist() for key, value in held.items()} == {"y": [1.5], "z": [2]}
        assert held["y"].dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "text", "stored"),
    [("bfloat16", "[1.5]", np.float32), ("int4", "[-8]", np.int8), ("uint4", "[15]", np.uint8),
     ("string", '["word"]', np.dtype("<U4")), ("float8e4m3fn", "[0.5]", np.float32)],
)  # fmt: skip
def test_dtypes_that_numpy_cannot_store_are_widened(
    tmp_path: Path, dtype: str, text: str, stored: Any
) -> None:
    out = tmp_path / "out.npy"
    path = model(tmp_path, f"({dtype}[N] x) => ({dtype}[N] y)")
    assert call("run", path, "-i", text, "-o", out).code == 0
    held = np.load(out)
    assert (held.dtype, held.tolist()) == (stored, json.loads(text))


def test_sequences_and_maps_are_written_piece_by_piece(tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    path = model(tmp_path, "(float[2] x) => (seq(float[1]) y)", "y = SplitToSequence(x)")
    assert call("run", path, "-i", "[1, 2]", "-o", out).code == 0
    with np.load(out) as held:
        assert {key: value.tolist() for key, value in held.items()} == {"y/0": [1], "y/1": [2]}
    body = 'y = ai.onnx.ml.ZipMap<classlabels_strings = ["no", "yes"]>(x)'
    path = model(tmp_path, "(float[1, 2] x) => (seq(map(string, float)) y)", body)
    assert call("run", path, "-i", "[[0.25, 0.75]]", "-o", out).code == 0
    with np.load(out) as held:
        assert held["y/0/keys"].tolist() == ["no", "yes"]
        assert held["y/0/values"].tolist() == [0.25, 0.75]


def test_statistics_are_of_finite_elements() -> None:
    told = described("y", np.array([np.nan, np.inf, -np.inf, 2, 4], np.float16))
    assert (told["min"], told["mean"], told["max"]) == (2, 3, 4)
    assert (told["nan"], told["inf"]) == (1, 2)
    assert told["first"] == ["nan", "inf", "-inf", 2, 4]
    empty = described("y", np.zeros((0, 3), np.int64))
    assert (empty["min"], empty["first"], empty["type"]) == (None, [], "int64[0, 3]")
    assert described("y", np.full(2, np.nan))["mean"] is None
    big = described("y", np.array([2**63, 2**64 - 1], np.uint64))
    assert (big["min"], big["max"]) == (2**63, 2**64 - 1)


ERRORS = {
    "nothing fed": ([], ("every input must be fed, found nothing for a: float32[N], b: int64[N]; "
                    "pass --input NAME=FILE or --random SEED")),
    "unknown name": (["-i", "aa=[1]"], ("--input: an input of the model (a, b) is required, "
                     "found 'aa'; did you mean 'a'?")),
    "unknown name in an object": (["-i", '{"q": [1]}'], ("--input: an input of the model (a, b) is "
                                  "required, found 'q'")),
    "no name": (["-i", "[1]"], "--input [1]: the model has 2 inputs (a, b); write name=[1]"),
    "fed twice": (["-i", "a=[1]", "-i", "a=[1]"], "input 'a': one feed is required, found another"),
    "no such file": (["-i", "a=nowhere.npy"], "nowhere.npy: a file is required, found none"),
    "unknown kind": (["-i", "a=x.docx"], "x.docx: .npy, .npz, .json, .pb or a picture (.png, "),
    "no extension": (["-i", "a=words"], "words: .npy, .npz, .json, .pb or a picture"),
    "dim without value": (["--random", "0", "--dim", "N"], ("--dim: name=extent is required, "
                          "found 'N'")),
    "dim below zero": (["--random", "0", "--dim", "N=-1"], ("--dim: name=extent is required, "
                       "found 'N=-1'")),
    "unknown dim": (["--random", "0", "--dim", "n=1"], ("--dim: a named dim of the inputs (N) is "
                    "required, found 'n'")),
    "wrong output": (["--random", "0", "-o", "out.txt"], ("--output out.txt: a file called .npz, "
                     "or .npy for a single tensor, is required, found .txt for 2")),
    "one file for two": (["--random", "0", "-o", "out.npy"], "--output out.npy: a file "),
    "dims disagree": (["-i", "a=[1, 2]", "-i", "b=[1]"], ("input 'b' of the model is int64[N], and "
                      "N is 2 by axis 0 of 'a', but axis 0 of the feed is 1")),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_wrong_feeds_are_told_in_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    outcome = call("run", model(tmp_path, TWO, TWICE), *arguments)
    assert outcome.code == 2
    assert outcome.err.startswith(f"fornix: {message}")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("ends", "text", "message"),
    [
        ("(int64[N] x) => (int64[N] y)", "[1.5]", "integers are required, found others"),
        ("(uint8[N] x) => (uint8[N] y)", "[256]", ""),
        ("(float[N] x) => (float[N] y)", "[[1], [2, 3]]", ""),
        ("(float[N] x) => (float[N] y)", '["a"]', ""),
        ("(float[N] x) => (float[N] y)", "[1", ""),
    ],
)
def test_json_that_does_not_fit_is_told(tmp_path: Path, ends: str, text: str, message: str) -> None:
    outcome = call("run", model(tmp_path, ends), "-i", f"x={text}")
    assert outcome.code == 1
    assert outcome.err.startswith(f"fornix: {text}: ")
    assert "is required" in outcome.err
    assert message in outcome.err


def test_damaged_files_are_told(tmp_path: Path) -> None:
    path = model(tmp_path, "(float[N] x) => (float[N] y)")
    for name in ("x.npy", "x.npz", "x.json", "x.pb"):
        file = tmp_path / name
        file.write_bytes(b"\xff\xff nothing of the kind")
        outcome = call("run", path, "-i", f"x={file}")
        assert outcome.code == 1
        assert outcome.err.startswith(f"fornix: {file}: ")


def test_archives_of_others_are_told(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    np.savez(file, a=np.zeros(1), b=np.zeros(1))
    outcome = call("run", model(tmp_path, "(float[N] x) => (float[N] y)"), "-i", f"x={file}")
    assert outcome.err == (
        f"fornix: {file}: an array called 'x' or a single one is required, found a, b\n"
    )


def test_objects_in_files_are_never_unpickled(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    outcome = call("run", model(tmp_path, "(float[N] x) => (float[N] y)"), "-i", file)
    assert outcome.code == 1
    assert "allow_pickle" in outcome.err


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ("(map(string, float) x, float z) => (float y)",
         "input 'x' is map(string, float32[]): --random makes tensors only; feed it with --input"),
        ("(float x) => (float y)", ""),
        ("(float[P] x) => (float[P] y)",
         "input 'x' is float32[N - 2]: axis 0 cannot be -1, which follows from N=1; set --dim"),
    ],
)  # fmt: skip
def test_what_has_no_chance_is_told(tmp_path: Path, ends: str, message: str) -> None:
    path = model(tmp_path, ends, f"y = Identity({'z' if 'z' in ends else 'x'})")
    rename_dims(path, {"P": "N - 2"})
    outcome = call("run", path, "--random", "0")
    assert outcome.code == (2 if message else 0)
    assert message in outcome.err


def test_an_input_without_rank_needs_a_feed(tmp_path: Path) -> None:
    path = model(tmp_path, "(float[N] x) => (float[N] y)")
    message = onnx.load(path)
    message.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(message, path)
    outcome = call("run", path, "--random", "0")
    assert outcome.err == (
        "fornix: input 'x' is float32[...]: its rank is not declared; feed it with --input\n"
    )


def test_a_node_that_fails_is_named(tmp_path: Path) -> None:
    path = model(tmp_path, "(float[N] a, float[M] b) => (float[P] y)", "[add] y = Add(a, b)")
    outcome = call("run", path, "-i", "a=[1, 2]", "-i", "b=[1, 2, 3]")
    assert outcome.code == 1
    assert outcome.err.startswith("fornix: node 'add' (Add, opset 21): ")


def test_a_failure_on_chance_names_the_dims_that_were_taken_for_1(tmp_path: Path) -> None:
    text = "(float[N] x, float[M, 3] w) => (float[2] y, float[M, 3] v)"
    path = model(tmp_path, text, "s = Constant <value_ints = [2]> () y = Reshape(x, s) v = Relu(w)")
    failed = call("run", path, "--random", "0")
    assert failed.code == 1
    assert failed.err.strip().endswith("; feeds were made up with M=1, N=1; --dim sets others")
    assert "--dim" not in call("run", path, "--random", 0, "--dim", "N=3", "--dim", "M=3").err
    assert call("run", path, "--random", "0", "--dim", "N=2").code == 0


def test_the_demo_model_runs_on_chance() -> None:
    found = outputs(call("run", DIGITS, "--random", "0", "--dim", "N=3", "--json"))
    assert found["probability"]["shape"] == [3, 10]
    assert found["probability"]["mean"] == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("extents", ["4611686018427387904, 3", "1000000000000000"])
def test_inputs_beyond_memory_are_told_by_name(tmp_path: Path, extents: str) -> None:
    path = tmp_path / "vast.onnxtxt"
    text = f"g (float[{extents}] x) => (float y) {{ y = Relu (x) }}"
    path.write_text('<ir_version: 10, opset_import: ["" : 20]> ' + text)
    outcome = call("run", path, "--random", "1")
    assert outcome.code == 2
    assert f"input 'x' of shape [{extents}] does not fit into memory" in outcome.err
