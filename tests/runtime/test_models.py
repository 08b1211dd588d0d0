from __future__ import annotations

import pytest

from bench.models import MODELS, SIZES, Exporter, Size, build
from bench.models.compare import disagreements
from fornix.runtime import InferenceSession


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "exporter"),
    [(name, exporter) for name, spec in MODELS.items() for exporter in spec.exporters],
)
def test_compiled_models_agree_with_torch(name: str, exporter: Exporter, size: Size) -> None:
    built = build(name, exporter, size)
    session = InferenceSession(built.path, providers=["CPUExecutionProvider"])
    for case, feed in enumerate(built.inputs):
        outputs = session.run(list(built.expected[case]), feed)
        assert disagreements(built, case, outputs) == {}
