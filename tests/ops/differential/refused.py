"""How an oracle says that it does not answer."""

from __future__ import annotations


class Refused(Exception):
    """The oracle does not answer this case."""
