"""The version converter: models from one opset to another, up and down."""

from __future__ import annotations

from fornix.version.convert import convert_version

__all__ = ["convert_version"]
