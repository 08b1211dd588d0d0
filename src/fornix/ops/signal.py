"""Signals: DFT, STFT, windows and the mel scale.

Complex numbers are a last axis of two, real and imaginary part; a last axis of one is real. float16
and bfloat16 are transformed in float32, tables are computed in float64 and converted once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fornix.cast import convert
from fornix.dtype import FLOAT64, DType
from fornix.errors import Fail, require
from fornix.ir.dim import DimLike, divide, equal, known, less
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import Scalar, Tensor, cast, compute, constant, reduce
from fornix.ops.adapt import constant_input, drop_inputs, rank_of, stored
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.fact import Array, Fact, dims_of, tensor
from fornix.ops.geometry import check_single, normalize_axis, shape_text, single
from fornix.ops.op import op
from fornix.ops.precision import wide_dtype, widened
from fornix.ops.signal_loops import (
    Sizes,
    factors_of,
    in_two_steps,
    one_sided_inverse,
    transform_table,
    whole_length,
)
from fornix.ops.types import BF16, FLOAT, I32, I64, NUMERIC

DFT = (
    op("""DFT <axis: int = 1, inverse: int = 0, onesided: int = 0>
              (input: T1, dft_length: T2?) => (output: T1)""",
       since=17, T1=FLOAT | BF16, T2=I32 | I64)
    .since(20, """DFT <inverse: int = 0, onesided: int = 0>
                      (input: T1, dft_length: T2?, axis: tensor(int64)?) => (output: T1)""")
)  # fmt: skip


@DFT.infer
def infer_dft(
    input: Fact,
    dft_length: Fact | None = None,
    axis: Fact | int | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
    node: InferNode,
) -> Fact:
    shape = input.shape
    _check_parts(shape, inverse=bool(inverse), onesided=bool(onesided))
    parts = 1 if inverse and onesided else 2
    number = _known_axis(axis, len(shape))
    if number is None:
        keeps = dft_length is None and not onesided
        signal = [n if keeps else node.unknown("axis is computed") for n in shape[:-1]]
        return tensor(input.dtype, (*signal, parts))
    length = _default_length(shape[number], inverse=bool(inverse), onesided=bool(onesided))
    if dft_length is not None:
        given = _element(dft_length)
        length = node.unknown("dft_length is computed") if given is None else given
    if onesided and not inverse:
        length = divide(length, 2) + 1
    return tensor(input.dtype, (*shape[:number], length, *shape[number + 1 : -1], parts))


def _known_axis(axis: Fact | int | None, rank: int) -> int | None:
    if isinstance(axis, Fact):
        values = None if axis.constant is None else axis.constant.reshape(-1)
        if values is None or values.size != 1:
            return None
        axis = int(values[0])
    return _signal_axis(-2 if axis is None else axis, rank)


def _signal_axis(axis: int, rank: int) -> int:
    number = normalize_axis(axis, rank)
    require(
        number != rank - 1,
        f"axis must name a signal axis, got {axis}, that of real and imaginary parts",
    )
    return number


def _check_parts(shape: Sequence[DimLike], *, inverse: bool, onesided: bool) -> None:
    require(
        len(shape) >= 2 and known(shape[-1]) in {None, 1, 2},
        f"input must end with an axis of 1 (real) or 2 (complex), found input{shape_text(shape)}",
    )
    wanted = 2 if inverse else 1
    require(
        not onesided or known(shape[-1]) in {None, wanted},
        f"onesided=1 with inverse={int(inverse)} needs a {'complex' if inverse else 'real'} "
        f"input, with a last axis of {wanted}, found input{shape_text(shape)}",
    )


def _default_length(extent: DimLike, *, inverse: bool, onesided: bool) -> DimLike:
    """Length of the transform of an axis: as long, or what its one side stems from."""
    return 2 * (extent - 1) if inverse and onesided else extent


@DFT.kernel
def dft(
    input: Array,
    dft_length: Array | None = None,
    axis: Array | int | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Array:
    """Discrete Fourier transform along ``axis`` (−2 if absent).

    y[k] = Σₙ x[n] · exp(−2πi·k·n/L); inverse: x[n] = (1/L) · Σₖ y[k] · exp(2πi·k·n/L).
    input[*S, 1 or 2] → output[*S, 2], L = dft_length along the axis, for which the signal is cut or
    filled with zeros. onesided gives the first ⌊L/2⌋ + 1 frequencies of a real signal; its inverse
    takes them and gives the real signal [*S, 1], of 2·(n − 1) elements if dft_length is absent.
    Source: ONNX DFT-20.
    """
    _check_parts(input.shape, inverse=bool(inverse), onesided=bool(onesided))
    given = -2 if axis is None else axis if isinstance(axis, int) else int(single(axis, "axis"))
    number = _signal_axis(given, input.ndim)
    length = _default_length(input.shape[number], inverse=bool(inverse), onesided=bool(onesided))
    if dft_length is not None:
        length = int(single(dft_length, "dft_length"))
    require(known(length) and less(0, length), f"dft_length must be positive, got {length}")
    x = _signal(widened(input))
    if inverse and onesided:
        signal = np.fft.irfft(x, known(length), number)
        return signal[..., None].astype(input.dtype, copy=False)
    if inverse:
        y = np.fft.ifft(x, known(length), number)
    else:
        y = (np.fft.rfft if onesided else np.fft.fft)(x, known(length), number)
    return _parts(y).astype(input.dtype, copy=False)


@DFT.adapt(17, 20)
def dft_17_to_20(node: Node, graph: Graph) -> None:
    """The axis becomes an input, whose default is another."""
    axis = node.attr("axis", 1)
    node.remove_attribute("axis")
    node.set_input(2, stored(node, graph, np.array(axis)))


@DFT.adapt(20, 17)
def dft_20_to_17(node: Node, graph: Graph) -> None:
    held = constant_input(node, 2, "opset 17 takes axis as an attribute")
    axis = -2 if held is None else single(held, "axis")
    drop_inputs(node, graph, 2)
    node.set_attribute("axis", normalize_axis(axis, rank_of(node.inputs[0], "input")))


@DFT.lower
def lower_dft(
    input: Tensor,
    dft_length: Tensor | None = None,
    axis: Tensor | int | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
    node: LowerNode,
) -> Tensor:
    _check_parts(input.shape, inverse=bool(inverse), onesided=bool(onesided))
    given = -2 if axis is None else axis if isinstance(axis, int) else node.numbers(2)[0]
    number, parts = _signal_axis(given, input.rank), known(input.shape[-1])
    if parts is None:
        node.decline("whether the signal is complex is known at run time only")
    extent = input.shape[number]
    found = _default_length(extent, inverse=bool(inverse), onesided=bool(onesided))
    in_steps = number == input.rank - 2 and not (inverse and onesided)
    wanted = found if dft_length is None else node.required(1)[0]
    length = whole_length(wanted, node, in_steps=in_steps)
    require(length > 0, f"dft_length must be positive, got {length}")
    count = length // 2 + 1 if onesided else length
    dtype = wide_dtype(input.dtype)

    def read(before: Sequence[DimLike], n: DimLike, p: DimLike) -> Scalar:
        return cast(input.get((*before, n, p), 0), dtype)

    if in_steps and (split := factors_of(length)):
        sizes = Sizes(split, parts, count)
        return in_two_steps(read, input.shape[:number], sizes, input.dtype, inverse=bool(inverse))
    if inverse and onesided:
        table = one_sided_inverse(length)
    else:
        used = length if inverse or not onesided else count
        table = transform_table(length, length, used, inverse=bool(inverse))
    factors = constant(table.astype(dtype.numpy))

    def at(*i: DimLike) -> Scalar:
        def product(n: DimLike, p: DimLike) -> Scalar:
            value = input.get((*i[:number], n, *i[number + 1 : -1], p), 0)
            return cast(value, dtype) * factors[n, p, i[number], i[-1]]

        return cast(reduce("sum", (factors.shape[0], parts), product), input.dtype)

    _, _, outputs, kept = factors.shape
    return compute((*input.shape[:number], outputs, *input.shape[number + 1 : -1], kept), at)


def _signal(x: Array) -> Array:
    """x[*S, 1] as real, x[*S, 2] as complex numbers [*S]."""
    if x.shape[-1] == 1:
        return np.asarray(x[..., 0])
    kind = np.complex128 if x.dtype == np.float64 else np.complex64
    return np.asarray(np.ascontiguousarray(x).view(kind)[..., 0])


def _parts(z: Array) -> Array:
    """Complex numbers z[*S] as [*S, 2]."""
    return np.ascontiguousarray(z)[..., None].view(z.real.dtype)


STFT = op(
    """STFT <onesided: int = 1> (signal: T1, frame_step: T2, window: T1?, frame_length: T2?)
                             => (output: T1)""",
    since=17, T1=FLOAT | BF16, T2=I32 | I64,
)  # fmt: skip


@STFT.infer
def infer_stft(
    signal: Fact,
    frame_step: Fact,
    window: Fact | None = None,
    frame_length: Fact | None = None,
    *,
    onesided: int = 1,
    node: InferNode,
) -> Fact:
    _check_signal(signal.shape)
    for fact, name in ((frame_step, "frame_step"), (frame_length, "frame_length")):
        if fact is not None and fact.has_rank:
            check_single(fact.shape, name)
    length = _element(frame_length)
    if window is not None and window.has_rank and (length is None or known(length) is None):
        length = window.shape[0] if window.rank else 1
    elif window is None and frame_length is None:
        length = signal.shape[1]
    if window is not None and window.has_rank and length is not None:
        _check_window(window.shape, length)
    length = node.unknown("frame_length is computed") if length is None else length
    step = _element(frame_step)
    frames: DimLike = node.unknown("frame_step is computed")
    if step is not None and less(0, step):
        frames = divide(signal.shape[1] - length, step) + 1
    bins = divide(length, 2) + 1 if onesided else length
    return tensor(signal.dtype, (signal.shape[0], frames, bins, 2))


def _element(fact: Fact | None) -> DimLike | None:
    """The one element of a value, if it is known."""
    values = None if fact is None else dims_of(fact.value)
    return values[0] if values else None


def _check_signal(shape: Sequence[DimLike]) -> None:
    require(
        len(shape) == 2 or (len(shape) == 3 and known(shape[2]) in {None, 1, 2}),
        f"signal must be [N, length] or [N, length, 1 or 2], found signal{shape_text(shape)}",
    )


def _check_window(shape: Sequence[DimLike], length: DimLike) -> None:
    fits = len(shape) == 1 and equal(shape[0], length) is not False
    require(
        fits, f"window must have frame_length={length} elements, found window{shape_text(shape)}"
    )


@STFT.kernel
def stft(
    signal: Array,
    frame_step: Array,
    window: Array | None = None,
    frame_length: Array | None = None,
    *,
    onesided: int = 1,
) -> Array:
    """Fourier transforms of overlapping frames of a signal, each weighted by ``window``.

    signal[N, L, 1 or 2] → output[N, ⌊(L − F)/frame_step⌋ + 1, K, 2]; a real signal may leave out
    its last axis, as torch's exporter writes it. Frames have F = frame_length elements, as many as
    window has if that is absent, all L if both are. onesided keeps the first K = ⌊F/2⌋ + 1
    frequencies, else K = F. Source: ONNX STFT-17.
    """
    _check_signal(signal.shape)
    length = signal.shape[1] if window is None else window.size
    if frame_length is not None:
        length = int(single(frame_length, "frame_length"))
    step = int(single(frame_step, "frame_step"))
    require(step > 0, f"frame_step must be positive, got {step}")
    require(
        0 < length <= signal.shape[1],
        f"frame_length must be in [1, {signal.shape[1]}], the signal's length, got {length}",
    )
    if window is not None:
        _check_window(window.shape, length)
    x = _signal(widened(signal if signal.ndim == 3 else signal[..., None]))
    frames = np.lib.stride_tricks.sliding_window_view(x, length, axis=1)[:, ::step]
    if window is not None:
        frames = frames * widened(window)
    if onesided and x.dtype.kind != "c":
        y = np.fft.rfft(frames)
    else:
        y = np.fft.fft(frames)[..., : length // 2 + 1 if onesided else length]
    return _parts(y).astype(signal.dtype, copy=False)


@STFT.lower
def lower_stft(
    signal: Tensor,
    frame_step: Tensor,
    window: Tensor | None = None,
    frame_length: Tensor | None = None,
    *,
    onesided: int = 1,
    node: LowerNode,
) -> Tensor:
    _check_signal(signal.shape)
    parts = known(signal.shape[2]) if signal.rank == 3 else 1
    if parts is None:
        node.decline("whether the signal is complex is known at run time only")
    extent = signal.shape[1] if window is None else window.shape[0]
    given = extent if frame_length is None else node.required(3)[0]
    length = whole_length(given, node, in_steps=True)
    step = node.numbers(1)[0]
    require(step > 0, f"frame_step must be positive, got {step}")
    bins = length // 2 + 1 if onesided else length
    frames = divide(signal.shape[1] - length, step) + 1
    dtype = wide_dtype(signal.dtype)

    def read(before: Sequence[DimLike], n: DimLike, p: DimLike) -> Scalar:
        b, f = before
        place = (b, f * step + n, p) if signal.rank == 3 else (b, f * step + n)
        value = cast(signal[place], dtype)
        return value if window is None else value * cast(window[n], dtype)

    if split := factors_of(length):
        sizes = Sizes(split, parts, bins)
        return in_two_steps(read, (signal.shape[0], frames), sizes, signal.dtype, inverse=False)
    table = transform_table(length, length, bins, inverse=False)
    factors = constant(table.astype(dtype.numpy))

    def at(b: DimLike, f: DimLike, k: DimLike, q: DimLike) -> Scalar:
        def product(n: DimLike, p: DimLike) -> Scalar:
            return read((b, f), n, p) * factors[n, p, k, q]

        return cast(reduce("sum", (length, parts), product), signal.dtype)

    return compute((signal.shape[0], frames, bins, 2), at)


# Coefficients a0 − a1·cos(φ) + a2·cos(2φ); those of Hamming are the exact ones, of which
# 0.54 and 0.46 are roundings. Source: ONNX, function bodies of the windows, opset 17.
HANN = (0.5, 0.5, 0.0)
HAMMING = (25 / 46, 21 / 46, 0.0)
BLACKMAN = (0.42, 0.5, 0.08)

WINDOW_BODY = """
    <domain: "", opset_import: ["": 17]>
    {name} <output_datatype: int = 1, periodic: int = 1> (size) => (output)
    {{
        Zero = Constant <value = double {{0.0}}> ()
        One = Constant <value = double {{1.0}}> ()
        Turn = Constant <value = double {{6.283185307179586}}> ()
        A0 = Constant <value = double {{{0!r}}}> ()
        A1 = Constant <value = double {{{1!r}}}> ()
        A2 = Constant <value = double {{{2!r}}}> ()
        Count = Cast <to = 11> (size)
        IsPeriodic = Constant <value_int: int = @periodic> ()
        Periodic = Cast <to = 11> (IsPeriodic)
        Symmetric = Sub (One, Periodic)
        Intervals = Sub (Count, Symmetric)
        Period = Max (Intervals, One)
        Places = Range (Zero, Count, One)
        Turns = Mul (Places, Turn)
        Angles = Div (Turns, Period)
        Twice = Add (Angles, Angles)
        First = Cos (Angles)
        Second = Cos (Twice)
        Minus = Mul (First, A1)
        Plus = Mul (Second, A2)
        Lowered = Sub (A0, Minus)
        Whole = Add (Lowered, Plus)
        output = Cast <to: int = @output_datatype> (Whole)
    }}
"""


def _window(size: Array, coefficients: Sequence[float], *, periodic: bool, dtype: int) -> Array:
    """a0 − a1·cos(φ) + a2·cos(2φ) at φ = 2πi/period, period = size or, symmetric, size − 1."""
    count = int(single(size, "size"))
    require(count >= 0, f"size must not be negative, got {count}")
    period = max(count - (not periodic), 1)
    angle = np.arange(count) * (2 * np.pi) / period
    a0, a1, a2 = coefficients
    values = a0 - a1 * np.cos(angle)
    return convert(values + a2 * np.cos(2 * angle) if a2 else values, DType.of(dtype))


def _infer_window(size: Fact, dtype: int, node: InferNode) -> Fact:
    length = _element(size)
    return tensor(
        DType.of(dtype), (node.unknown("size is computed") if length is None else length,)
    )


HannWindow = op(
    "HannWindow <output_datatype: int = 1, periodic: int = 1> (size: T1) => (output: T2)",
    since=17, T1=I32 | I64, T2=NUMERIC | BF16,
).body(WINDOW_BODY.format(*HANN, name="HannWindow"))  # fmt: skip


@HannWindow.infer
def infer_hann_window(
    size: Fact, *, output_datatype: int = 1, periodic: int = 1, node: InferNode
) -> Fact:
    return _infer_window(size, output_datatype, node)


@HannWindow.kernel
def hann_window(size: Array, *, output_datatype: int = 1, periodic: int = 1) -> Array:
    """The Hann window: ½ − ½·cos(2πi/P), i = 0 … size − 1.

    size → output[size]; P = size, or size − 1 with periodic=0. Source: ONNX HannWindow-17.
    """
    return _window(size, HANN, periodic=bool(periodic), dtype=output_datatype)


HammingWindow = op(
    "HammingWindow <output_datatype: int = 1, periodic: int = 1> (size: T1) => (output: T2)",
    since=17, T1=I32 | I64, T2=NUMERIC | BF16,
).body(WINDOW_BODY.format(*HAMMING, name="HammingWindow"))  # fmt: skip


@HammingWindow.infer
def infer_hamming_window(
    size: Fact, *, output_datatype: int = 1, periodic: int = 1, node: InferNode
) -> Fact:
    return _infer_window(size, output_datatype, node)


@HammingWindow.kernel
def hamming_window(size: Array, *, output_datatype: int = 1, periodic: int = 1) -> Array:
    """The Hamming window: 25/46 − 21/46·cos(2πi/P), i = 0 … size − 1.

    size → output[size]; P = size, or size − 1 with periodic=0. Source: ONNX HammingWindow-17.
    """
    return _window(size, HAMMING, periodic=bool(periodic), dtype=output_datatype)


BlackmanWindow = op(
    "BlackmanWindow <output_datatype: int = 1, periodic: int = 1> (size: T1) => (output: T2)",
    since=17, T1=I32 | I64, T2=NUMERIC | BF16,
).body(WINDOW_BODY.format(*BLACKMAN, name="BlackmanWindow"))  # fmt: skip


@BlackmanWindow.infer
def infer_blackman_window(
    size: Fact, *, output_datatype: int = 1, periodic: int = 1, node: InferNode
) -> Fact:
    return _infer_window(size, output_datatype, node)


@BlackmanWindow.kernel
def blackman_window(size: Array, *, output_datatype: int = 1, periodic: int = 1) -> Array:
    """The Blackman window: 0.42 − 0.5·cos(2πi/P) + 0.08·cos(4πi/P), i = 0 … size − 1.

    size → output[size]; P = size, or size − 1 with periodic=0. Source: ONNX BlackmanWindow-17.
    """
    return _window(size, BLACKMAN, periodic=bool(periodic), dtype=output_datatype)


MelWeightMatrix = op(
    """MelWeightMatrix <output_datatype: int = 1>
           (num_mel_bins: T1, dft_length: T1, sample_rate: T1, lower_edge_hertz: T2,
            upper_edge_hertz: T2) => (output: T3)""",
    since=17, T1=I32 | I64, T2=FLOAT | BF16, T3=NUMERIC | BF16,
).opaque("its extents are data; of constants it is computed ahead")  # fmt: skip

MEL_SCALE, MEL_BREAK_HERTZ = 2595.0, 700.0
"""mel(f) = 2595 · log₁₀(1 + f/700). Source: ONNX MelWeightMatrix-17."""


@MelWeightMatrix.infer
def infer_mel_weight_matrix(
    num_mel_bins: Fact,
    dft_length: Fact,
    sample_rate: Fact,
    lower_edge_hertz: Fact,
    upper_edge_hertz: Fact,
    *,
    output_datatype: int = 1,
    node: InferNode,
) -> Fact:
    bands, length = _element(num_mel_bins), _element(dft_length)
    rows = node.unknown("dft_length is computed") if length is None else divide(length, 2) + 1
    columns = node.unknown("num_mel_bins is computed") if bands is None else bands
    return tensor(DType.of(output_datatype), (rows, columns))


@MelWeightMatrix.kernel
def mel_weight_matrix(
    num_mel_bins: Array,
    dft_length: Array,
    sample_rate: Array,
    lower_edge_hertz: Array,
    upper_edge_hertz: Array,
    *,
    output_datatype: int = 1,
) -> Array:
    """Triangles, evenly spaced on the mel scale, that sum a spectrum into mel bands.

    output[⌊dft_length/2⌋ + 1, num_mel_bins]: band b rises from 0 at frequency bin e[b] to 1 at
    e[b+1] and falls to 0 at e[b+2]; e[b] = ⌊(dft_length + 1) · f[b] / sample_rate⌋ for the
    frequencies f[0 … num_mel_bins + 1] that divide the mels from lower_edge_hertz to
    upper_edge_hertz into num_mel_bins + 2 steps, the last of which is not taken.
    Source: ONNX MelWeightMatrix-17.
    """
    bands, length, rate = (
        int(single(x, name))
        for x, name in (
            (num_mel_bins, "num_mel_bins"), (dft_length, "dft_length"), (sample_rate, "sample_rate")
        )
    )  # fmt: skip
    require(bands >= 0 and length >= 0, f"num_mel_bins={bands} and dft_length={length} are counts")
    require(rate > 0, f"sample_rate must be positive, got {rate}", Fail)
    edges = np.array([
        float(single(lower_edge_hertz, "lower_edge_hertz")),
        float(single(upper_edge_hertz, "upper_edge_hertz")),
    ])  # fmt: skip
    low, high = MEL_SCALE * np.log10(1 + edges / MEL_BREAK_HERTZ)
    mels = low + np.arange(bands + 2) * (high - low) / (bands + 2)
    hertz = MEL_BREAK_HERTZ * np.expm1(mels * np.log(10) / MEL_SCALE)
    place = np.floor((length + 1) * hertz / rate)
    start, peak, stop = place[:-2], place[1:-1], place[2:]
    row = np.arange(length // 2 + 1, dtype=FLOAT64.numpy)[:, None]
    rising = np.where(peak > start, (row - start) / np.maximum(peak - start, 1), 1)
    falling = (stop - row) / np.maximum(stop - peak, 1)
    weight = np.where((row >= start) & (row <= peak), rising, 0)
    weight = np.where((row >= peak) & (row < stop), falling, weight)
    return convert(weight, DType.of(output_datatype))
