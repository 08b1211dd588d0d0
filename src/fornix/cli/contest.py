"""Engines that take turns at one task, each in a process of its own, and what was measured.

Decides what a fair comparison is. Every engine has its own process, because the threads of some
keep a processor busy after a run; turns are short and go round, because a machine's speed drifts;
a turn ends when the engine's threads sleep; a turn during which other processes were at work counts
as disturbed and is repeated as long as patience lasts. `worker` sets the engines up; what is
printed is the business of `bench`.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

progress = logging.getLogger("fornix.progress")

ENGINES = ("fornix", "onnxruntime", "openvino", "torch")
"""Engines that can take part, this one first."""

TURN = 0.1
"""Seconds of a turn; a run that takes longer is a turn of its own."""

MIN_TURNS = 5
"""Turns of each engine at least, however long a run takes."""

MAX_RUNS = 20_000
"""Runs in a turn at most."""

OUTLIER = 1.5
"""Runs that take this many times the median count as outliers."""

DISTURBED = 0.15
"""Share of a processor that other processes may use during a turn."""

FAREWELL = 5.0
"""Seconds that a worker has to end by itself once nobody talks to it."""

TICK = 0.01
"""Seconds, the resolution of the system's account of processor time."""


@dataclass(frozen=True)
class Place:
    """Where workers find things: fornix's object cache, and modules of torch networks."""

    cache: str | None = None
    paths: Sequence[str] = ()


@dataclass(frozen=True)
class Task:
    """A model with feeds; ``chain`` and ``torch`` as `worker` takes them."""

    model: str
    feeds: Mapping[str, np.ndarray]
    outputs: Sequence[str]
    chain: Mapping[str, Any] | None = None
    torch: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Turn:
    """Seconds of each run, of the whole turn, and of other processes meanwhile."""

    runs: list[float]
    wall: float
    others: float

    @property
    def is_disturbed(self) -> bool:
        """Whether others were at work; one tick may be an error of the system's account."""
        return self.others > DISTURBED * self.wall + TICK


@dataclass
class Timing:
    """What one engine took, turn by turn; ``repeated`` counts turns that were thrown away."""

    turns: list[Turn] = field(default_factory=list)
    repeated: int = 0

    @property
    def runs(self) -> list[float]:
        """Seconds of all runs."""
        return [seconds for turn in self.turns for seconds in turn.runs]

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return statistics.median(self.runs)

    def document(self) -> dict[str, Any]:
        """For JSON; seconds."""
        runs = np.array(self.runs)
        wall = sum(turn.wall for turn in self.turns)
        return {
            "median": self.median,
            "min": float(runs.min()),
            "p10": float(np.quantile(runs, 0.1)),
            "p90": float(np.quantile(runs, 0.9)),
            "runs": len(runs),
            "turns": len(self.turns),
            "outliers": int((runs > OUTLIER * self.median).sum()),
            "disturbed_turns": sum(turn.is_disturbed for turn in self.turns),
            "repeated_turns": self.repeated,
            "others_share": sum(turn.others for turn in self.turns) / wall,
        }


class EngineError(Exception):
    """An engine that is not installed or cannot do what is asked."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class Seat:
    """One engine with one number of threads, in its own process.

    ``cache`` is the folder of fornix's object cache; ``paths`` go before its module path.
    """

    def __init__(
        self, engine: str, threads: int, cache: str | None = None, paths: Sequence[str] = ()
    ) -> None:
        self.engine = engine
        self.threads = threads
        self.timing = Timing()
        self.task: Task | None = None
        self.length = 0.0
        """Seconds of one run, roughly."""
        # -P: the worker's own folder must not shadow modules
        self.process = subprocess.Popen(  # noqa: S603 - this Python runs a script of this package
            [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(threads, cache, paths),
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # No waiting for the end of its output: what it started may hold that pipe open.
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            self.process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The worker's answer; raises EngineError for what it could not do."""
        if self.process.stdin is None or self.process.stdout is None:
            raise EngineError("the worker has no pipes")
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EngineError(f"the process ended with code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineError(answer["error"], missing=answer["missing"])
        return answer

    def open(self) -> dict[str, Any]:
        """Import the engine: seconds and version."""
        return self.ask("import", engine=self.engine, threads=self.threads)

    def load(self, task: Task, feeds: str) -> dict[str, Any]:
        """Load ``task``, whose feeds are in the file ``feeds``; seconds of creation, first run."""
        self.task = task
        self.timing = Timing()
        if self.engine == "torch" and task.torch is None:
            raise EngineError(
                "PyTorch does not read ONNX; name the same network as a file of torch.export or "
                "TorchScript: torch=FILE.pt2"
            )
        return self.ask(
            "load",
            model=task.model,
            inputs={name: array.dtype.name for name, array in task.feeds.items()},
            feeds=feeds,
            outputs=list(task.outputs),
            chain=task.chain,
            torch=task.torch,
        )

    def turn(self, seconds: float = TURN, warm: int = 1) -> Turn:
        """One turn of at least ``seconds``, after ``warm`` runs that do not count."""
        begin, before, own = time.perf_counter(), busy_seconds(), time.process_time()
        answer = self.ask("run", seconds=seconds, limit=MAX_RUNS, warm=warm)
        wall = time.perf_counter() - begin
        own = time.process_time() - own
        others = busy_seconds() - before - answer["busy"] - own
        return Turn(answer["times"], wall, max(0.0, others))

    def results(self, folder: str) -> dict[str, np.ndarray]:
        """The outputs of one more run."""
        path = str(Path(folder) / f"{self.engine}-{self.threads}.npz")
        task = self.task
        names = self.ask("save", path=path, outputs=list(task.outputs) if task else [])["outputs"]
        with np.load(path) as stored:
            return {name: stored[f"arr_{index}"] for index, name in enumerate(names)}

    def peak(self) -> int | None:
        """Largest resident memory so far, in bytes."""
        peak: int | None = self.ask("memory")["peak"]
        return peak


def environment(threads: int, cache: str | None, paths: Sequence[str]) -> dict[str, str]:
    """The environment of an engine with ``threads`` threads: this process's, with this fornix."""
    own = str(Path(__file__).resolve().parents[2])
    found = os.environ.get("PYTHONPATH")
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(names, str(threads)),
        "ORT_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": os.pathsep.join([*paths, own, *([found] if found else [])]),
        **({} if cache is None else {"FORNIX_CACHE": cache}),
    }


def busy_seconds() -> float:
    """Processor time that all processes of the machine have used; 0 where nobody tells."""
    try:
        with Path("/proc/stat").open(encoding="ascii") as file:
            user, nice, system, _idle, _wait, irq, softirq, steal = map(
                int, file.readline().split()[1:9]
            )
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + irq + softirq + steal) * TICK


@contextmanager
def written(feeds: Mapping[str, np.ndarray]) -> Iterator[str]:
    """A file that holds ``feeds`` in order, as `worker` reads them."""
    with tempfile.TemporaryDirectory(prefix="fornix-bench-") as folder:
        path = str(Path(folder) / "feeds.npz")
        stored = [x.astype(str) if x.dtype.kind == "O" else x for x in feeds.values()]
        np.savez(path, *stored, allow_pickle=False)
        yield path


def take_turns(
    seats: Sequence[Seat], seconds: float, patience: float = 0.0, turn: float = TURN
) -> None:
    """Let loaded ``seats`` run in turns of ``turn`` seconds until each has run for ``seconds``.

    A disturbed turn is repeated until that has taken ``patience`` seconds, of all seats together.
    """
    left = {seat: turns_of(seat, seconds, turn) for seat in seats}
    number = 0
    while waiting := [seat for seat in seats if len(seat.timing.turns) < left[seat]]:
        first = number % len(waiting)  # nobody always follows the same one
        for seat in (*waiting[first:], *waiting[:first]):
            patience -= one_turn(seat, patience, turn)
        number += 1


def turns_of(seat: Seat, seconds: float, turn: float) -> int:
    """How many turns of ``turn`` seconds ``seat`` needs for ``seconds``."""
    seat.length = min(seat.turn(seconds=0.0).runs)
    return max(MIN_TURNS, round(seconds / max(turn, seat.length)))


def one_turn(seat: Seat, patience: float, seconds: float) -> float:
    """A turn of ``seat``, repeated while it is disturbed; the seconds lost to that."""
    lost = 0.0
    warm = 1 if seat.length < seconds else 0
    turn = seat.turn(seconds, warm)
    while turn.is_disturbed and lost < patience:
        seat.timing.repeated += 1
        lost += turn.wall
        turn = seat.turn(seconds, warm)
    seat.timing.turns.append(turn)
    return lost


def ratio(peer: Timing, own: Timing) -> tuple[float, float, float]:
    """How many times faster ``own`` is: of the medians, and the quartiles of it turn by turn."""
    pairs = zip(peer.turns, own.turns, strict=False)
    by_turn = [statistics.median(a.runs) / statistics.median(b.runs) for a, b in pairs]
    low, high = np.quantile(by_turn, [0.25, 0.75])
    return peer.median / own.median, float(low), float(high)


def difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest |actual − expected| relative to the largest |expected|.

    What is not a float agrees (0) or not (1); so do shapes, and elements that are not finite.
    """
    if actual.shape != expected.shape:
        return 1.0
    if expected.dtype.kind not in "fc":
        return float(not np.array_equal(actual, expected))
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    a, b = actual.astype(wide), expected.astype(wide)
    finite = np.isfinite(b)
    if (
        not np.array_equal(a[~finite], b[~finite], equal_nan=True)
        or not np.isfinite(a[finite]).all()
    ):
        return 1.0
    gap = float(np.abs(a[finite] - b[finite]).max(initial=0))
    scale = float(np.abs(b[finite]).max(initial=0))
    return gap / scale if scale else gap


def largest_difference(
    actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> float:
    """`difference` of the output that differs most."""
    gaps = [difference(actual[name], truth) for name, truth in expected.items() if name in actual]
    return max(gaps, default=0.0)


@dataclass(frozen=True)
class Load:
    """What a fresh process took to be ready, in seconds, and its peak memory in bytes."""

    import_seconds: float
    create: float
    first: float
    again: float
    peak: int | None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "import": self.import_seconds,
            "create": self.create,
            "first_run": self.first,
            "create_again": self.again,
            "peak_bytes": self.peak,
        }


def fresh_load(engine: str, threads: int, task: Task, feeds: str, place: Place) -> Load:
    """Load ``task`` in a new process, and once more in the same."""
    with Seat(engine, threads, place.cache, place.paths) as seat:
        opened = seat.open()
        first = seat.load(task, feeds)
        peak = seat.peak()
        again = seat.load(task, feeds)
    return Load(opened["seconds"], first["create"], first["first"], again["create"], peak)


def median_load(loads: Sequence[Load]) -> Load:
    """The medians of each number."""
    peaks = [load.peak for load in loads if load.peak is not None]
    return Load(
        statistics.median(load.import_seconds for load in loads),
        statistics.median(load.create for load in loads),
        statistics.median(load.first for load in loads),
        statistics.median(load.again for load in loads),
        int(statistics.median(peaks)) if peaks else None,
    )


@dataclass(frozen=True)
class Settings:
    """How a contest is held: engines, threads of each, seconds each runs, seconds for repeats.

    ``turn`` is how many seconds a turn takes.
    """

    engines: Sequence[str] = ENGINES
    threads: int = 1
    seconds: float = 1.5
    patience: float = 0.0
    loads: int = 3
    turn: float = TURN


class Table:
    """The engines that take part in contests of ``settings.threads`` threads, while it is open."""

    def __init__(self, settings: Settings, place: Place) -> None:
        self.settings = settings
        self.place = place
        self.seats: list[Seat] = []
        self.versions: dict[str, str] = {}
        self.absent: dict[str, EngineError] = {}
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        for engine in self.settings.engines:
            seat = Seat(engine, self.settings.threads, self.place.cache, self.place.paths)
            self.stack.enter_context(seat)
            try:
                self.versions[engine] = seat.open()["version"]
                self.seats.append(seat)
            except EngineError as error:
                self.absent[engine] = error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stack.close()

    def measure(
        self, task: Task, expected: Mapping[str, np.ndarray] | None = None
    ) -> list[dict[str, Any]]:
        """One entry per engine: latency, ratio to fornix, peak memory, difference; or an error.

        The difference is that from ``expected`` or, without it, that of fornix from the peer.
        """
        errors = dict(self.absent)
        ready = []
        with written(task.feeds) as feeds:
            for seat in self.seats:
                progress.info("loading in %s, %s", seat.engine, on_threads(seat.threads))
                try:
                    seat.load(task, feeds)
                    ready.append(seat)
                except EngineError as error:
                    errors[seat.engine] = error
            progress.info("taking turns, %s", on_threads(self.settings.threads))
            take_turns(ready, self.settings.seconds, self.settings.patience, self.settings.turn)
            results = {seat.engine: seat.results(str(Path(feeds).parent)) for seat in ready}
        own = next((seat.timing for seat in ready if seat.engine == "fornix"), None)
        entries = [self.entry(seat, own) for seat in ready]
        for entry in entries:
            found = results[entry["engine"]]
            entry["difference"] = apart(entry["engine"], found, results.get("fornix"), expected)
        return entries + [
            {"engine": name, "error": str(error), "missing": error.missing}
            for name, error in errors.items()
        ]

    def entry(self, seat: Seat, own: Timing | None) -> dict[str, Any]:
        """What was measured of one engine."""
        document: dict[str, Any] = {
            "engine": seat.engine,
            "version": self.versions[seat.engine],
            "latency": seat.timing.document(),
            "peak_bytes": seat.peak(),
        }
        if own is not None and seat.timing is not own:
            middle, low, high = ratio(seat.timing, own)
            document |= {"ratio": middle, "ratio_quartiles": [low, high]}
            document["ratio_of_minima"] = min(seat.timing.runs) / min(own.runs)
        return document


def on_threads(threads: int) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{threads} thread{'s' if threads > 1 else ''}"


def apart(
    engine: str,
    found: Mapping[str, np.ndarray],
    own: Mapping[str, np.ndarray] | None,
    expected: Mapping[str, np.ndarray] | None,
) -> float | None:
    """The difference that is told of ``engine``."""
    if expected is not None:
        return largest_difference(found, expected)
    if engine == "fornix" or own is None:
        return None
    return largest_difference(own, found)


def best_ratio(entries: Sequence[Mapping[str, Any]]) -> float | None:
    """Best peer ÷ fornix; None where either could not run."""
    return min((entry["ratio"] for entry in entries if "ratio" in entry), default=None)


def loads(task: Task, settings: Settings, place: Place) -> dict[str, dict[str, Any]]:
    """By engine: how long a fresh process takes with an empty cache and with a filled one.

    Only fornix has a cache. Engines that fail are absent, and so is PyTorch, which loads no ONNX.
    """
    told: dict[str, dict[str, Any]] = {}
    with written(task.feeds) as feeds:
        for engine in (name for name in settings.engines if name != "torch"):
            progress.info("loading in a fresh process of %s", engine)
            try:
                cold = fresh_load(engine, settings.threads, task, feeds, place)
            except EngineError:
                continue
            told[engine] = {"cold": cold.document()}
        progress.info("loading again, cache filled")
        turns = [
            {engine: fresh_load(engine, settings.threads, task, feeds, place) for engine in told}
            for _ in range(settings.loads)
        ]
    for engine, entry in told.items():
        entry["warm"] = median_load([turn[engine] for turn in turns]).document()
    if own := told.get("fornix"):
        for entry in told.values():
            entry["create_ratio"] = entry["warm"]["create"] / own["warm"]["create"]
    return told
