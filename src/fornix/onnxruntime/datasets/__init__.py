"""Three small models to try things with, by onnxruntime's names for them."""

from __future__ import annotations

from pathlib import Path

from fornix.errors import NoSuchFile


def get_example(name: str) -> str:
    """The path of an example: "mul_1.onnx", "sigmoid.onnx" or "logreg_iris.onnx"."""
    folder = Path(__file__).parent
    path = folder / name
    if not path.is_file():
        has = ", ".join(sorted(found.name for found in folder.glob("*.onnx")))
        raise NoSuchFile(f"datasets: an example ({has}) is required, found {name!r}")
    return str(path)
