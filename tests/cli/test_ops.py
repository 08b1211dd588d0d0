from __future__ import annotations

import re

import onnx
import pytest

from fornix import ops
from fornix.cli import examples
from fornix.cli.history import changelog, differences, signature_text, types_text
from fornix.errors import NotSupported
from fornix.ops.matrix import matrix
from fornix.ops.op import Operator, op
from fornix.ops.signature import parse_signature
from fornix.ops.types import BF16, F8, F32, FLOAT, INT, SEQ, SINT, TENSOR, types
from tests.cli.command import call

SUMMARY = {"domain", "name", "family", "newest", "summary", "support"}
PAGE = SUMMARY | {
    "deprecated", "signature", "types", "types_in_short", "description", "example", "history",
    "parameters", "reasons",
}  # fmt: skip
COLUMNS = {"schema", "infer", "kernel", "lower", "grad", "adapt", "doc"}


def page(*arguments: str) -> dict[str, object]:
    (told,) = call("ops", *arguments, "--json").json["operators"]
    assert isinstance(told, dict)
    return told


def test_the_list_has_every_operator_under_its_family() -> None:
    out = call("ops").out
    listed = re.findall(r"^  (\w+) +\d+", out, re.MULTILINE)
    assert sorted(listed) == sorted(name for _, name in ops.operators())
    for family in ops.FAMILIES:
        assert f"\n{family}\n" in out
    assert out.rstrip().endswith(f"{len(listed)} operators; `fornix ops NAME` tells more of one")


def test_json_of_the_list_has_stable_keys() -> None:
    told = call("ops", "--json").json["operators"]
    assert len(told) == len(ops.operators())
    assert all(set(entry) == SUMMARY and set(entry["support"]) == COLUMNS for entry in told)


def test_a_page_agrees_with_the_standard() -> None:
    told, schema = page("Conv"), onnx.defs.get_schema("Conv")
    assert set(told) == PAGE
    assert told["newest"] == schema.since_version
    versions = [s.since_version for s in onnx.defs.get_all_schemas_with_history()
                if (s.name, s.domain) == ("Conv", "")]  # fmt: skip
    history = told["history"]
    assert isinstance(history, list)
    assert [change["version"] for change in history] == sorted(versions, reverse=True)
    allowed = {x.type_param_str: sorted(x.allowed_type_strs) for x in schema.type_constraints}
    assert told["types"] == allowed


def test_the_page_has_signature_history_and_support() -> None:
    out = call("ops", "Softmax").out
    assert out.startswith("Softmax  ai.onnx, versions 1, 11, 13\n")
    assert "  Softmax <axis: int = -1> (input: T)\n    => (output: T)\n  T: " in out
    assert "  13  attribute axis: int = 1 → axis: int = -1; T + bfloat16\n" in out
    assert "  1   introduced\n" in out
    assert re.search(r"  kernel  all\n", out)
    assert "`" not in out


def test_deprecation_is_told() -> None:
    out = call("ops", "Scatter").out
    assert "deprecated since opset 11" in out
    assert page("Scatter")["deprecated"] is True


def test_case_does_not_matter() -> None:
    assert page("softmax")["name"] == "Softmax"


def test_domains_select() -> None:
    told = call("ops", "--domain", "ai.onnx.ml", "--json").json["operators"]
    assert {entry["domain"] for entry in told} == {"ai.onnx.ml"}
    told = call("ops", "--domain", "ai.onnx", "--json").json["operators"]
    assert {entry["domain"] for entry in told} == {"ai.onnx"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Convv"], "the name of an operator is required, found 'Convv'; did you mean 'Conv'?"),
        (["zzzzzz"], "the name of an operator is required, found 'zzzzzz'"),
        (["--domain", "x.y"], "--domain: a domain that has operators (ai.onnx, "),
        (["Scaler", "--domain", "ai.onnx"], "the name of an operator is required, found 'Scaler'"),
    ],
)
def test_what_does_not_exist_is_told(arguments: list[str], message: str) -> None:
    outcome = call("ops", *arguments)
    assert outcome.code == 2
    assert outcome.err.startswith(f"fornix: {message}")


def test_the_matrix_has_a_row_each_and_sums_up() -> None:
    head, *lines = call("ops", "--matrix").out.splitlines()
    assert set(head.split()) == COLUMNS | {"operator"}
    rows, last = lines[: len(ops.operators())], lines[len(ops.operators())]
    assert last.startswith("complete ")
    assert f"{len(rows)} of {len(rows)}" in last


def test_the_matrix_says_why_where_a_word_does_not() -> None:
    found = call("ops", "--matrix").out
    told = " ".join(found.partition("complete ")[2].split())
    for operator, cells in matrix().items():
        unsaid = [cell for cell in cells.values() if cell.text in {"", "opaque", "missing"}]
        assert all(cell.reason and cell.reason in told for cell in unsaid), operator
    assert "since a file format is decoded by a library: ImageDecoder" in told
    assert "opaque: a file format is decoded by a library" in call("ops", "ImageDecoder").out


@pytest.mark.parametrize("operator", ops.operators().values(), ids=lambda x: x.name)
def test_signatures_read_back_as_what_they_tell(operator: Operator) -> None:
    for schema in operator.schemas:
        read = parse_signature(signature_text(schema))
        assert (read.inputs, read.outputs) == (schema.inputs, schema.outputs)
        assert {x.name: x for x in read.attributes} == schema.attributes


def test_histories_begin_with_an_introduction_and_have_all_versions() -> None:
    for operator in ops.operators().values():
        changes = changelog(operator)
        assert changes[-1].notes == ("introduced",)
        assert [x.version for x in changes[::-1]] == [s.since_version for s in operator.schemas]
        assert all(change.notes for change in changes)


def test_differences_are_told_in_words() -> None:
    old = op("X <a: int, b: float = 1.0, e: ints?> (x: T, y: T, z: T) => (o: T)", since=1, T=FLOAT)
    new = old.since(
        7, "X <b: float = 2.0, c: string?, e: ints?> (x: T, why: T, i: I?) => (o: T, p: each T*)",
        note="it says so", T=F32 | BF16, I=INT, deprecated=True,
    )  # fmt: skip
    assert list(differences(*new.schemas)) == [
        "deprecated",
        "it says so",
        "input y is called why",
        "input z is called i",
        "input z: T → i: I?",
        "+ output p: each T*",
        "− attribute a",
        "attribute b: float = 1.0 → b: float = 2.0",
        "+ attribute c: string?",
        "T + bfloat16",
        "T − float16 float64",
        "I is uint8…uint64 int8…int64",
    ]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (FLOAT | BF16, "float16…float64 bfloat16"),
        (SINT | F8, "int8…int64 float8"),
        (F32, "float32"),
        (types("seq(tensor(float))", "tensor(bool)"), "bool seq(float32)"),
        (SEQ(INT), "seq(uint8…uint64 int8…int64)"),
        (types("optional(seq(tensor(int64)))"), "optional(seq(int64))"),
        (types("map(int64, float)"), "map(int64, float)"),
        (types("seq(map(string, float))"), "seq(map(string, float))"),
    ],
)
def test_sets_of_types_are_short(members: object, expected: str) -> None:
    assert types_text(members) == expected  # type: ignore[arg-type] # a set of types


def test_short_sets_name_every_group_once() -> None:
    words = types_text(TENSOR).split()
    assert len(words) == len(set(words))
    assert {"complex", "string", "bool"} <= set(words)


def test_the_page_has_an_example_that_was_run() -> None:
    page = call("ops", "TopK").out
    assert "Values, Indices = TopK (X, K)" in page
    assert "X = [[3, 1, 4, 1, 5]]" in page
    assert "Values = [[5, 4, 3]]" in page
    (told,) = call("ops", "TopK", "--json").json["operators"]
    assert set(told["example"]) == {"model", "inputs", "outputs"}
    assert told["example"]["outputs"].splitlines()[1] == "Indices = [[4, 2, 0]]"
    assert "output: float32[2, 3]" in call("ops", "RandomNormal").out


def test_an_example_that_lacks_something_says_what(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise NotSupported("Pillow is required")

    monkeypatch.setattr("fornix.cli.examples.ReferenceEvaluator.run", fails)
    assert "Pillow is required" in call("ops", "Neg").out
    monkeypatch.setattr(examples, "examples", dict)
    assert call("ops", "Neg", "--json").json["operators"][0]["example"]["model"] == ""
