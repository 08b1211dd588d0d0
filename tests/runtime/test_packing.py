"""Weights are packed for the ways that runs take."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from fornix.errors import FormatError
from fornix.runtime import InferenceSession, SessionOptions
from fornix.runtime.native import FEW_UNITS
from fornix.runtime.packing import StoredData
from tests.runtime.stored.kept_models import is_recalled, use_cache

LAYERS = FEW_UNITS + 1
"""So many have no call for all extents at once, which would read all weights."""
BODY = " ".join(
    f"h{k} = Conv <pads = [1, 1, 1, 1]> ({f'r{k - 1}' if k else 'x'}, w{k}) r{k} = Relu (h{k})"
    for k in range(LAYERS)
)
MODEL = f"""<ir_version: 8, opset_import: ["" : 18]>
    g (float[N, 64, H, W] x) => (float[N, 64, H, W] y) {{ {BODY} y = Neg (r{LAYERS - 1}) }}"""
"""Convolutions that transform large images and sum small ones directly."""
LARGE, SMALL = (1, 64, 40, 40), (1, 64, 3, 2)
SHAPE = 64, 64, 3, 3
DIRECT_BYTES = LAYERS * 4 * 64 * 64 * 9
"""Of weights that are as many as before, in another order."""


def feeds(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"x": np.random.default_rng(0).standard_normal(shape, np.float32)}


def session_of(path: Path, threads: int = 1) -> InferenceSession:
    return InferenceSession(path, SessionOptions(intra_op_num_threads=threads))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, InferenceSession]]:
    """A model, and the session that has compiled it for others."""
    path = tmp_path_factory.mktemp("packing") / "layers.onnx"
    model = parser.parse_model(MODEL)
    rng = np.random.default_rng()  # nobody else has packed them
    for k in range(LAYERS):
        array = rng.standard_normal(SHAPE, np.float32) / 24
        model.graph.initializer.append(numpy_helper.from_array(array, f"w{k}"))
    onnx.save(model, path)
    with pytest.MonkeyPatch.context() as patch:
        use_cache(path.parent / "cache", patch)
        session = session_of(path)
        session.run(None, feeds(LARGE))
        yield path, session


@pytest.fixture
def path(made: tuple[Path, InferenceSession]) -> Path:
    return made[0]


def expected(path: Path, shape: tuple[int, ...] = SMALL) -> Any:
    session = InferenceSession(path, providers=["ReferenceExecutionProvider"])
    return session.run(None, feeds(shape))[0]


def is_near(y: Any, wanted: Any) -> bool:
    return bool(np.abs(y - wanted).max() <= 2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("is_kept", [True, False])
def test_weights_of_small_images_are_packed_for_the_first_one(
    made: tuple[Path, InferenceSession], *, is_kept: bool
) -> None:
    path, session = made
    if is_kept:
        session = session_of(path)
        assert is_recalled(session)
    large = session.run(None, feeds(LARGE))[0]
    packed = session.memory_report().packed
    assert packed > DIRECT_BYTES
    assert is_near(session.run(None, feeds(SMALL))[0], expected(path))
    assert session.memory_report().packed == packed + DIRECT_BYTES
    assert np.array_equal(session.run(None, feeds(LARGE))[0], large)
    assert is_near(large, expected(path, LARGE))


@pytest.mark.parametrize("threads", [1, 2])
def test_callers_at_a_time_wait_for_weights(path: Path, threads: int) -> None:
    session = session_of(path, threads)
    shapes = [SMALL, LARGE, SMALL, (1, 64, 2, 3), SMALL]
    start = threading.Barrier(len(shapes))
    found: list[Any] = []

    def call(shape: tuple[int, ...]) -> None:
        given = feeds(shape)
        start.wait()
        found.append(session.run(None, given)[0])

    callers = [threading.Thread(target=call, args=(shape,)) for shape in shapes]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    small = [y for y in found if y.shape == SMALL]
    assert len(found) == len(shapes)
    assert is_near(small[0], expected(path))
    assert all(np.array_equal(y, small[0]) for y in small)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # since 3.12, if threads run
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no forks")
def test_children_of_forks_pack_for_themselves(path: Path) -> None:
    session, wanted = session_of(path, 2), expected(path)
    session.run(None, feeds(LARGE))
    locks = [x._lock for x in gc.get_objects() if isinstance(x, StoredData)]
    with ExitStack() as held:  # as a thread does that packs
        for lock in locks:
            held.enter_context(lock)
        child = os.fork()
        if child == 0:
            held.pop_all()
    if child == 0:  # nothing of pytest may run here
        os._exit(0 if is_near(session.run(None, feeds(SMALL))[0], wanted) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_file_that_is_written_to_is_not_packed_later(path: Path) -> None:
    session = session_of(path)
    large = session.run(None, feeds(LARGE))[0]
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"\x08")
    os.utime(path, ns=(0, 0))
    assert np.array_equal(session.run(None, feeds(LARGE))[0], large)  # what is packed
    with pytest.raises(FormatError, match="must stay as it is while its weights are in use"):
        session.run(None, feeds(SMALL))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
