"""The version converter: models and functions from one opset to another, up and down."""

from __future__ import annotations

from fornix.version.convert import convert_function, convert_version

__all__ = ["convert_function", "convert_version"]
