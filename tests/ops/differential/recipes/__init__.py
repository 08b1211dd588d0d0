"""Recipes: for each operator a function that draws inputs and attributes that fit together."""

from __future__ import annotations

from collections.abc import Callable

from tests.ops.differential.draw import Arguments, Draw
from tests.ops.differential.recipes import (
    contributed,
    elements,
    learned,
    networks,
    pictures,
    places,
    sums,
    values,
    windows,
)

FAMILIES = (elements, learned, networks, pictures, places, sums, values, windows)

RECIPES: dict[str, Callable[[Draw], Arguments]] = {
    name: recipe for family in FAMILIES for name, recipe in family.RECIPES.items()
}

DOMAIN = "com.microsoft"
"""Whose operators may have names of the standard's and be others."""

CONTRIBUTED: dict[str, Callable[[Draw], Arguments]] = contributed.RECIPES
"""Those of `DOMAIN`."""
