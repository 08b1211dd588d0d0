"""Why results differ: two computations of a model compared, down to the node where they part."""

from __future__ import annotations

from fornix.debug.causes import Cause
from fornix.debug.comparison import Comparison, Finding, Output
from fornix.debug.measure import Gap
from fornix.debug.search import compare
from fornix.debug.smallest import Smallest

__all__ = ["Cause", "Comparison", "Finding", "Gap", "Output", "Smallest", "compare"]
