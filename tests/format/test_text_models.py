"""The models of the standard's own tests, through its printer and parser and ours."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import onnx
import onnx.parser
import onnx.printer
import pytest
from onnx.backend.test.case.node import collect_testcases

from fornix.format import text
from fornix.format.messages import ModelProto, own
from tests.format.texts import same

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
MODELS_AT_LEAST = 1500


@cache
def stored_models() -> tuple[onnx.ModelProto, ...]:
    paths = sorted(DATA.glob("*/*/model.onnx"))
    return tuple(onnx.load(path, load_external_data=False) for path in paths)


def node_models() -> Iterator[onnx.ModelProto]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about casts in the making of the inputs
        cases = collect_testcases(None)
    yield from (case.model for case in cases if case.model is not None)


def check(model: onnx.ModelProto) -> None:
    """The model comes back from our text; onnx reads that as we do, and we read onnx's as onnx."""
    ours = own(model, ModelProto)
    printed = text.print_model(ours)
    assert same(text.parse_model(printed), ours)
    without_notes = text.parse_model(text.print_model(ours, exact=False))
    assert same(onnx.parser.parse_model(printed), without_notes)
    theirs = onnx.printer.to_text(model)
    assert same(text.parse_model(theirs), onnx.parser.parse_model(theirs))


def test_the_models_stored_with_the_standard() -> None:
    assert stored_models()
    for model in stored_models():
        check(model)


@pytest.mark.slow
def test_the_models_of_all_node_tests() -> None:
    models = list(node_models())
    assert len(models) > MODELS_AT_LEAST
    for model in models:
        check(model)


def test_onnx_prints_quoted_subgraphs_that_only_we_read() -> None:
    branch = onnx.helper.make_graph([], "then branch", [], [])
    node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    printed = onnx.printer.to_text(node)
    with pytest.raises(onnx.parser.ParseError):
        onnx.parser.parse_node(printed)
    assert [each.g.name for each in text.parse_node(printed).attribute] == ["then branch"] * 2
