"""Machine code that serves all models: the loops of threads, short ways for calls, formulas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fornix.compile.crew import Crew, crew_at, crew_code
from fornix.compile.driver import Driver, driver_at, driver_code
from fornix.compile.entry import entry_code
from fornix.compile.generic import generic_code
from fornix.compile.machine import Machine, machine_at, machine_code

if TYPE_CHECKING:
    from fornix.compile.cache import ObjectCache


@dataclass(frozen=True)
class Support:
    """Addresses, and what keeps the code there."""

    driver: int
    entry: int
    crew: int
    interpreter: int
    generic: int
    owners: tuple[object, ...]

    @staticmethod
    def of(cache: ObjectCache) -> Support:
        """The code as ``cache`` has it, or makes it."""
        makers = (driver_code, entry_code, crew_code, machine_code, generic_code)
        made = [make(cache) for make in makers]
        return Support.at([address for address, _ in made], tuple(owner for _, owner in made))

    @staticmethod
    def at(addresses: Sequence[int], owners: tuple[object, ...]) -> Support:
        """The code at ``addresses``, in the order of `addresses`."""
        driver, entry, crew, interpreter, generic = addresses
        return Support(driver, entry, crew, interpreter, generic, owners)

    @property
    def addresses(self) -> tuple[int, ...]:
        """In the order of `owners`."""
        return self.driver, self.entry, self.crew, self.interpreter, self.generic

    @cached_property
    def drive(self) -> Driver:
        """The loop that runs kernels."""
        return driver_at(self.driver, self.owners)

    @cached_property
    def serve(self) -> Crew:
        """The loop of worker threads."""
        return crew_at(self.crew, self.owners)

    @cached_property
    def machine(self) -> Machine:
        """The interpreter of formulas."""
        return machine_at(self.interpreter)
