"""Which inputs and outputs of operators the standard calls differentiable.

A statement of the standard, kept as it is: whether fornix has a derivative is told by the `grad`
rules. It holds from the schema version before the name on, until another one is listed.
"""

from __future__ import annotations

from functools import cache

from fornix.ops.schema import Schema

STATED = """
d > d: Abs-13 Acos-7 Acosh-9 Asin-7 Asinh-9 Atan-7 Atanh-9 AveragePool-11 Cast-13 Celu-12
    Concat-13 Cos-7 Cosh-9 DepthToSpace-13 Det-11 Einsum-12 Elu-6 Erf-13 Exp-13 Flatten-13 Gelu-20
    GlobalAveragePool-1 GlobalLpPool-2 GlobalMaxPool-1 HardSigmoid-6 HardSwish-14 Hardmax-13
    Identity-13 LRN-13 LeakyRelu-6 Log-13 LogSoftmax-13 LpNormalization-1 LpPool-11 Max-13 Mean-13
    MeanVarianceNormalization-13 Min-13 Mish-18 Neg-13 Reciprocal-13 ReduceL1-13 ReduceL2-13
    ReduceLogSum-13 ReduceLogSumExp-13 ReduceMax-13 ReduceMean-13 ReduceMin-13 ReduceProd-13
    ReduceSumSquare-13 Relu-13 Selu-6 Shrink-9 Sigmoid-13 Sin-7 Sinh-9 Softmax-13 Softplus-1
    Softsign-1 SpaceToDepth-13 Sqrt-13 Sum-13 Swish-24 Tan-7 Tanh-13 ThresholdedRelu-10
    Transpose-13
d > dn: MaxPool-12
dd > d: Add-13 Div-13 MatMul-13 Mul-13 PRelu-9 Pow-13 Sub-13 SwiGLU-28
ddd > d: Conv-11 ConvTranspose-11 Gemm-13 GroupNormalization-18 InstanceNormalization-6
ddddd > dnn: BatchNormalization-14
ddddd > dnnnn: BatchNormalization-9
ddddnn > dd: GRU-14 RNN-14
ddddnnnd > ddd: LSTM-14
dddn > dn: CausalConvWithState-27
dddndd > dn: LinearAttention-27
ddn > d: TensorScatter-24
dn > d: CastLike-15 CenterCropPad-18 Compress-11 CumProd-26 CumSum-11 Expand-13 Gather-13
    GatherElements-13 GatherND-13 GridSample-16 MaxRoiPool-1 Mod-13 ReduceL1-18 ReduceL2-18
    ReduceLogSum-18 ReduceLogSumExp-18 ReduceMax-18 ReduceMean-18 ReduceMin-18 ReduceProd-18
    ReduceSum-13 ReduceSumSquare-18 Reshape-13 Split-13 Squeeze-13 Tile-13 Trilu-14 Unsqueeze-13
dn > dn: TopK-11
dnd > d: Scatter-11 ScatterElements-13 ScatterND-13
dnn > d: Clip-13 Col2Im-18 MaxUnpool-11 NegativeLogLikelihoodLoss-13 Pad-13
dnn > dd: SoftmaxCrossEntropyLoss-13
dnn > dn: Dropout-13
dnnn > d: Pad-18 Resize-13
dnnnn > d: Slice-13
n > n: ArgMax-13 ArgMin-13 BitCast-26 BitwiseNot-18 BlackmanWindow-17 Ceil-13 Floor-13
    HammingWindow-17 HannWindow-17 ImageDecoder-20 IsInf-10 IsNaN-13 NonZero-13 Not-1
    RegexFullMatch-20 Round-11 Shape-13 Sign-13 Size-13 TfIdfVectorizer-9
n > nn: StringSplit-20
n > nnnn: Unique-11
ndd > d: Where-9
nn > ?: DFT-17
nn > d: AffineGrid-20
nn > n: And-7 BitShift-11 BitwiseAnd-18 BitwiseOr-18 BitwiseXor-18 Equal-13 Greater-13
    GreaterOrEqual-12 Less-13 LessOrEqual-12 Or-7 StringConcat-20 Xor-7
nnn > ?: DFT-20
nnn > n: OneHot-11
nnnn > n: MatMulInteger-10 STFT-17
nnnnn > n: MelWeightMatrix-17
nnnnnnnn > n: QLinearMatMul-10
"""
"""Inputs > outputs: operators; d is differentiable, n is not, of ? nothing is said."""


@cache
def _stated() -> dict[str, dict[int, str]]:
    """For each operator of ai.onnx the letters by schema version."""
    found: dict[str, dict[int, str]] = {}
    letters = ""
    for line in STATED.strip().splitlines():
        head, colon, rest = line.partition(":")
        letters, names = (head, rest) if colon else (letters, line)
        for entry in names.split():
            name, _, version = entry.rpartition("-")
            found.setdefault(name, {})[int(version)] = letters
    return found


def differentiable(schema: Schema) -> tuple[list[bool | None], list[bool | None]]:
    """Whether each formal input and output is differentiable; None where nothing is said."""
    versions = {} if schema.domain else _stated().get(schema.name, {})
    since = max((version for version in versions if version <= schema.since_version), default=None)
    letters = " > " if since is None else versions[since]
    inputs, _, outputs = letters.partition(" > ")
    meaning = {"d": True, "n": False}
    return (
        [meaning.get(letter) for letter in inputs.ljust(len(schema.inputs), "?")],
        [meaning.get(letter) for letter in outputs.ljust(len(schema.outputs), "?")],
    )
