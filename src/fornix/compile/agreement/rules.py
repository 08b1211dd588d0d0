"""What extents have to be for a node to be valid, operator by operator: no run asks its rule again.

A rule that gives an exact result for symbols gives the same for numbers, if these agree as the
operator asks. For the operators of models with open extents that is said here: which extents are
equal. What is said suffices, but need not be needed: 1 broadcasts, too. Where it does not hold, and
for operators of which nothing is said, the rule is asked anew for the extents of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fornix.compile.agreement.layers import (
    attention,
    cached,
    embedding,
    joined_bytes,
    multi_head,
    numbers,
    packed_product,
    product_of_bytes,
    rotary,
    scaled,
    self_attention,
)
from fornix.compile.agreement.terms import Agreement, NothingSaid, Shape, fixed
from fornix.compile.emptiness import divides, read_inputs
from fornix.ir.dim import DimLike, known, maximum
from fornix.ir.dim.expression import Floor, Terms, collect, terms_of
from fornix.ir.graph import Node
from fornix.ops import operator_of
from fornix.ops.einsum import parse_equation
from fornix.ops.fact import Fact, dims_of
from fornix.ops.pad import margins
from fornix.ops.resize_axes import EXACT_EXTENT, simple_fraction
from fornix.ops.schema import Schema


def agreement(
    node: Node,
    schema: Schema,
    facts: Sequence[Fact | None],
    results: Sequence[Fact],
    *,
    may_be_empty: bool = False,
) -> Agreement | None:
    """What has to hold of the extents of ``node``; None where nothing is said of the operator.

    Where results ``may_be_empty``, extents may be 0 with which there is nothing to compute.
    """
    rule, version = _DOMAINS.get(schema.domain, {}).get(node.op_type), schema.since_version
    if hasattr(operator_of(schema).rule("kernel", version), "common_shape"):
        rule = _broadcast if node.domain or version >= BROADCASTS or len(facts) == 1 else None
    if rule is None or schema.domain not in _DOMAINS:
        return None
    if any(fact is not None and not fact.has_rank for fact in (*facts, *results)):
        return None
    found = Agreement()
    empty = [fact.shape for fact in results] if may_be_empty and not divides(node, facts) else []
    count = read_inputs(node, may_be_empty=may_be_empty)
    found.has_elements((f.shape for f in (*facts[:count], *results) if f is not None), empty)
    found.exist(fact.shape for fact in facts if fact is not None)
    try:
        rule(found, node, facts, results)
    except NothingSaid:
        return None
    return found


BROADCASTS = 7
"""The opset from which on elementwise operators broadcast, without an attribute that says so."""

Rule = Callable[[Agreement, Node, Sequence[Fact | None], Sequence[Fact]], None]


def _anything(*_: object) -> None:
    """One input decides, and any extents do."""


def _image(_: Agreement, node: Node, facts: Sequence[Fact | None], __: Sequence[Fact]) -> None:
    """Images of some channels, any number of them and of any size."""
    image, *others = facts
    if image is None or image.rank < 2:
        raise NothingSaid
    stored = [extent for fact in others if fact is not None for extent in fact.shape]
    fixed(image.shape[_channel_axis(node)], *stored)


def _channel_axis(node: Node) -> int:
    is_stated = "channels_last" in node.attributes
    is_last = node.attributes["channels_last"].value if is_stated else node.op_type in LAST
    return -1 if is_last else 1


LAST = frozenset({"GroupNorm", "NhwcMaxPool"})
"""Operators whose images have their channels in the last axis, unless they say otherwise."""


def _windows(
    found: Agreement, node: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    """Images as before that hold a window along each axis.

    Of one that is a little smaller the formula of results makes none, and the operators an error:
    this asks for 2 with 1 more, as steps may do nothing where what is to reach 1 is 0.
    Padding that a run tells adds to an image which is not empty, as that of the layer before.
    """
    _image(found, node, facts, results)
    whole = results[0].shape
    places = whole[2:] if _channel_axis(node) == 1 else whole[1:-1]
    found.reach += [(extent + 1, 2) for extent in places if known(extent) is None]
    sides = [terms_of(extent) for fact in facts[:1] if fact for extent in fact.shape[2:]]
    for side in sides:
        inner: Terms = {m: c for m, c in side.items() if [type(a) for a in m] == [Floor]}
        if len(inner) == 1:
            found.reach.append((collect({**inner, (): min(side.get((), 0), 0)}), 1))


def _spread_windows(
    found: Agreement, node: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    """Images as before, with an offset and a weight for each place of the results."""
    image, weights, offsets, bias, mask = (*facts, None, None)[:5]
    _windows(found, node, (image, weights, bias), results)
    for fact in (offsets, mask):
        if fact is not None:
            fixed(fact.shape[1])
            found.same(fact.shape[0], results[0].shape[0])
            for one, other in zip(fact.shape[2:], results[0].shape[2:], strict=True):
                found.same(one, other)


def _pixels(
    found: Agreement, node: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    """Images as before that are cut into squares, of which none is left over."""
    _image(found, node, facts, results)
    size = node.attributes["blocksize"].value
    for extent in () if facts[0] is None else facts[0].shape[2:]:
        found.same(extent, extent // size * size)


def _square(found: Agreement, _: Node, facts: Sequence[Fact | None], __: Sequence[Fact]) -> None:
    if facts[0] is not None:
        found.same(*facts[0].shape[-2:])


def _einsum(found: Agreement, node: Node, facts: Sequence[Fact | None], _: Sequence[Fact]) -> None:
    """Axes of one label are as long."""
    shapes = [fact.shape for fact in facts if fact is not None]
    parsed = parse_equation(node.attributes["equation"].value, [len(shape) for shape in shapes])
    extents: dict[str, DimLike] = {}
    for labels, shape in zip(parsed.inputs, shapes, strict=True):
        for label, extent in zip(labels, shape, strict=True):
            found.same(extents.setdefault(label, extent), extent)


def _added_image(
    found: Agreement, node: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    """Images as before, and what is added to their results: as many of the same size."""
    _windows(found, node, facts[:3], results)
    for addend in facts[3:]:
        for one, other in zip(addend.shape if addend else (), results[0].shape, strict=False):
            found.same(one, other)


def _columns(_: Agreement, __: Node, facts: Sequence[Fact | None], ___: Sequence[Fact]) -> None:
    """Rows of some features, of which stored numbers choose."""
    data, chosen = (fact.shape for fact in facts if fact is not None)
    fixed(*data[-1:], *chosen)


def _joined_rows(
    found: Agreement, node: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    """Rows as before of several tables, as many of each."""
    _rows(found, node, facts, results)
    for fact in facts:
        if fact is not None:
            found.same(fact.shape[0], results[0].shape[0])


def _rows(_: Agreement, __: Node, facts: Sequence[Fact | None], ___: Sequence[Fact]) -> None:
    """Rows of some features, any number of them."""
    features = [extent for fact in facts if fact is not None for extent in fact.shape[1:]]
    if not features or any(known(extent) is None for extent in features):
        raise NothingSaid


def _recurrent(
    found: Agreement, node: Node, facts: Sequence[Fact | None], _: Sequence[Fact]
) -> None:
    """Sequences of any length, any number of them: all inputs are of the same number."""
    turned = "layout" in node.attributes and node.attributes["layout"].value == 1
    given: list[Fact | None] = [*facts, *[None] * (_RECURRENT_INPUTS - len(facts))]
    data, lengths, states = given[0], given[4], given[5:7]
    stored = [*given[1:4], given[7]]
    if data is None or data.rank != _SEQUENCES:
        raise NothingSaid
    batch = data.shape[0 if turned else 1]
    fixed = [data.shape[2]]
    fixed += [extent for fact in stored if fact is not None for extent in fact.shape]
    for state in states:
        if state is not None:
            found.same(batch, state.shape[0 if turned else 1])
            fixed += [state.shape[1 if turned else 0], state.shape[2]]
    if lengths is not None:
        found.same(batch, lengths.shape[0])
    if any(known(extent) is None for extent in fixed):
        raise NothingSaid


_SEQUENCES = 3
"""Axes of the data of a recurrent layer."""
_RECURRENT_INPUTS = 8
"""Those of an LSTM: data, weights, recurrent weights, bias, lengths, states, peepholes."""


def _resize(found: Agreement, node: Node, facts: Sequence[Fact | None], _: Sequence[Fact]) -> None:
    """Pictures of any size that are resized to sizes, or by stored scales.

    Formulas of fractions are exact as long as float32 holds the product.
    """
    given = [*facts, None, None, None]
    sizes = given[_SIZES]
    if node.op_type == "Resize" and sizes is not None and sizes.value is not None:
        return
    scales = given[2] or given[1]
    numbers = None if scales is None else scales.constant
    if numbers is None or numbers.dtype.kind != "f" or not numbers.size or given[0] is None:
        if node.domain:
            return  # a run tells all extents
        raise NothingSaid
    own = node.attributes["axes"].value if "axes" in node.attributes else range(given[0].rank)
    for axis, factor in zip(own, numbers.reshape(-1).tolist(), strict=True):
        exact = simple_fraction(factor)
        if exact is not None and exact.denominator > 1:
            found.reach.append((EXACT_EXTENT // exact.numerator, given[0].shape[axis]))


_SIZES = 3
"""Which input of Resize says to which sizes."""


def _gather_nd(_: Agreement, node: Node, __: Sequence[Fact | None], ___: Sequence[Fact]) -> None:
    if "batch_dims" in node.attributes and node.attributes["batch_dims"].value:
        raise NothingSaid


def _align(found: Agreement, shapes: Sequence[Shape]) -> None:
    """Shapes that broadcast: along each axis, extents that are not 1 are equal."""
    rank = max(map(len, shapes), default=0)
    for axis in range(1, rank + 1):
        extents = [shape[-axis] for shape in shapes if axis <= len(shape) and shape[-axis] != 1]
        for extent in extents[1:]:
            found.broadcast(extents[0], extent)


def _stretched(
    found: Agreement, _: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    """Extents of the data are those of the result, or 1: one of two factors is 0."""
    if facts[0] is not None:
        for extent, whole in zip(facts[0].shape, results[0].shape, strict=True):
            found.same((whole - extent) * (extent - 1), 0)


def _broadcast(
    found: Agreement, _: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    shapes = [fact.shape for fact in facts if fact is not None]
    _align(found, shapes)
    _cover(found, results[0].shape, shapes)


def _cover(found: Agreement, result: Shape, shapes: Sequence[Shape]) -> None:
    """Nothing broadcasts a result that has the shape of one input, as that of PRelu."""
    for shape in shapes:
        for whole, extent in zip(reversed(result), reversed(shape), strict=False):
            if whole == 1:
                found.same(1, extent)


def _skip(
    found: Agreement, node: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    """Data and what is added broadcast; what scales and shifts is as long as the last axis."""
    _broadcast(found, node, facts[:2], results)
    for fact in facts[2:]:
        if fact is not None and facts[0] is not None:
            found.same(fact.shape[0], facts[0].shape[-1])


def _matmul(found: Agreement, node: Node, facts: Sequence[Fact | None], _: Sequence[Fact]) -> None:
    """Factors, of which FusedMatMul may exchange the last two axes; not those that turn others."""
    if _is_set(node, "transBatchA") or _is_set(node, "transBatchB"):
        raise NothingSaid
    one, other = (
        (*fact.shape[:-2], *reversed(fact.shape[-2:])) if _is_set(node, name) else fact.shape
        for name, fact in zip(_TURNED, facts, strict=True)
        if fact is not None
    )
    found.same(one[-1], other[-2] if len(other) > 1 else other[0])
    _align(found, [one[:-2], other[:-2]])


def _is_set(node: Node, name: str) -> bool:
    return name in node.attributes and bool(node.attributes[name].value)


def _gemm(
    found: Agreement, node: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    one, other, *rest = (fact.shape for fact in facts if fact is not None)
    found.same(one[0 if _is_set(node, "transA") else 1], other[1 if _is_set(node, "transB") else 0])
    _align(found, [results[0].shape, *rest])
    _cover(found, results[0].shape, rest)


_TURNED = ("transA", "transB")


def _concat(found: Agreement, node: Node, facts: Sequence[Fact | None], _: Sequence[Fact]) -> None:
    shapes = [fact.shape for fact in facts if fact is not None]
    joined = node.attributes["axis"].value % len(shapes[0]) if "axis" in node.attributes else 1
    for shape in shapes[1:]:
        for axis, extent in enumerate(shape):
            if axis != joined:
                found.same(shapes[0][axis], extent)


def _reshape(
    found: Agreement, _: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    if facts[0] is not None:
        found.same(_product(facts[0].shape), _product(results[0].shape))


def _expand(
    found: Agreement, _: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    data, target = facts
    if data is not None and target is not None:
        wanted = dims_of(target.value)
        _align(found, [data.shape, results[0].shape, *([] if wanted is None else [tuple(wanted)])])


def _split(
    found: Agreement, node: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    if facts[0] is not None:
        axis = node.attributes["axis"].value if "axis" in node.attributes else 0
        if len(results) < len(node.outputs):  # parts that nobody reads are not among them
            fixed(facts[0].shape[axis])
        else:
            found.same(facts[0].shape[axis], sum((fact.shape[axis] for fact in results), 0))


def _topk(
    found: Agreement, node: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    if facts[0] is not None:
        axis = node.attributes["axis"].value if "axis" in node.attributes else -1
        found.reach.append((facts[0].shape[axis], results[0].shape[axis]))


def _along_lines(
    found: Agreement, node: Node, facts: Sequence[Fact | None], _: Sequence[Fact]
) -> None:
    """Lines of the first input are no fewer than those of the others, which are alike."""
    data, *others = (fact.shape for fact in facts if fact is not None)
    axis = (node.attributes["axis"].value if "axis" in node.attributes else 0) % len(data)
    for place, (whole, extent) in enumerate(zip(data, others[0], strict=True)):
        if place != axis and whole != extent:
            found.reach.append((whole, extent))
    for extents in others[1:]:
        for one, other in zip(others[0], extents, strict=True):
            found.same(one, other)


def _scatter_nd(
    found: Agreement, _: Node, facts: Sequence[Fact | None], __: Sequence[Fact]
) -> None:
    """Updates are parts of the data, one for each place."""
    data, indices, updates = (fact.shape for fact in facts if fact is not None)
    depth = known(indices[-1])
    if depth is None:
        raise NothingSaid
    for one, other in zip((*indices[:-1], *data[depth:]), updates, strict=True):
        found.same(one, other)


def _grid_sample(
    found: Agreement, _: Node, facts: Sequence[Fact | None], __: Sequence[Fact]
) -> None:
    image, grid = (fact.shape for fact in facts if fact is not None)
    if known(grid[-1]) is None:
        raise NothingSaid
    found.same(image[0], grid[0])


def _affine_grid(
    found: Agreement, _: Node, facts: Sequence[Fact | None], results: Sequence[Fact]
) -> None:
    theta, grid = facts[0], results[0]
    if theta is None:
        raise NothingSaid
    rank = grid.rank - 2
    for extent, wanted in zip(theta.shape, (grid.shape[0], rank, rank + 1), strict=True):
        found.same(extent, wanted)


def _max_roi_pool(
    _: Agreement, __: Node, facts: Sequence[Fact | None], ___: Sequence[Fact]
) -> None:
    fixed(*(fact.shape[1] for fact in facts if fact is not None))


def _reverse_sequence(
    found: Agreement, node: Node, facts: Sequence[Fact | None], _: Sequence[Fact]
) -> None:
    data, lengths = (fact.shape for fact in facts if fact is not None)
    axis = node.attributes["batch_axis"].value if "batch_axis" in node.attributes else 1
    found.same(data[axis], lengths[0])


def _roi_align(found: Agreement, _: Node, facts: Sequence[Fact | None], __: Sequence[Fact]) -> None:
    rois, images = (fact.shape for fact in facts[1:] if fact is not None)
    if known(rois[1]) is None:
        raise NothingSaid
    found.same(rois[0], images[0])


def _crop_and_resize(
    found: Agreement, _: Node, facts: Sequence[Fact | None], __: Sequence[Fact]
) -> None:
    rois, images = (fact.shape for fact in facts[1:3] if fact is not None)
    size = facts[3]
    if known(rois[1]) is None or size is None or size.value is None:
        raise NothingSaid
    found.same(rois[0], images[0])


def _pad(found: Agreement, node: Node, facts: Sequence[Fact | None], __: Sequence[Fact]) -> None:
    """Rows that become longer or shorter; what continues them needs something that is kept."""
    mode = node.attributes["mode"].value if "mode" in node.attributes else "constant"
    pads = facts[1].value if len(facts) > 1 and facts[1] is not None else None
    named = facts[_PADDED] if len(facts) > _PADDED else None
    entries = dims_of(pads)
    if entries is None or facts[0] is None or (named is not None and named.constant is None):
        raise NothingSaid
    if mode == "constant":
        return
    axes = None if named is None or named.constant is None else named.constant.tolist()
    for extent, ends in zip(facts[0].shape, margins(facts[0].rank, entries, axes), strict=True):
        kept = extent - sum((maximum(-pad, 0) for pad in ends), 0)
        if known(kept) is None:
            found.reach.append((kept, 1))


_PADDED = 3
"""Inputs of a Pad of all axes: data, how much, with what."""


def _chosen(found: Agreement, node: Node, facts: Sequence[Fact | None], _: Sequence[Fact]) -> None:
    """A condition is no longer than the axis along which it chooses."""
    data, condition = (fact.shape for fact in facts[:2] if fact is not None)
    found.reach.append((data[node.attr("axis", 0)], condition[0]))


def _suppressed(
    found: Agreement, _: Node, facts: Sequence[Fact | None], __: Sequence[Fact]
) -> None:
    boxes, scores = facts[:2]
    if boxes is not None and scores is not None:
        found.same(boxes.shape[0], scores.shape[0])
        found.same(boxes.shape[1], scores.shape[2])
        found.same(boxes.shape[2], 4)


def _table_rows(_: Agreement, __: Node, facts: Sequence[Fact | None], ___: Sequence[Fact]) -> None:
    """Any indices do beside a table and scales of stored extents."""
    stored = [fact for fact in (facts[0], *facts[2:]) if fact is not None]
    if any(known(extent) is None for fact in stored for extent in fact.shape):
        raise NothingSaid


def _product(shape: Shape) -> DimLike:
    total: DimLike = 1
    for extent in shape:
        total = total * extent
    return total


_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "ArgMax", "ArgMin", "BitCast", "Cast", "CastLike", "ConstantOfShape", "CumProd",
            "CumSum", "Dropout", "DynamicQuantizeLinear", "EyeLike", "Flatten", "Gather",
            "Hardmax", "Identity", "LogSoftmax", "LpNormalization",
            "MeanVarianceNormalization", "OneHot", "Range", "ReduceL1", "ReduceL2",
            "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
            "ReduceProd", "ReduceSum", "ReduceSumSquare", "Shape", "Size", "Slice", "Softmax",
            "Tile", "Transpose", "Unsqueeze",
        ),
        _anything,
    ),
    **dict.fromkeys(
        (
            "BatchNormalization", "ConvTranspose", "DepthToSpace", "GlobalAveragePool",
            "GlobalLpPool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN",
        ),
        _image,
    ),
    **dict.fromkeys(
        ("AveragePool", "Conv", "ConvInteger", "LpPool", "MaxPool", "QLinearConv"), _windows
    ),
    **dict.fromkeys(("CenterCropPad", "Col2Im", "DFT"), _rows),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), scaled),
    **dict.fromkeys(("MatMulInteger", "QLinearMatMul"), product_of_bytes),
    "Trilu": numbers,
    "AffineGrid": _affine_grid,
    "Attention": attention,
    "DeformConv": _spread_windows,
    "MaxRoiPool": _max_roi_pool,
    "ReverseSequence": _reverse_sequence,
    "RotaryEmbedding": rotary,
    "SpaceToDepth": _pixels,
    **dict.fromkeys(("GatherElements", "Scatter", "ScatterElements"), _along_lines),
    "Concat": _concat,
    "Det": _square,
    "Einsum": _einsum,
    "GridSample": _grid_sample,
    "Pad": _pad,
    "RoiAlign": _roi_align,
    "ScatterND": _scatter_nd,
    "Expand": _expand,
    "LayerNormalization": _broadcast,
    "RMSNormalization": _broadcast,
    "SimplifiedLayerNormalization": _broadcast,
    "Split": _split,
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _recurrent),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "Squeeze": _reshape,
    "TopK": _topk,
    "GatherND": _gather_nd,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Reshape": _reshape,
}  # fmt: skip
_ML_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "Binarizer", "Imputer", "LinearClassifier", "LinearRegressor", "Normalizer",
            "SVMClassifier", "SVMRegressor", "Scaler", "TreeEnsemble", "TreeEnsembleClassifier",
            "TreeEnsembleRegressor",
        ),
        _rows,
    ),
    **dict.fromkeys(("LabelEncoder", "OneHotEncoder"), _anything),
    "ArrayFeatureExtractor": _columns,
    "FeatureVectorizer": _joined_rows,
}  # fmt: skip
_PART_RULES: dict[str, Rule] = {
    **dict.fromkeys(("Count", "Distinct", "Front", "Hits", "Places"), _anything),
    **dict.fromkeys(("Resized", "ScaledExtents"), _resize),
    "Chosen": _chosen,
    "Stretched": _stretched,
    "Suppressed": _suppressed,
}
_CONTRIBUTED: dict[str, Rule] = {
    **dict.fromkeys(("FusedMatMul", "TransposeMatMul"), _matmul),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip),
    **dict.fromkeys(("Attention", "QAttention"), self_attention),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), scaled),
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QGemm"), product_of_bytes),
    **dict.fromkeys(("EmbedLayerNormalization", "QEmbedLayerNormalization"), embedding),
    **dict.fromkeys(("QLinearSoftmax", "Trilu"), numbers),
    "ExpandDims": _anything,
    "GatherBlockQuantized": _table_rows,
    **dict.fromkeys(("GroupNorm", "QLinearGlobalAveragePool"), _image),
    **dict.fromkeys(("NhwcMaxPool", "QLinearAveragePool", "QLinearConv"), _windows),
    "CropAndResize": _crop_and_resize,
    "FusedConv": _added_image,
    "FusedGemm": _gemm,
    "Inverse": _square,
    "MultiHeadAttention": multi_head,
    "QLinearConcat": joined_bytes,
    "RotaryEmbedding": rotary,
    "GroupQueryAttention": cached,
    "MatMulNBits": packed_product,
}
_DOMAINS = {
    "com.microsoft": _CONTRIBUTED,
    "": _RULES,
    "ai.onnx.ml": _ML_RULES,
    "fornix.parts": _PART_RULES,
}
