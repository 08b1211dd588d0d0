"""The parts of `onnx.onnx_cpp2py_export`, onnx's extension in C++, that other packages import.

Its modules are those of this package under another name; their functions take messages, where
onnx's take bytes.
"""

from __future__ import annotations

import sys

from fornix.onnx import (
    checker,
    defs,
    inliner,
    parser,
    printer,
    shape_inference,
    version_converter,
)

__all__ = [
    "ONNX_ML",
    "checker",
    "defs",
    "inliner",
    "parser",
    "printer",
    "shape_inference",
    "version_converter",
]

ONNX_ML = True

for _module in (checker, defs, inliner, parser, printer, shape_inference, version_converter):
    sys.modules[f"{__name__}.{_module.__name__.rpartition('.')[2]}"] = _module
