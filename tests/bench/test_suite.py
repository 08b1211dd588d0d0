from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.hotspots import numpy_times
from bench.micro import means
from bench.models import MODELS, build
from bench.suite import page
from bench.workloads import ONE, STEPS, WORKLOADS, Workload
from fornix.cli.contest import Settings, Timing, Turn
from fornix.cli.machine import machine


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_workload_has_a_model_and_feeds(workload: Workload) -> None:
    ready = workload.ready("torchscript", "small")
    assert workload.aim >= workload.at_least
    assert all(isinstance(feed, np.ndarray) for feed in ready.task.feeds.values())
    assert ready.expected is None or list(ready.expected) == list(ready.task.outputs)


def test_steps_grow_the_cache() -> None:
    (workload,) = (x for x in WORKLOADS if x.name.startswith("GPT-2 step"))
    task = workload.ready("torchscript", "small").task
    assert task.chain is not None
    assert task.chain["steps"] == STEPS
    assert task.chain["back"]["present_1_value"] == "past_1_value"
    assert set(task.chain["back"].values()) == set(task.feeds) - {"input_ids", "attention_mask"}


def entry(engine: str, seconds: float, **more: Any) -> dict[str, Any]:
    timing = Timing([Turn([seconds], seconds, 0.0)])
    return {"engine": engine, "latency": timing.document(), "difference": None, **more}


def test_the_page_has_a_row_for_each_number_of_threads() -> None:
    peer = entry("onnxruntime", 0.004, ratio=2.0, ratio_of_minima=2.0)
    broken = {"engine": "torch", "error": "a | b", "missing": False}
    case = {"ratio": 2.0, "engines": [entry("fornix", 0.002), peer, broken]}
    row = {
        "name": "steps", "at_least": 1.0, "aim": 1.5, "bytes": 10_000_000,
        "loads": {"fornix": {"warm": {"create": 0.01, "create_again": 0.001, "peak_bytes": 10**8}}},
        "cases": [{"threads": 1, **case}, {"threads": 2, **case}],
    }  # fmt: skip
    lines = list(page([row], machine(), Settings(), "dynamo"))
    found = [line for line in lines if line.startswith("| steps | 1")]
    cells = "| steps | 1 | 2 | 4 |  |  | **2.00** | 1 | 1.5 | 2.00 |  | 0% |"
    assert found == [f"{cells} torch: a / b; 5.0 GB/s of weights |"]
    assert sum(line.startswith("| steps | 2 ") for line in lines) == 1
    assert lines[-1] == "| steps |  |  | 10 |  | 1 |  |  | 100 |  |"


def test_families_are_told_by_geometric_mean_and_least() -> None:
    ratios = (("f", 0.5), ("f", 2.0), ("g", None))
    rows: list[dict[str, Any]] = [{"family": name, "ratio": ratio} for name, ratio in ratios]
    assert means(rows) == [["f", "1.00", "0.50"]]


def test_hotspots_account_for_every_operator() -> None:
    built = build("wavenet", "torchscript", "small")
    total, shares = numpy_times(str(built.path), built.inputs[ONE], 1)
    assert {"Conv", "Tanh", "Sigmoid"} <= set(shares)
    assert total == pytest.approx(sum(shares.values()))
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_every_model_is_measured() -> None:
    built = {Path(w.ready("torchscript", "small").task.model).parent.name for w in WORKLOADS}
    for name in MODELS:
        assert any(entry.startswith(f"{name}-small") for entry in built), name
