"""Each pass by itself on small graphs: ``tests/golden/passes/<pass>/<case>.before.onnxtxt``.

`--update-golden` writes what comes out beside it as ``<case>.after.onnxtxt``. A case is called like
the rule that applies in it, or ``<rule>_declines``, with more words behind ``.`` where there are
several.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fornix.format.text import parse_model, print_model
from fornix.infer import infer_strictly
from fornix.ir.graph import Model
from fornix.ir.load import from_message, to_message
from fornix.ir.verify import verify
from fornix.passes import (
    advance_pointwise,
    canonicalize,
    fold_affine,
    fold_batchnorm,
    fold_pad,
    fold_scales,
    fuse_activations,
    fuse_attention,
    fuse_gelu,
    fuse_gemm,
    fuse_layernorm,
    fuse_quantized,
    trim_windows,
)
from fornix.passes.apply import Changes
from fornix.passes.inline import inline_functions
from fornix.passes.pattern import Rule
from fornix.passes.pipeline import PIPELINE
from fornix.passes.raise_opset import raise_opset

ROOT = Path(__file__).parent.parent / "golden" / "passes"
CASES = sorted(path.relative_to(ROOT) for path in ROOT.glob("*/*.before.onnxtxt"))

RULES: dict[str, tuple[Rule, ...]] = {
    "advance_pointwise": advance_pointwise.RULES,
    "canonicalize": canonicalize.RULES,
    "fold_affine": fold_affine.RULES,
    "fold_batchnorm": fold_batchnorm.RULES,
    "fold_pad": fold_pad.RULES,
    "fold_scales": fold_scales.RULES,
    "fuse_activations": fuse_activations.RULES,
    "fuse_attention": fuse_attention.RULES,
    "fuse_gelu": fuse_gelu.RULES,
    "fuse_gemm": fuse_gemm.RULES,
    "fuse_layernorm": fuse_layernorm.RULES,
    "fuse_quantized": fuse_quantized.RULES,
    "trim_windows": trim_windows.RULES,
}

OF_MODELS: dict[str, Callable[[Model], Changes]] = {
    "inline_functions": inline_functions,
    "raise_opset": partial(raise_opset, opset=24),
}


def run(name: str, text: str) -> tuple[str, Changes]:
    """What the pass ``name`` makes of a model in text, and what it says that it did."""
    model = from_message(parse_model(text))
    if name in OF_MODELS:
        changes = OF_MODELS[name](model)
    else:
        step = next(step for step in PIPELINE if step.name == name)
        changes = step.run(model.graph, infer_strictly(model))
    verify(model)
    assert not infer_strictly(model).errors
    return print_model(to_message(model), exact=False).rstrip("\n") + "\n", changes


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_pass_makes_of_a_graph_what_is_written_down(
    case: Path, request: pytest.FixtureRequest
) -> None:
    before = ROOT / case
    text, changes = run(case.parent.name, before.read_text())
    after = before.with_name(before.name.replace(".before.", ".after."))
    if request.config.getoption("--update-golden"):
        after.write_text(text)
    assert text == after.read_text()
    rule = case.name.split(".")[0]
    if rule.endswith("_declines"):
        assert rule.removesuffix("_declines") not in changes
    elif case.parent.name in RULES:
        assert changes[rule] > 0, f"{rule} must apply, found {dict(changes)}"


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_a_case_where_it_applies_and_one_where_it_declines(name: str) -> None:
    found = {case.name.split(".")[0] for case in CASES if case.parent.name == name}
    wanted = {rule.name for rule in RULES[name]}
    declining = {f"{rule}_declines" for rule in wanted} - {f"{r}_declines" for r in UNCONDITIONAL}
    assert wanted | declining <= found


UNCONDITIONAL = {"drop_identity", "cancel_twice", "drop_repetition", "drop_sign", "subtract", "add"}
"""Rules that apply wherever their pattern matches."""


@pytest.mark.parametrize("name", sorted({step.name for step in PIPELINE} | OF_MODELS.keys()))
def test_every_pass_has_cases(name: str) -> None:
    assert any(case.parent.name == name for case in CASES)
