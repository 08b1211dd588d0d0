"""Options of sessions that a model brings along: ``ort_config`` in its metadata.

Decides when they count and which there are. They count where the environment says
``ORT_LOAD_CONFIG_FROM_MODEL=1``, or the session's argument does.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import replace
from typing import Any

from fornix import runtime
from fornix.errors import FornixWarning, InvalidArgument
from fornix.onnxruntime._options import ExecutionMode, GraphOptimizationLevel

KEY = "ort_config"
LEVELS = {int(level) for level in GraphOptimizationLevel}
ALLOWED: dict[str, set[int] | None] = {
    "execution_mode": {int(mode) for mode in ExecutionMode},
    "graph_optimization_level": LEVELS,
    "enable_profiling": {0, 1},
    "intra_op_num_threads": None,
    "inter_op_num_threads": None,
}
"""The options, and the numbers that they may be; None for any from 0 on."""


def is_wanted(argument: Any) -> bool:
    """Whether options of models count; ``argument`` of the session, if there is one, says it."""
    if argument is not None:
        return int(argument) == 1
    return os.environ.get("ORT_LOAD_CONFIG_FROM_MODEL") == "1"


def with_config(options: runtime.SessionOptions, source: Any) -> runtime.SessionOptions:
    """``options`` with those that the model in ``source`` brings in their place.

    Raises InvalidArgument for metadata that are no options.
    """
    from fornix.reference.source import as_model  # noqa: PLC0415 - few models bring options along

    text = as_model(source).metadata.get(KEY)
    return options if text is None else replace(options, **_parsed(text))


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"metadata {KEY!r}: JSON is required: {error}") from error
    given = found.get("session_options") if isinstance(found, dict) else None
    if not isinstance(given, dict):
        return {}
    options: dict[str, Any] = {}
    for name, number in given.items():
        if name not in ALLOWED:
            warnings.warn(
                f"metadata {KEY!r}: option {name!r} has no meaning here",
                FornixWarning,
                stacklevel=4,
            )
            continue
        options[name] = _number(name, number)
    if "enable_profiling" in options:
        options["enable_profiling"] = bool(options["enable_profiling"])
    return options


def _number(name: str, number: Any) -> int:
    allowed = ALLOWED[name]
    is_integer = isinstance(number, int) and not isinstance(number, bool)
    if not is_integer or number < 0 or (allowed is not None and number not in allowed):
        wanted = "an integer from 0 on" if allowed is None else f"one of {sorted(allowed)}"
        raise InvalidArgument(f"metadata {KEY!r}: {name} must be {wanted}, found {number!r}")
    return int(number)
