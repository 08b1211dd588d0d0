"""The opsets of the standard's domains: which is the newest that the declarations here describe."""

from __future__ import annotations

from collections.abc import Mapping

from fornix.errors import ValidationError

LATEST: dict[str, int] = {
    "": 28,
    "ai.onnx": 28,
    "ai.onnx.ml": 5,
    "ai.onnx.preview": 1,
    "ai.onnx.training": 1,
    "ai.onnx.preview.training": 1,
}
"""The newest opset of each domain of the standard."""


def require_known(imports: Mapping[str, int], label: str) -> None:
    """Raise ValidationError for opsets that are newer than the standard described here.

    What operators mean there is not known. Domains beside the standard's are their owners' matter.
    """
    for domain, opset in imports.items():
        newest = LATEST.get(domain)
        if newest is not None and opset > newest:
            raise ValidationError(
                f"{label}: an opset of {domain or 'ai.onnx'} up to {newest} is required, "
                f"found {opset}; export the model for opset {newest} or older"
            )
