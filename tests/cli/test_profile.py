from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fornix.cli.profile import MAX_ROWS, reason_of, tell_profile
from fornix.compile import peak
from tests.cli.command import call, save

MODEL = """<ir_version: 8, opset_import: ["" : 18]>
f (float[N, 64] x, float[64, 70] w) => (float[N, 70] y, float[N, K] z) {
    ["first"] p = MatMul (x, w)
    ["second"] q = MatMul (x, w2)
    ["third"] y = Add (p, q)
    ["where"] z = Unique <axis = 1> (y)
}""".replace("float[64, 70] w)", "float[64, 70] w, float[64, 70] w2)")


@pytest.fixture(autouse=True)
def _small_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "BLOCK_BYTES", 1 << 20)


def test_the_table_has_a_row_for_kernels_alike_and_says_why_numpy_runs(tmp_path: Path) -> None:
    path = save(tmp_path, MODEL)
    outcome = call("run", path, "--random", 0, "--profile", "--threads", 1, "--repeats", 2)
    assert outcome.code == 0, outcome.err
    assert "GFLOP/s" in outcome.out
    assert "contraction" in outcome.out
    assert "Unique runs in NumPy: an extent of 'z' is known at run time only" in outcome.out
    assert "median of 2" in outcome.out
    assert "measured by chains of multiply-add" in outcome.out


def test_long_tables_are_cut_unless_all_is_asked_for(tmp_path: Path) -> None:
    # Cumulative sums have kernels of their own, here each of another shape.
    ends = ", ".join(f"float[{k}] x{k}" for k in range(2, 32))
    outs = ", ".join(f"float[{k}] y{k}" for k in range(2, 32))
    nodes = "\n".join(f"y{k} = CumSum (x{k}, a)" for k in range(2, 32))
    imports = '<ir_version: 8, opset_import: ["" : 18]>'
    path = save(tmp_path, f"{imports} f ({ends}) => ({outs}) <int64 a = {{0}}> {{ {nodes} }}")
    command = ("run", path, "--random", 0, "--profile", "--threads", 1, "--repeats", 1)
    short, full = call(*command).out, call(*command, "--all").out
    assert short.count("CumSum") == 24
    assert re.search(r"… and \d+ more, .* --all shows them", short)
    assert full.count("CumSum") >= 30


def test_json_and_trace_hold_every_kernel(tmp_path: Path) -> None:
    path, file = save(tmp_path, MODEL), tmp_path / "trace.json"
    command = ("run", path, "--random", 0, "--dim", "N=3", "--trace", file, "--repeats", 2)
    told = call(*command, "--threads", 1, "--json").json["profile"]
    assert set(told) == {
        "threads", "repeats", "seconds", "least_seconds", "kernel_seconds", "numpy_seconds",
        "operations", "peak", "kernels", "bodies",
    }  # fmt: skip
    assert told["operations"] == 2 * 2 * 3 * 64 * 70 + 3 * 70
    assert told["repeats"] == 2
    assert 0 < told["kernel_seconds"] <= told["seconds"]
    assert told["least_seconds"] <= told["seconds"]
    names = {name for kernel in told["kernels"] for name in kernel["nodes"]}
    assert {"second", "where"} <= names
    trace = json.loads(file.read_text())
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(events) == 2 * (1 + len(told["kernels"]))
    runs = [event for event in events if event["cat"] == "run"]
    inside = [event for event in events if event["cat"] != "run"]
    for event in inside:
        assert {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"} == set(event)
        assert any(r["ts"] <= event["ts"] <= r["ts"] + r["dur"] for r in runs)
    assert {"GB/s", "GFLOP/s", "nodes"} <= set(inside[0]["args"]) | {"GFLOP/s"}
    assert trace["otherData"]["threads"] == 1


def test_runs_without_a_profile_say_so(tmp_path: Path) -> None:
    path = save(tmp_path, MODEL)
    assert call("run", path, "--random", 0, "--json").json["profile"] is None


def test_what_has_no_kernel_says_where_it_runs() -> None:
    told = {"name": "Loop", "kind": "bodies", "reason": "why"}
    drives = "drives its bodies, which are compiled where shapes repeat"
    assert reason_of(told) == ("Loop", drives, "why")
    assert reason_of({**told, "kind": "numpy"}) == ("Loop", "runs in NumPy", "why")


LOOP = """<ir_version: 8, opset_import: ["" : 18]> f (float[2, 64] x) => (float[2, 64] y) {
    n = Constant <value_int = 5> () t = Constant <value = bool {1}> ()
    ["steps"] y = Loop <body = b (int64 i, bool go, float[2, 64] s) => (bool on, float[2, 64] r) {
        on = Identity (go)  r = Tanh (s) }> (n, t, x)
}"""


def test_rows_of_bodies_that_are_left_out_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    same = {"path": ["steps"], "kind": "map", "types": [], "operations": 0, "bytes": 8}
    kernels = [
        {**same, "name": f"k{n}", "seconds": 0.001, "reason": ""} for n in range(MAX_ROWS + 2)
    ]
    rates = ("operations_per_second", "read_bytes_per_second", "copied_bytes_per_second")
    peak = dict.fromkeys(rates, 1e9)
    told = {"kernels": kernels[:1], "bodies": kernels, "peak": peak, "threads": 1, "repeats": 1}
    seconds = ("seconds", "least_seconds", "kernel_seconds", "numpy_seconds", "operations")
    tell_profile(told | dict.fromkeys(seconds, 0.026), None, everything=False)
    assert "… and 2 more, 2 ms in all; --all shows them" in capsys.readouterr().out


def test_what_runs_in_bodies_is_told_apart(tmp_path: Path) -> None:
    path, file = save(tmp_path, LOOP), tmp_path / "trace.json"
    command = ("run", path, "--random", 0, "--profile", "--threads", 1, "--repeats", 1)
    table = call(*command, "--trace", file).out
    assert "in bodies, in one more run; part of the time of the nodes around them:" in table
    assert re.search(r"  5 +steps/Tanh ", table)
    shares = re.findall(r"(\d+\.\d)%", table.partition("in bodies")[2])
    assert sum(map(float, shares)) == pytest.approx(100, abs=0.05 * len(shares))
    assert "in 1 kernel;" in table
    events = json.loads(file.read_text("utf-8"))["traceEvents"]
    assert [event["name"] for event in events].count("steps/Tanh") == 5
    told = call(*command, "--json").json["profile"]
    (inside,) = [kernel for kernel in told["bodies"] if kernel["name"] == "Tanh"]
    assert (inside["path"], inside["times"], inside["bytes"]) == (["steps"], 5, 5 * 2 * 2 * 64 * 4)
    assert {kernel["name"] for kernel in told["kernels"]} == {"Loop"}
