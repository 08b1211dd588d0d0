"""A process of its own that compiles models: LLVM and the optimizer never enter that of the user.

Decides when there is one, how it is started and what is said between the two. It gets an `Order`
and puts the program on the shelf, where the user's process finds it as if an earlier one had kept
it. Then it stays for a while, for other models, and as it knows what kept programs do not: whether
they serve extents that have not occurred yet. Whatever goes wrong there, the user's process does it
all itself, and says what is the matter.

It is no fork, and imports nothing of the user's: it runs `main` in a new interpreter. It ends by
itself when nobody asks for some seconds, and when the user's process does. The user's process
sends pickles, each after its length; the answers are lines of JSON.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, cast

from fornix.compile.identity import processor
from fornix.errors import FormatError
from fornix.format.limits import Limits
from fornix.format.mapped import Identity, MappedFile, Memory
from fornix.runtime.options import SessionOptions
from fornix.system import pipe_errors, usable_processors

if TYPE_CHECKING:
    from fornix.runtime.stored.shelf import Shelf

progress = logging.getLogger("fornix.progress")

IDLE_SECONDS = 10
"""After which it ends if nobody asks."""
GRACE_SECONDS = 1
"""In which it ends once it is told to."""
MAX_BENCHES = 4
"""Models of which it remembers enough to answer."""
TURN_SECONDS = 0.0005
"""That a thread of Python goes on while another waits: the one that calls LLVM waits after each of
many calls. With Python's 5 ms, LLVM lies idle for a third of the time that it takes."""
LENGTH_BYTES = 8
PART_BYTES = 1 << 20
_START = """\
import sys

sys.path[:] = sys.argv[1:]
from fornix.runtime.stored.workshop import main

main()
"""
FAILED = (OSError, EOFError, ValueError)
"""What a pipe raises whose other end is gone, or talks nonsense."""
UNSUITED = (OSError, pickle.PicklingError, AttributeError, TypeError)
"""What is raised where no process can be started, or by options that only this one knows."""


@dataclass(frozen=True)
class Order:
    """What is to be made, and where it is to be put."""

    path: str
    """The model's file; empty for bytes, which follow."""
    identity: Identity | None
    """Which file it was that had the digest."""
    digest: bytes
    is_at_rest: bool
    name: str
    """Of the place on the shelf."""
    options: SessionOptions
    limits: Limits
    tells: bool
    """Whether somebody wants to see how it goes on."""
    processor: str
    """What code may use, which this process may have been refused."""

    @staticmethod
    def of(shelf: Shelf, options: SessionOptions, limits: Limits) -> Order:
        """An order for the program of ``shelf``."""
        content = shelf.content
        file = content.region if isinstance(content.region, MappedFile) else None
        return Order(
            str(Path(file.name).absolute()) if file else "",
            file.identity if file else None,
            content.digest,
            content.is_at_rest,
            shelf.name,
            options,
            limits,
            progress.isEnabledFor(logging.INFO),
            processor(),
        )


@dataclass(frozen=True)
class Question:
    """About the program of a model in which extents called so have these ``numbers``."""

    name: str
    """Of the place on the shelf."""
    numbers: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]] | None = None
    """Does it serve feeds of such shapes? None: is it on the shelf, or can it be made?"""


@dataclass(frozen=True)
class Job:
    """What the other process does for one model."""

    workshop: Workshop
    name: str
    """Of the place on the shelf."""

    @staticmethod
    def of(shelf: Shelf, options: SessionOptions, limits: Limits) -> Job | None:
        """One that has made the program of ``shelf``; None if it made none that is kept."""
        if not (is_allowed() and shelf.disk.is_writable):
            return None
        region = shelf.content.region
        content = () if isinstance(region, MappedFile) else (region.view(0, region.size),)
        try:
            order = pickle.dumps(Order.of(shelf, options, limits))
            with _free(Path(shelf.disk.directory or "").absolute()) as workshop:
                return Job(workshop, shelf.name) if workshop.ask(order, *content) else None
        except UNSUITED:
            return None

    def makes(self, numbers: Mapping[str, int]) -> bool:
        """Whether it has made the program in which extents called so have these ``numbers``."""
        return bool(self.workshop.ask(pickle.dumps(Question(self.name, dict(numbers)))))

    def serves(
        self, numbers: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]
    ) -> bool | None:
        """Whether that program serves feeds of such ``shapes``; None if nobody can say."""
        return self.workshop.ask(pickle.dumps(Question(self.name, dict(numbers), dict(shapes))))


class Workshop:
    """The other process, as this one sees it."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        """``directory`` is that of the shelves, where the environment says."""
        self.process, self.directory, self._owner = process, directory, os.getpid()
        self.lock = threading.RLock()
        self._end = weakref.finalize(self, _end, process, self._owner)
        # Somebody has to take note when it ends by itself.
        threading.Thread(target=process.wait, name="fornix-workshop", daemon=True).start()

    @property
    def is_there(self) -> bool:
        """Whether it can be asked, and not by a process that was forked."""
        return os.getpid() == self._owner and self.process.returncode is None

    def ask(self, question: bytes, *content: memoryview) -> bool | None:
        """The answer; None if it is gone, or failed, or is that of a process that was forked."""
        if not self.is_there:
            return None
        with self.lock:
            try:
                return self._exchange((memoryview(question), *content))
            except FAILED:
                return None
            except BaseException:  # nobody is going to read the answer
                self._end()
                raise

    def _exchange(self, parts: Sequence[memoryview]) -> bool | None:
        """Send ``parts``; what it says in the end. What it tells meanwhile is logged here."""
        questions, answers = self.process.stdin, self.process.stdout
        if questions is None or answers is None:
            return None
        with pipe_errors():
            for part in parts:
                _write(questions, memoryview(part.nbytes.to_bytes(LENGTH_BYTES, "little")))
                _write(questions, part)
        for line in answers:
            found: dict[str, Any] = json.loads(line)
            if "told" not in found:
                return cast("bool | None", found["answer"])
            name, level, message = found["told"]
            logging.getLogger(name).log(level, "%s", message)
        return None


_workshops: list[Workshop] = []
"""Those that this process started, and that may still be there."""


@contextmanager
def _free(directory: Path) -> Iterator[Workshop]:
    """A workshop that nobody else asks meanwhile: one that is there, or a new one.

    Of all that are there one is waited for if the processors have enough to do with them.
    """
    own = [workshop for workshop in _workshops if workshop.is_there]
    fitting = [workshop for workshop in own if workshop.directory == directory]
    chosen = next((workshop for workshop in fitting if workshop.lock.acquire(blocking=False)), None)
    if chosen is None and len(fitting) >= usable_processors():
        chosen = fitting[-1]
        chosen.lock.acquire()
    if chosen is None:
        chosen = Workshop(_started(), directory)
        chosen.lock.acquire()
        own.append(chosen)
    _workshops[:] = own
    try:
        yield chosen
    finally:
        chosen.lock.release()


def _write(pipe: IO[bytes], part: memoryview) -> None:
    """Write all of ``part``: a pipe without a buffer may take less at once."""
    while part:
        part = part[pipe.write(part) :]


def is_allowed() -> bool:
    """Whether a process may be started, and would be Python."""
    name = Path(sys.executable or "").name.lower()
    is_python = name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)
    return is_python and os.environ.get("FORNIX_WORKSHOP", "") != "0"


def _started() -> subprocess.Popen[bytes]:
    """An interpreter with our paths that runs `main`, and nothing of the user's."""
    flags = ["-I", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
    home = str(Path(__file__).resolve().parents[3])
    command = [sys.executable, *flags, "-c", _START, *filter(None, sys.path), home]
    pipe = subprocess.PIPE
    return subprocess.Popen(  # noqa: S603 - our own code
        command, bufsize=0, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
    )


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """End ``process``, unless it is that of a process which has forked."""
    for pipe in filter(None, (process.stdin, process.stdout)):
        pipe.close()
    if os.getpid() != owner:
        return
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    """The life of the other process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who is interrupted says so by hanging up
    gc.disable()  # a tenth of the time, for little memory: what is made here is kept
    sys.setswitchinterval(TURN_SECONDS)
    questions, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed is no answer
    logging.getLogger("fornix").addHandler(_Told(answers))
    benches: OrderedDict[str, Bench] = OrderedDict()
    asked = received(questions)
    for question in map(pickle.loads, asked):
        source = question.path or next(asked) if isinstance(question, Order) else None
        try:
            answer = _answer(benches, question, source)
        except Exception:  # noqa: BLE001 - the user's process is going to meet and tell it too
            answer = None
        _tell(answers, {"answer": answer})
    os._exit(0)  # nothing is left to be done


def _answer(
    benches: OrderedDict[str, Bench], question: Order | Question, source: str | bytes | None
) -> bool | None:
    """What there is to say, if anything; ``source`` is that of an order's model."""
    if isinstance(question, Order) and source is not None:
        progress.setLevel(logging.INFO if question.tells else logging.WARNING)
        if question.processor != processor():
            return False
        made = Bench(question, source)
        if not made.is_kept({}):
            return False
        benches[question.name] = made
        if len(benches) > MAX_BENCHES:
            benches.popitem(last=False)
            gc.collect()
        return True
    bench = benches.get(question.name)
    if bench is None or isinstance(question, Order):
        return None
    if question.shapes is None:
        return bench.is_kept(question.numbers)
    return bench.serves(question.numbers, question.shapes)


def received(pipe: IO[bytes]) -> Iterator[bytes]:
    """What is asked, until somebody hangs up."""
    while size := int.from_bytes(_awaited(pipe), "little"):
        yield _read(pipe, size)


def _awaited(pipe: IO[bytes]) -> bytes:
    """The next length; nothing if somebody hangs up. The process ends when it takes too long."""
    alarm = threading.Timer(IDLE_SECONDS, os._exit, [0])
    alarm.daemon = True
    alarm.start()
    try:
        return _read(pipe, LENGTH_BYTES)
    finally:
        alarm.cancel()


def _read(pipe: IO[bytes], size: int) -> bytes:
    """So many bytes; fewer if somebody hangs up."""
    parts: list[bytes] = []
    while size and (part := pipe.read(min(size, PART_BYTES))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _tell(pipe: IO[bytes], what: Mapping[str, object]) -> None:
    pipe.write(json.dumps(what).encode() + b"\n")
    pipe.flush()


class _Told(logging.Handler):
    """Passes on how it goes, and warnings."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(logging.INFO)
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        _tell(self._pipe, {"told": (record.name, record.levelno, record.getMessage())})


class Bench:
    """Where programs are made; this is the only part that needs the optimizer and LLVM."""

    def __init__(self, order: Order, source: str | bytes) -> None:
        from fornix.compile.disk import DiskCache  # noqa: PLC0415 - of the other process alone
        from fornix.reference.source import as_model  # noqa: PLC0415
        from fornix.runtime.adapting import adapted  # noqa: PLC0415
        from fornix.runtime.programs import Programs  # noqa: PLC0415
        from fornix.runtime.providers import CPUExecutionProvider  # noqa: PLC0415
        from fornix.runtime.stored.content import Content  # noqa: PLC0415
        from fornix.runtime.stored.shelf import Shelf  # noqa: PLC0415
        from fornix.runtime.threads import shared_pool  # noqa: PLC0415

        pool = shared_pool(order.options.threads)
        region = Memory(source) if isinstance(source, bytes) else MappedFile.open(source)
        if isinstance(region, MappedFile) and region.identity != order.identity:
            raise FormatError(f"{region.name}: the file must stay as it is, it has changed")
        content = Content(region, order.digest, is_at_rest=order.is_at_rest)
        shelf = Shelf(DiskCache.default(), content, order.name, pool)
        model = adapted(as_model(source, limits=order.limits), order.options)
        providers = [CPUExecutionProvider()]
        self.programs = Programs(lambda: model, providers, order.options, shelf, packs=False)

    def is_kept(self, numbers: Mapping[str, int]) -> bool:
        """Whether the program in which extents called so have these ``numbers`` is on the shelf."""
        made = self.programs.made(numbers)
        return made is not None and made.place is not None and made.place.has_program

    def serves(self, numbers: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether that program is made for feeds of such ``shapes``."""
        feeds = {name: SimpleNamespace(shape=shape) for name, shape in shapes.items()}
        return self.programs.serves(numbers, feeds)
