"""Options by onnxruntime's names, beside onnxruntime's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as peer
import pytest

from fornix import onnxruntime as ort
from fornix.errors import (
    FornixWarning,
)
from tests.onnxruntime.both import BOTH


def test_options_start_as_they_do_in_onnxruntime() -> None:
    theirs = peer.SessionOptions()
    names = [name for name in dir(theirs) if not name.startswith("_")]
    plain = [name for name in names if not callable(getattr(theirs, name))]
    ours = ort.SessionOptions()
    plain.remove("use_per_session_threads")  # workers are shared unless a session wants its own
    for name in plain:
        mine, wanted = getattr(ours, name), getattr(theirs, name)
        assert (mine, str(mine)) == (
            int(wanted) if hasattr(wanted, "value") else wanted,
            str(wanted),
        )
    assert not [name for name in names if not hasattr(ours, name)]
    with pytest.raises(AttributeError):
        ours.intra_op_threads = 1


WRONG_VALUES: list[tuple[str, object]] = [
    ("intra_op_num_threads", "4"), ("intra_op_num_threads", 1.5), ("intra_op_num_threads", None),
    ("log_severity_level", []), ("enable_profiling", "yes"), ("enable_mem_pattern", {}),
    ("optimized_model_filepath", 3), ("logid", None), ("execution_mode", 7),
    ("graph_optimization_level", 50), ("graph_optimization_level", 1.5),
]  # fmt: skip


@pytest.mark.parametrize(("option", "value"), WRONG_VALUES)
def test_options_refuse_values_of_another_type_as_in_onnxruntime(option: str, value: Any) -> None:
    for package in BOTH:
        with pytest.raises(TypeError):
            setattr(package.SessionOptions(), option, value)
    with pytest.raises(TypeError, match=rf"{option}: .* is required, found"):
        setattr(ort.SessionOptions(), option, value)


def test_options_take_what_means_a_value_of_their_type() -> None:
    for package in BOTH:
        options = package.SessionOptions()
        options.intra_op_num_threads = np.int64(3)
        options.enable_profiling = 0
        options.logid = b"mine"
        options.execution_mode = package.ExecutionMode.ORT_PARALLEL
        assert (options.intra_op_num_threads, options.logid) == (3, "mine")
        assert options.enable_profiling is False
        assert options.execution_mode == package.ExecutionMode.ORT_PARALLEL
    options = ort.SessionOptions()
    options.graph_optimization_level = 1
    assert options.graph_optimization_level is ort.GraphOptimizationLevel.ORT_ENABLE_BASIC


@pytest.mark.parametrize("name", ["GraphOptimizationLevel", "ExecutionMode", "ExecutionOrder",
    "OrtAllocatorType", "OrtMemType", "OrtSparseFormat", "OrtDeviceMemoryType",
    "OrtMemoryInfoDeviceType", "OrtHardwareDeviceType", "OrtExecutionProviderDevicePolicy",
    "OrtCompileApiFlags", "OrtDeviceVendorId"])  # fmt: skip
def test_enumerations_have_the_numbers_of_onnxruntimes(name: str) -> None:
    def members(package: Any) -> object:
        return {
            key: (int(value), str(value), value.name)
            for key, value in getattr(package, name).__members__.items()
        }

    assert members(ort) == members(peer)


@pytest.mark.parametrize("package", BOTH)
@pytest.mark.parametrize("key", ["", "x" * 1025])
def test_a_key_is_neither_empty_nor_endless(package: Any, key: str) -> None:
    with pytest.raises(RuntimeError, match=r"[Kk]ey"):
        package.SessionOptions().add_session_config_entry(key, "1")
    with pytest.raises(RuntimeError, match="has 1 to 1024 characters, found"):
        ort.RunOptions().add_run_config_entry(key, "1")


def test_threads_that_cannot_be_bound_to_processors_warn() -> None:
    with pytest.warns(FornixWarning, match="'session.intra_op_thread_affinities' has no meaning"):
        ort.SessionOptions().add_session_config_entry("session.intra_op_thread_affinities", "1;2")


def test_entries_that_mean_nothing_warn_by_name_and_are_kept() -> None:
    options = ort.SessionOptions()
    with pytest.warns(FornixWarning, match=r"config entry 'session\.colour' has no meaning here"):
        options.add_session_config_entry("session.colour", "red")
    assert options.get_session_config_entry("session.colour") == "red"
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # about speed alone
    with pytest.raises(RuntimeError, match=r"have configuration with key: session\.x"):
        options.get_session_config_entry("session.x")
    with pytest.raises(TypeError, match="a config entry has two texts"):
        options.add_session_config_entry("session.colour", 1)  # type: ignore[arg-type]
    run = ort.RunOptions()
    run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    assert run.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "cpu:0"
    with pytest.raises(RuntimeError, match="RunOptions: config entry 'x' must be set"):
        run.get_run_config_entry("x")
