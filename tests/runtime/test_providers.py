from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from fornix.errors import FornixWarning, InvalidArgument, NotSupported
from fornix.infer import Inference
from fornix.ir.graph import Node, Value
from fornix.ir.load import from_message
from fornix.runtime import InferenceSession, SessionOptions
from fornix.runtime.providers import (
    Part,
    Placement,
    Provider,
    Run,
    Step,
    may_warn,
    no_machine_code,
)

CHAIN = """<ir_version: 8, opset_import: ["" : 18]>
    f (float[N, 3] x, float[N, 3] z) => (float[N, 3] y) {
        ["a"] a = Mul (x, x)
        ["b"] b = Add (a, z)
        ["c"] c = Exp (b)
        ["d"] y = Add (c, a)
    }"""
X = np.arange(6, dtype=np.float32).reshape(2, 3) / 7
WANTED = np.exp(X * X + X) + X * X


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "chain.onnx"
    target.write_bytes(parser.parse_model(CHAIN).SerializeToString())
    return target


class Adder(Provider):
    """Runs additions on a device of its own, which is slow and remembers what it did."""

    name = "AdderExecutionProvider"

    def __init__(self) -> None:
        self.additions = 0

    def takes(self, node: Node, inference: Inference) -> bool:
        return node.op_type == "Add" and inference.fact(node.output).has_rank

    def compile(self, part: Part) -> Sequence[Step]:
        return [Addition(self, node) for node in part.nodes]


class Addition(Step):
    def __init__(self, provider: Adder, node: Node) -> None:
        self.provider, self.node = provider, node
        self.reads = tuple(value for value in node.inputs if value is not None)
        self.writes = node.outputs

    def run(self, values: dict[Value, Any], run: Run) -> None:
        left, right = (values[value] for value in self.reads)
        assert left.shape[0] == run.extents["N"]
        self.provider.additions += left.size
        values[self.node.output] = left + right

    def placements(self) -> Iterator[Placement]:
        yield Placement(self.node.name, "Add", "", ("adder",), "")


def session(*providers: Any, options: SessionOptions | None = None) -> InferenceSession:
    return InferenceSession(parser.parse_model(CHAIN), options, providers=providers)


def test_a_provider_takes_the_nodes_it_wants_and_leaves_the_rest_to_the_next() -> None:
    adder = Adder()
    for rest in ("CPUExecutionProvider", "ReferenceExecutionProvider"):
        adder.additions = 0
        runner = session(adder, rest)
        assert runner.get_providers() == ["AdderExecutionProvider", rest]
        for _ in range(2):
            (y,) = runner.run(None, {"x": X, "z": X})
            np.testing.assert_allclose(y, WANTED, rtol=1e-6)
        assert adder.additions == 24
        assert [(p.node, p.provider) for p in runner.placement()] == [
            ("a", rest),
            ("b", adder.name),
            ("c", rest),
            ("d", adder.name),
        ]


def test_a_node_that_nobody_takes_is_named() -> None:
    with pytest.raises(NotSupported, match=r"node 'a' \(Mul\): a provider must take it, none of"):
        session(Adder())


def test_compiled_code_and_the_reference_compute_the_same() -> None:
    compiled = session("CPUExecutionProvider").run(None, {"x": X, "z": X})[0]
    reference = session("ReferenceExecutionProvider").run(None, {"x": X, "z": X})[0]
    np.testing.assert_allclose(compiled, reference, rtol=1e-6)


def test_placement_names_kernels_and_reasons() -> None:
    places = session("CPUExecutionProvider").placement()
    assert [place.op_type for place in places if not place.kernels] == []
    assert {place.provider for place in places} == {"CPUExecutionProvider"}
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (string[N] x, float[N] z) => (string[N] y, float[N] w) {
            ["text"] y = Identity (x)
            ["number"] w = Neg (z)
        }"""
    runner = InferenceSession(parser.parse_model(text), providers=["CPUExecutionProvider"])
    found = {place.node: place for place in runner.placement()}
    assert found["number"].kernels == ("Neg",)
    assert found["number"].reason == ""
    assert found["text"].kernels == ()
    assert found["text"].reason == "loops hold tensors of numbers and bools, 'x' is string[N]"


def test_the_reference_runs_kernels_only() -> None:
    places = session("ReferenceExecutionProvider").placement()
    assert {(place.kernels, place.reason) for place in places} == {
        ((), "the reference runs NumPy kernels")
    }


def test_a_fallback_can_be_forbidden() -> None:
    options = SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session("CPUExecutionProvider", options=options)
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 2] x) => (float[M, 2] y) { ["found"] y = Unique <axis = 0> (x) }"""
    with pytest.raises(NotSupported, match=r"node 'found' \(Unique\): with session\.disable"):
        InferenceSession(parser.parse_model(text), options, providers=["CPUExecutionProvider"])


def test_plain_sums_can_be_asked_for() -> None:
    rng = np.random.default_rng(0)
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[1, 64, 12, 12] x) => (float[1, 64, 12, 12] y) {
            y = Conv <pads = [1, 1, 1, 1]> (x, w)
        }"""
    model = parser.parse_model(text)
    weights = rng.standard_normal((64, 64, 3, 3), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    feeds = {"x": rng.standard_normal((1, 64, 12, 12), np.float32)}
    strict = SessionOptions()
    strict.add_session_config_entry("fornix.strict_accuracy", "1")
    sessions = [InferenceSession(model, options) for options in (SessionOptions(), strict)]
    (exact,) = InferenceSession(model, providers=["ReferenceExecutionProvider"]).run(None, feeds)
    errors = [np.abs(s.run(None, feeds)[0] - exact).max() / np.abs(exact).max() for s in sessions]
    assert errors[1] < 2e-6 < errors[0] < 2e-5


def test_a_list_of_providers_that_is_empty_stands_for_the_default() -> None:
    assert session().get_providers() == InferenceSession(parser.parse_model(CHAIN)).get_providers()


def test_providers_have_names_and_stand_once() -> None:
    with pytest.raises(InvalidArgument, match=r"a provider has a name, found .'CPUExecutionProvid"):
        session(["CPUExecutionProvider", {}])
    with pytest.warns(FornixWarning, match="provider 'CPUExecutionProvider' is named twice"):
        session("CPUExecutionProvider", "CPUExecutionProvider")


def test_options_are_checked() -> None:
    with pytest.raises(InvalidArgument, match="graph_optimization_level must be one of none, bas"):
        session("CPUExecutionProvider", options=SessionOptions(graph_optimization_level="much"))
    with pytest.raises(InvalidArgument, match="intra_op_num_threads must be up to 4096, found 409"):
        session("CPUExecutionProvider", options=SessionOptions(intra_op_num_threads=4097))
    assert SessionOptions(intra_op_num_threads=-1).threads == SessionOptions().threads
    options = SessionOptions()
    with pytest.warns(FornixWarning, match=r"entry 'session\.unheard_of' has no meaning here"):
        options.add_session_config_entry("session.unheard_of", "1")
    with pytest.raises(InvalidArgument, match=r"config entry 'session\.x' must be set, it is not"):
        options.get_session_config_entry("session.x")


@pytest.mark.parametrize("level", [None, 0, 1, 2, 99, "none", "all"])
def test_every_level_computes_the_same(level: int | str | None) -> None:
    options = SessionOptions(graph_optimization_level=level)
    for provider in ("CPUExecutionProvider", "ReferenceExecutionProvider"):
        (y,) = session(provider, options=options).run(None, {"x": X, "z": X})
        np.testing.assert_allclose(y, WANTED, rtol=1e-6)


def absence(monkeypatch: pytest.MonkeyPatch, where: str, error: Exception) -> str:
    """The reason of a session's placements where nothing can be compiled."""

    def fail() -> None:
        raise error

    no_machine_code.cache_clear()
    monkeypatch.setenv("FORNIX_CACHE", "0")  # what has been compiled before runs nevertheless
    monkeypatch.setattr(where, staticmethod(fail))
    with pytest.warns(FornixWarning, match="run on NumPy kernels, which is many times") as warned:
        runners = [InferenceSession(parser.parse_model(CHAIN)) for _ in range(2)]
    monkeypatch.undo()
    no_machine_code.cache_clear()
    assert len(warned) == 1
    np.testing.assert_allclose(runners[1].run(None, {"x": X, "z": X})[0], WANTED, rtol=1e-6)
    return runners[1].placement()[0].reason


def test_a_processor_that_llvm_does_not_know_runs_numpy_kernels_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unknown = RuntimeError("no features are known of this processor")
    reason = absence(monkeypatch, "fornix.compile.target.Target.host", unknown)
    assert reason == "nothing can be compiled: no features are known of this processor"


def test_without_llvmlite_sessions_run_numpy_kernels_and_say_so_once(path: Path) -> None:
    code = (
        "import sys, warnings; sys.modules['llvmlite'] = None; warnings.simplefilter('always');"
        "import fornix; s = fornix.InferenceSession(sys.argv[1]);"
        "fornix.InferenceSession(sys.argv[1]); print(s.placement()[0].kernels)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
    )
    assert done.stdout == "()\n"
    assert done.stderr.count("try pip install --force-reinstall llvmlite") == 1


@pytest.mark.parametrize(("kind", "warns"), [("string", False), ("float", True)])
def test_numpy_warns_of_numbers_that_may_be_missing_and_of_no_texts(kind: str, warns: bool) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
        f (optional({kind}) o) => ({kind} y) {{ y = OptionalGetElement (o) }}"""
    [node] = from_message(parser.parse_model(text)).graph.nodes
    assert may_warn(node) is warns
    has = text.replace("OptionalGetElement", "OptionalHasElement").replace(
        f"({kind} y)", "(bool y)"
    )
    [node] = from_message(parser.parse_model(has)).graph.nodes
    assert may_warn(node) is warns
