"""Machine code that serves all models: the loops of threads, and the short way for calls."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fornix.compile.crew import Crew, crew_at, crew_code
from fornix.compile.driver import Driver, driver_at, driver_code
from fornix.compile.entry import entry_code

if TYPE_CHECKING:
    from fornix.compile.cache import ObjectCache


@dataclass(frozen=True)
class Support:
    """Addresses, and what keeps the code there."""

    driver: int
    entry: int
    crew: int
    owners: tuple[object, object, object]

    @staticmethod
    def of(cache: ObjectCache) -> Support:
        """The code as ``cache`` has it, or makes it."""
        driver, entry, crew = driver_code(cache), entry_code(cache), crew_code(cache)
        return Support(driver[0], entry[0], crew[0], (driver[1], entry[1], crew[1]))

    @property
    def addresses(self) -> tuple[int, int, int]:
        """In the order of `owners`."""
        return self.driver, self.entry, self.crew

    @cached_property
    def drive(self) -> Driver:
        """The loop that runs kernels."""
        return driver_at(self.driver, self.owners)

    @cached_property
    def serve(self) -> Crew:
        """The loop of worker threads."""
        return crew_at(self.crew, self.owners)
