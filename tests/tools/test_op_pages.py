from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fornix.cli import examples
from fornix.cli.examples import Example, plain, read_examples
from fornix.cli.feeds import from_json
from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.ops.matrix import families
from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession
from tools import op_pages
from tools.op_pages import escaped

OPERATORS = {op.name: op for operators in families().values() for op in operators}
EXAMPLES = examples.examples()
DETERMINISTIC = [name for name, example in EXAMPLES.items() if not example.is_random]
TOLERANCE = 10.0 ** (1 - examples.DIGITS)
MAX_BYTES = 1_500_000
"""Of all pages: the repository stays small."""


def shown(name: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Model, feeds and results, as the page of ``name`` shows them."""
    text, *rest = op_pages.stored_blocks(name)
    model = from_message(parse_model(text))
    given, results = rest if len(rest) == 2 else ["", *rest]
    values = {value.name: value.type for value in model.graph.inputs}
    feeds = dict(line.split(" = ", 1) for line in given.splitlines())
    told = dict(line.split(" = ", 1) for line in results.splitlines())
    return (
        model,
        {name: from_json(json.loads(x), values[name]) for name, x in feeds.items()},
        {name: json.loads(x) for name, x in told.items()},
    )


def assert_alike(found: Any, told: Any) -> None:
    if isinstance(told, list):
        assert len(found) == len(told)
        for one, other in zip(found, told, strict=True):
            assert_alike(one, other)
    elif isinstance(told, float):
        np.testing.assert_allclose(found, told, rtol=TOLERANCE, atol=1e-7)
    else:
        assert found == told


def test_every_operator_has_one_example_and_no_other_has() -> None:
    assert list(EXAMPLES) == list(OPERATORS)


def test_pages_agree_with_the_declarations_and_are_small() -> None:
    assert op_pages.main() == 0
    assert sum(path.stat().st_size for path in op_pages.PAGES.iterdir()) < MAX_BYTES


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_example_gives_what_the_page_says(name: str) -> None:
    model, feeds, told = shown(name)
    assert name in {node.op_type for node in model.graph.nodes}
    found = ReferenceEvaluator(model).run(None, feeds)
    assert list(told) == [value.name for value in model.graph.outputs]
    assert_alike([plain(value) for value in found], list(told.values()))


@pytest.mark.slow
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_example_gives_the_same_compiled(name: str) -> None:
    model, feeds, told = shown(name)
    found = InferenceSession(model).run(None, feeds)
    assert_alike([plain(value) for value in found], list(told.values()))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DETERMINISTIC if not EXAMPLES[name].known])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the standard's evaluator
def test_the_results_are_those_of_the_oracle(name: str) -> None:
    model = examples.model_of(OPERATORS[name], EXAMPLES[name])
    text = op_pages.results_text(model, EXAMPLES[name])
    again = [json.loads(line.split(" = ", 1)[1]) for line in text.splitlines()]
    assert_alike(again, list(shown(name)[2].values()))


@pytest.mark.parametrize("name", [name for name, x in EXAMPLES.items() if x.is_random])
def test_random_examples_give_the_types_that_the_page_says(name: str) -> None:
    example = EXAMPLES[name]
    model = examples.model_of(OPERATORS[name], example)
    (line,) = op_pages.stored_blocks(name)[-1].splitlines()
    (value,) = ReferenceEvaluator(model).run(None, examples.feeds_of(model, example))
    dtype, shape = value.dtype.name, ", ".join(map(str, value.shape))
    assert line == f"output: {dtype}[{shape}]"


def test_examples_are_read_line_by_line() -> None:
    lines = ["# why", "Add", "  y = Add (x, k)", "  x: float[2] = [1, 2]"]
    text = "\n".join([*lines, "  where float k = {1}", "  => y = [2, 3]"])
    example = read_examples(text)["Add"]
    assert example == Example(
        ["y = Add (x, k)"], {"x": ("float[2]", "[1, 2]")}, "float k = {1}", ["y = [2, 3]"]
    )


def test_numbers_are_short_and_what_rounding_leaves_is_nothing() -> None:
    assert plain(np.array([1 / 3, 2, 1e-12], np.float32)) == [0.33333, 2, 0]
    assert plain([{1: np.float32(0.5)}]) == [{"1": 0.5}]
    assert plain(np.array([True])) == [True]


def test_markdown_shows_text_as_it_is() -> None:
    assert escaped("x[*S] | a_b <i>") == r"x\[\*S\] \| a\_b \<i\>"


def test_stale_pages_are_told_and_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(op_pages, "pages", lambda: {"Add.md": "new", "README.md": "same"})
    monkeypatch.setattr(op_pages, "PAGES", tmp_path)
    (tmp_path / "README.md").write_text("same")
    (tmp_path / "Gone.md").write_text("old")
    monkeypatch.setattr("sys.argv", ["op_pages"])
    assert op_pages.main() == 1
    assert "(Add.md, Gone.md)" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["op_pages", "--write"])
    assert op_pages.main() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Add.md", "README.md"]
