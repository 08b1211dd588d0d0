"""`InferenceSession`: names and behaviour of onnxruntime's.

Decides what a session accepts and gives back. What runs is `program`'s business, checking of feeds
`feeds`'s. Whatever a program is not made for is done by the NumPy kernels of `planned`: values that
only the original model has, and runs that go wrong, so that errors are those of the kernels and
name the nodes of the original model.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fornix.errors import FornixError, FornixWarning, InvalidArgument
from fornix.format.limits import DEFAULT, Limits
from fornix.runtime.binding import IOBinding
from fornix.runtime.feeds import checked_feeds
from fornix.runtime.given import GivenModel
from fornix.runtime.interface import Interface, ModelMetadata, NodeArg, output_args
from fornix.runtime.logs import logger
from fornix.runtime.memory import shared_results
from fornix.runtime.options import (
    SHRINKAGE,
    RunOptions,
    SessionOptions,
    warn_of_provider_options,
)
from fornix.runtime.programs import Programs
from fornix.runtime.providers import (
    PROVIDERS,
    NotAsCompiled,
    Placement,
    Provider,
    ReferenceExecutionProvider,
    check_machine_code,
)
from fornix.runtime.reports.planned import PlannedModel
from fornix.runtime.stored.content import settled
from fornix.runtime.stored.shelf import Shelf
from fornix.runtime.targets import Targets, direct, fill, is_little
from fornix.runtime.threads import Pool
from fornix.runtime.values import OrtValue, in_rows, unwrapped
from fornix.runtime.watched import Watched
from fornix.system import give_back

if TYPE_CHECKING:
    from fornix.ir.graph import Model
    from fornix.reference.source import ModelSource
    from fornix.runtime.reports.profile import Profile
    from fornix.runtime.reports.report import MemoryReport
    from fornix.runtime.reports.timeline import Timeline
    from fornix.runtime.reports.tracing import Traced
    from fornix.runtime.shortcuts.short import QuickCall

log = logging.getLogger(__name__)

ProviderLike = Provider | str | tuple[str, Mapping[str, Any]]

NO_VERSION = 2**63 - 1
"""The version of a model that states none."""
TOLD_RUN = 3
"""Of those that are left to NumPy kernels, the one that warns: single ones are nobody's fault."""
DEFAULT_PROVIDERS: tuple[ProviderLike, ...] = ("CPUExecutionProvider",)
"""Where sessions run that are not told."""


class InferenceSession:
    """A model, loaded and ready to run.

    ``path_or_bytes`` is a path, the bytes of a model, a message or an IR model. ``providers`` says
    where to run, each entry a name, a pair of name and options, or a `Provider`: a name that is not
    available gives a warning if another is, and InvalidArgument otherwise. ``limits`` bound what
    the model may ask for; ``trust`` runs the code of a compiled model that another user, or
    machine, has made. Sessions may be called from several threads at once; those made from a
    path pickle.
    """

    _left = 0
    """Runs that NumPy kernels did for compiled code that was given up."""
    _why_left = ""
    """What code met in the present run that it is not for."""

    def __init__(
        self,
        path_or_bytes: ModelSource,
        sess_options: SessionOptions | None = None,
        providers: Sequence[ProviderLike] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
        *,
        limits: Limits = DEFAULT,
        trust: bool = False,
    ) -> None:
        _require_fitting(sess_options, providers, provider_options)
        self._options = replace(sess_options) if sess_options else SessionOptions()
        if self._options.execution_mode:
            warnings.warn(
                "SessionOptions: execution_mode ORT_PARALLEL does nothing here: kernels run one "
                "after another, each on all threads",
                FornixWarning,
                stacklevel=2,
            )
        self._providers = _available(providers)
        self._path: Path | None = None
        if isinstance(path_or_bytes, str | os.PathLike):
            self._path = Path(path_or_bytes).absolute()
        name = self._path.name if self._path else "the model"
        self._label = f"{self._options.logid}: {name}" if self._options.logid else name
        self._log = logger(self._options.log_severity_level, log)
        self._timeline = _timeline(self._options)
        self._limits, self._trust = limits, trust
        source = path_or_bytes
        self._shelf: Shelf | None = None
        self._programs: Programs | None = None
        self._short: QuickCall | None = None
        if not _runs_as_planned(self._providers[0], self._options):
            source = settled(path_or_bytes)
            self._shelf = Shelf.of(source, self._providers, self._options, limits, trust=trust)
            self._options = (self._shelf and self._shelf.options) or self._options
        self._given = GivenModel(source, self._shelf, self._options, limits, self._label)
        self._planned = PlannedModel(self._given, self._options, limits, self._label)
        self._interface = (self._shelf and self._shelf.interface) or Interface.of(self._model)
        self._outputs = list(self._interface.outputs)
        self._overridable = {value.name: value for value in self._interface.overridable}
        if self._timeline:
            kind = "uri" if self._path else "array"
            self._timeline.note("Session", f"model_loading_{kind}", 0, self._timeline.now())
        if self._shelf is None and _runs_as_planned(self._providers[0], self._options):
            self._planned.plan  # noqa: B018 - what is wrong with the model is said now
        else:
            self._programs = Programs(
                partial(getattr, self._given, "model"),
                self._providers, self._options, self._shelf,
                pool=Pool(self._options.threads) if self._options.use_per_session_threads else None,
            )  # fmt: skip
        if self._options.optimized_model_filepath:
            from fornix.runtime.saving import save_optimized  # noqa: PLC0415 - with the optimizer

            save_optimized(self._model, self._options)
        if self._timeline:
            self._timeline.note("Session", "session_initialization", 0, self._timeline.now())
        if self._log.isEnabledFor(logging.INFO):
            self._tell_what_it_is()

    def _tell_what_it_is(self) -> None:
        """Log where the program came from, and which nodes run their NumPy kernels."""
        is_recalled = self._programs is not None and self._programs.is_recalled
        made = "recalled" if is_recalled else "compiled" if self._programs else "planned"
        self._log.info("%s: %s, %d threads", self._label, made, self._options.threads)
        for place in () if is_recalled else self.placement():
            if place.reason:
                self._log.info("%s: %s '%s' runs in NumPy: %s", self._label, place.op_type,
                               place.node, place.reason)  # fmt: skip

    @property
    def _model(self) -> Model:
        """The model as it was given: read at once, or when it is needed after all."""
        return self._given.model

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
    ) -> list[Any]:
        """Results by ``output_names``, in their order; None or none stands for all outputs.

        Any value may be asked for by name; inside of a body that is repeated it is those of all
        iterations. Results are the caller's own: arrays that share no memory with feeds, weights
        or later runs. Raises InvalidArgument if feeds or names do not fit the model, Fail if
        ``run_options`` end the run, and the errors of operators with their node ahead.
        """
        short = self._short
        wants_all = not output_names or output_names == self._outputs
        if short is not None and wants_all:
            call = short.call if run_options is None else short.until(run_options)
            try:
                results = call(input_feed)
            except MemoryError:  # the long way says which node asks for that much
                results = None
            if results is None:
                results = self._other_short_way(short, input_feed, run_options)
            if results is not None:
                return results
        return self._run(output_names, input_feed, run_options)

    def _other_short_way(
        self, short: QuickCall, feeds: Mapping[str, Any], run_options: RunOptions | None
    ) -> list[Any] | None:
        """All outputs, if extents like these came before the ones that ``short`` is for."""
        other = self._programs.short_for(feeds) if self._programs else None
        if other is None or other is short:
            return None
        self._short = other
        with suppress(MemoryError):
            return (other.call if run_options is None else other.until(run_options))(feeds)
        return None

    def _run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
        targets: Targets | None = None,
    ) -> list[Any]:
        """Like `run`, for everybody; results that ``targets`` name are written there."""
        watched = None if run_options is None else Watched(run_options, self._label, self._log)
        given = unwrapped(input_feed)
        if run_options is not None and run_options.adapters:
            given = {**given, **run_options.adapted}
        wants_all = not output_names or output_names == self._outputs
        short = self._short
        if short is not None and watched is None and wants_all and is_little(targets):
            results = None
            with suppress(MemoryError):
                given = in_rows(given)
                results = short.call(given)
            if results is not None:
                return fill(self._outputs, results, targets) if targets else results
        feeds = checked_feeds(given, self._interface.inputs, self._overridable, self._label)
        by_name = {value.name: feed for value, feed in feeds.items()}
        names = self._wanted(output_names)
        results = self._compiled_run(by_name, names, watched, targets)
        if results is None:
            results = self._planned.run(by_name, names, watched, self._timeline)
            self._tell_of_left_runs()
            if wants_all:
                self._believe()
        if run_options is not None and "cpu" in run_options.config_entries.get(SHRINKAGE, ""):
            self.shrink()
        return fill(names, results, targets) if targets else results

    def _tell_of_left_runs(self) -> None:
        """Warn, once, where code was given up in several runs that had nothing wrong."""
        self._left += bool(self._why_left)
        if self._why_left and self._left == TOLD_RUN:
            self._log.warning(
                "%s: %d runs were left to NumPy kernels, which may take far longer than compiled "
                "code, this one as %s",
                self._label, TOLD_RUN, self._why_left,
            )  # fmt: skip

    def _believe(self) -> None:
        """Make programs anew if a run contradicted what the model declares, which they went by."""
        programs, found = self._programs, self._planned.contradicted
        if programs is None or found is None or found == programs.unlike:
            return
        programs.unlike = found
        try:
            self._programs = programs.undeclared(found)
        except FornixError as error:  # then runs are left to NumPy kernels as they were
            self._log.debug("%s: %s", self._label, error)

    def _compiled_run(
        self,
        feeds: Mapping[str, Any],
        names: Sequence[str],
        watched: Watched | None,
        targets: Targets | None,
    ) -> list[Any] | None:
        """Results of the program; None if it is not made for such a run."""
        fetched = {*names} - {*self._outputs}
        self._why_left = ""
        if self._programs is None or not self._planned.makes(fetched):
            return None
        fed = (name for name in self._overridable if name in feeds)
        varied = self._programs.varied(fed, fetched)
        if varied is None:
            return None
        programs = varied.ranked(feeds)
        read = [*feeds.values(), *self._options.initializers.values()]
        is_ended, flag = (watched.is_ended, watched.options.flag) if watched else (None, None)
        places = direct(targets, read) if targets else None
        try:
            if timeline := self._timeline:
                programs.whole  # noqa: B018 - what another process kept knows no nodes
                return programs.serve(
                    feeds,
                    lambda program, run: timeline.run(
                        program, feeds, replace(run, is_ended=is_ended), names
                    ),
                )
            results = programs.run(feeds, names, is_ended, places, flag)
        except (NotAsCompiled, MemoryError) as reason:
            told = watched.log if watched else self._log
            told.debug("%s: %s", watched.label if watched else self._label, reason)
            self._why_left = str(reason)
            return None
        if varied is self._programs and len({*self._outputs}) == len(self._outputs):
            self._short = programs.short_way(feeds)
        return results

    def trace(
        self, input_feed: Mapping[str, Any], *, stop: Literal["nan", "inf"] | None = None
    ) -> Iterator[Traced]:
        """The nodes of the model as they run on ``input_feed``, each with what it read and made.

        They run on NumPy kernels, as the model was given; those in bodies and functions come
        before the node around them. With ``stop`` raises Fail at the first node that makes a NaN,
        or with "inf" an infinity either, and says from what.
        """
        from fornix.runtime.reports.tracing import trace  # noqa: PLC0415 - with the NumPy kernels

        given = unwrapped(input_feed)
        feeds = checked_feeds(given, self._interface.inputs, self._overridable, self._label)
        by_name = {self._planned.by_name[value.name]: feed for value, feed in feeds.items()}
        return trace(self._planned.plan, by_name, stop)

    def get_profiling_start_time_ns(self) -> int:
        """When the session began to be profiled, by the system's clock; 0 if it is not."""
        return self._timeline.start_ns if self._timeline else 0

    def end_profiling(self) -> str:
        """Write what was noted to a file that Chrome's trace viewer loads; its path, or ""."""
        timeline, self._timeline = self._timeline, None
        return timeline.end() if timeline else ""

    def io_binding(self) -> IOBinding:
        """Memory for feeds and results, to be bound by name."""
        return IOBinding(self)

    def run_with_iobinding(
        self, iobinding: IOBinding, run_options: RunOptions | None = None
    ) -> None:
        """Run on what ``iobinding`` binds inputs to, and put results where it binds outputs."""
        names = iobinding.names
        results = self._run(names, iobinding.feeds, run_options, iobinding.targets)
        iobinding.keep(self._as_values(names, results))

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """Like `run`, with `OrtValue` objects in and out."""
        results = self._run(output_names, input_dict_ort_values, run_options)
        return self._as_values(list(output_names or self._outputs), results)

    def _as_values(self, names: Sequence[str], results: Sequence[Any]) -> list[OrtValue]:
        pairs = zip(names, results, strict=True)
        return [
            OrtValue(x, None if isinstance(x, np.ndarray) else self._output_types.get(name))
            for name, x in pairs
        ]

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], object],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """Run in a thread of its own, which calls ``callback(results, user_data, error)``.

        ``error`` is empty, or the message; then there are no results. Raises TypeError if nothing
        can be called.
        """
        if not callable(callback):
            raise TypeError(
                f"{self._label}: callback must be a function of results, user data and an error, "
                f"found {callback!r}"
            )

        def work() -> None:
            try:
                results, message = self.run(output_names, input_feed, run_options), ""
            except Exception as error:  # noqa: BLE001 - it is told where there is somebody to tell
                results, message = [], str(error) or type(error).__name__
            callback(results, user_data, message)

        threading.Thread(target=work, name=f"run of {self._label}", daemon=True).start()

    def placement(self) -> list[Placement]:
        """Where each node runs: in which kernels, or why by its NumPy kernel.

        Nodes are those of the optimized model; those that are computed ahead are not listed.
        """
        if self._programs is not None:
            return list(self._programs.whole.placements)
        reason = "the reference runs NumPy kernels"
        name = self._providers[0].name
        return [
            Placement(node.name, node.op_type, node.domain, (), reason, name)
            for node in self._model.graph.nodes
        ]

    def memory_report(self) -> MemoryReport:
        """Bytes that the session takes: weights, what is packed of them, runs by their extents."""
        from fornix.runtime.reports.report import report  # noqa: PLC0415 - few ask for it

        return report(self._programs.programs if self._programs else ())

    def shrink(self) -> None:
        """Give back memory that is kept for the next runs: all that no run uses now.

        Weights and code stay. The next run takes memory anew, as the first one did.
        """
        self._short = None
        if self._programs is not None:
            self._programs.shrink()
        shared_results().shrink()
        give_back()

    def profile(self, input_feed: Mapping[str, Any], repeats: int = 10) -> Profile:
        """Where the time of a run on ``input_feed`` goes, kernel by kernel, in ``repeats`` runs.

        Raises NotSupported where nothing can be compiled.
        """
        check_machine_code("InferenceSession.profile")
        from fornix.runtime.reports.profile import Prepared, profile  # noqa: PLC0415 - imports llvmlite

        feeds = checked_feeds(input_feed, self._interface.inputs, self._overridable, self._label)
        threads = self._options.threads
        if self._programs is not None and len(feeds) == len(self._interface.inputs):
            by_name = {value.name: feed for value, feed in feeds.items()}
            programs = self._programs.ranked(by_name)
            programs.whole  # noqa: B018 - what another process kept knows no nodes
            try:
                return programs.serve(
                    by_name,
                    lambda program, run: profile(
                        Prepared(program.steps, program.releases, program.start(by_name), run),
                        repeats,
                        threads,
                    ),
                )
            except NotAsCompiled as reason:
                self._log.debug("%s: %s", self._label, reason)
        given = {self._planned.by_name[value.name]: feed for value, feed in feeds.items()}
        return profile(Prepared.of_plan(self._planned.plan, given), repeats, 1)

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that must be fed."""
        return [NodeArg.of(value) for value in self._interface.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs of the model; extents that it leaves open are inferred."""
        return list(self._output_args)

    @cached_property
    def _output_args(self) -> list[NodeArg]:
        kept = self._shelf.outputs if self._shelf else None
        return output_args(self._model) if kept is None else kept

    @property
    def input_names(self) -> list[str]:
        """Names that feeds may have: inputs, and initializers that may be fed."""
        return [*(value.name for value in self._interface.inputs), *self._overridable]

    @property
    def output_names(self) -> list[str]:
        """The outputs of the model."""
        return list(self._outputs)

    def get_session_options(self) -> SessionOptions:
        """The options that the session was made with."""
        return self._options

    def set_providers(
        self,
        providers: Sequence[ProviderLike] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Make the session anew, to run on other providers."""
        source, options, limits = self._path or self._model, self._options, self._limits
        made = InferenceSession(
            source, options, providers, provider_options, limits=limits, trust=self._trust
        )
        self.__dict__ = made.__dict__

    @cached_property
    def _output_types(self) -> dict[str, str]:
        return {arg.name: arg.type for arg in self._output_args}

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Initializers that may be fed in place of their stored data."""
        return [NodeArg.of(value) for value in self._overridable.values()]

    def get_modelmeta(self) -> ModelMetadata:
        """Where the model comes from."""
        model = self._model
        return ModelMetadata(
            model.producer_name,
            model.graph.name,
            model.domain,
            model.doc_string,
            model.graph.doc_string,
            model.model_version or NO_VERSION,
            dict(model.metadata),
        )

    def get_providers(self) -> list[str]:
        """Execution providers in use, the preferred first."""
        return [provider.name for provider in self._providers]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """Options of the execution providers in use, by name; none of them has any."""
        return {provider.name: {} for provider in self._providers}

    def _wanted(self, names: Sequence[str] | None) -> list[str]:
        if isinstance(names, str):
            raise InvalidArgument(
                f"{self._label}: fetches must be a list of names, found the text {names!r}; "
                f"try [{names!r}]"
            )
        outputs = self._outputs
        for name in names or ():
            if name not in outputs and name not in self._planned.by_name:
                self._planned.inner(name)
        return list(names or outputs)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._path is None:
            raise TypeError(
                "InferenceSession: only a session made from a path pickles, this one was made from "
                "bytes or a message; save the model and open it by its path"
            )
        made = partial(InferenceSession, limits=self._limits, trust=self._trust)
        return made, (self._path, self._options, self.get_providers())


def _require_fitting(
    options: object, providers: Sequence[ProviderLike] | None, provider_options: Any
) -> None:
    """Raise InvalidArgument for what are no options of sessions, or not those of the providers."""
    if options is not None and not isinstance(options, SessionOptions):
        raise InvalidArgument(
            "InferenceSession: sess_options must be fornix.SessionOptions, "
            f"found {type(options).__module__}.{type(options).__name__}"
        )
    if provider_options is not None and len(provider_options) != len(providers or ()):
        raise InvalidArgument(
            f"InferenceSession: provider_options must have one entry per provider, "
            f"{len(providers or ())}, found {len(provider_options)}"
        )
    given = [own for x in providers or () if isinstance(x, tuple) for own in x[1:] if own]
    warn_of_provider_options([*given, *(provider_options or ())])


def _timeline(options: SessionOptions) -> Timeline | None:
    if not options.enable_profiling:
        return None
    from fornix.runtime.reports.timeline import Timeline  # noqa: PLC0415 - few sessions are profiled

    return Timeline(options.profile_file_prefix, options.threads)


def _runs_as_planned(provider: Provider, options: SessionOptions) -> bool:
    """Whether the model runs node by node, as it was given."""
    is_reference = type(provider) is ReferenceExecutionProvider
    return is_reference and (options.graph_optimization_level is None or options.level == 0)


def _available(providers: Sequence[ProviderLike] | None) -> list[Provider]:
    """The providers of the list that there are, the default for None."""
    if isinstance(providers, str):
        raise InvalidArgument(
            f"InferenceSession: providers must be a list, found the text {providers!r}; "
            f"try [{providers!r}]"
        )
    found: list[Provider] = []
    absent: list[str] = []
    for entry in DEFAULT_PROVIDERS if providers is None else providers:
        name = entry[0] if isinstance(entry, tuple) and entry else entry
        if not isinstance(name, Provider | str):
            raise InvalidArgument(f"InferenceSession: a provider has a name, found {entry!r}")
        if (name if isinstance(name, str) else name.name) in {p.name for p in found}:
            message = f"InferenceSession: provider {entry!r} is named twice"
            warnings.warn(message, FornixWarning, stacklevel=3)
        elif isinstance(name, Provider):
            found.append(name)
        elif name in PROVIDERS:
            found.append(PROVIDERS[name]())
        else:
            absent.append(name)
    if absent:
        message = (
            f"InferenceSession: providers must be among {', '.join(PROVIDERS)}, "
            f"found {', '.join(absent)}"
        )
        if not found:
            raise InvalidArgument(message)
        names = ", ".join(provider.name for provider in found)
        warnings.warn(f"{message}; running on {names}", FornixWarning, stacklevel=3)
    return found or _available(None)
