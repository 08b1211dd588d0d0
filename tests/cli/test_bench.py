from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.cli import contest, worker
from fornix.cli.bench import task_of, tell_case, tell_loads
from fornix.cli.console import Page
from fornix.cli.contest import (
    Place,
    Seat,
    Settings,
    Table,
    Task,
    Timing,
    Turn,
    best_ratio,
    difference,
    largest_difference,
    ratio,
    written,
)
from fornix.cli.machine import machine, machine_text
from tests.cli.command import call, model, rename_dims, save

ADD = '<ir_version: 10, opset_import: ["": 21]> main (float[N] x) => (float[N] y) { y = Add(x, x) }'


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "TURN", 0.001)
    monkeypatch.setattr(contest, "MIN_TURNS", 2)


def task(folder: Path, text: str = ADD, **more: Any) -> Task:
    return Task(str(save(folder, text)), {"x": np.ones(3, np.float32)}, ["y"], **more)


def test_engines_are_measured_side_by_side(tmp_path: Path) -> None:
    path = save(tmp_path, ADD)
    arguments = ("--vs", "onnxruntime", "--seconds", 0, "--no-load", "--dim", "N=4", "--json")
    outcome = call("bench", path, *arguments)
    assert outcome.code == 0, outcome.err
    (case,) = outcome.json["cases"]
    assert (case["threads"], case["batch"], case["inputs"]) == (1, None, {"x": ["float32", [4]]})
    own, peer = case["engines"]
    assert (own["engine"], peer["engine"]) == ("fornix", "onnxruntime")
    assert 0 < own["latency"]["min"] <= own["latency"]["median"] <= own["latency"]["p90"]
    assert peer["ratio"] == pytest.approx(peer["latency"]["median"] / own["latency"]["median"])
    assert (own["difference"], peer["difference"]) == (None, 0)
    assert case["ratio"] == peer["ratio"]
    assert outcome.json["machine"]["cores"] >= 1
    assert "loads" not in outcome.json


@pytest.mark.slow
def test_the_table_tells_how_it_was_measured(tmp_path: Path) -> None:
    outcome = call("bench", save(tmp_path, ADD), "--seconds", 0, "--no-load", "--batch", "2")
    first, header, row, *rest = outcome.out.splitlines()
    assert first == "1 thread, x: float32[2]"
    assert header.split()[:3] == ["engine", "version", "median"]
    assert row.startswith("fornix ")
    assert rest[-2].startswith("machine: ")
    assert rest[-1].startswith("how: each engine in a process of its own")


def test_torch_needs_a_program(tmp_path: Path) -> None:
    with (
        Seat("torch", 1) as seat,
        pytest.raises(contest.EngineError, match=r"does not read ONNX; .* torch=FILE.pt2"),
    ):
        seat.load(task(tmp_path), "unused")


def test_what_an_engine_cannot_do_is_told_in_its_row(tmp_path: Path) -> None:
    text = ADD.replace("Add(x, x)", "Nonsense(x)")
    outcome = call("bench", save(tmp_path, text), "--seconds", 0, "--no-load", "--json")
    assert outcome.code == 0
    (entry,) = outcome.json["cases"][0]["engines"]
    assert "Nonsense" in entry["error"]
    assert entry["missing"] is False


def test_an_error_is_told_by_the_first_line_that_says_what_it_is() -> None:
    error = RuntimeError("Exception from core.cpp:132:\n\nCheck failed at f.cpp:12:\nno Nonsense\n")
    assert worker.told(error) == {"error": "RuntimeError: no Nonsense", "missing": False}
    assert worker.told(ValueError("of values:"))["error"] == "ValueError: of values:"


def test_an_engine_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "openvino.py").write_text("raise ModuleNotFoundError('openvino')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))
    settings = Settings(["openvino"], seconds=0)
    with Table(settings, Place(paths=[str(tmp_path / "hidden")])) as table:
        (entry,) = table.measure(task(tmp_path))
    assert entry["missing"] is True


def test_where_nothing_runs_the_dims_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"engine": "fornix", "error": "Fail: why", "missing": False}
    inputs = {"mask": ["int64", [1, 1]]}
    tell_case({"threads": 1, "inputs": inputs, "engines": [failed], "ratio": None}, Page())
    assert "named dims are 1 where neither --dim nor --batch" in capsys.readouterr().out


def test_loads_are_told_also_without_fornix(capsys: pytest.CaptureFixture[str]) -> None:
    load = dict.fromkeys(["import", "create", "first_run", "create_again"], 0.5)
    warm = {"warm": {**load, "peak_bytes": None}}
    with_ratio = {**warm, "create_ratio": 1.25}
    tell_loads({"loads": {"onnxruntime": warm}, "loads_threads": 1}, Page())
    assert "onnxruntime" in capsys.readouterr().out
    tell_loads({"loads": {"onnxruntime": with_ratio}, "loads_threads": 2}, Page())
    assert "1.25" in capsys.readouterr().out


@pytest.mark.slow
def test_loading_is_measured_in_fresh_processes(tmp_path: Path) -> None:
    outcome = call("bench", save(tmp_path, ADD), "--seconds", 0, "--json")
    kinds = outcome.json["loads"]["fornix"]
    for kind in ("cold", "warm"):
        assert kinds[kind]["import"] > kinds[kind]["create_again"] > 0
    assert kinds["create_ratio"] == 1
    assert "loading in a fresh process" in call("bench", save(tmp_path, ADD), "--seconds", 0).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--vs", "tensorrt"],
            "--vs: engines (onnxruntime, openvino, torch=FILE.pt2) are required",
        ),
        (["--vs", "openvino=x"], ", found 'openvino=x'"),
        (["--threads", "0"], "--threads: numbers above 0 are required, found '0'"),
        (["--batch", "1,x"], "--batch: numbers above 0 are required, found '1,x'"),
    ],
)
def test_wrong_options_are_told(tmp_path: Path, arguments: list[str], message: str) -> None:
    outcome = call("bench", save(tmp_path, ADD), *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_batch_needs_one_named_dim(tmp_path: Path) -> None:
    path = model(tmp_path, "(float[N] a, float[M] b) => (float[N] y)", "y = Identity(a)")
    outcome = call("bench", path, "--batch", "2")
    assert outcome.err == (
        "fornix: --batch: inputs whose first axis is one named dim are required, found M, N; "
        "use --dim\n"
    )
    path = model(tmp_path, "(float[2] a) => (float[2] y)", "y = Identity(a)")
    assert "found none; use --dim" in call("bench", path, "--batch", "2").err


def test_feeds_must_be_tensors(tmp_path: Path) -> None:
    path = model(tmp_path, "(seq(float[N]) x) => (float[M] y)", "y = ConcatFromSequence<axis=0>(x)")
    outcome = call("bench", path, "-i", "[[1, 2], [3]]")
    assert outcome.err == "fornix: input 'x': bench needs tensors, found list\n"


def test_dims_of_the_command_line_hold_for_feeds(tmp_path: Path) -> None:
    path = model(tmp_path, "(float[N, P] x) => (float[N, P] y)")
    rename_dims(path, {"P": "2*N"})
    found = task_of(str(path), None, 3, [], [])
    assert (found.feeds["x"].shape, found.outputs) == ((3, 6), ["y"])


def timing(*turns: list[float]) -> Timing:
    return Timing([Turn(runs, sum(runs), 0.0) for runs in turns])


def test_the_ratio_is_of_medians_and_its_quartiles_of_turns() -> None:
    own = timing([1.0, 1.0, 3.0], [1.0], [2.0])
    peer = timing([2.0], [2.0], [2.0])
    assert ratio(peer, own) == (2.0, 1.5, 2.0)


def test_the_best_peer_decides() -> None:
    assert best_ratio([{}, {"ratio": 1.5}, {"ratio": 0.5}]) == 0.5
    assert best_ratio([{}]) is None


def test_outliers_are_counted() -> None:
    told = timing([1.0, 1.0, 1.0, 1.6]).document()
    assert (told["median"], told["outliers"], told["runs"], told["turns"]) == (1.0, 1, 4, 1)


def test_a_turn_is_disturbed_by_more_than_the_clock_can_err() -> None:
    assert not Turn([], 0.1, 0.02).is_disturbed
    assert Turn([], 0.1, 0.03).is_disturbed


@pytest.mark.parametrize(
    ("actual", "expected", "gap"),
    [
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([0.0, 1.0], [np.nan, 1.0], 1.0),
        ([np.inf, 1.0], [0.0, 1.0], 1.0),
        ([0.5], [0.0], 0.5),
        ([1.0], [1.0, 2.0], 1.0),
        ([], [], 0.0),
    ],
)
def test_difference_is_relative_to_the_largest(
    actual: list[float], expected: list[float], gap: float
) -> None:
    assert difference(np.array(actual), np.array(expected)) == gap


def test_labels_differ_or_not() -> None:
    assert difference(np.array(["a"]), np.array(["a"])) == 0
    found = {"x": np.array([1]), "y": np.array([2.0])}
    assert largest_difference(found, {"x": np.array([2]), "y": np.array([2.0])}) == 1


@pytest.mark.parametrize(
    "array",
    [
        np.array(["ä", "bc"], dtype=object),
        np.array([1.5, -2], ml_dtypes.bfloat16),
        np.zeros((0, 2), np.int64),
        np.array(3.0),
    ],
)
def test_feeds_reach_the_worker_as_they_are(array: np.ndarray) -> None:
    with written({"a/b@c": array}) as path:
        job = {"feeds": path, "inputs": {"a/b@c": array.dtype.name}}
        found = worker.read_feeds(job)["a/b@c"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert np.array_equal(found, array)


def test_lists_and_maps_become_arrays() -> None:
    maps = [{"no": 0.25, "yes": 0.75}]
    assert worker.plain("p", maps)["p"].tolist() == [[0.25, 0.75]]
    assert list(worker.plain("s", [np.ones(1), np.ones(2)])) == ["s/0", "s/1"]
    assert worker.plain("t", np.array(["ä"], dtype=object))["t"].dtype == "<U1"
    assert worker.plain("b", np.ones(1, ml_dtypes.bfloat16))["b"].dtype == np.float32


class Doubler(worker.Engine):
    def __init__(self) -> None:
        super().__init__(1)
        self.seen: list[tuple[int, int]] = []

    def bind(self, feeds: worker.Feeds) -> worker.Run:
        self.seen.append((int(feeds["past"]), feeds["mask"].shape[-1]))
        return lambda: [np.zeros(1), feeds["past"] * 2]


def test_a_chain_feeds_outputs_back_and_begins_anew() -> None:
    how = {"back": {"present": "past"}, "grow": ["mask"], "steps": 3}
    engine = Doubler()
    chain = worker.Chain(
        engine, {"past": np.array(1), "mask": np.ones((1, 2))}, ["y", "present"], how
    )
    for _ in range(4):
        chain()
    assert engine.seen == [(1, 2), (2, 3), (4, 4), (1, 2)]


@pytest.fixture
def seat() -> Iterator[Seat]:
    with Seat("fornix", 1) as found:
        yield found


def test_a_worker_that_ends_is_told(seat: Seat) -> None:
    seat.process.kill()
    seat.process.wait()
    with pytest.raises(contest.EngineError, match="the process ended with code"):
        seat.open()


def test_peak_memory_grows_with_what_is_held() -> None:
    before = worker.peak_memory()
    held = np.ones(2**23)
    after = worker.peak_memory()
    assert held.sum() > 0
    if before is not None and after is not None:
        assert after >= before


def test_the_machine_is_told() -> None:
    told = machine()
    assert json.loads(json.dumps(told)) == told
    assert f"Python {sys.version.split()[0]}" in machine_text(told)
