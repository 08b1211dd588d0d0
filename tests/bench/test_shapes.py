from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import fornix
from bench.operators import make
from bench.shapes import FAMILIES, Case

LARGE, HEAVY = 2e8, 1e6
"""Operations, and elements of weights or inputs, above which a case is for measuring only."""

CASES = [
    pytest.param(case, id=f"{family} {case.name}")
    for family, cases in FAMILIES.items()
    for case in cases()
    if case.flops < LARGE
    and max(map(prod, (*case.inputs.values(), *case.weights.values()))) < HEAVY
]


def results(case: Case, folder: Path) -> list[np.ndarray]:
    path, feeds = case.write(folder), case.feeds()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    peer = onnxruntime.InferenceSession(path, options).run(case.outputs, feeds)[0]
    call = make(case.torch, path, dict(case.attributes))
    with torch.inference_mode():
        other = call(*(torch.from_numpy(feed) for feed in feeds.values())).numpy()
    return [peer, other]


@pytest.mark.parametrize("case", CASES)
def test_peers_compute_the_same(case: Case, tmp_path: Path) -> None:
    onnx_says, torch_says = results(case, tmp_path)
    np.testing.assert_allclose(onnx_says, torch_says, rtol=0, atol=1e-5 * np.abs(torch_says).max())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_compiled_code_computes_the_same(case: Case, tmp_path: Path) -> None:
    truth = results(case, tmp_path)[0]
    session = fornix.InferenceSession(case.write(tmp_path), providers=["CPUExecutionProvider"])
    found = session.run(list(case.outputs), case.feeds())[0]
    np.testing.assert_allclose(found, truth, rtol=0, atol=2e-5 * np.abs(truth).max())


def test_names_of_cases_differ() -> None:
    for cases in FAMILIES.values():
        names = [case.name for case in cases()]
        assert len(set(names)) == len(names)
