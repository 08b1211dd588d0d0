"""Of onnxruntime's tools for transformers: conversion to half precision."""

from __future__ import annotations
