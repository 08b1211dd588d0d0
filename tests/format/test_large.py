"""What the weights of a large model cost: no copy of them, wherever they lie."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fornix.format.messages import ModelProto, TensorProto
from tests.format.bytes import varint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's smaps"),
]

TENSORS, EACH = 200, 10_000_000  # 2 GB
MEASURE = """
import json, sys, time
import fornix

def anonymous():
    with open("/proc/self/smaps") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024

fornix.load  # imported on first use
before, start = anonymous(), time.process_time()
model = fornix.load(sys.argv[1])
arrays = [value.constant.numpy() for value in model.graph.initializers.values()]
seconds = time.process_time() - start
held = sum(array.nbytes for array in arrays)
touched = sum(float(array[::1024].sum()) for array in arrays)
if len(sys.argv) > 2:
    fornix.save(model, sys.argv[2])
json.dump({"seconds": seconds, "megabytes": anonymous() - before, "held": held}, sys.stdout)
"""


def tensor(index: int) -> TensorProto:
    return TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[EACH // 4])


def inside(path: Path, count: int = TENSORS) -> None:
    """A model whose payloads, holes in the file, lie between its messages."""
    heads = []
    for index in range(count):
        content = tensor(index).SerializeToString() + b"\x4a" + varint(EACH)
        heads.append(b"\x2a" + varint(len(content) + EACH) + content)
    graph = sum(len(head) for head in heads) + count * EACH
    with path.open("wb") as stream:
        stream.write(ModelProto(ir_version=10).SerializeToString() + b"\x3a" + varint(graph))
        for head in heads:
            stream.write(head)
            stream.seek(EACH, os.SEEK_CUR)
        stream.truncate(stream.tell())


def beside(path: Path) -> None:
    """A model whose payloads lie in one external file, a hole."""
    model = ModelProto(ir_version=10)
    for index in range(TENSORS):
        made = tensor(index)
        made.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "w.data"), ("offset", index * EACH), ("length", EACH)):
            made.external_data.add(key=key, value=str(value))
        model.graph.initializer.append(made)
    path.write_bytes(model.SerializeToString())
    with (path.parent / "w.data").open("wb") as stream:
        stream.truncate(TENSORS * EACH)


def measure(*paths: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, paths)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("write", [inside, beside])
def test_2_gb_of_weights_load_without_being_copied(tmp_path: Path, write: object) -> None:
    path = tmp_path / "m.onnx"
    assert callable(write)
    write(path)
    found = measure(path)
    assert found["held"] == TENSORS * EACH
    assert found["seconds"] < 0.5
    assert found["megabytes"] < 64


def test_a_file_above_2_gib_is_saved_again_without_being_copied(tmp_path: Path) -> None:
    path, again = tmp_path / "m.onnx", tmp_path / "again.onnx"
    count = 2**31 // EACH + 1
    inside(path, count)
    found = measure(path, again)
    assert found["held"] == count * EACH > 2**31
    assert found["megabytes"] < 64
    with path.open("rb") as one, again.open("rb") as other:
        while part := one.read(1 << 24):
            assert part == other.read(1 << 24)
        assert not other.read(1)
