"""Edits, inliner, inference and checker on models that are broken: results, or fornix errors."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fornix.errors import FornixError
from fornix.format.messages import ModelProto
from fornix.format.text import parse_model
from fornix.onnx import checker, compose, inliner, shape_inference, utils, version_converter
from fornix.onnx.tools.replace_constants import replace_initializer_by_constant_of_shape
from tests.format.bytes import mutated, small_models

TEXT = """<ir_version: 10, opset_import: ["": 18, "l": 1]>
g (float[N, 3] x, bool c) => (float[N, 3] y, float[M] z) <float[3] w = {1, 2, 3}, float[N, 3] a> {
    a = Mul(x, w)
    b = l.F <k = 1> (a)
    y = If(c) <then_branch = t () => (p) { p = Neg(b) },
               else_branch = e () => (q) { q = Add(a, w) }>
    s = Constant <value = int64[1] {-1}> ()
    z = Reshape(y, s) }
<opset_import: ["": 18, "l": 1], domain: "l"> F <k: int> (i) => (o) {
    r = ReduceSum <keepdims: int = @k> (i) n = l.G(r) o = Sub(i, n) }
<opset_import: ["": 18], domain: "l"> G (i) => (o) { o = Gelu(i) }"""
MODELS = [*small_models(), *[parse_model(TEXT).SerializeToString()] * 4]
SEEDS = st.integers(0, 2**32)


def names(values: Any) -> list[str]:
    """Names that are text; what is not UTF-8 comes as bytes."""
    return [value.name for value in values if isinstance(value.name, str)]


def extracted(model: ModelProto) -> None:
    utils.Extractor(model).extract_model(names(model.graph.input), names(model.graph.output))


def merged(model: ModelProto) -> None:
    links = list(zip(names(model.graph.output), names(model.graph.input), strict=False))
    compose.merge_models(model, model, links, prefix2="second/")


EDITS: list[Callable[[ModelProto], Any]] = [
    checker.check_model,
    extracted,
    merged,
    lambda model: compose.add_prefix(model, "p/"),
    lambda model: compose.expand_out_dim(model, 0),
    lambda model: inliner.inline_local_functions(model, convert_version=True),
    lambda model: inliner.inline_selected_functions(model, [], True, True),
    lambda model: shape_inference.infer_shapes(model, strict_mode=True),
    lambda model: version_converter.convert_version(model, 20),
    lambda model: replace_initializer_by_constant_of_shape(model, threshold=1),
]


def damaged(seed: int) -> ModelProto | None:
    """A model with bytes changed, if it can still be read."""
    choice = random.Random(seed)
    data = mutated(choice.choice(MODELS), choice)
    try:
        return ModelProto.FromString(data)
    except Exception:  # noqa: BLE001 - protobuf refuses most
        return None


@given(SEEDS)
def test_broken_models_are_changed_or_refused(seed: int) -> None:
    model = damaged(seed)
    if model is None:
        return
    for change in EDITS:
        with suppress(FornixError):
            change(model)
