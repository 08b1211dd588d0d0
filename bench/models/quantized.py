"""Models of bytes: those of the registry, quantised by onnxruntime's own tools.

Decides how a model is quantised: statically, between QuantizeLinear and DequantizeLinear or by
operators on integers, with ranges from its first feeds; or dynamically.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from bench.models.cache import cached
from bench.models.spec import Arrays

Spelling = Literal["qdq", "operators", "dynamic"]
CALIBRATIONS = 3
"""Feeds that ranges are taken from."""


class Feeds:
    """Feeds as the quantiser asks for them."""

    def __init__(self, feeds: Sequence[Arrays]) -> None:
        self._left: Iterator[Arrays] = iter(feeds[:CALIBRATIONS])

    def get_next(self) -> Arrays | None:
        """The next feed; None behind the last."""
        return next(self._left, None)


def quantized(
    source: Path, feeds: Sequence[Arrays], spelling: Spelling, kinds: Sequence[str] = ()
) -> Path:
    """The model at ``source`` quantised, with unsigned activations and signed weights.

    If ``kinds`` are given, only these operators: the mask of attention is infinite, which has no
    range.
    """

    def write(draft: Path) -> None:
        from onnxruntime.quantization import (
            QuantFormat,
            QuantType,
            quantize_dynamic,
            quantize_static,
        )

        target = draft / "model.onnx"
        if spelling == "dynamic":
            quantize_dynamic(source, target, weight_type=QuantType.QInt8)
            return
        is_qdq = spelling == "qdq"
        quantize_static(
            source,
            target,
            Feeds(feeds),
            quant_format=QuantFormat.QDQ if is_qdq else QuantFormat.QOperator,
            op_types_to_quantize=list(kinds),
            per_channel=is_qdq,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )

    return cached(f"{source.parent.name}-{spelling}-v1", write) / "model.onnx"
