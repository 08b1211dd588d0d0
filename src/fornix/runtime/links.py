"""What of texts and maps can stand among kernels of numbers: links of one native call.

Decides what such a call has to know of them. Which nodes have such code, and the operators that
this needs, is the business of `text.tables`, which sessions without texts never import.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fornix.runtime.providers import OwnWay

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

ArrayType: TypeAlias = tuple[tuple[int, ...], np.dtype[Any]]


class Link(NamedTuple):
    """Code that runs among kernels of numbers, by a table of its own."""

    table: Array
    function: int
    result: ArrayType | None
    """What it writes; None for an object that it puts among the results."""
    makes: bool
    """Whether it makes objects meanwhile, so that garbage may be collected."""
    owner: object
    source: int
    target: int
    place: int
    rows: int
    """Words of its table: where it reads and writes, the place among the results, how many rows."""


class LinkedWay(OwnWay):
    """A way that can be a link."""

    @abstractmethod
    def link(self, read: ArrayType | None) -> Link | None:
        """The link that reads an array of this type, or without one a map; None if it is none."""
