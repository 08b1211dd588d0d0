"""What all tests share: no network, no telemetry, fixed seeds."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import none

from tests import oracles

gc.set_threshold(10_000)  # sessions make a hundred thousand objects each, most of which are kept

LOOPBACK = ("127.0.0.1", "::1", "localhost")

# Programs that a test starts see the same sources, from whatever folder.
os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent / "src")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
# Machine code that tests make stays out of the user's cache, and serves the next run of the tests.
os.environ.setdefault("FORNIX_CACHE", str(Path(tempfile.gettempdir()) / "fornix-tests-cache"))
# Sessions compile here, whatever this process has loaded; tests of the other process ask for it.
os.environ["FORNIX_WORKSHOP"] = "0"

# By default every run tries the same examples; `--hypothesis-profile=search` looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("search", deadline=None, max_examples=5000)
settings.load_profile("fixed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden")


@given(none())
def draw(_nothing: None) -> None:
    """Have Hypothesis make its generator, which it must find among objects that are collected."""


def pytest_collection_finish() -> None:
    draw()  # from Python 3.14 on, what holds the generator would be frozen before it
    gc.collect()
    gc.freeze()  # the tests themselves: each collection would go through all of them again


@pytest.fixture
def uncollected() -> Iterator[None]:
    """What others left in cycles is gone, and nothing goes so while references are counted."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and address[0] not in LOOPBACK:
        pytest.fail(f"a test tried to reach {address}")


sys.addaudithook(refuse_network)
oracles.install()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
