"""Loggers with a severity of their own, by onnxruntime's numbers.

Decides who hears of what: messages go where those of fornix go, from the severity on that a session
or a run asks for, whatever the level of fornix's own logger is.
"""

from __future__ import annotations

import logging

from fornix.errors import InvalidUse

SEVERITIES = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
"""Levels of `logging`, by onnxruntime's numbers from verbose to fatal."""
INHERITED = -1
"""The severity that leaves it to others."""


def logger(severity: int, parent: logging.Logger) -> logging.Logger:
    """One that passes to the handlers of ``parent`` what has at least this ``severity``.

    ``parent`` itself for -1; raises InvalidUse for what is no severity.
    """
    if severity == INHERITED:
        return parent
    own = logging.Logger(parent.name, level(severity))  # noqa: LOG001 - its level is no other's
    own.parent = parent
    return own


def level(severity: int) -> int:
    """The level of `logging` that a severity is; raises InvalidUse for what is none."""
    if not 0 <= severity < len(SEVERITIES):
        raise InvalidUse(
            f"a logging severity from 0 to {len(SEVERITIES) - 1} is required, found {severity}"
        )
    return SEVERITIES[severity]
