"""Single kernels beside onnxruntime: ``python -m bench.kernels [--threads 1] [NAME …]``.

Each case is a small model in text; its nodes are compiled as one group. Both engines run in this
process, one thread, in turns, on bound memory; medians in microseconds, and their ratio. The peer
includes some 6 µs of calling overhead, so small kernels flatter us.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import click
import numpy as np
import onnx.parser
import onnxruntime

from fornix.compile import CompiledKernel, ObjectCache, Target, compile_stores
from fornix.compile.kernel import KERNEL
from fornix.compile.lower import Lowering
from fornix.compile.units import CompiledUnit
from fornix.format.messages import own
from fornix.infer import infer_model
from fornix.ir.dim import Dim, DimLike
from fornix.ir.graph import Node
from fornix.ir.load import from_message
from fornix.ir.loops import Buffer, Constant
from fornix.runtime.sizing.extents import bound_symbols

REPETITIONS, TARGET_SECONDS = 15, 0.006


@dataclass(frozen=True)
class Case:
    """A model, its feeds by shape (integers: their exclusive bound), its stored weights."""

    name: str
    text: str
    feeds: Mapping[str, tuple[int, ...]]
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    indices: Mapping[str, int] = field(default_factory=dict)


def _f(shape: str, name: str = "x") -> str:
    return f"float[{shape}] {name}"


GELU = "y = Gelu (x)"
EIGHT = """a = Add (x, b) m = Mul (a, c) r = Relu (m) s = Sub (r, x) q = Mul (s, s) t = Add (q, c)
    u = Relu (t) y = Sqrt (u)"""
CASES = [
    Case("gelu", f"({_f('128,3072')}) => (float y) {{ {GELU} }}", {"x": (128, 3072)}),
    Case(
        "gelu-tanh",
        f'({_f("128,3072")}) => (float y) {{ y = Gelu <approximate="tanh"> (x) }}',
        {"x": (128, 3072)},
    ),
    Case("sigmoid", f"({_f('128,3072')}) => (float y) {{ y = Sigmoid (x) }}", {"x": (128, 3072)}),
    Case("relu", f"({_f('128,3072')}) => (float y) {{ y = Relu (x) }}", {"x": (128, 3072)}),
    Case(
        "softmax", f"({_f('12,128,128')}) => (float y) {{ y = Softmax (x) }}", {"x": (12, 128, 128)}
    ),
    Case(
        "softmax-symbolic",
        f"({_f('A,N,N')}) => (float y) {{ y = Softmax (x) }}",
        {"x": (12, 128, 128)},
    ),
    Case("softmax-1003", f"({_f('A,N')}) => (float y) {{ y = Softmax (x) }}", {"x": (37, 1003)}),
    Case(
        "softmax-axis1",
        f"({_f('4,21,4096')}) => (float y) {{ y = Softmax <axis = 1> (x) }}",
        {"x": (4, 21, 4096)},
    ),
    Case(
        "layernorm",
        f"({_f('128,768')}, float[768] s, float[768] b) => (float y)"
        " { y = LayerNormalization (x, s, b) }",
        {"x": (128, 768), "s": (768,), "b": (768,)},
    ),
    Case(
        "layernorm-4096",
        f"({_f('A,4096')}, float[4096] s, float[4096] b) => (float y)"
        " { y = LayerNormalization (x, s, b) }",
        {"x": (32, 4096), "s": (4096,), "b": (4096,)},
    ),
    Case(
        "reduce-mean-last",
        f"({_f('512,1024')}) => (float y) {{ y = ReduceMean <axes = [1]> (x) }}",
        {"x": (512, 1024)},
    ),
    Case(
        "reduce-sum-first",
        f"({_f('512,1024')}) => (float y) {{ y = ReduceMax <axes = [0]> (x) }}",
        {"x": (512, 1024)},
    ),
    Case(
        "global-pool",
        f"({_f('1,512,14,14')}) => (float y) {{ y = GlobalAveragePool (x) }}",
        {"x": (1, 512, 14, 14)},
    ),
    Case(
        "transpose-0213",
        f"({_f('1,128,12,64')}) => (float y) {{ y = Transpose <perm = [0, 2, 1, 3]> (x) }}",
        {"x": (1, 128, 12, 64)},
    ),
    Case(
        "transpose-2d",
        f"({_f('512,768')}) => (float y) {{ y = Transpose (x) }}",
        {"x": (512, 768)},
    ),
    Case(
        "eight-ops",
        f"({_f('1048576')}, {_f('1048576', 'b')}, {_f('1048576', 'c')}) => (float y) {{ {EIGHT} }}",
        {"x": (1 << 20,), "b": (1 << 20,), "c": (1 << 20,)},
    ),
    Case(
        "concat-add",
        f"({_f('1,64,56,56')}, {_f('1,32,56,56', 'b')}, {_f('1,96,56,56', 'c')}) => (float y)"
        " { t = Concat <axis = 1> (x, b) y = Add (t, c) }",
        {"x": (1, 64, 56, 56), "b": (1, 32, 56, 56), "c": (1, 96, 56, 56)},
    ),
    Case(
        "gather",
        "(int64[128] x) => (float y) { y = Gather (t, x) }",
        {"x": (128,)},
        {"t": (30522, 768)},
        {"x": 30522},
    ),
    Case(
        "max-pool",
        f"({_f('1,64,112,112')}) => (float y) {{ y = MaxPool <kernel_shape = [3, 3],"
        " strides = [2, 2], pads = [1, 1, 1, 1]> (x) }",
        {"x": (1, 64, 112, 112)},
    ),
    Case(
        "matmul",
        f"({_f('128,768')}) => (float y) {{ y = MatMul (x, w) }}",
        {"x": (128, 768)},
        {"w": (768, 3072)},
    ),
    Case(
        "matmul-gelu",
        f"({_f('128,768')}) => (float y) {{ t = MatMul (x, w) u = Add (t, b) y = Gelu (u) }}",
        {"x": (128, 768)},
        {"w": (768, 3072), "b": (3072,)},
    ),
    Case(
        "matmul-symbolic",
        f"({_f('A,768')}) => (float y) {{ t = MatMul (x, w) u = Add (t, b) y = Gelu (u) }}",
        {"x": (128, 768)},
        {"w": (768, 3072), "b": (3072,)},
    ),
    Case(
        "matmul-run-time",
        f"({_f('128,768')}, {_f('768,3072', 'w')}) => (float y) {{ y = MatMul (x, w) }}",
        {"x": (128, 768), "w": (768, 3072)},
    ),
    Case(
        "matmul-1",
        f"({_f('1,768')}) => (float y) {{ y = MatMul (x, w) }}",
        {"x": (1, 768)},
        {"w": (768, 3072)},
    ),
    Case(
        "matmul-odd",
        f"({_f('77,333')}) => (float y) {{ y = MatMul (x, w) }}",
        {"x": (77, 333)},
        {"w": (333, 191)},
    ),
    Case(
        "gemm-transposed",
        f"({_f('128,768')}) => (float y) {{ y = Gemm <transB = 1> (x, w, b) }}",
        {"x": (128, 768)},
        {"w": (768, 768), "b": (768,)},
    ),
    Case(
        "scores",
        f"({_f('12,128,64')}, {_f('12,128,64', 'k')}) => (float y)"
        " { t = Transpose <perm = [0, 2, 1]> (k) y = MatMul (x, t) }",
        {"x": (12, 128, 64), "k": (12, 128, 64)},
    ),
    Case(
        "conv-3x3",
        f"({_f('1,64,56,56')}) => (float y) {{ y = Conv <pads = [1, 1, 1, 1]> (x, w) }}",
        {"x": (1, 64, 56, 56)},
        {"w": (64, 64, 3, 3)},
    ),
    Case(
        "conv-1x1",
        f"({_f('1,256,56,56')}) => (float y) {{ y = Conv (x, w) }}",
        {"x": (1, 256, 56, 56)},
        {"w": (64, 256, 1, 1)},
    ),
    Case(
        "conv-depthwise",
        f"({_f('1,96,112,112')}) => (float y)"
        " { y = Conv <group = 96, pads = [1, 1, 1, 1]> (x, w) }",
        {"x": (1, 96, 112, 112)},
        {"w": (96, 1, 3, 3)},
    ),
    Case(
        "conv-stem",
        f"({_f('1,3,224,224')}) => (float y)"
        " { y = Conv <pads = [3, 3, 3, 3], strides = [2, 2]> (x, w) }",
        {"x": (1, 3, 224, 224)},
        {"w": (64, 3, 7, 7)},
    ),
]


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy of ``array`` that begins at a line of the cache."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    first = -memory.ctypes.data % 64
    result = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


def data(shape: tuple[int, ...], seed: int, bound: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if bound is not None:
        return aligned(rng.integers(0, bound, shape))
    return aligned(rng.standard_normal(shape).astype(np.float32))


def model_of(case: Case) -> onnx.ModelProto:
    text = f'<ir_version: 10, opset_import: ["" : {17 if "axes" in case.text else 20}]> g '
    model = onnx.parser.parse_model(text + case.text)
    for k, (name, shape) in enumerate(case.weights.items()):
        model.graph.initializer.append(onnx.numpy_helper.from_array(data(shape, 100 + k), name))
    return model


def feeds_of(case: Case) -> dict[str, np.ndarray]:
    return {
        name: data(shape, k, case.indices.get(name))
        for k, (name, shape) in enumerate(case.feeds.items())
    }


def peer(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> tuple[Callable, np.ndarray]:
    """A run of onnxruntime with one thread on bound memory, and its answer."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (wanted,) = session.run(None, dict(feeds))
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    result = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(wanted.shape), np.float32)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, result)
    return lambda: session.run_with_iobinding(binding), wanted


@dataclass
class Ours:
    """The compiled kernels of a model with their memory."""

    kernels: list[CompiledKernel]
    calls: list[Callable[[], object]]
    result: np.ndarray
    milliseconds: float
    kept: list[object]

    def __call__(self) -> None:
        for call in self.calls:
            call()


def ours(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> Ours:
    loaded = from_message(own(model))
    graph = loaded.graph
    symbols = bound_symbols(graph.inputs)
    extents = {n: feeds[v.name or ""].shape[axis] for n, (v, axis) in symbols.items()}
    nodes: tuple[Node, ...] = tuple(graph.nodes)
    inputs = tuple({v: None for n in nodes for v in n.inputs if v and v.producer not in nodes})
    unit = CompiledUnit(nodes, inputs, tuple(graph.outputs))
    begin = time.perf_counter()
    lowered = Lowering(infer_model(loaded), symbols).unit(unit)
    kernels = compile_stores(lowered.outputs, "bench", Target.host(), ObjectCache())
    milliseconds = 1e3 * (time.perf_counter() - begin)
    memory: dict[Buffer, np.ndarray] = {}
    for kernel in kernels:
        for buffer in kernel.arguments:
            if isinstance(buffer.source, Constant):
                memory[buffer] = aligned(buffer.source.array)
            elif buffer.source is None:
                memory[buffer] = feeds[buffer.name]
            elif buffer not in memory:
                size = whole(buffer.elements, extents)
                memory[buffer] = aligned(np.zeros(size, buffer.dtype.numpy))
    kept: list[object] = [memory]
    calls = []
    for kernel in kernels:
        call = bound_call(kernel, memory, extents, kept)
        if kernel.is_constant:
            call()
        else:
            calls.append(call)
    (output,) = lowered.results
    return Ours(kernels, calls, memory[output].reshape(shape), milliseconds, kept)


def whole(d: DimLike, extents: Mapping[str, int]) -> int:
    return int(str(d.bind(dict(extents)) if isinstance(d, Dim) else d))


def bound_call(
    kernel: CompiledKernel,
    memory: Mapping[Buffer, np.ndarray],
    extents: Mapping[str, int],
    kept: list[object],
) -> Callable[[], object]:
    pointers = [memory[b].ctypes.data for b in kernel.arguments]
    args = (ctypes.c_void_p * len(pointers))(*pointers)
    syms = (ctypes.c_int64 * (len(kernel.symbols) + 1))(*[extents[s] for s in kernel.symbols])
    scratch = aligned(np.zeros(whole(kernel.scratch, extents) + 64, np.uint8))
    kept += [args, syms, scratch]
    function = KERNEL(kernel.address)
    places = ctypes.addressof(args), ctypes.addressof(syms), scratch.ctypes.data
    return lambda: function(*places, 0, 1)


def interleaved(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The median time of each run in microseconds, taken in turns."""
    turns: dict[str, int] = {}
    for name, run in runs.items():
        for _ in range(3):
            run()
        begin = time.perf_counter()
        run()
        turns[name] = max(1, int(TARGET_SECONDS / max(time.perf_counter() - begin, 1e-7)))
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPETITIONS):
        for name, run in runs.items():
            run()
            begin = time.perf_counter()
            for _ in range(turns[name]):
                run()
            found[name].append((time.perf_counter() - begin) / turns[name])
    return {name: 1e6 * statistics.median(times) for name, times in found.items()}


def rows(names: tuple[str, ...]) -> Iterator[str]:
    for case in CASES:
        if names and not any(name in case.name for name in names):
            continue
        model, feeds = model_of(case), feeds_of(case)
        other, wanted = peer(model, feeds)
        mine = ours(model, feeds, wanted.shape)
        mine()
        error = float(np.abs(mine.result - wanted).max() / max(1.0, np.abs(wanted).max()))
        times = interleaved({"peer": other, "fornix": mine})
        kinds = "+".join(k.schedule for k in mine.kernels)
        yield (
            f"{case.name:18} {times['peer']:9.1f} {times['fornix']:9.1f} "
            f"{times['peer'] / times['fornix']:6.2f} {error:9.1e} {mine.milliseconds:7.1f} {kinds}"
        )


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Time the kernels whose names contain one of NAMES, or all."""
    print(f"{'kernel':18} {'ORT µs':>9} {'fornix':>9} {'ratio':>6} {'error':>9} {'make ms':>7}")
    for row in rows(names):
        print(row, flush=True)


if __name__ == "__main__":
    main()
