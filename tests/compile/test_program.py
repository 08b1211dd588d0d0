from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.compile import program
from fornix.compile.cache import ObjectCache
from fornix.compile.compiler import Emitted, link_all, write_all
from fornix.compile.memo import Memo
from fornix.compile.target import Target
from fornix.errors import LimitError, NotSupported
from fornix.ir.loops import Tensor
from fornix.ops.call import NotLowered
from fornix.runtime import InferenceSession

TEXT = """<ir_version: 8, opset_import: ["" : 18]>
    f (float[N, 8] x, float[8, 8] w) => (float[N, 8] y) {
        ["first"] a = MatMul (x, w)
        ["second"] b = Relu (a)
        ["third"] c = MatMul (b, w)
        ["fourth"] y = Relu (c)
    }"""


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Memo:
    """What a process knows that has compiled nothing and keeps nothing."""
    memo = Memo(ObjectCache())
    monkeypatch.setattr(program, "memo", lambda: memo)
    return memo


def session() -> InferenceSession:
    return InferenceSession(parser.parse_model(TEXT), providers=["CPUExecutionProvider"])


def refusing(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> list[str]:
    """Let the compiler refuse units called one of ``names``; what it was asked for."""
    asked: list[str] = []

    def picky(written: Sequence[Emitted], name: str, *rest: Any) -> Any:
        asked.append(name)
        if name in names:
            raise NotSupported(f"{name} has no code")
        return link_all(written, name, *rest)

    monkeypatch.setattr(program, "link_all", picky)
    return asked


def check(found: InferenceSession) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((5, 8), (8, 8)))
    wanted = np.maximum(np.maximum(x @ w, 0) @ w, 0)
    (y,) = found.run(None, {"x": x, "w": w})
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)


def test_units_alike_are_compiled_once(fresh: Memo, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = refusing(monkeypatch, [])
    check(session())
    assert asked == ["MatMul+Relu"]
    assert len(fresh.codes) == 1
    check(session())
    assert asked == ["MatMul+Relu"]


@pytest.mark.usefixtures("fresh")
def test_a_unit_that_is_refused_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = refusing(monkeypatch, ["MatMul+Relu"])
    found = session()
    assert asked == ["MatMul+Relu", "MatMul", "Relu"]
    first = [place.kernels[0].partition(".")[0] for place in found.placement()]
    assert first == ["MatMul", "Relu"] * 2
    check(found)


@pytest.mark.usefixtures("fresh")
def test_a_node_that_is_refused_alone_runs_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, ["MatMul+Relu", "MatMul"])
    found = session()
    places = {place.node: (place.kernels, place.reason) for place in found.placement()}
    assert places["first"] == places["third"] == ((), "MatMul has no code")
    assert places["second"] == places["fourth"] == (("Relu",), "")
    check(found)


@pytest.mark.usefixtures("fresh")
def test_a_unit_that_cannot_be_written_is_taken_apart_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(outputs: Sequence[Tensor], target: Target) -> list[Emitted]:
        if len(written) < 2:
            written.append(outputs)
            raise NotSupported("nobody writes this")
        return write_all(outputs, target)

    written: list[object] = []
    monkeypatch.setattr(program, "write_all", write)
    found = session()
    assert [place.reason for place in found.placement()] == [
        "nobody writes this",
        "",
        "nobody writes this",
        "",
    ]
    check(found)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("error", "severity"),
    [
        (NotLowered("it goes wrong"), logging.DEBUG),
        (NotSupported("it goes wrong"), logging.DEBUG),
        (LimitError("it goes wrong"), logging.WARNING),
        (RecursionError("it goes wrong"), logging.WARNING),
        (KeyError("it goes wrong"), logging.WARNING),
    ],
)
def test_a_stage_that_goes_wrong_is_told_and_one_that_does_not_serve_a_unit_is_not(
    error: Exception,
    severity: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def write(outputs: Sequence[Tensor], target: Target) -> list[Emitted]:
        if not raised:
            raised.append(error)
            raise error
        return write_all(outputs, target)

    raised: list[Exception] = []
    monkeypatch.setattr(program, "write_all", write)
    with caplog.at_level(logging.DEBUG, "fornix.compile.program"):
        check(session())
    (said,) = [r for r in caplog.records if "refused" in r.message]
    assert said.levelno == severity
    assert said.message.endswith(f"refused: {type(error).__name__}: {error}")
    assert "(Relu)" in said.message
