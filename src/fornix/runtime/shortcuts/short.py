"""What short ways to results have in common, whichever kind they are.

Decides what one that has no results says, and which runs with options may take one whose runs
nobody could end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fornix.compile.entry import Entry
from fornix.runtime.options import RunOptions


class QuickCall(Protocol):
    """A short way for feeds like those that it was made for."""

    @property
    def call(self) -> Entry:
        """Feeds to results; None if they are to go the long way."""

    def until(self, options: RunOptions) -> Entry:
        """The same, for runs with options."""


def at_once(call: Entry, options: RunOptions) -> Entry:
    """``call``, which is over before anybody could end it, for runs with ``options``."""
    return call if is_plain(options) else no_results


def is_plain(options: RunOptions) -> bool:
    """Whether a run with ``options`` is like one without; of other classes nobody knows."""
    return type(options) is RunOptions and options.is_plain


def no_results(_: Mapping[str, Any]) -> None:
    """Leave a run to the long way."""


class LongWay:
    """None for all extents: other ones are asked for theirs ahead of each run."""

    call: Entry = staticmethod(no_results)

    def until(self, options: RunOptions) -> Entry:
        """The same, for runs with options."""
        del options
        return no_results
