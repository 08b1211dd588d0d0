from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from fornix import ops
from fornix.ops.matrix import COLUMNS, REQUIRED, Cell, description, families, gaps, matrix, row
from fornix.ops.op import Operator, op
from fornix.ops.types import FLOAT

LIMITS = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")


def name_of(operator: Operator) -> str:
    return f"{operator.domain}.{operator.name}" if operator.domain else operator.name


def test_what_an_operator_lacks_is_said_in_the_limits() -> None:
    listed = set(re.findall(r"[\w.]+\w", LIMITS))
    lacking = {name_of(operator) for operator, _ in gaps()}
    known = set(ops.operators())
    for schema in onnx.defs.get_all_schemas():
        if (schema.domain, schema.name) not in known:
            lacking.add(f"{schema.domain}.{schema.name}".lstrip("."))
    assert lacking - listed == set()


def test_every_operator_belongs_to_one_family() -> None:
    members = [operator for group in families().values() for operator in group]
    assert len(members) == len(set(members)) == len(ops.operators())
    named = {family: {operator.name for operator in group} for family, group in families().items()}
    assert named == {family: {*names.split()} for family, names in ops.FAMILIES.items()}


ALONE = """
import os
from fornix import ops

def rules(table):
    return {key: [sorted(map(str, x)) for x in vars(o).values() if isinstance(x, dict)]
            for key, o in table.items()}

alone = {}
for family in (*ops.FAMILIES, *ops.PARTS):
    here, there = os.pipe()
    if not os.fork():
        os.write(there, repr(rules(ops.family_table(family))).encode())
        os._exit(0)
    os.close(there)
    with open(here) as file:
        alone |= eval(file.read())
    os.wait()
parts = {key: o for family in ops.PARTS for key, o in ops.family_table(family).items()}
assert alone == rules({**ops.standard(), **parts})
"""


def test_an_operator_is_found_without_reading_other_families() -> None:
    script = """
import sys
from fornix import ops
assert ops.find("", "Loop") and ops.find("", "NoSuch") is None
assert ops.find("ai.onnx.ml", "Loop") is None
assert ops.find(ops.PART_DOMAIN, "Stretched") and ops.find(ops.PART_DOMAIN, "NoSuch") is None
known = (*ops.FAMILIES, *ops.PARTS)
print(*[family for family in known if f"fornix.ops.{family}" in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["control", "stretched"]


def test_every_part_belongs_to_one_module() -> None:
    found = {part: {name for _, name in ops.family_table(part)} for part in ops.PARTS}
    assert found == {part: {*names.split()} for part, names in ops.PARTS.items()}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each family is read by a child")
def test_an_operator_has_all_its_rules_where_only_its_family_is_read() -> None:
    subprocess.run([sys.executable, "-c", ALONE], check=True)


def test_every_row_has_every_column() -> None:
    assert all(tuple(cells) == COLUMNS for cells in matrix().values())
    assert set(REQUIRED) < set(COLUMNS)


@pytest.fixture
def bare() -> Operator:
    return op("Bare (x: T) => (y: T)", since=1, T=FLOAT).since(7).since(13)


def test_an_operator_without_rules_has_empty_cells(bare: Operator) -> None:
    empty = Cell("", is_full=False)
    assert row(bare) == {
        "schema": Cell("3", is_full=True),
        **dict.fromkeys(["infer", "kernel", "lower", "doc"], empty),
        "grad": Cell("missing", is_full=False),
        "adapt": Cell("as it is", is_full=True),
    }
    assert description(bare) == ""


def test_a_rule_that_begins_late_is_partial(bare: Operator) -> None:
    def kernel(x: object) -> object:
        """What it computes."""
        return x

    bare.kernel(since=7)(kernel)
    bare.lower(since=13)(kernel)
    bare.adapt(7, 13)(kernel)
    cells = row(bare)
    assert cells["kernel"] == Cell("2 of 3", is_full=False)
    assert cells["lower"] == Cell("lower", is_full=True)
    assert cells["adapt"] == Cell("1 of 2", is_full=True)
    assert cells["doc"] == Cell("yes", is_full=True)
    assert description(bare) == "What it computes."


def test_an_operator_of_one_version_needs_no_adapter() -> None:
    single = op("Single (x: T) => (y: T)", since=1, T=FLOAT)
    assert row(single)["adapt"] == Cell("one version", is_full=True)


def test_rules_that_stand_for_a_lowering_are_told(bare: Operator) -> None:
    bare.rules["body"] = {1: lambda: "text"}
    assert row(bare)["lower"].text == "body"
    bare.rules["opaque"] = {1: lambda: "reason"}
    assert row(bare)["lower"].text == "body"
    del bare.rules["body"]
    assert row(bare)["lower"] == Cell("opaque", is_full=True, reason="reason")


def test_no_cell_is_empty() -> None:
    empty = [(o.name, c) for o, cells in matrix().items() for c in COLUMNS if not cells[c].text]
    assert empty == []


def test_a_gap_is_found(bare: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fornix.ops.operators", lambda: {("", "Bare"): bare})
    assert [(operator.name, column) for operator, column in gaps()] == [
        ("Bare", "infer"), ("Bare", "kernel"), ("Bare", "doc")
    ]  # fmt: skip


def test_gradients_pass_by_a_rule_or_a_body_or_not_at_all(bare: Operator) -> None:
    rows = {operator.name: cells["grad"].text for operator, cells in matrix().items()}
    assert rows["Conv"] == "grad"
    assert rows["AffineGrid"] == "body"
    assert rows["Loop"] == "missing"
    assert rows["Scaler"] == "fitted"
    assert rows["Adam"] == "optimizer"
    assert rows["STFT"] == "constant"
    assert rows["Upsample"] == "deprecated"
    assert rows["Shape"] == rows["Greater"] == "no floats"
    bare.grad(lambda x, node: node.g)
    assert row(bare)["grad"] == Cell("grad", is_full=True)


def test_descriptions_of_elementwise_operators_say_how_shapes_meet() -> None:
    told = {
        name: description(operator).partition("\n\n")[2]
        for (_, name), operator in ops.operators().items()
    }
    assert told["Neg"].startswith("X[*S] → Y[*S].")
    assert "A[*S] · B[*T] → C[*V]; S and T broadcast to V, as in NumPy." in told["Add"]
    assert "Before opset 7, shapes are equal unless ``broadcast`` is 1" in told["Add"]
    assert "condition[*S] · X[*T] · Y[*U] → output[*V]; S, T and U broadcast to V" in told["Where"]
    assert "slope[*T] → Y[*S]; T broadcasts to S." in told["PRelu"]
    assert "A[*S] · B[*S] → Y[*S]." in told["SwiGLU"]
    assert "input[*S] → output[*S]; min and max have one element." in told["Clip"]
    assert "The inputs broadcast to the shape of max" in told["Max"]
    assert "float16" in told["Exp"]
    assert "float16" not in told["And"]
