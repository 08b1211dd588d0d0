"""Machine code that serves all models: the loop that runs kernels, and the short way for calls."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fornix.compile.driver import Driver, driver_at, driver_code
from fornix.compile.entry import entry_code

if TYPE_CHECKING:
    from fornix.compile.cache import ObjectCache


@dataclass(frozen=True)
class Support:
    """Addresses, and what keeps the code there."""

    driver: int
    entry: int
    owners: tuple[object, object]

    @staticmethod
    def of(cache: ObjectCache) -> Support:
        """The code as ``cache`` has it, or makes it."""
        driver, entry = driver_code(cache), entry_code(cache)
        return Support(driver[0], entry[0], (driver[1], entry[1]))

    @cached_property
    def drive(self) -> Driver:
        """The loop that runs kernels."""
        return driver_at(self.driver, self.owners)
