"""Operators of the domain com.microsoft, which optimised and quantised models contain.

They are no part of the standard: `fornix.ops.find` reads these modules when a model asks for one of
them. Each is made of the rules of the standard's operators wherever it is one of their products.
"""

from __future__ import annotations

DOMAIN = "com.microsoft"
"""The domain that the modules declare operators for."""
