"""Operations and bytes, against the formulas of the literature."""

from __future__ import annotations

import pytest
from onnx import parser

from fornix.compile.kernel import CompiledKernel
from fornix.compile.notes import code_of, note_of
from fornix.compile.program import Compiled, compile_nodes
from fornix.compile.target import Target
from fornix.compile.units import NativeUnit
from fornix.compile.work import OPERATIONS_OF
from fornix.infer import infer_model
from fornix.ir.load import from_message
from fornix.runtime.sizing.extents import bound_symbols, name_extents

HEAD = '<ir_version: 11, opset_import: ["" : 23, "com.microsoft" : 1]>\n'


def compiled(text: str) -> Compiled:
    model = from_message(parser.parse_model(HEAD + text))
    name_extents(model, {})
    graph = model.graph
    symbols = frozenset(bound_symbols(graph.inputs))
    return compile_nodes(
        list(graph.nodes), set(graph.outputs), infer_model(model), symbols, Target.host()
    )


def kernels(text: str) -> list[CompiledKernel]:
    units = compiled(text).units
    return [k for unit in units if isinstance(unit, NativeUnit) for k in unit.code.kernels]


def totals(text: str, **extents: int) -> tuple[int, int, int]:
    """Operations of all kernels, bytes that the last one reads and writes."""
    found = kernels(text)
    last = found[-1].work
    operations = sum(number(kernel.work.operations, **extents) for kernel in found)
    return operations, number(last.read, **extents), number(last.written, **extents)


def number(d: object, **extents: int) -> int:
    bound = d.bind(extents) if hasattr(d, "bind") else d
    assert isinstance(bound, int)
    return bound


@pytest.mark.parametrize(("m", "k", "n"), [(5, 7, 9), (40, 64, 100), (1, 33, 50)])
def test_a_matrix_product_is_two_operations_per_term(m: int, k: int, n: int) -> None:
    text = f"f (float[{m}, {k}] a, float[{k}, {n}] b) => (float[{m}, {n}] y) {{ y = MatMul(a, b) }}"
    operations, _, written = totals(text)
    assert operations == 2 * m * k * n
    assert written == 4 * m * n


def test_symbols_stay_symbols() -> None:
    text = "f (float[N, 64] a, float[64, M] b) => (float[N, M] y) { y = MatMul(a, b) }"
    for n, m in [(3, 5), (17, 130)]:
        assert totals(text, N=n, M=m)[0] == 2 * n * m * 64


def test_a_convolution_counts_every_tap_and_its_epilogue() -> None:
    text = """f (float[2, 6, 9, 9] x, float[8, 3, 3, 3] w, float[8] b) => (float[2, 8, 9, 9] y) {
        c = Conv <pads = [1, 1, 1, 1], group = 2> (x, w, b)
        y = Relu (c)
    }"""
    outputs = 2 * 8 * 9 * 9
    operations, _, written = totals(text)
    assert operations == outputs * (2 * 3 * 3 * 3 + 1 + 1)  # taps, bias, maximum
    assert written == 4 * outputs


def test_what_a_row_shares_is_computed_once() -> None:
    text = "f (float[10, 100] x) => (float[10, 100] y) { y = Softmax(x) }"
    operations, read, written = totals(text)
    # Maximum and sum over a row; difference and exp for both; quotient, or a product with 1 / sum.
    each = 3 + OPERATIONS_OF["exp"]
    least, most = each + 1, each + OPERATIONS_OF["div"]
    assert 10 * 100 * least <= operations <= 10 * 100 * most + 10 * 2
    assert read == written == 4000


@pytest.mark.parametrize("rows", [3, 20])
def test_scores_of_heads_that_lie_side_by_side_count_for_their_head_alone(rows: int) -> None:
    keys, heads, size = 30, 4, 16
    text = f"""f (float[1, {rows}, {heads * size}] q, float[1, {keys}, {heads * size}] k,
                  float[1, {keys}, {heads * size}] v) => (float[1, {rows}, {heads * size}] y) {{
        y = com.microsoft.MultiHeadAttention <num_heads = {heads}> (q, k, v)
    }}"""
    scores = heads * rows * keys
    products = 2 * 2 * scores * size
    around = scores * (4 + OPERATIONS_OF["exp"] + OPERATIONS_OF["div"])
    assert products <= totals(text)[0] <= 2 * (products + around)


def test_a_gather_reads_rows_and_not_the_table() -> None:
    text = "f (float[1000, 8] t, int64[3] i) => (float[3, 8] y) { y = Gather(t, i) }"
    operations, read, written = totals(text)
    assert operations == 0
    assert read == 3 * 8 * 4 + 3 * 8
    assert written == 3 * 8 * 4


def test_memory_counts_once_however_often_it_is_read() -> None:
    text = "f (float[64] x) => (float[64, 64] y) { a = Unsqueeze(x, k) y = Mul(a, x) }"
    text = text.replace(") {", ") <int64[1] k = {1}> {")
    assert totals(text)[1:] == (64 * 4, 64 * 64 * 4)


@pytest.mark.parametrize(
    "call",
    [
        "y, k2, v2 = Attention (q, k, v, , k1, v1)",
        """t = Reshape (q, flat)
        y, k2, v2 = com.microsoft.MultiHeadAttention <num_heads = 4> (t, k, v, , , , k1, v1)""",
    ],
)
@pytest.mark.parametrize("rows", [1, 20])
def test_a_cache_is_written_once(call: str, rows: int) -> None:
    new, old, both = (f"float[2, 4, {n}, 16]" for n in (rows, 99, 99 + rows))
    inputs = f"{new} q, {new} k, {new} v, {old} k1, {old} v1"
    outputs = f"float[N, M, K] y, {both} k2, {both} v2"
    found = kernels(f"f ({inputs}) => ({outputs}) <int64[3] flat = {{2, {rows}, 64}}> {{ {call} }}")
    written = sum(number(kernel.work.written) for kernel in found)
    cache = 2 * 4 * (2 * 4 * (99 + rows) * 16)
    assert cache <= written <= cache * 1.5


def test_a_recurrence_counts_its_steps() -> None:
    text = """f (float[7, 1, 4] x, float[1, 5, 4] w, float[1, 5, 5] r) => (float[7, 1, 1, 5] y) {
        y = RNN <hidden_size = 5> (x, w, r)
    }"""
    operations, _, _ = totals(text)
    products = 7 * (2 * 5 * 4 + 2 * 5 * 5)
    around = 7 * 5 * (5 + OPERATIONS_OF["tanh"])  # sums, biases
    assert products <= operations <= products + around


@pytest.mark.parametrize(("exponent", "count"), [(2.0, 1), (3.0, 2), (1.7, OPERATIONS_OF["pow"])])
def test_powers_that_are_products_count_as_such(exponent: float, count: int) -> None:
    text = f"f (float[100] x) => (float[100] y) <float p = {{{exponent}}}> {{ y = Pow(x, p) }}"
    assert totals(text)[0] == 100 * count


def test_notes_of_the_cache_keep_the_work() -> None:
    text = "f (float[N, 64] a, float[64, 70] b) => (float[N, 70] y) { y = MatMul(a, b) }"
    (unit,) = compiled(text).units
    assert isinstance(unit, NativeUnit)
    note = note_of(unit.code)
    assert note is not None
    objects = {kernel["object"] for kernel in note["kernels"]}
    again = code_of(note, dict.fromkeys(objects, (0, None)))
    assert [str(k.work) for k in again.kernels] == [str(k.work) for k in unit.code.kernels]
