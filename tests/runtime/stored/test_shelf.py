from __future__ import annotations

import gc
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from onnx import helper, parser

from fornix.compile.identity import processor
from fornix.errors import Fail, FormatError, InvalidArgument, ShapeError
from fornix.format.messages import ModelProto, own
from fornix.ir.files import load
from fornix.ir.load import from_message
from fornix.reference import source
from fornix.runtime import InferenceSession, SessionOptions
from fornix.runtime.native import NativeStep
from fornix.runtime.stored import kept
from fornix.system import is_mappable

MODEL = """<ir_version: 8, opset_import: ["" : 18], producer_name: "tests">
    f (float[N, 4] x) => (float[N, 2] y, float[N] s)
    <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[2] b = {10, 20}, int64[1] axes = {1}> {
        p = MatMul (x, w)
        q = Add (p, b)
        y = Relu (q)
        s = ReduceSum <keepdims = 0> (y, axes)
    }"""
X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5

pytestmark = pytest.mark.skipif(
    not (is_mappable() and processor()), reason="programs are kept on Linux"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which another process has kept the program of `MODEL`."""
    folder = tmp_path_factory.mktemp("made")
    model = folder / "model.onnx"
    model.write_bytes(parser.parse_model(MODEL).SerializeToString())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORNIX_CACHE", str(folder / "cache"))
        elsewhere(model)
    assert len(list((folder / "cache").glob("*.plan"))) == 1
    return folder / "cache"


@pytest.fixture
def cache(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that cache."""
    folder = tmp_path / "cache"
    shutil.copytree(made, folder)
    monkeypatch.setenv("FORNIX_CACHE", str(folder))
    kept._OPEN.clear()
    return folder


@pytest.fixture
def path(tmp_path: Path, cache: Path) -> Path:
    """The model whose program is kept."""
    target = tmp_path / "model.onnx"
    target.write_bytes(parser.parse_model(MODEL).SerializeToString())
    return target


def elsewhere(path: Path, rows: int = 3) -> list[str]:
    """What a process of its own says of a session and its results."""
    code = f"""
import sys, numpy as np, fornix
session = fornix.InferenceSession(sys.argv[1])
results = session.run(None, {{"x": np.arange({rows * 4}, dtype=np.float32).reshape(-1, 4) - 5}})
left_out = ("llvmlite", "fornix.ops", "fornix.passes", "fornix.ir.loops")
print(*(name for name in left_out if name in sys.modules))
print(*(result.tobytes().hex() for result in results))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def fresh(text: str) -> InferenceSession:
    """A session of its own making: models in the IR have no place on the shelf."""
    return InferenceSession(from_message(own(parser.parse_model(text), ModelProto)))


def is_recalled(session: InferenceSession) -> bool:
    return session._programs is not None and session._programs.is_recalled


def test_the_next_process_compiles_nothing_and_answers_the_same_bits(path: Path) -> None:
    loaded, results = elsewhere(path)
    assert not loaded
    wanted = fresh(MODEL).run(None, {"x": X})
    assert results.split() == [array.tobytes().hex() for array in wanted]


def test_random_numbers_of_numpy_are_imported_by_who_draws(path: Path) -> None:
    elsewhere(path)
    code = """
import sys, numpy
before = {*sys.modules}
import fornix
fornix.InferenceSession(sys.argv[1])
print("numpy.random" in {*sys.modules} - before)
"""
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


RESIZED = """<ir_version: 8, opset_import: ["" : 7]>
    f (float[N, 4] x) => (float[M, 8] y) {
        y = Upsample <mode = "nearest", scales = [1.5, 2.0]> (x)
    }"""


def test_other_extents_that_rules_are_asked_of_are_looked_into_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORNIX_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "resized.onnx"
    path.write_bytes(parser.parse_model(RESIZED).SerializeToString())
    elsewhere(path)
    assert elsewhere(path, rows=5)[0] == "llvmlite fornix.ops fornix.passes fornix.ir.loops"
    assert not elsewhere(path, rows=5)[0]


FOLDED = """<ir_version: 8, opset_import: ["" : 18]>
    f (float[N, 4] x) => (float[A, 8] y) <int64[2] shape = {-1, 8}> {
        y = Reshape (x, shape)
    }"""


def test_extents_that_agree_need_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORNIX_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "folded.onnx"
    path.write_bytes(parser.parse_model(FOLDED).SerializeToString())
    elsewhere(path, rows=2)
    loaded, result = elsewhere(path, rows=6)
    assert not loaded
    assert result == (np.arange(24, dtype=np.float32) - 5).tobytes().hex()
    session = InferenceSession(path)
    with pytest.raises(ShapeError, match="12 elements"):
        session.run(None, {"x": X})


def test_extents_of_zero_have_a_program_of_their_own(path: Path) -> None:
    assert not elsewhere(path, rows=5)[0]
    session = InferenceSession(path)
    assert session.run(["s"], {"x": X})[0].shape == (3,)
    assert is_recalled(session)
    assert session.run(["s"], {"x": X[:0]})[0].shape == (0,)
    assert session.run(["s"], {"x": X})[0].shape == (3,)
    assert is_recalled(session)


def test_a_recalled_session_shows_what_the_model_says(path: Path) -> None:
    session, whole = InferenceSession(path), fresh(MODEL)
    assert is_recalled(session)
    assert session.get_inputs() == whole.get_inputs()
    assert session.get_outputs() == whole.get_outputs()
    with pytest.raises(InvalidArgument, match=r"its outputs are y, s\), found 'z'"):
        session.run(["z"], {"x": X})
    assert is_recalled(session)
    assert session.get_modelmeta().producer_name == "tests"
    np.testing.assert_array_equal(
        session.run(["p"], {"x": X})[0], X @ [[1, 2], [3, 4], [5, 6], [7, 8]]
    )
    assert [place.kernels for place in session.placement()] == [
        place.kernels for place in whole.placement()
    ]
    copy = pickle.loads(pickle.dumps(session))
    np.testing.assert_array_equal(copy.run(["y"], {"x": X})[0], whole.run(["y"], {"x": X})[0])


def test_a_recalled_session_knows_nodes_when_it_is_profiled(path: Path) -> None:
    session = InferenceSession(path)
    assert is_recalled(session)
    found = session.profile({"x": X}, repeats=1)
    assert {node.op_type for entry in found.entries for node in entry.nodes} >= {"Relu"}


def test_a_file_that_changed_meanwhile_is_another_model(path: Path) -> None:
    session = InferenceSession(path)
    path.write_bytes(parser.parse_model(MODEL.replace("10, 20", "30, 40")).SerializeToString())
    assert session.run(["y"], {"x": X})[0][0, 0] == 0.0
    with pytest.raises(Fail, match=r"model\.onnx: the file must stay as it is while sessions use"):
        session.run(["p"], {"x": X})
    other = InferenceSession(path)
    assert not is_recalled(other)
    assert other.run(["y"], {"x": X})[0][2, 1] == X[2] @ [2, 4, 6, 8] + 40


@pytest.mark.parametrize("damage", ["cut", "changed", "open to others"])
def test_a_file_that_is_not_as_it_was_written_is_not_used(
    path: Path, cache: Path, damage: str
) -> None:
    (plan,) = cache.glob("*.plan")
    content = plan.read_bytes()
    if damage == "open to others":
        cache.chmod(0o777)
    elif damage == "cut":
        plan.write_bytes(content[:-1])
    else:
        plan.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    session = InferenceSession(path)
    assert not is_recalled(session)
    np.testing.assert_array_equal(session.run(["s"], {"x": X})[0].shape, (3,))


def test_options_and_providers_tell_programs_apart(path: Path) -> None:
    basic = SessionOptions(graph_optimization_level="basic")
    body = path.read_bytes()
    for model in (body, bytearray(body), memoryview(body), parser.parse_model(MODEL)):
        assert is_recalled(InferenceSession(model))
    assert is_recalled(InferenceSession(path, SessionOptions(intra_op_num_threads=1)))
    assert not is_recalled(InferenceSession(path, basic))
    both = ["CPUExecutionProvider", "ReferenceExecutionProvider"]
    assert not is_recalled(InferenceSession(path, providers=both))


def test_without_a_cache_nothing_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORNIX_CACHE", "0")
    assert not is_recalled(InferenceSession(path))


def large(path: Path) -> Path:
    """A model whose weights stay in its file, some packed and some read in every run."""
    stream = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(stream.standard_normal(shape, np.float32), name)
        for name, shape in (("m", (256, 256)), ("t", (300, 256)))
    ]
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
        f (int64[N] x) => (float[N, 256] y) { e = Gather (t, x) y = MatMul (e, m) }""")
    model.graph.initializer.extend(weights)
    onnx.save(model, path)
    return path


def fed(count: int = 3) -> dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    return {"x": np.arange(count)}


def test_weights_are_read_where_they_lie_in_the_model(cache: Path, tmp_path: Path) -> None:
    path = large(tmp_path / "large.onnx")
    old = set(cache.glob("*.plan"))
    code = "import sys, numpy, fornix; s = fornix.InferenceSession(sys.argv[1]); "
    code += "s.run(None, {'x': numpy.arange(3)})"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    wanted = InferenceSession(load(path)).run(None, fed())[0]
    (plan,) = set(cache.glob("*.plan")) - old
    assert plan.stat().st_size < path.stat().st_size / 4
    session = InferenceSession(path)
    for recalled in (session, InferenceSession(path), InferenceSession(path.read_bytes())):
        assert is_recalled(recalled)
        np.testing.assert_array_equal(recalled.run(None, fed())[0], wanted)
    path.write_bytes(path.read_bytes())
    with pytest.raises(FormatError, match=r"large\.onnx: the file must stay as it is"):
        session.run(None, fed())
    fresh = InferenceSession(path)  # the same bytes, of another time
    assert is_recalled(fresh)
    np.testing.assert_array_equal(fresh.run(None, fed())[0], wanted)


def test_packed_weights_go_with_the_programs_that_read_them(path: Path) -> None:
    first, second = InferenceSession(path), InferenceSession(path)
    shelf = first._shelf
    assert shelf is not None
    assert shelf._kept is not None
    (data,) = shelf._kept._data
    assert data() is not None
    for programs in (first._programs, second._programs):
        assert programs is not None
        assert isinstance(programs.general.steps[0], NativeStep)
        assert programs.general.steps[0].data is data()
        assert programs.whole.steps
    gc.collect()
    assert data() is None


def test_a_program_is_not_kept_for_a_file_that_was_replaced_before_it_was_read(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "model.onnx", tmp_path / "other.onnx"
    path.write_bytes(parser.parse_model(MODEL.replace("10, 20", "5, 5")).SerializeToString())
    other.write_bytes(parser.parse_model(MODEL.replace("10, 20", "6, 6")).SerializeToString())
    plans = set(cache.glob("*.plan"))
    read = source.as_model

    def replaced(*given: Any, **named: Any) -> Any:
        other.replace(path)
        return read(*given, **named)

    monkeypatch.setattr(source, "as_model", replaced)
    InferenceSession(path)
    assert set(cache.glob("*.plan")) == plans


def test_large_tables_are_kept_with_the_program(cache: Path, tmp_path: Path) -> None:
    trees = 6000  # more than notes of single units hold
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=[tree for tree in range(trees) for _ in range(3)],
        nodes_nodeids=[0, 1, 2] * trees, nodes_featureids=[0] * 3 * trees,
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * trees,
        nodes_values=[v for tree in range(trees) for v in (tree + 0.5, 0.0, 0.0)],
        nodes_truenodeids=[1, 0, 0] * trees, nodes_falsenodeids=[2, 0, 0] * trees,
        target_treeids=[tree for tree in range(trees) for _ in range(2)],
        target_nodeids=[1, 2] * trees, target_ids=[0] * 2 * trees,
        target_weights=[0.0, 1.0] * trees,
    )  # fmt: skip
    x, y = (helper.make_tensor_value_info(name, 1, [3, 1]) for name in "xy")
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    graph = helper.make_graph([node], "trees", [x], [y])
    target = tmp_path / "trees.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), target)
    code = "import sys, fornix; print(fornix.InferenceSession(sys.argv[1]).placement()[0].kernels)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("('TreeEnsembleRegressor")
    assert len(list(cache.glob("*.plan"))) == 2
    session = InferenceSession(target)
    assert is_recalled(session)
    (found,) = session.run(None, {"x": np.array([[0], [70], [1e9]], np.float32)})
    np.testing.assert_array_equal(found, [[0], [70], [trees]])
