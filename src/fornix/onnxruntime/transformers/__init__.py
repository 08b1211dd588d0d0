"""Of onnxruntime's tools for transformers: conversion to half precision."""

from __future__ import annotations

from fornix.lazy import submodules

__getattr__ = submodules(__name__)
