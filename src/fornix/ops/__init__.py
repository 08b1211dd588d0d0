"""What every operator means: schema history, inference, kernel, lowering, adapters.

One file per family, each operator in one place. `FAMILIES` is the whole list; an operator of the
standard exists because its family module declares it, another because a user registered it, or
because its domain is among `CONTRIBUTED`, which is read when a model first asks for one of it. A
family is read when a model first asks for one of its operators: reading all takes a while.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from fornix.errors import SchemaError

if TYPE_CHECKING:
    from fornix.ops.op import Operator
    from fornix.ops.schema import Schema

FAMILIES: dict[str, str] = {
    "elementwise": (
        "Add Sub Mul Div Mod Pow Neg Abs Sign Reciprocal Sqrt Exp Log Erf Floor Ceil Round "
        "Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Max Min Sum Mean Clip"
    ),
    "logic": (
        "Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor Not BitwiseAnd BitwiseOr "
        "BitwiseXor BitwiseNot BitShift IsNaN IsInf Where"
    ),
    "activation": (
        "Relu LeakyRelu PRelu ThresholdedRelu Elu Celu Selu Sigmoid HardSigmoid HardSwish "
        "Swish SwiGLU Mish Gelu Softplus Softsign Tanh Shrink"
    ),
    "softmax": "Softmax LogSoftmax Hardmax",
    "shape": "Shape Size Reshape Flatten Expand Identity",
    "squeeze": "Squeeze Unsqueeze",
    "move": "Transpose Concat Split Tile",
    "shuffle": "DepthToSpace SpaceToDepth ReverseSequence Trilu",
    "slice": "Slice",
    "pad": "Pad CenterCropPad",
    "gather": "Gather GatherElements GatherND OneHot",
    "scatter": "Scatter ScatterElements ScatterND TensorScatter",
    "search": "Compress NonZero Unique",
    "cast": "Cast CastLike BitCast",
    "generate": "Constant ConstantOfShape EyeLike Range",
    "random": "RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli Multinomial",
    "sequence": (
        "SequenceEmpty SequenceConstruct SequenceInsert SequenceErase SequenceAt "
        "SequenceLength SplitToSequence ConcatFromSequence SequenceMap"
    ),
    "optional": "Optional OptionalGetElement OptionalHasElement",
    "text": "StringConcat RegexFullMatch StringSplit StringNormalizer TfIdfVectorizer",
    "reduce": (
        "ReduceSum ReduceMean ReduceProd ReduceMax ReduceMin ReduceL1 ReduceL2 "
        "ReduceSumSquare ReduceLogSum ReduceLogSumExp"
    ),
    "extremes": "ArgMax ArgMin TopK",
    "cumulative": "CumSum CumProd",
    "linalg": "MatMul Gemm Det",
    "einsum": "Einsum",
    "conv": "Conv ConvTranspose",
    "conv_variants": "DeformConv Col2Im CausalConvWithState",
    "pool": "MaxPool AveragePool LpPool",
    "global_pool": "GlobalAveragePool GlobalMaxPool GlobalLpPool",
    "indexed_pool": "MaxUnpool MaxRoiPool",
    "norm": "LayerNormalization RMSNormalization LpNormalization MeanVarianceNormalization",
    "group_norm": "InstanceNormalization GroupNormalization LRN",
    "batch_norm": "BatchNormalization Dropout",
    "recurrent": "RNN LSTM GRU",
    "control": "If Loop Scan",
    "resize": "Resize Upsample",
    "vision": "GridSample AffineGrid",
    "boxes": "RoiAlign NonMaxSuppression",
    "image": "ImageDecoder",
    "signal": "DFT STFT HannWindow HammingWindow BlackmanWindow MelWeightMatrix",
    "attention": "Attention FlexAttention",
    "rotary": "RotaryEmbedding",
    "linear_attention": "LinearAttention",
    "quantize": "QuantizeLinear DequantizeLinear DynamicQuantizeLinear",
    "quantized_products": "MatMulInteger QLinearMatMul ConvInteger QLinearConv",
    "loss": "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    "training": "Adagrad Adam Momentum Gradient",
    "ml.linear": "LinearClassifier LinearRegressor Normalizer Scaler",
    "ml.svm": "SVMClassifier SVMRegressor",
    "ml.tables": (
        "ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer OneHotEncoder"
    ),
    "ml.maps": "CastMap DictVectorizer ZipMap",
    "ml.labels": "LabelEncoder",
    "ml.trees": "TreeEnsembleClassifier TreeEnsembleRegressor",
    "ml.ensemble": "TreeEnsemble",
}
"""Modules of this package that declare operators of the standard, and the names of these."""

CONTRIBUTED: dict[str, tuple[str, ...]] = {
    "com.microsoft": (
        "microsoft.activation",
        "microsoft.fused",
        "microsoft.norm",
        "microsoft.last_channels",
        "microsoft.quantized",
        "microsoft.quantized_products",
        "microsoft.rotary",
        "microsoft.linear_attention",
        "microsoft.part_norm",
        "microsoft.attention",
        "microsoft.group_query",
        "microsoft.recurrent",
        "microsoft.blocks",
        "microsoft.normal_floats",
        "microsoft.tables",
        "microsoft.experts",
        "microsoft.tensors",
        "microsoft.text",
        "microsoft.words",
        "microsoft.quantized_attention",
        "microsoft.quantized_embedding",
        "microsoft.images",
        "microsoft.diffusion",
        "microsoft.earlier",
        "microsoft.generation",
    ),
    "com.microsoft.nchwc": ("microsoft.blocked",),
}
"""Modules that declare operators of other domains, which are no part of the standard."""

PART_DOMAIN = "fornix.parts"
"""The domain of what sessions take operators apart into; no model has these."""
PARTS: dict[str, str] = {
    "counted": "Count Places Chosen Front Distinct Suppressed",
    "drawn": "Drawn Hits",
    "resize_parts": "ScaledExtents Resized",
    "stretched": "Stretched",
    "text_parts": "Numbered Indexed WordCounts WordProduct",
}
"""Modules of this package that declare operators of `PART_DOMAIN`, and the names of these."""

STRAYS = {"SimplifiedLayerNormalization": "com.microsoft"}
"""Operators that exporters write into the default domain, and the domain that declares them."""


Table: TypeAlias = "Mapping[tuple[str, str], Operator]"

_table: dict[str, Table] = {}


_HOMES = {name: family for family, names in FAMILIES.items() for name in names.split()}
_PART_HOMES = {name: family for family, names in PARTS.items() for name in names.split()}


@cache
def standard() -> Table:
    """The operators of the standard, by (domain, name)."""
    return _declared(FAMILIES)


@cache
def family_table(name: str) -> Table:
    """The operators that one of `FAMILIES`, or of `PARTS`, declares, by (domain, name)."""
    return _declared([name])


@cache
def contributed(domain: str) -> Table:
    """The operators that `CONTRIBUTED` declares for ``domain``, by (domain, name)."""
    return _declared(CONTRIBUTED.get(domain, ()))


def _declared(families: Iterable[str]) -> Table:
    from fornix.ops.op import Operator  # noqa: PLC0415 - kept programs mostly do without

    modules = [importlib.import_module(f"{__name__}.{family}") for family in families]
    found = [v for module in modules for v in vars(module).values() if isinstance(v, Operator)]
    return {(operator.domain, operator.name): operator for operator in found}


def operators() -> Table:
    """Every operator by (domain, name): those of the standard, and those that users registered.

    The table is replaced when that changes, and never changed itself.
    """
    return _table.get("now") or standard()


def use_table(table: Table) -> None:
    """Make ``table`` what `operators` gives; for `registered`."""
    _table["now"] = table


def find(domain: str, name: str) -> Operator | None:
    """The operator of that name, or None; "ai.onnx" is another name of the domain ""."""
    key = ("" if domain == "ai.onnx" else domain, name)
    if domain == PART_DOMAIN and name in _PART_HOMES:
        return family_table(_PART_HOMES[name]).get(key)
    if "now" in _table or name not in _HOMES:
        found = _table.get("now", {}).get(key)
    else:
        found = family_table(_HOMES[name]).get(key)
    return found or contributed(key[0] or STRAYS.get(name, "")).get(key)


def operator_of(schema: Schema) -> Operator:
    """The operator that ``schema`` is a version of."""
    found = find(schema.domain, schema.name)
    if found is None:
        raise unknown(schema.domain, schema.name)
    return found


def schema_of(domain: str, name: str, opset: int, *, strict: bool = False) -> Schema:
    """The schema of an operator in force at ``opset``; raises SchemaError if there is none.

    With ``strict`` as the standard says, otherwise also of operators that models have too early.
    """
    operator = find(domain, name)
    if operator is None:
        raise unknown(domain, name)
    return operator.schema(opset, strict=strict)


def unknown(domain: str, name: str) -> SchemaError:
    """What to raise for an operator that nobody knows."""
    return SchemaError(
        f"an operator of domain {domain or 'ai.onnx'!r} is required, found {name!r}"
        f"{_remedy(domain, name)}"
    )


def _remedy(domain: str, name: str) -> str:
    """What to do about an operator that nobody knows."""
    import difflib  # noqa: PLC0415 - for messages alone

    from fornix.ops.opsets import LATEST  # noqa: PLC0415 - likewise

    tables = (operators(), contributed(domain))
    names = [known for table in tables for where, known in table if where == domain]
    close = difflib.get_close_matches(name, names, 1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    if domain in LATEST:
        return meant
    other = " Else" if close else ";"
    return f"{meant}{other} register it: @fornix.op('{domain}::{name} (X: T) => (Y: T)')"
