from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.resources import files

import onnx
import pytest

from fornix import ops
from fornix.ops import descriptions
from fornix.ops.descriptions import EVERY, parameters_of, tables
from fornix.ops.op import Operator, op
from fornix.ops.schema import Schema
from fornix.ops.types import FLOAT

OPERATORS = list(ops.operators().values())
LONGEST = 240
"""Characters: a line of a page, or two."""


def names_of(schema: Schema) -> list[str]:
    return [formal.name for formal in (*schema.inputs, *schema.outputs)] + list(schema.attributes)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
def test_every_parameter_of_every_version_is_described(operator: Operator) -> None:
    for schema in operator.schemas:
        assert list(parameters_of(schema)) == list(dict.fromkeys(names_of(schema)))


def test_every_description_is_of_a_parameter_that_exists() -> None:
    known = {x.name: {n for schema in x.schemas for n in names_of(schema)} for x in OPERATORS}
    known[EVERY] = set().union(*known.values())
    for operator, told in tables().items():
        assert told.keys() <= known[operator], operator


def test_no_table_says_what_another_of_its_width_says() -> None:
    """Which of two counts would depend on the order of the files."""
    seen: set[tuple[str, str, int]] = set()
    for file in files(descriptions).iterdir():
        if not file.name.endswith(".toml"):
            continue
        for heading, told in tomllib.loads(file.read_text(encoding="utf-8")).items():
            names = heading.split()
            for entry in ((name, parameter, len(names)) for name in names for parameter in told):
                assert entry not in seen, entry
                seen.add(entry)


def test_descriptions_are_short_sentences() -> None:
    for operator, told in tables().items():
        for name, text in told.items():
            assert text.endswith("."), (operator, name)
            assert len(text) <= LONGEST, (operator, name)


def test_descriptions_are_in_words_of_their_own() -> None:
    """The onnx package describes the same parameters; none of its sentences is here."""
    theirs = {
        sentence.strip()
        for schema in onnx.defs.get_all_schemas_with_history()
        for part in (*schema.inputs, *schema.outputs, *schema.attributes.values())
        for sentence in re.split(r"(?<=\.)\s+", " ".join(part.description.split()))
        if len(sentence.split()) >= 5
    }
    ours = {
        sentence.strip()
        for told in tables().values()
        for text in told.values()
        for sentence in re.split(r"(?<=\.)\s+", text)
    }
    assert not ours & theirs


def test_a_table_of_one_operator_prevails_over_one_of_several() -> None:
    assert tables()["Acos"]["output"] == "Angles in radians, from 0 to π."
    assert tables()["Cosh"]["output"] != tables()["Acos"]["output"]
    assert tables()["Conv"]["kernel_shape"] != tables()[EVERY]["kernel_shape"]


def test_operators_of_ones_own_are_not_described_as_those_of_the_standard() -> None:
    own = op("Conv (X: T) => (Y: T)", since=1, domain="my.domain", T=FLOAT)
    assert parameters_of(own.schemas[0]) == {}


def test_running_a_model_does_not_read_them() -> None:
    code = (
        "import sys, fornix.infer, fornix.onnxruntime, fornix.reference; "
        "assert 'fornix.ops.descriptions' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
