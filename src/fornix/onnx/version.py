"""What `onnx.version` offers: the version of onnx that this package stands for."""

from __future__ import annotations

from fornix.onnx import __version__ as version

__all__ = ["git_version", "version"]

git_version = ""
