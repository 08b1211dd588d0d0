from __future__ import annotations

import onnx
import pytest

from bench.verbs import AIMS, decoder, measured


@pytest.mark.parametrize("nodes", [1, 100])
def test_the_models_are_valid(nodes: int) -> None:
    model = decoder(nodes)
    assert len(model.graph.node) >= nodes
    onnx.checker.check_model(model, full_check=True)


def test_every_verb_is_measured_on_both_sides() -> None:
    found = measured(40)
    assert list(found) == list(AIMS)
    assert all(ours > 0 and theirs > 0 for ours, theirs in found.values())
