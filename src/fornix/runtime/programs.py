"""The programs of a session: which there are, and which of them a run takes.

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
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fornix.errors import FornixError
from fornix.forks import tell
from fornix.ir.graph import Model, Node, Value
from fornix.ir.types import TensorType
from fornix.runtime.drawing import generator
from fornix.runtime.options import SessionOptions
from fornix.runtime.program import Program
from fornix.runtime.providers import (
    NotAsCompiled,
    Provider,
    Run,
    Unequal,
)
from fornix.runtime.sizing.extents import named_extents
from fornix.runtime.threads import Pool, shared_pool

if TYPE_CHECKING:
    from fornix.runtime.settling import Numbers
    from fornix.runtime.shortcuts.short import QuickCall
    from fornix.runtime.sizing.learned import Source
    from fornix.runtime.stored.shelf import Shelf
    from fornix.runtime.targets import Targets

T = TypeVar("T")

MAX_PROGRAMS = 8
"""Programs for special extents that a session makes before it leaves them to NumPy kernels."""
WARY = "wary"
"""Where programs are kept that take nothing for equal which data tell."""
MAX_VARIED = 4
"""Sets of fed initializers, and of fetched values, beyond which it is left to NumPy kernels."""
MAX_MET = 64
"""Sets of fed numbers from which on none has a program: they change from run to run."""
MAX_SHORT = 64
"""Sets of extents that have a short way where one serves all others."""
MAX_ALONE = 256
"""The same where none does: each keeps memory for a run of its extents, some kilobytes of a
pipeline of texts and no more than what some 60 µs read and write."""
BEYOND = 16
"""Of so many runs beyond those one gets it in the place of another: making it takes as long as ten
runs the long way, which extents that change from run to run would take each time."""
MAX_KEYS = 1024
"""Sets of extents of which it is remembered which program they run."""


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

    is_wary = False
    """Whether extents that broadcast, and that data tell, are never taken for equal."""

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
        self.shelf = shelf.within(WARY) if shelf and self.is_wary else shelf
        self.packs = packs and not options.memory_limit
        self._chosen: OrderedDict[tuple[int, ...], Program | None] = OrderedDict()
        self._short: OrderedDict[tuple[int, ...], QuickCall | None] = OrderedDict()
        self._common: QuickCall | None = None
        """For extents that have no short way, once there are many."""
        self._beyond = 0
        """Runs of extents that had none by then."""
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
        self._refused: set[tuple[tuple[str, int], ...]] = set()
        """Special extents that are not what nodes ask for, which have no program."""
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
    def _in_numpy(self) -> set[str]:
        """Inputs that nodes read which run in NumPy."""
        steps = [step for step in self.general.steps if step.uses_numpy]
        return {value.name for step in steps for value in step.reads} & {*self.general.inputs}

    @cached_property
    def _counts(self) -> list[Source]:
        """Numbers that are fed and taken for lengths, so that code is made for 0 or more."""
        every = [step.learned for step in self.general.steps if step.learned is not None]
        told = [source for learned in every for source in learned.sources.values()]
        return [x for x in told if x.is_element and x.value.name in self.general.inputs]

    def _is_below(self, feeds: Mapping[str, Any]) -> bool:
        """Whether one of them is no length, but what is left, or a place from the end."""
        known = [x for x in self._counts if x.value.name in self._telling]
        return any(feeds[x.value.name].flat[x.place] < 0 for x in known)

    @cached_property
    def _telling(self) -> list[str]:
        """Inputs with numbers that nodes need to know, and run in NumPy as they do not."""
        read = self._in_numpy | {x.value.name for x in self._counts}
        if not read or self.numbers or self.options.memory_limit:
            return []
        told = self.general.telling
        if told is None:
            from fornix.runtime.settling import telling  # noqa: PLC0415 - few sessions need it

            told = telling(self._model())
        return [name for name in told if name in read]

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
        if is_full or not self._telling or not (self._in_numpy or self._is_below(feeds)):
            return None
        key = self._fed_numbers(feeds)
        return key if key and key not in self._settled else None

    def _made_settled(self, numbers: Mapping[str, Any]) -> Programs:
        """Those for these numbers; these here if there are none, or no node gains by it."""
        from fornix.runtime.settling import is_told, settled  # noqa: PLC0415 - few need it

        model = cache(lambda: settled(self._model(), numbers))
        try:
            made = Programs(
                model, self.providers, self.options, pool=self.pool, random=self._random
            )
        except FornixError:  # a run says what is wrong
            return self
        left = [sum(step.uses_numpy for step in x.general.steps) for x in (made, self)]
        made.numbers = {name: x.copy() for name, x in numbers.items()}
        gains = left[0] < left[1] or any(map(is_told, made._decided_later))
        return made if gains or self._is_below(numbers) else self

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

        shared = Shared(self.pool, self._random, self.is_wary)
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
        except (AttributeError, LookupError, TypeError, ValueError):
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
        from fornix.runtime.shortcuts.short import LongWay  # noqa: PLC0415 - likewise

        is_common = not self.options.memory_limit and not self.numbers
        most = MAX_SHORT
        if len(self._short) >= MAX_SHORT and is_common:
            self._common = self._common or CommonCall.of(self.general) or LongWay()
            most = MAX_ALONE
            self._beyond = self._beyond + 1 if len(self._short) >= most else 0
            if isinstance(self._common, CommonCall) or self._beyond % BEYOND:
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
        while len(self._short) > most:
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

        def results(program: Program, run: Run) -> list[Any]:
            told = run
            if is_ended or targets:
                told = replace(run, is_ended=is_ended, targets=targets, flag=flag)
            return program.run(feeds, told, names)

        return self.serve(feeds, results)

    def serve(self, feeds: Mapping[str, Any], compute: Callable[[Program, Run], T]) -> T:
        """What ``compute`` makes of the program for ``feeds``; raises NotAsCompiled.

        Once data tell extents that broadcast where others are taken for equal, programs are made
        anew that take none for equal.
        """
        was_wary = self.is_wary
        try:
            return compute(*self.chosen(feeds))
        except Unequal:
            if was_wary:
                raise
        self._beware()
        return compute(*self.chosen(feeds))

    def _beware(self) -> None:
        """Have programs that take no extents for equal that data tell, if there are others yet.

        They know their nodes if those before did, which another process had not kept.
        """
        with self._lock:
            if self.is_wary:
                return
            before, self.is_wary = (self.shelf, self._general), True
            self.shelf = self.shelf.within(WARY) if self.shelf else None
            try:
                self._general = self._made({})
            except (FornixError, MemoryError):  # runs are left to NumPy kernels, which may do them
                self.shelf, self._general = before
            if self._general.is_recalled and not before[1].is_recalled:
                self._make_anew(self._general)
            self._special.clear()
            self._chosen.clear()
            self._short.clear()
            self._common = None

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

    @cached_property
    def _decided_later(self) -> list[Node]:
        """Nodes that run in NumPy, and that code could be made for, were extents numbers."""
        single = [step.single for step in self.general.steps if step.uses_numpy]
        if not single:
            return []
        from fornix.runtime.settling import is_decided  # noqa: PLC0415 - few sessions need it

        return [one.node for one in single if one is not None and is_decided(one.node)]

    @cached_property
    def _deciding(self) -> Mapping[str, int]:
        """Symbols that nodes need to know as numbers, each with the greatest that is of use."""
        if self.options.memory_limit:
            return {}
        from fornix.runtime.settling import deciding  # noqa: PLC0415 - few sessions need it

        return deciding(self._model())

    def _choose(self, run: Run, feeds: Mapping[str, Any]) -> Program | None:
        """The program for the extents of ``run``."""
        decided = self._decided(run, feeds) if self._decided_later else {}
        found = self._for_numbers(decided, feeds)
        if found is None and decided:
            found = self._for_numbers(decided | self._special_extents(run, feeds), feeds)
        if found is None and self.serves({}, feeds):
            found = self.general
        if found is None:
            zeros = {name: n for name, n in run.extents.items() if n == 0}
            found = self._for_numbers(zeros, feeds)
        if found is None:
            special = self._special_extents(run, feeds)
            found = self._for_numbers(special, feeds)
            if found is None or found.uses_numpy:
                more = self._decided(run, feeds) | special
                found = self._for_numbers(more, feeds) or found
        self._chosen[run.key] = found
        while len(self._chosen) > MAX_KEYS:
            self._chosen.popitem(last=False)
        return found

    def _named(self, run: Run, feeds: Mapping[str, Any]) -> dict[str, int]:
        """The extents of ``run``, those that programs take for equal by names of their own."""
        return {**run.extents, **named_extents(self._model(), feeds)}

    def _special_extents(self, run: Run, feeds: Mapping[str, Any]) -> dict[str, int]:
        """The extents of ``run`` that may broadcast, be of nothing, or lie outside of ranges."""
        few = {name: n for name, n in self._named(run, feeds).items() if n <= 1}
        return few | self.general.outside(run)

    def _decided(self, run: Run, feeds: Mapping[str, Any]) -> dict[str, int]:
        """The extents of ``run`` that nodes need to know, if their loops are made for such."""
        if not self._deciding:
            return {}
        named = self._named(run, feeds)
        found = {name: named[name] for name in self._deciding if name in named}
        are_of_use = all(0 < n <= self._deciding[name] for name, n in found.items())
        return found if are_of_use else {}

    def _for_numbers(self, numbers: Mapping[str, int], feeds: Mapping[str, Any]) -> Program | None:
        """The program in which symbols have these ``numbers``, if it does for ``feeds``."""
        made = self.made(numbers) if numbers else None
        return made.program if made and self.serves(numbers, feeds) else None

    def made(self, numbers: Mapping[str, int]) -> Made | None:
        """The program in which symbols have these ``numbers``.

        None if there are too many, and if nodes ask for other extents.
        """
        if not numbers:
            return self._general
        key = tuple(sorted(numbers.items()))
        is_new = key not in self._special and key not in self._refused
        if is_new and len(self._special) < MAX_PROGRAMS:
            try:
                self._special[key] = self._made(numbers)
            except NotAsCompiled:
                self._refuse(key)
        return self._special.get(key)

    def _refuse(self, key: tuple[tuple[str, int], ...]) -> None:
        """Remember that there is no program for these extents, which takes long to find."""
        if len(self._refused) >= MAX_KEYS:
            self._refused.clear()
        self._refused.add(key)

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


def _is_unranked(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.shape is None


class WaryPrograms(Programs):
    """Programs that take nothing for equal which data tell, from the first one on."""

    is_wary = True
