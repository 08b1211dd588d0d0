"""Memory of the caller that results are to be written to.

Decides when code may write there at once, and what happens where it may not: the result is made
elsewhere and copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fornix.errors import InvalidArgument
from fornix.system import READS_ANYWHERE

Array = np.ndarray[Any, np.dtype[Any]]
Targets = Mapping[str, Array]


LITTLE_BYTES = 128 << 10
"""Of all targets, up to which copying costs less than finding out where code may write."""


def is_little(targets: Targets | None) -> bool:
    """Whether results may as well be copied."""
    return not targets or sum(target.nbytes for target in targets.values()) <= LITTLE_BYTES


def direct(targets: Targets, feeds: Iterable[Any]) -> Targets:
    """Those of ``targets`` that code may write to while it still reads ``feeds``.

    They are row-major and writable, and lie apart from each other and from every feed.
    """
    read = [feed for feed in feeds if isinstance(feed, np.ndarray)]
    overlapping = {
        name
        for (a, x), (b, y) in combinations(targets.items(), 2)
        if np.may_share_memory(x, y)
        for name in (a, b)
    }
    return {
        name: array
        for name, array in targets.items()
        if name not in overlapping
        and array.flags.c_contiguous
        and array.flags.writeable
        and (array.flags.aligned or READS_ANYWHERE)
        and not any(np.may_share_memory(array, feed) for feed in read)
    }


def fill(names: Sequence[str], results: Sequence[Any], targets: Targets) -> list[Any]:
    """``results`` with those in place that belong into ``targets``, copied where they are not.

    Raises InvalidArgument where a target has another type or shape than the result.
    """
    placed = list(results)
    found: list[tuple[Array, Array]] = []
    for index, name in enumerate(names):
        target, result = targets.get(name), results[index]
        if target is None or target is result:
            continue
        is_array = isinstance(result, np.ndarray)
        if not is_array or result.shape != target.shape or result.dtype != target.dtype:
            array = np.asarray(result)
            raise InvalidArgument(
                f"IOBinding: output '{name}' is {array.dtype}{list(array.shape)}, but is bound to "
                f"memory for {target.dtype}{list(target.shape)}"
            )
        if not target.flags.writeable:
            raise InvalidArgument(f"IOBinding: output '{name}' is bound to read-only memory")
        found.append((target, result))
        placed[index] = target
    for target, result in found:
        np.copyto(target, result)
    return placed
