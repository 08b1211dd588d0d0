from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix import edit
from fornix.ir.graph import Model
from fornix.ir.verify import verify
from fornix.reference import ReferenceEvaluator
from tests.random_graphs import random_model

SEEDS = range(12)


def results(model: Model, feeds: dict[str, Any]) -> list[Any]:
    verify(model)
    found: list[Any] = ReferenceEvaluator(model).run(None, feeds)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_prefixed_models_compute_the_same(seed: int) -> None:
    model, feeds = random_model(seed)
    expected = results(model, feeds)
    changed = edit.prefix(model, "p/")
    found = results(changed, {f"p/{name}": x for name, x in feeds.items()})
    for ours, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, wanted)
    assert results(model, feeds)  # what was given is as it was


@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_cut_in_two_and_merged_computes_the_same(seed: int) -> None:
    model, feeds = random_model(seed)
    expected = results(model, feeds)
    nodes = list(model.graph.nodes)
    middle = nodes[len(nodes) // 2].output.name
    ends = [value.name for value in model.graph.outputs]
    head = edit.extract(model, None, [middle])
    inputs = [value.name for value in model.graph.inputs]
    tail = edit.extract(model, [middle, *inputs], ends)
    middle_value = results(head, {v.name: feeds[v.name] for v in head.graph.inputs})
    found = results(tail, {middle: middle_value[0], **feeds})
    for ours, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, wanted)
    first, second = edit.prefix(head, "a/"), edit.prefix(tail, "b/")
    merged = edit.merge(first, second, [(f"a/{middle}", f"b/{middle}")])
    renamed = {v.name: feeds[v.name[2:]] for v in merged.graph.inputs}
    for ours, wanted in zip(results(merged, renamed)[-len(ends) :], expected, strict=True):
        np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("seed", SEEDS)
def test_small_models_have_the_same_shapes(seed: int) -> None:
    model, feeds = random_model(seed)
    expected = results(model, feeds)
    small = edit.replace_constants(model, 3)
    stored = [v.tensor for v in small.graph.initializer_values if v.tensor is not None]
    assert all(np.prod(tensor.shape, dtype=int) <= 3 or tensor.dtype.name == "int64"
               for tensor in stored)  # fmt: skip
    if any(v.tensor is not None and v.tensor.dtype.name == "int64" and v.tensor.shape[:1] > (3,)
           for v in model.graph.initializer_values):  # fmt: skip
        return  # shapes of Reshape are gone as well
    for ours, wanted in zip(results(small, feeds), expected, strict=True):
        assert ours.shape == wanted.shape
