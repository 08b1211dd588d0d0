"""Programs: a model divided between providers, as steps that run in order.

A program is made for extents that are at least 1. A run with an extent of 0, or with extents that
do not agree the way the code takes for granted, gets a program of its own in which these extents
are numbers; if that does not do either, NumPy kernels take over (`Programs.run` says so).
"""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.errors import FornixError
from fornix.forks import tell
from fornix.format.mapped import MappedFile, mapped_files
from fornix.ir.dim import Dim
from fornix.ir.graph import Model, Value
from fornix.ir.types import TensorType
from fornix.runtime.drawing import generator
from fornix.runtime.memory import owned
from fornix.runtime.options import SessionOptions
from fornix.runtime.providers import (
    NotAsCompiled,
    Placement,
    Provider,
    Run,
    Step,
)
from fornix.runtime.sizing.extents import Range, named_extents
from fornix.runtime.threads import Pool, shared_pool

if TYPE_CHECKING:
    from fornix.runtime.control.ways import LearningFlow, ProgramFlow
    from fornix.runtime.settling import Numbers
    from fornix.runtime.shortcuts.short import QuickCall
    from fornix.runtime.stored.shelf import Shelf
    from fornix.runtime.targets import Targets

MAX_PROGRAMS = 8
"""Programs for special extents that a session makes before it leaves them to NumPy kernels."""
MAX_VARIED = 4
"""Sets of fed initializers, and of fetched values, beyond which it is left to NumPy kernels."""
MAX_MET = 64
"""Sets of fed numbers from which on none has a program: they change from run to run."""
MAX_SHORT = 64
"""Sets of extents that have a short way."""
MAX_KEYS = 1024
"""Sets of extents of which it is remembered which program they run."""


class Program:
    """A model with some extents fixed, ready to run."""

    def __init__(
        self,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        symbols: Mapping[str, tuple[Value, int]],
        steps: Sequence[Step],
        constants: Mapping[Value, Any],
        placements: Sequence[Placement] = (),
        files: Sequence[MappedFile] = (),
    ) -> None:
        """``symbols`` are given numbers by inputs: which, and by which axis.

        ``constants`` are the stored values that steps read from here, or that are outputs;
        ``files`` are read in place, too.
        """
        self.inputs = {value.name: value for value in inputs}
        self.outputs = {value.name: value for value in outputs}
        self.symbols = symbols
        self.ranges: Mapping[str, Range] = {}
        """What some symbols are taken to be; set by who makes the program."""
        self.steps, self.constants, self.placements = steps, constants, placements
        self.releases = _releases(steps, {*outputs, *constants})
        self.uses_numpy = any(step.uses_numpy for step in steps)
        self._own = {v for step in steps if step.owns_results for v in step.writes}
        self.declared = [v for v in inputs if _is_open(v)]
        self.scalars = [v.name for v in inputs if getattr(v.type, "shape", None) == ()]
        stored = [*constants, *(value for step in steps for value in step.stored)]
        in_files = mapped_files(getattr(value.constant, "place", None) for value in stored)
        self.files = tuple(dict.fromkeys((*in_files, *files)))
        """Files whose bytes steps read in place."""

    @cached_property
    def flow(self) -> ProgramFlow | LearningFlow | None:
        """All steps in one native call, if they are machine code and control flow alone."""
        from fornix.runtime.control.ways import program_flow  # noqa: PLC0415 - few programs have one

        return program_flow(self)

    def run_for(self, feeds: Mapping[str, Any]) -> Run:
        """What the shapes of ``feeds`` make of the symbols; raises NotAsCompiled for others."""
        for name in self.scalars:
            if feeds[name].ndim:
                raise NotAsCompiled(f"'{name}' is declared as a scalar and is none")
        extents = {
            name: feeds[value.name].shape[axis] for name, (value, axis) in self.symbols.items()
        }
        return Run(extents, tuple(extents.values()))

    def holds(self, run: Run, feeds: Mapping[str, Any]) -> bool:
        """Whether the steps are made for such feeds."""
        if any(extent < 1 for extent in run.key) or self.outside(run):
            return False
        for value in self.declared:
            shape = getattr(value.type, "shape", None) or ()
            expected = [d.bind(run.extents) if isinstance(d, Dim) else d for d in shape]
            if list(feeds[value.name].shape) != expected:
                return False
        return all(step.holds(run) for step in self.steps)

    def outside(self, run: Run) -> dict[str, int]:
        """The extents of ``run`` that the steps are not made for: too short, too long, uneven."""
        found: dict[str, int] = {}
        for name, (least, most, unit) in self.ranges.items():
            extent = run.extents.get(name, least)
            limit = most.bind(run.extents) if isinstance(most, Dim) else most
            is_long = limit is not None and not (isinstance(limit, int) and extent <= limit)
            if extent < least or is_long or extent % unit:
                found[name] = extent
        return found

    def is_known_to_hold(self, run: Run) -> bool:
        """Whether it is certain without the model that the steps are made for such a run."""
        return all(step.is_known_to_hold(run) for step in self.steps)

    def run(self, feeds: Mapping[str, Any], run: Run, names: Sequence[str]) -> list[Any]:
        """Results by name, in memory of their own."""
        return self.results(self.computed(feeds, run), names)

    def computed(self, feeds: Mapping[str, Any], run: Run) -> dict[Value, Any]:
        """The values that are left after the last step: those of outputs, and stored ones."""
        for file in self.files:
            file.check()
        values = self.start(feeds)
        if self.uses_numpy:
            with np.errstate(all="ignore"):
                self._run_steps(values, run)
        else:
            self._run_steps(values, run)
        run.check()
        if run.allowance is not None:
            run.allowance.require(values, "its results take more")
        return values

    def start(self, feeds: Mapping[str, Any]) -> dict[Value, Any]:
        """The values that are there before the first step."""
        values: dict[Value, Any] = dict(self.constants)
        for name, feed in feeds.items():
            values[self.inputs[name]] = feed
        return values

    def _run_steps(self, values: dict[Value, Any], run: Run) -> None:
        for step, release in zip(self.steps, self.releases, strict=True):
            run.check()
            if run.allowance is not None:
                run.allowance.before(step, values, run)
            step.run(values, run)
            for value in release:
                values.pop(value, None)

    def results(self, values: Mapping[Value, Any], names: Sequence[str]) -> list[Any]:
        """Results by name, in memory of their own, from what is left after the last step."""
        own = self._own.copy()
        results: list[Any] = []
        for name in names:
            value = self.outputs[name]
            if value not in values:
                raise NotAsCompiled(f"nothing computes '{name}'")
            result = values[value]
            results.append(result if value in own else owned(result))
            own.discard(value)  # a second time it has to be another array
        return results


def _is_open(value: Value) -> bool:
    return any(isinstance(d, Dim) for d in getattr(value.type, "shape", None) or ())


def _is_unranked(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.shape is None


def _releases(steps: Sequence[Step], stay: set[Value]) -> list[tuple[Value, ...]]:
    """After each step, the values that nothing reads later; no step says that it reads data."""
    last: dict[Value, int] = {}
    for index, step in enumerate(steps):
        last |= dict.fromkeys((*step.writes, *step.reads), index)
    found: list[list[Value]] = [[] for _ in steps]
    for value, index in last.items():
        if value not in stay and value.constant is None:
            found[index].append(value)
    return [tuple(values) for values in found]


@dataclass
class Made:
    """A program for some extents, and its place on the shelf."""

    program: Program
    numbers: Mapping[str, int]
    """Extents that are numbers in it."""
    place: Shelf | None
    is_recalled: bool
    """Whether another process made it."""


class Programs:
    """The programs of a session: one for extents in general, others for special ones.

    They may be recalled from another process. A recalled program serves the extents that its
    conditions say, that it is known to serve, or that whoever made it says it does; when others
    come and nobody can say, the model is compiled here as if there were no such program.
    """

    def __init__(
        self,
        model: Callable[[], Model],
        providers: Sequence[Provider],
        options: SessionOptions,
        shelf: Shelf | None = None,
        *,
        packs: bool = True,
        pool: Pool | None = None,
        random: Callable[[], np.random.Generator] | None = None,
    ) -> None:
        """Unless it ``packs``, weights are packed when something runs, which nothing need do.

        So they are where memory is limited, once it is known that they are within the limit.
        Without a ``pool`` it is the one of this process. All programs draw from ``random``, or
        from a generator of their own that `seed` determines, once one draws: most never do.
        """
        self._model, self.providers, self.options = model, tuple(providers), options
        self.pool = pool or shared_pool(options.threads)
        self._random = random or generator(options.seed)
        self.shelf, self.packs = shelf, packs and not options.memory_limit
        self._chosen: OrderedDict[tuple[int, ...], Program | None] = OrderedDict()
        self._short: OrderedDict[tuple[int, ...], QuickCall | None] = OrderedDict()
        self._common: QuickCall | None = None
        """For extents that have no short way, once there are many."""
        self.unlike: frozenset[str] | None = None
        """What `undeclared` was asked for, here or for these."""
        self.forget()
        tell(self)
        self._general = self._made({})
        self._varied: dict[tuple[frozenset[str], frozenset[str]], Programs] = {}
        """By names of initializers that are inputs in them, and of values that are outputs."""
        self._asked: set[tuple[frozenset[str], frozenset[str]]] = set()
        """What somebody has asked for who wanted values inside the model."""
        self._special: dict[tuple[tuple[str, int], ...], Made] = {}
        self._unranked = [v.name for v in self.general.inputs.values() if _is_unranked(v)]
        self._ranked: dict[tuple[int, ...], Programs] = {}
        """By the ranks of inputs of which the model does not say them."""
        self._settled: dict[Numbers, Programs] = {}
        """By the numbers of inputs that nodes need to know, once these have come twice."""
        self._met: set[Numbers] = set()
        self.numbers: Mapping[str, Any] = {}
        """What these are made for, if it is for numbers of inputs."""

    def shrink(self) -> None:
        """Give back memory for runs that nobody uses now."""
        with self._lock:
            self._short.clear()
            self._common = None
        for program in self.programs:
            for step in program.steps:
                step.shrink()

    def forget(self) -> None:
        """In the child of a fork: whoever was choosing a program is not there."""
        self._lock = threading.RLock()

    @property
    def general(self) -> Program:
        """The program for extents in general."""
        return self._general.program

    @property
    def programs(self) -> list[Program]:
        """All that there are: that for extents in general first."""
        own = [self.general, *(made.program for made in list(self._special.values()))]
        beside = (*self._ranked.values(), *self._settled.values())
        others = [*self._varied.values(), *(x for x in beside if x is not self)]
        return own + [program for x in others for program in x.programs]

    def varied(self, fed: Iterable[str], fetched: Iterable[str] = ()) -> Programs | None:
        """Those for runs that are fed these initializers, and asked for values inside the model.

        None for more than are worth compiling, and where such values are asked for the first time.
        """
        key = frozenset(fed), frozenset(fetched)
        if not any(key):
            return self
        with self._lock:
            is_first = bool(key[1]) and key not in self._asked
            if is_first and len(self._asked) < MAX_KEYS:
                self._asked.add(key)
            if key not in self._varied and not is_first and len(self._varied) < MAX_VARIED:
                from fornix.runtime.adapting import varied  # noqa: PLC0415 - few sessions need it

                model = varied(self._model(), *key)
                self._varied[key] = Programs(
                    lambda: model, self.providers, self.options, random=self._random
                )
            return self._varied.get(key)

    def ranked(self, feeds: Mapping[str, Any]) -> Programs:
        """Those for inputs of as many axes as ``feeds`` have, where the model does not say it.

        Then those for the numbers of ``feeds`` that nodes need to know. These here for more than
        are worth compiling, and for what does not fit the model.
        """
        if not self._unranked:
            return self._for_fed(feeds)
        key = tuple([np.ndim(feeds[name]) for name in self._unranked])
        with self._lock:
            if key not in self._ranked and len(self._ranked) < MAX_PROGRAMS:
                self._ranked[key] = self._made_for(dict(zip(self._unranked, key, strict=True)))
        found = self._ranked.get(key, self)
        return found if found is self else found.ranked(feeds)

    @cached_property
    def _telling(self) -> list[str]:
        """Inputs with numbers that nodes need to know, and run in NumPy as they do not."""
        steps = [step for step in self.general.steps if step.uses_numpy]
        read = {value.name for step in steps for value in step.reads} & {*self.general.inputs}
        if not read or self.numbers or self.options.memory_limit:
            return []
        from fornix.runtime.settling import telling  # noqa: PLC0415 - few sessions need it

        return telling(self._model(), read)

    def _for_fed(self, feeds: Mapping[str, Any]) -> Programs:
        """Those for the numbers of ``feeds``, from the second run that has them."""
        key = self._undecided(feeds)
        if key is None:
            return self._settled.get(self._fed_numbers(feeds), self) if self._settled else self
        with self._lock:
            if key in self._met and key not in self._settled:
                self._settled[key] = self._made_settled({n: feeds[n] for n in self._telling})
            self._met.add(key)
        return self._settled.get(key, self)

    def _fed_numbers(self, feeds: Mapping[str, Any]) -> Numbers:
        """The numbers of ``feeds`` that nodes need to know; () where there are too many."""
        from fornix.runtime.settling import numbers_of  # noqa: PLC0415 - few sessions need it

        return numbers_of(feeds, self._telling) or ()

    def _undecided(self, feeds: Mapping[str, Any]) -> Numbers | None:
        """The numbers of ``feeds`` if programs may yet be made for them."""
        is_full = len(self._settled) >= MAX_PROGRAMS or len(self._met) >= MAX_MET
        if is_full or not self._telling:
            return None
        key = self._fed_numbers(feeds)
        return key if key and key not in self._settled else None

    def _made_settled(self, numbers: Mapping[str, Any]) -> Programs:
        """Those for these numbers; these here if there are none, or no node gains by it."""
        from fornix.runtime.settling import settled  # noqa: PLC0415 - few sessions need it

        model = cache(lambda: settled(self._model(), numbers))
        try:
            made = Programs(
                model, self.providers, self.options, pool=self.pool, random=self._random
            )
        except FornixError:  # a run says what is wrong
            return self
        left = [sum(step.uses_numpy for step in x.general.steps) for x in (made, self)]
        made.numbers = {name: x.copy() for name, x in numbers.items()}
        return made if left[0] < left[1] else self

    def _made_for(self, ranks: Mapping[str, int]) -> Programs:
        """Those for inputs of these ranks; these here if there are none."""
        from fornix.runtime.adapting import ranked  # noqa: PLC0415 - few sessions need it

        place = self.shelf.within(f"ranks {sorted(ranks.items())}") if self.shelf else None
        model = cache(lambda: ranked(self._model(), ranks))
        try:
            return Programs(
                model, self.providers, self.options, place, pool=self.pool, random=self._random
            )
        except FornixError:  # a run says what is wrong
            return self

    def undeclared(self, unlike: frozenset[str]) -> Programs:
        """Those of a model that declares no extents of what nodes compute, nor these ranks."""
        from fornix.runtime.adapting import undeclared  # noqa: PLC0415 - few sessions need it

        place = self.shelf.within(f"undeclared {sorted(unlike)}") if self.shelf else None
        model = cache(lambda: undeclared(self._model(), unlike))
        made = Programs(
            model, self.providers, self.options, place, pool=self.pool, random=self._random
        )
        made.unlike = unlike
        return made

    @property
    def is_recalled(self) -> bool:
        """Whether another process made the general program."""
        return self._general.is_recalled

    @property
    def is_kept(self) -> bool:
        """Whether the next process has the general program, too."""
        place = self._general.place
        return place is not None and place.has_program

    @property
    def whole(self) -> Program:
        """The general program as it is made from the model, with all that is known about it."""
        with self._lock:
            if self._general.is_recalled:
                self._make_anew(self._general)
        return self.general

    def _made(self, numbers: Mapping[str, int]) -> Made:
        """The program in which symbols have these ``numbers``, recalled if it can be."""
        place = self.shelf.at(numbers) if self.shelf else None
        recalled = place.program(self.pool, self.options) if place else None
        if place and recalled is None:
            place.expect(self._model())
        program = recalled or self._make(numbers, place)
        if place and recalled is None:
            place.keep(program, self._model())
        return Made(program, numbers, place, recalled is not None)

    def _make(self, numbers: Mapping[str, int], place: Shelf | None) -> Program:
        from fornix.runtime.making import Shared, make_program  # noqa: PLC0415 - with the optimizer

        shared = Shared(self.pool, self._random())
        return make_program(
            self._model(), self.providers, self.options, shared, numbers,
            packs=self.packs, shelf=place,
        )  # fmt: skip

    def _make_anew(self, made: Made) -> None:
        """Let ``made`` be compiled here."""
        made.program, made.is_recalled = self._make(made.numbers, made.place), False
        self._chosen.clear()
        self._short.clear()
        self._common = None

    def short_for(self, feeds: Mapping[str, Any]) -> QuickCall | None:
        """The short way that there is for feeds of such extents; they were not looked at before."""
        try:
            if self._unranked:
                found = self._ranked[tuple([feeds[name].ndim for name in self._unranked])]
                return None if found is self else found.short_for(feeds)
            if self._settled and not self.numbers:
                other = self._settled.get(self._fed_numbers(feeds), self)
                if other is not self:
                    return other.short_for(feeds)
                if self._undecided(feeds):
                    return None
            key = tuple([feeds[v.name].shape[at] for v, at in self.general.symbols.values()])
        except (AttributeError, LookupError, TypeError):
            return None
        return self._short.get(key, self._common)

    def short_way(self, feeds: Mapping[str, Any]) -> QuickCall | None:
        """A short way to all outputs for feeds like ``feeds``, which have just been run."""
        if self._undecided(feeds):
            return None
        run = self.general.run_for(feeds)
        if run.key not in self._short:
            with self._lock:
                self._shorten(run, feeds)
        return self._short.get(run.key, self._common)

    def _shorten(self, run: Run, feeds: Mapping[str, Any]) -> None:
        """Make a short way for the extents of ``run``, or note that there is none."""
        from fornix.runtime.shortcuts.chain import ChainCall  # noqa: PLC0415 - with llvmlite
        from fornix.runtime.shortcuts.common import CommonCall  # noqa: PLC0415 - likewise
        from fornix.runtime.shortcuts.quick import StepsCall, quick_call  # noqa: PLC0415 - likewise

        is_common = not self.options.memory_limit and not self.numbers
        if len(self._short) == MAX_SHORT and is_common:
            self._common = self._common or CommonCall.of(self.general)
            if self._common is not None:
                return
        program = self._chosen.get(run.key)
        own = run if program is self.general or program is None else program.run_for(feeds)
        made = None if program is None else quick_call(program, own, feeds)
        if isinstance(made, StepsCall | ChainCall) and self.options.memory_limit:
            made = None  # what each step takes is counted
        if made is not None and self.numbers:
            from fornix.runtime.settling import SettledCall  # noqa: PLC0415 - few sessions need it

            made = SettledCall(made, self.numbers)
        self._short[run.key] = made
        while len(self._short) > MAX_SHORT:
            self._short.popitem(last=False)

    def run(
        self,
        feeds: Mapping[str, Any],
        names: Sequence[str],
        is_ended: Callable[[], bool] | None = None,
        targets: Targets | None = None,
        flag: ctypes.c_int64 | None = None,
    ) -> list[Any]:
        """Results by name; raises NotAsCompiled if NumPy kernels are to do it.

        They lie in ``targets`` where code could write them there.
        """
        program, run = self.chosen(feeds)
        if is_ended or targets:
            run = replace(run, is_ended=is_ended, targets=targets, flag=flag)
        return program.run(feeds, run, names)

    def chosen(self, feeds: Mapping[str, Any]) -> tuple[Program, Run]:
        """The program for ``feeds``; raises NotAsCompiled if NumPy kernels are to do it.

        LimitError if it would take more than `memory_limit`.
        """
        run = self.general.run_for(feeds)
        try:
            program = self._chosen[run.key]
        except KeyError:
            with self._lock:
                program = self._choose(run, feeds)
        if program is None:
            raise NotAsCompiled("these extents are left to NumPy kernels")
        if program is not self.general:
            run = program.run_for(feeds)
        if self.options.memory_limit:
            from fornix.runtime.reports.report import allowance, kept_beside  # noqa: PLC0415 - few ask

            left = allowance(self.options.memory_limit, program, run)
            if left.taken + kept_beside(self.programs, program, run) > left.limit:
                self.shrink()
            run = replace(run, allowance=left)
        return program, run

    def _choose(self, run: Run, feeds: Mapping[str, Any]) -> Program | None:
        """The program for the extents of ``run``."""
        found: Program | None = None
        if self.serves({}, feeds):
            found = self.general
        else:
            zeros = {name: n for name, n in run.extents.items() if n == 0}
            found = self._for_numbers(zeros, feeds) if zeros else None
            if found is None:
                named = {**run.extents, **named_extents(self._model(), feeds)}
                ones = {name: n for name, n in named.items() if n <= 1}
                found = self._for_numbers(ones | self.general.outside(run), feeds)
        self._chosen[run.key] = found
        while len(self._chosen) > MAX_KEYS:
            self._chosen.popitem(last=False)
        return found

    def _for_numbers(self, numbers: Mapping[str, int], feeds: Mapping[str, Any]) -> Program | None:
        """The program in which symbols have these ``numbers``, if it does for ``feeds``."""
        made = self.made(numbers) if numbers else None
        return made.program if made and self.serves(numbers, feeds) else None

    def made(self, numbers: Mapping[str, int]) -> Made | None:
        """The program in which symbols have these ``numbers``; None if there are too many."""
        if not numbers:
            return self._general
        key = tuple(sorted(numbers.items()))
        if key not in self._special and len(self._special) < MAX_PROGRAMS:
            self._special[key] = self._made(numbers)
        return self._special.get(key)

    def serves(self, numbers: Mapping[str, int], feeds: Mapping[str, Any]) -> bool:
        """Whether the program in which symbols have these ``numbers`` is made for ``feeds``.

        Of feeds only the shapes matter.
        """
        made = self.made(numbers)
        if made is None:
            return False
        run = made.program.run_for(feeds)
        holds, place = made.program.holds(run, feeds), made.place
        if not holds or place is None:
            return holds
        if made.is_recalled:
            if made.program.is_known_to_hold(run) or place.serves(run.key):
                return True
            answer = place.ask(numbers, feeds)
            if answer is None:
                self._make_anew(made)
                return self.serves(numbers, feeds)
            holds = answer
        if holds:
            place.note(run.key)
        return holds
