"""Run a model: feeds in, fetches out, and what the session knows about both."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fornix

FOLDER = Path(fornix.__file__).parent / "demo"

session = fornix.InferenceSession(FOLDER / "digits.onnx")
for value in (*session.get_inputs(), *session.get_outputs()):
    print(value.name, value.type, value.shape)

with np.load(FOLDER / "digits.npz") as pictures:
    image, label = pictures["image"], pictures["label"]

(probability,) = session.run(["probability"], {"image": image})
print("read ", *np.argmax(probability, axis=1))
print("truth", *label)
