"""Extents of a model in a file made numbers: ``python -m …make_dynamic_shape_fixed``."""

from __future__ import annotations

import argparse
from pathlib import Path

from fornix.ir.files import load, save
from fornix.ir.load import from_message, to_message
from fornix.onnxruntime.tools.onnx_model_utils import (
    fix_output_shapes,
    make_dim_param_fixed,
    make_input_shape_fixed,
)


def make_dynamic_shape_fixed_helper() -> None:
    """Read the command line and write the changed model."""
    parser = argparse.ArgumentParser(description="Make extents of a model numbers.")
    parser.add_argument("--dim_param", help="name of an extent")
    parser.add_argument("--dim_value", type=int, help="its number")
    parser.add_argument("--input_name", help="an input")
    parser.add_argument("--input_shape", type=_shape, help="its shape: numbers between commas")
    parser.add_argument("input_model", type=Path)
    parser.add_argument("output_model", type=Path)
    given = parser.parse_args()
    by_name = given.dim_param is not None and given.dim_value is not None
    by_input = given.input_name is not None and given.input_shape is not None
    if not (by_name or by_input):
        parser.error(
            "--dim_param with --dim_value, or --input_name with --input_shape, is required"
        )
    message = to_message(load(given.input_model))
    if by_name:
        make_dim_param_fixed(message.graph, given.dim_param, given.dim_value)
    if by_input:
        make_input_shape_fixed(message.graph, given.input_name, given.input_shape)
    fix_output_shapes(message)
    save(from_message(message), given.output_model)


def _shape(text: str) -> list[int]:
    return [int(extent) for extent in text.split(",")]


if __name__ == "__main__":
    make_dynamic_shape_fixed_helper()
