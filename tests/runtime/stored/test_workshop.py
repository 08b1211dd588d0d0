from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import llvmlite
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from fornix.compile.identity import processor
from fornix.errors import SchemaError
from fornix.format.limits import Limits
from fornix.runtime import InferenceSession, SessionOptions
from fornix.runtime.native import NativeStep
from fornix.runtime.stored import workshop
from fornix.system import is_mappable

MODEL = """<ir_version: 8, opset_import: ["" : 18]>
    f (float[N, 512] x, float[P, 512] past) => (float[M, 512] y) {
        both = Concat <axis = 0> (past, x)
        p = MatMul (both, w)
        y = Relu (p)
    }"""

pytestmark = pytest.mark.skipif(
    not (is_mappable() and processor()), reason="programs are kept on Linux"
)


def weights() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((512, 512), np.float32)


def model(text: str = MODEL) -> onnx.ModelProto:
    """A model of 1 MiB."""
    made = parser.parse_model(text)
    made.graph.initializer.append(numpy_helper.from_array(weights(), "w"))
    return made


def feeds(rows: int, past: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rows)
    extents = {"x": rows, "past": past}
    return {name: rng.standard_normal((n, 512), np.float32) for name, n in extents.items()}


def expected(given: dict[str, np.ndarray]) -> np.ndarray:
    return np.maximum(np.concatenate([given["past"], given["x"]]) @ weights(), 0)


@pytest.fixture(autouse=True)
def _no_workshop(monkeypatch: pytest.MonkeyPatch) -> None:
    """One may be started, and none is there yet."""
    monkeypatch.delenv("FORNIX_WORKSHOP")
    monkeypatch.setattr(workshop, "_workshops", [])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for tests that do not mind what is in it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """The model, in a file that is new to everybody."""
    monkeypatch.setenv("FORNIX_CACHE", str(cache))
    target = tmp_path / "model.onnx"
    made = model()
    made.producer_name = str(tmp_path)
    target.write_bytes(made.SerializeToString())
    return target


@pytest.fixture
def session(path: Path) -> InferenceSession:
    return InferenceSession(path)


def process_of(session: InferenceSession) -> subprocess.Popen[bytes] | None:
    shelf = session._shelf
    return shelf.job.workshop.process if shelf and shelf.job else None


def is_recalled(session: InferenceSession) -> bool:
    return session._programs is not None and session._programs.is_recalled


def close_to(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.allclose(found, wanted, rtol=1e-4, atol=1e-4))


def shares_weights(session: InferenceSession) -> bool:
    """Whether its programs for no past and for some have one copy of packed weights."""
    programs = session._programs
    assert programs is not None
    made = [programs.general, *(special.program for special in programs._special.values())]
    steps = [step for program in made for step in program.steps]
    packed = [step.data.prepared.values() for step in steps if isinstance(step, NativeStep)]
    whole = [array for arrays in packed for array in arrays if array.nbytes >= weights().nbytes]
    return len(whole) == len(made) > 1 and all(array is whole[0] for array in whole)


@pytest.mark.slow
def test_the_compiler_stays_out_of_the_process_of_the_user(path: Path) -> None:
    code = f"""
import sys, numpy as np, fornix
session = fornix.InferenceSession({str(path)!r})
for rows, past in ((3, 2), (1, 7), (4, 0)):
    (y,) = session.run(None, {{"x": np.ones((rows, 512), np.float32),
                               "past": np.ones((past, 512), np.float32)}})
    print(y.shape, np.array_equal(y[0], y[-1]))
print(*(name for name in ("llvmlite", "fornix.ops", "fornix.passes") if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["(5, 512) True", "(8, 512) True", "(4, 512) True", ""]
    assert not done.stderr


def test_it_answers_for_extents_that_are_new(session: InferenceSession) -> None:
    for rows, past in ((3, 2), (1, 7), (4, 0)):
        given = feeds(rows, past)
        (found,) = session.run(None, given)
        assert close_to(found, expected(given))
    assert is_recalled(session)
    assert shares_weights(session)


@pytest.mark.slow
def test_sessions_go_on_without_it(session: InferenceSession) -> None:
    process = process_of(session)
    assert process is not None
    process.kill()
    process.wait()
    given = feeds(3, 0)  # for which there is to be a program of its own
    assert close_to(session.run(None, given)[0], expected(given))
    assert session._programs is not None
    (special,) = session._programs._special.values()
    assert not special.is_recalled


@pytest.mark.slow
def test_a_process_that_dies_of_broken_pipes_does_not_die_of_this_one(path: Path) -> None:
    code = f"""
import signal, numpy as np, fornix
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
session = fornix.InferenceSession({str(path)!r})
session._shelf.job.workshop.process.kill()
x = np.ones((1, 512), np.float32)
print(session.run(None, {{"x": x, "past": x}})[0].shape)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "(2, 512)\n"


@pytest.mark.slow
def test_sessions_that_follow_each_other_share_one(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = InferenceSession(path)
    changed = model(MODEL.replace("Relu", "Abs"))
    changed.producer_name = str(path)
    second = InferenceSession(changed.SerializeToString())
    process = process_of(first)
    assert process is not None
    assert process_of(second) is process
    assert is_recalled(second)
    given = feeds(2, 3)
    assert close_to(first.run(None, given)[0], expected(given))
    both = np.concatenate([given["past"], given["x"]]) @ weights()
    assert close_to(second.run(None, given)[0], np.abs(both))
    assert is_recalled(first)
    monkeypatch.setenv("FORNIX_CACHE", str(tmp_path / "another"))
    assert process_of(InferenceSession(path)) is not process


@pytest.mark.slow
def test_who_is_asked_by_others_is_waited_for_only_by_more_than_there_are_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workshop, "usable_processors", lambda: 2)
    found: list[workshop.Workshop] = []

    def take() -> None:
        with workshop._free(tmp_path) as other:
            found.append(other)

    with workshop._free(tmp_path) as one:
        with workshop._free(tmp_path / "another"):  # is none of those that could serve
            on_thread(take).join()
        take()
        with found[0].lock:
            waiting = on_thread(take)
            waiting.join(0.1)
            assert waiting.is_alive()
        waiting.join()
    assert found[0] is not one
    assert found[1:] == [one, found[0]]


def on_thread(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target)
    thread.start()
    return thread


@pytest.mark.slow
def test_it_forgets_all_but_the_last_models(path: Path) -> None:
    sessions = []
    for number in range(workshop.MAX_BENCHES + 1):
        made = model()
        made.producer_name = f"{path} {number}"
        sessions.append(InferenceSession(made.SerializeToString()))
    shelves = [session._shelf for session in sessions]
    assert [shelf is not None and shelf.ask({}, feeds(2, 3)) for shelf in shelves] == [
        None, *[True] * workshop.MAX_BENCHES
    ]  # fmt: skip


def test_it_ends_when_nobody_asks() -> None:
    code = """
import os
from fornix.runtime.stored import workshop
workshop.IDLE_SECONDS = 0.01
reading, writing = os.pipe()  # nobody writes, and nobody hangs up
list(workshop.received(os.fdopen(reading, "rb", buffering=0)))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_it_ends_when_somebody_hangs_up() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        assert list(workshop.received(pipe)) == []


@pytest.mark.slow
def test_the_child_of_a_fork_leaves_it_alone(
    session: InferenceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = process_of(session)
    assert process is not None
    assert session._shelf is not None
    own = os.getpid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: own + 1)
        assert session._shelf.ask({}, feeds(5, 5)) is None
    assert process.poll() is None
    assert session._shelf.ask({}, feeds(5, 5))


@pytest.mark.slow
def test_who_is_interrupted_leaves_no_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    begin = workshop._started

    def start() -> subprocess.Popen[bytes]:
        started.append(begin())
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        return started[0]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workshop, "_started", start)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            InferenceSession(path)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert started[0].returncode is not None


@pytest.mark.parametrize(
    "reason",
    [
        "switched off",
        "embedded",
        "frozen",
        "too many processes",
        "nothing is kept",
        "own options",
        "fewer instructions",
    ],
)
def test_without_it_the_model_is_compiled_here(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    match reason:
        case "switched off":
            monkeypatch.setenv("FORNIX_WORKSHOP", "0")
        case "embedded":
            monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
        case "frozen":
            monkeypatch.setattr(sys, "frozen", True, raising=False)
        case "nothing is kept":
            others = tmp_path / "others"
            others.mkdir(mode=0o755)
            monkeypatch.setenv("FORNIX_CACHE", str(others))
        case "fewer instructions":
            monkeypatch.setattr(workshop, "processor", lambda: "tiles=False")
        case "too many processes":
            monkeypatch.setattr(subprocess, "Popen", refuse)

    class Own(SessionOptions):
        """Nobody else can import it."""

    session = InferenceSession(path, Own() if reason == "own options" else None)
    assert process_of(session) is None
    assert not is_recalled(session)
    for past in (3, 0):
        given = feeds(2, past)
        assert close_to(session.run(None, given)[0], expected(given))
    assert shares_weights(session)


@pytest.mark.parametrize(("more", "answer"), [("", True), (" and more", False)])
def test_code_is_made_for_what_may_be_used_here(
    monkeypatch: pytest.MonkeyPatch, more: str, answer: bool
) -> None:
    """A system may refuse tile registers to one process, and not to another that it starts."""
    monkeypatch.setattr(workshop, "Bench", lambda *_: SimpleNamespace(is_kept=lambda _: True))
    limits, options = Limits(), SessionOptions()
    mine = processor() + more
    order = workshop.Order("", None, b"", False, "x", options, limits, False, mine)
    assert workshop._answer(OrderedDict(), order, b"") is answer


@pytest.mark.slow
def test_what_is_wrong_with_a_model_is_said_here(path: Path) -> None:
    broken = model(MODEL.replace("Relu", "Unknown"))
    path.write_bytes(broken.SerializeToString())
    with pytest.raises(SchemaError, match="Unknown"):
        InferenceSession(path)


@pytest.mark.slow
def test_bytes_are_compiled_there_too(path: Path) -> None:
    session = InferenceSession(path.read_bytes())
    assert is_recalled(session)
    given = feeds(2, 2)
    assert close_to(session.run(None, given)[0], expected(given))


def test_what_is_not_kept_is_tried_there_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        pytest.fail("nothing is to be gained")

    unknown = model(MODEL)
    unknown.graph.input.add(name="o").type.opaque_type.domain = "somebody's"
    path.write_bytes(unknown.SerializeToString())
    InferenceSession(path)
    monkeypatch.setattr(workshop, "_started", refuse)
    assert not is_recalled(InferenceSession(path))


def test_lists_have_no_extents_to_ask_about(path: Path) -> None:
    head = "f (seq(float[N, 512]) xs) => (float[N, 512] y) <int64 i = {0}> {"
    text = MODEL.replace(MODEL[MODEL.index("f (") : MODEL.index("both =")], head)
    text = text.replace("Concat <axis = 0> (past, x)", "SequenceAt (xs, i)")
    path.write_bytes(model(text).SerializeToString())
    session = InferenceSession(path)
    assert is_recalled(session)
    x = feeds(2, 2)["x"]
    assert close_to(session.run(None, {"xs": [x]})[0], np.maximum(x @ weights(), 0))


@pytest.mark.parametrize("has_compiler", [True, False])
def test_small_models_are_compiled_where_the_compiler_is(
    has_compiler: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_compiler:
        monkeypatch.setitem(sys.modules, "llvmlite", llvmlite)
    else:
        monkeypatch.delitem(sys.modules, "llvmlite", raising=False)
    monkeypatch.setenv("FORNIX_CACHE", str(path.parent))
    small = parser.parse_model(MODEL.replace("512", "4"))
    small.graph.initializer.append(helper.make_tensor("w", 1, [4, 4], np.ones(16)))
    session = InferenceSession(small.SerializeToString())
    assert (process_of(session) is None) == has_compiler


@pytest.mark.slow
def test_it_tells_how_it_goes(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("FORNIX_CACHE", str(tmp_path / "empty"))
    with caplog.at_level("INFO", "fornix.progress"):
        InferenceSession(path)
    assert "compiling unit 1 of" in caplog.text


BROKEN = """\
from fornix.compile import program

def write(*_):
    raise RecursionError("it calls itself")

program.write_all = write
"""


@pytest.mark.slow
def test_it_tells_what_goes_wrong_in_the_compiler(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    start = workshop._START.replace("main()\n", BROKEN + "main()\n")
    monkeypatch.setattr(workshop, "_START", start)
    monkeypatch.setenv("FORNIX_CACHE", str(tmp_path / "empty"))
    session = InferenceSession(path)
    (said, *_) = [r for r in caplog.records if r.name == "fornix.compile.program"]
    assert said.levelname == "WARNING"
    assert said.message.endswith("refused: RecursionError: it calls itself")
    given = feeds(3, 2)
    assert close_to(session.run(None, given)[0], expected(given))
