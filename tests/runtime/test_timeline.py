from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as peer
import pytest
from onnx import parser

from fornix import onnxruntime as ort

MODEL = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
    g (float[N, 4] x) => (float[N, 4] y, int64[2, M] z) <float[4] w = {1, 2, 3, 4}> {
        y = Mul (x, w)  z = NonZero (x)
    }""").SerializeToString()


def nodes(package: Any, folder: Path, provider: str) -> dict[str, dict[str, Any]]:
    """What a profile says of each node, by operator."""
    options = package.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / package.__name__)
    session = package.InferenceSession(MODEL, options, providers=[provider])
    session.run(None, {"x": np.ones((3, 4), np.float32)})
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return {e["args"]["op_name"]: e["args"] for e in events if e["cat"] == "Node"}


FIELDS = ("input_type_shape", "output_type_shape", "output_size", "parameter_size",
          "activation_size", "node_index")  # fmt: skip


def test_nodes_have_onnxruntimes_fields_and_values(tmp_path: Path) -> None:
    found, wanted = (nodes(p, tmp_path, "CPUExecutionProvider") for p in (ort, peer))
    assert found.keys() == wanted.keys() == {"Mul", "NonZero"}
    for name, theirs in wanted.items():
        for field in FIELDS[:-1]:
            assert found[name][field] == theirs[field], (name, field)
    assert {found[name]["node_index"] for name in found} == {"0", "1"}


@pytest.mark.parametrize("name", ["Mul", "NonZero"])
def test_nodes_of_the_reference_say_what_they_make(name: str, tmp_path: Path) -> None:
    found = nodes(ort, tmp_path, "ReferenceExecutionProvider")[name]
    wanted = nodes(peer, tmp_path, "CPUExecutionProvider")[name]
    for field in ("output_type_shape", "output_size"):
        assert found[field] == wanted[field]
