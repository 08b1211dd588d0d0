from __future__ import annotations

import gc
import random
import weakref
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from fornix.compile import memo as memo_module
from fornix.compile import program
from fornix.compile.cache import ObjectCache
from fornix.compile.memo import Memo, digest
from fornix.compile.notes import dim_of, dim_text
from fornix.compile.readings import Reading
from fornix.compile.traits import Survey, Traits
from fornix.dtype import FLOAT32, INT64
from fornix.errors import FormatError
from fornix.ir.dim import Dim, DimLike, divide, maximum, minimum, symbol, unknown
from fornix.ir.dim.text import MAX_LENGTH
from fornix.ir.types import TensorType
from fornix.runtime import InferenceSession

MODEL = """<ir_version: 8, opset_import: ["" : 18]>
    f (float[N, M] x, int64[2] i) => (float[2, M] y, float[N] s)
    <int64[1] axes = {1}, int64 zero = {0}> {
        g = Gather (x, i)
        e = Exp (g)
        y = Softmax <axis = 0> (e)
        t = ReduceMean <keepdims = 0> (x, axes)
        s = CumSum (t, zero)
    }"""
X = np.arange(12, dtype=np.float32).reshape(4, 3) / 5


@pytest.fixture
def memo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of its own, and as many processes as one asks for."""
    folder = tmp_path / "cache"
    restart(folder, monkeypatch)
    return folder


def restart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a new process knows: nothing but the cache directory."""
    fresh = Memo(ObjectCache(folder))
    monkeypatch.setattr(program, "memo", lambda: fresh)


def run() -> list[np.ndarray]:
    model = parser.parse_model(MODEL)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[1].dim_param = "odd name"
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    assert all(place.kernels for place in session.placement())
    return session.run(None, {"x": X, "i": np.array([2, -4])})


def test_traits_are_kept_whole(tmp_path: Path) -> None:
    reading = Reading(
        2.5, is_in_place=True, channels="same", shift=8,
        is_relaid=True, is_cut=True, passes=3, is_turned=True,
    )  # fmt: skip
    traits = Traits(1.5, True, True, (reading, None), (), True, True, 8)
    assert all(getattr(traits, f.name) != f.default for f in fields(traits))
    assert all(getattr(reading, f.name) != f.default for f in fields(reading))
    known = Memo(ObjectCache(tmp_path))
    known.traits["node"] = traits
    known.keep_traits(["node"])
    later = Memo(ObjectCache(tmp_path))
    later.recall_traits(["node"])
    assert later.traits["node"] == traits


def test_digests_differ_where_keys_do() -> None:
    n = symbol("N", 1)
    keys: list[object] = [
        (), ((),), ("a",), ("a", "b"), ("ab",), (("a",), "b"), (1,), (True,), (1.0,), (b"1",),
        ("1",), (None,), (0.0,), (-0.0,), (n,), (symbol("N"),), (symbol("M", 1),), (n + 1,),
        (TensorType(FLOAT32, (n, 3)),), (TensorType(FLOAT32, (3, n)),),
        (TensorType(INT64, (n, 3)),), (TensorType(FLOAT32),), (unknown("why"),), (unknown("why"),),
    ]  # fmt: skip
    assert len({digest(key) for key in keys}) == len(keys)
    assert digest((TensorType(FLOAT32, (n, 3)), 1)) == digest((TensorType(FLOAT32, (n, 3)), 1))


def test_digests_of_long_lists_differ_where_any_item_does() -> None:
    items: list[object] = [
        1, True, 1.0, "1", b"1", None, 2**70, -1, 0.0, -0.0, 5e-324, "\udc80", "", "1', '1"
    ]  # fmt: skip
    long = [[first] + [other] * 99 for first in items for other in items]
    assert len({digest(key) for key in long}) == len(long)
    assert len({digest(["1"] * n) for n in range(200)}) == 200
    assert digest(tuple(range(100))) == digest([*range(100)])


def test_a_model_that_was_compiled_before_is_not_compiled_again(
    memo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = run()
    assert list(memo.glob("*.o"))
    restart(memo, monkeypatch)

    def refuse(*_: object) -> None:
        raise AssertionError("this was known")

    monkeypatch.setattr(program, "write_all", refuse)
    monkeypatch.setattr(Survey, "traits", refuse)
    for one, other in zip(run(), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["o", "json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "empty"])
def test_damaged_files_are_made_anew(
    memo: Path, monkeypatch: pytest.MonkeyPatch, kind: str, damage: str
) -> None:
    wanted = run()
    for file in memo.glob(f"*.{kind}"):
        content = file.read_bytes()
        if damage == "missing":
            file.unlink()
        elif damage == "cut":
            file.write_bytes(content[:-3])
        elif damage == "changed":
            file.write_bytes(content[:-3] + b"}}}")
        else:
            file.write_bytes(b"")
    for _ in range(2):
        restart(memo, monkeypatch)
        for one, other in zip(run(), wanted, strict=True):
            np.testing.assert_array_equal(one, other)


def test_nothing_is_kept_where_the_cache_is_disabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORNIX_CACHE", "0")
    fresh = Memo(ObjectCache.default())
    monkeypatch.setattr(program, "memo", lambda: fresh)
    run()
    assert fresh.cache.disk.directory is None
    assert list(tmp_path.iterdir()) == []


def test_dims_of_notes_are_read_when_they_are_asked() -> None:
    n, m = symbol("N", 1), symbol("x.shape[0]", 1)
    for d in (7, -2, n, minimum(4 * n * m, 100) + (n + 3) // 4):
        found = dim_of(dim_text(d))
        assert str(found) == dim_text(d)
        values = {"N": 5, "x.shape[0]": 6}
        assert bind(found, values) == bind(d, values)
    many = [symbol(f"boxes of class {k}", 1) for k in range(90)]  # as detectors count and join
    total = sum((minimum(boxes, 400) for boxes in many), start=n)
    assert len(dim_text(total)) > MAX_LENGTH
    counts = {f"boxes of class {k}": 10 * k + 1 for k in range(90)} | {"N": 5}
    assert bind(dim_of(dim_text(total)), counts) == bind(total, counts)
    with pytest.raises(FormatError, match=r"a note of the cache must hold dims, found 'N \+'"):
        bind(dim_of("N +"), {"N": 1})


@pytest.mark.parametrize("seed", range(8))
def test_dims_of_notes_are_what_was_written(seed: int) -> None:
    rng = random.Random(seed)
    symbols = [symbol(name) for name in ("N", "rows of 'x'", "K[]", "M")]

    def drawn(depth: int) -> DimLike:
        kind = rng.randrange(8) if depth else rng.randrange(2)
        if kind < 2:
            return rng.choice(symbols) if kind else rng.randrange(1, 9)
        one, other, number = drawn(depth - 1), drawn(depth - 1), rng.randrange(2, 7)
        made = (
            one + other, one * other, one - other, divide(one, number),
            minimum(one, other), maximum(one, other),
        )  # fmt: skip
        return made[kind - 2]

    for d in (drawn(4) for _ in range(40)):
        found = dim_of(dim_text(d))
        assert found == d
        assert hash(found) == hash(d)


def bind(d: DimLike, values: dict[str, int]) -> DimLike:
    return d.bind(values) if isinstance(d, Dim) else d


@pytest.mark.usefixtures("memo")
def test_what_was_not_used_of_late_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo_module, "MAX_CODES", 3)
    monkeypatch.setattr(memo_module, "MAX_TRAITS", 5)
    wanted = run()
    known, used = program.memo(), list(program.memo().codes)[-1:]
    library = weakref.ref(known.codes[used[0]].kernels[0].owner)
    for number in range(6):
        text = MODEL.replace("Exp (g)", f"Elu <alpha = {number}.5> (g)")
        InferenceSession(parser.parse_model(text))
        known.recall(used)
        with known.in_use():
            pass
    assert len(known.codes) == 3
    assert len(known.traits) == 5
    assert used[0] in known.codes
    assert library() is not None
    known.codes.clear()
    gc.collect()
    assert library() is None
    for one, other in zip(run(), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("memo")
def test_nothing_is_forgotten_while_somebody_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo_module, "MAX_CODES", 0)
    with program.memo().in_use():
        run()
        assert program.memo().codes
    assert not program.memo().codes


def test_a_dim_of_a_note_is_one_like_any_other() -> None:
    n = symbol("N", 0)
    for found in map(dim_of, ("2*N + 1", "3*N + 1")):
        assert isinstance(found, Dim)
        assert not found.variables
    assert dim_of("2*N + 1") == 2 * n + 1
    assert hash(dim_of("3*N + 1")) == hash(3 * n + 1)
