"""The command line as tests call it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from click.testing import CliRunner

import fornix
from fornix.cli import main
from fornix.format.text import parse_model

DIGITS = Path(fornix.__file__).parent / "demo" / "digits.onnx"

PLAIN = {"NO_COLOR": None, "FORCE_COLOR": None, "FORNIX_TRACEBACK": None, "COLUMNS": None}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str
    exception: BaseException | None

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def call(*arguments: object, **environment: str) -> Outcome:
    result = CliRunner().invoke(main, list(map(str, arguments)), env={**PLAIN, **environment})
    return Outcome(result.exit_code, result.stdout, result.stderr, result.exception)


def save(folder: Path, text: str, name: str = "model.onnx") -> Path:
    """The model of an ONNX text, written to a file."""
    path = folder / name
    path.write_bytes(parse_model(text).SerializeToString())
    return path


def rename_dims(path: Path, names: dict[str, str]) -> None:
    """Give dims of inputs and outputs names that ONNX text has no room for."""
    message = onnx.load(path)
    for value in (*message.graph.input, *message.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]
    onnx.save(message, path)


def model(
    folder: Path, ends: str, body: str = "y = Identity(x)", imports: str = '"": 21, "ai.onnx.ml": 5'
) -> Path:
    text = f"<ir_version: 10, opset_import: [{imports}]> main {ends} {{ {body} }}"
    return save(folder, text)
