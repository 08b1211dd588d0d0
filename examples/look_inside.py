"""Look inside a model: the shapes that its nodes make, and where its parameters are."""

from __future__ import annotations

from math import prod
from pathlib import Path

import fornix
from fornix.infer import infer_model

model = fornix.load(Path(fornix.__file__).parent / "demo" / "digits.onnx")
inferred = infer_model(model)

for node in model.graph.nodes:
    made = ", ".join(f"{value.name}: {inferred.fact(value).type}" for value in node.outputs)
    print(f"{node.op_type:12} {made}")

for name, value in model.graph.initializers.items():
    if value.constant is not None:
        print(f"{name}: {prod(value.constant.shape)} parameters")
