"""Where a peer is known to be wrong; each entry has its line in docs/compat.md.

`MISTAKES` maps operator and oracle to a condition on the case. Answers that a condition covers are
not compared; the other oracles' answers to the same case still are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.ops.differential.formulas.windows import pool
from tests.ops.differential.refused import Refused

if TYPE_CHECKING:
    from tests.ops.differential.space import Case

Condition = Callable[["Case"], bool]


def always(_: Case) -> bool:
    return True


def before(opset: int) -> Condition:
    return lambda case: case.opset < opset


def has(attribute: str, *values: Any) -> Condition:
    """The case gives ``attribute``, with one of ``values`` if there are any."""
    return lambda case: (
        attribute in case.attributes and (not values or case.attributes[attribute] in values)
    )


def is_extreme(attribute: str) -> Condition:
    """The attribute is NaN or infinite."""
    return lambda case: not np.isfinite(case.attributes.get(attribute, 0))


def dtype(*names: str) -> Condition:
    return lambda case: case.inputs[0].dtype.name in names


def dilated_along_one_axis(case: Case) -> bool:
    return case.inputs[1].size == 1 and case.attributes.get("dilations", [1]) != [1]


def rank_zero(case: Case) -> bool:
    return case.inputs[0].ndim == 0


def divides_integers_by_zero(case: Case) -> bool:
    divisor = case.inputs[1]
    return divisor.dtype.kind in "iu" and bool((divisor == 0).any())


def squares_vanish(case: Case) -> bool:
    """Squares of float16 are denormal or 0, or infinite."""
    size = np.abs(case.inputs[0].astype(np.float64))
    return dtype("float16")(case) and bool(((size > 2**8) | (size < 2**-7) & (size > 0)).any())


def infinite(case: Case) -> bool:
    """Not every input is finite."""
    return not all(
        np.isfinite(x.astype(np.float64)).all()
        for x in case.inputs
        if isinstance(x, np.ndarray) and x.dtype.kind in "fV"
    )


def sums_overflow(case: Case) -> bool:
    """Somewhere the sum of finite inputs is infinite in their type; their mean is not."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = sum(case.inputs[1:], case.inputs[0]).astype(np.float64)
    exact = sum(x.astype(np.float64) for x in case.inputs)
    return bool((np.isinf(total) & np.isfinite(exact)).any())


def has_nan(case: Case) -> bool:
    return bool(np.isnan(case.inputs[0].astype(np.float64)).any())


def is_float(case: Case) -> bool:
    return case.inputs[0].dtype.kind in "fV"


def is_integer(case: Case) -> bool:
    return case.inputs[0].dtype.kind in "iu"


def slices_backwards(case: Case) -> bool:
    """A step is negative and a start or an end may lie outside."""
    _, starts, ends, _, steps = (*case.inputs, None, None)[:5]
    if steps is None or not (steps < 0).any():
        return False
    least = min(case.inputs[0].shape)
    return bool((np.abs(np.concatenate([starts, ends]).astype(np.float64)) > least).any())


def names_no_axes(case: Case) -> bool:
    axes = case.inputs[1] if len(case.inputs) > 1 else case.attributes.get("axes")
    return axes is not None and len(axes) == 0


def empty_behind(case: Case) -> bool:
    """Nothing to reduce, and axes that count from the end."""
    axes = case.inputs[1] if len(case.inputs) > 1 else case.attributes.get("axes")
    return case.inputs[0].size == 0 and axes is not None and any(int(a) < 0 for a in axes)


def empty(case: Case) -> bool:
    return any(x is not None and x.size == 0 for x in case.inputs)


def empty_sequence(case: Case) -> bool:
    lengths = case.inputs[4] if len(case.inputs) > 4 else None
    return lengths is not None and bool((lengths == 0).any())


def to_strings_or_small(case: Case) -> bool:
    return case.inputs[1].dtype.itemsize == 1 or case.inputs[1].dtype == object


def of_strings(case: Case) -> bool:
    return case.inputs[0].dtype == object


def unit_extent(case: Case) -> bool:
    """An axis between aligned corners has one element."""
    return bool(case.attributes.get("align_corners")) and 1 in case.inputs[1][2:]


def between_elements(case: Case) -> bool:
    """Rounding decides which of two elements is nearest: positions are often whole or halves."""
    given = case.attributes
    is_nearest = given.get("mode", "nearest") == "nearest"
    places = given.get("coordinate_transformation_mode")
    return is_nearest and places in {"align_corners", "half_pixel_symmetric"}


def between_elements_in_float32(case: Case) -> bool:
    """The nearest by a scale that float32 cannot hold: 6 / 2.4 is 2.5 there, and less in double."""
    scales = case.inputs[2] if len(case.inputs) > 2 else None
    has_fractions = scales is not None and bool((np.mod(scales * 2, 1) != 0).any())
    return case.attributes.get("mode", "nearest") == "nearest" and has_fractions


def causal_with_past(case: Case) -> bool:
    queries, given = case.inputs[0], case.attributes
    return bool(given.get("is_causal")) and len(case.inputs) > 4 and queries.shape[-2] == 1


def mixed_types(case: Case) -> bool:
    return case.inputs[0].dtype != np.float32 or case.inputs[2].dtype != np.float32


def not_float32(case: Case) -> bool:
    return case.inputs[0].dtype != np.float32


def two_classes(case: Case) -> bool:
    given = case.attributes
    return len(given.get("classlabels_int64s") or given["classlabels_strings"]) == 2


def missing_differs(case: Case) -> bool:
    return "BRANCH_NEQ" in case.attributes["nodes_modes"] and infinite(case)


def misses_what_differs(case: Case) -> bool:
    """A missing value comes to BRANCH_NEQ, from which every threshold differs."""
    return bool((case.attributes["nodes_modes"] == 5).any()) and infinite(case)


def asks_for_members(case: Case) -> bool:
    return bool((case.attributes["nodes_modes"] == 6).any())


def several_targets(case: Case) -> bool:
    given = case.attributes
    return given["n_targets"] > 1 and ("base_values" in given or "aggregate_function" in given)


def repeats_categories(case: Case) -> bool:
    names = case.attributes.get("cats_int64s") or case.attributes["cats_strings"]
    return len(set(names)) < len(names)


def scale_of_another_type(case: Case) -> bool:
    return case.opset >= 23 and case.inputs[0].dtype != case.inputs[1].dtype


def one_element(case: Case) -> bool:
    return bool(case.inputs[0] == 1)


def at_the_end(case: Case) -> bool:
    return len(case.inputs) > 2 and int(case.inputs[2]) == len(case.inputs[0])


def overflows(case: Case) -> bool:
    return "Softplus" in case.attributes.get("activations", ())


def same_with_dilations(case: Case) -> bool:
    auto = case.attributes.get("auto_pad", "")
    return auto.startswith("SAME") and max(case.attributes.get("dilations") or [1]) > 1


def same_with_gaps(case: Case) -> bool:
    """Windows lie apart, so that SAME would pad negatively."""
    given = case.attributes
    pairs = zip(given.get("strides") or [], given["kernel_shape"], strict=False)
    return given.get("auto_pad", "").startswith("SAME") and any(s > k for s, k in pairs)


def padding_only(case: Case) -> bool:
    """Some window holds nothing but padding."""
    try:
        pool(case)
    except Refused:
        return True
    return False


REFERENCE, RUNTIME, WIDENED = "onnx.reference", "onnxruntime", "widened"

POOLS = "AveragePool LpPool MaxPool".split()
NAN_LOSES = "ArgMax ArgMin GlobalMaxPool MaxRoiPool".split()
REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd"
    " ReduceSum ReduceSumSquare"
).split()
WINDOWS = "BlackmanWindow HammingWindow HannWindow".split()
LEARNED = "FeatureVectorizer SVMRegressor Scaler TreeEnsembleClassifier".split()
LEGACY = "Add And Div Equal Greater Less Mul Or Pow Sub Xor".split()


def softmax_of_single_elements(case: Case) -> bool:
    shape, axis = case.inputs[0].shape, case.attributes["axis"] % case.inputs[0].ndim
    together = shape[axis:] if case.attributes["opset"] < OWN_AXIS else shape[axis : axis + 1]
    return bool(np.prod(together) == 1)


OWN_AXIS = 13
"""The opset from which on Softmax takes one axis, not all from it on."""

MISTAKES: dict[tuple[str, str], list[Condition]] = {
    # computes doubles with constants of float32
    ("com.microsoft.FastGelu", RUNTIME): [dtype("float64")],
    # gives 0, not 1
    ("com.microsoft.QLinearSoftmax", RUNTIME): [softmax_of_single_elements],
    # divides by the whole window where it leaves the padded image
    ("com.microsoft.QLinearAveragePool", RUNTIME): [has("ceil_mode", 1)],
    # multiplies by the transpose all the same
    **{("com.microsoft.MatMulBnb4", o): [has("transB", 0)] for o in (RUNTIME, WIDENED)},
    # zeros, or other rows, where it is to cast
    ("com.microsoft.MoE", RUNTIME): [dtype("float16")],
    # aligns B with the last axes whatever `axis` says
    **{(name, REFERENCE): [has("axis")] for name in LEGACY},
    # NumPy's answer to a division by zero, and to INT_MIN / −1, is no answer
    ("Div", REFERENCE): [has("axis"), divides_integers_by_zero],
    ("Div", "modern"): [divides_integers_by_zero],
    ("Mod", REFERENCE): [divides_integers_by_zero],
    # computes in floats, which hold no 64-bit integers
    ("Mod", RUNTIME): [has("fmod", 1)],
    # an absent bound is taken for the greatest finite number, although the standard's own function
    # body leaves infinities alone
    ("Clip", RUNTIME): [infinite],
    ("Clip", WIDENED): [infinite],
    # constants and results of float32 precision for double inputs
    ("Erf", REFERENCE): [dtype("float64"), is_integer],
    ("Gelu", REFERENCE): [dtype("float64")],
    ("Gelu", RUNTIME): [dtype("float64")],
    ("HardSwish", REFERENCE): [dtype("float64")],
    # before opset 13 the axis splits the shape in two; computes along the one axis instead
    ("Softmax", REFERENCE): [before(13)],
    ("LogSoftmax", REFERENCE): [before(13)],
    ("Hardmax", REFERENCE): [before(13)],
    # NaN and infinities vanish
    ("LogSoftmax", RUNTIME): [infinite],
    ("Hardmax", RUNTIME): [infinite],
    ("Hardmax", WIDENED): [infinite],
    # sums without absolute values; squares in float16
    ("LpNormalization", REFERENCE): [has("p", 1), squares_vanish],
    # the result of a scalar has no axis: "(0, N)"
    ("NonZero", RUNTIME): [rank_zero],
    ("NonZero", WIDENED): [rank_zero],
    # the slope of a channel is laid along the last axis; no channels of rank-1 tensors
    ("PRelu", REFERENCE): [before(7), infinite],
    # doubles are computed in float32; a window of one element is 0 / 0 in the function's body too
    **{(n, REFERENCE): [one_element] for n in WINDOWS},
    **{(n, RUNTIME): [one_element, has("output_datatype", 11)] for n in WINDOWS},
    # to 4 and 2 bits numbers are rounded instead of cut
    # and a float16 is printed as the float32 that it is too; what is false as a word is not said
    # −0 of float8 is true
    ("Cast", RUNTIME): [
        has("to", 8, 21, 22, 25, 26),
        dtype("float8_e8m0fnu", "float8_e4m3fn", "float8_e5m2"),
    ],
    ("Cast", WIDENED): [has("to", 8, 21, 22, 25, 26)],
    # infinity becomes NaN in float8e8m0 although it saturates
    ("Cast", REFERENCE): [has("to", 8, 9, 24)],
    ("CastLike", WIDENED): [to_strings_or_small],
    ("CastLike", REFERENCE): [to_strings_or_small, of_strings],
    # changes the case of ASCII alone in the locale C
    ("StringNormalizer", RUNTIME): [has("locale")],
    # classes such as \\w hold letters of all alphabets; RE2 has those of ASCII
    ("RegexFullMatch", REFERENCE): [always],
    # white space at the end is kept
    ("StringSplit", REFERENCE): [has("maxsplit")],
    ("CastLike", RUNTIME): [to_strings_or_small],
    # the position behind the last is taken for the front
    ("SequenceInsert", REFERENCE): [at_the_end],
    # keepdims counts although the lengths are given
    ("SplitToSequence", RUNTIME): [has("keepdims", 0)],
    # and ignored beside a scalar of 1, which the runtime and PyTorch's exporter take for no lengths
    ("SplitToSequence", REFERENCE): [has("keepdims", 0)],
    # takes accents away
    ("StringNormalizer", REFERENCE): [always],
    # an empty string has no part
    ("StringSplit", RUNTIME): [has("delimiter")],
    # the standard's function body divides 0 by 0 for an extent of 1 between aligned corners
    ("AffineGrid", REFERENCE): [unit_extent, dtype("bfloat16", "float16", "float64")],
    ("AffineGrid", RUNTIME): [unit_extent],
    ("AffineGrid", WIDENED): [unit_extent],
    # sums in float32
    ("DFT", RUNTIME): [dtype("float64")],
    # opset 28 fills strings with "0"
    # and cubic weights of an axis of one element leave the data
    # imaginary parts get lost
    # a target length of 1.5 is more than 1; regions begin elsewhere
    ("Resize", REFERENCE): [
        # weights of cubic interpolation in float32
        lambda case: case.inputs[0].dtype == np.float64 and has("mode", "cubic")(case),
        dtype("complex64", "complex128", "uint64", "int64"),
        has("coordinate_transformation_mode", "tf_crop_and_resize", "pytorch_half_pixel"),
        has("keep_aspect_ratio_policy"),
        between_elements,
        between_elements_in_float32,
    ],
    # divides by the integer target length, the standard's own cases by the fractional one
    # and regions of axes that keep their extents are ignored
    **{
        ("Resize", oracle): [
            has("coordinate_transformation_mode", "align_corners", "tf_crop_and_resize"),
            between_elements,
        ]
        for oracle in (RUNTIME, WIDENED, "indexed")
    },
    ("GridSample", REFERENCE): [
        dtype("object"),
        lambda case: 1 in case.inputs[0].shape[2:],
        has("padding_mode", "reflection"),
        has("mode", "cubic"),
    ],
    # of dilated windows along one axis, all channels but the first are wrong
    **{("Col2Im", oracle): [dilated_along_one_axis] for oracle in (RUNTIME, WIDENED)},
    # shifts by half a pixel before there was such a shift
    ("RoiAlign", REFERENCE): [before(16)],
    # scores in float32; a single causal query after a past sees all of several new keys
    ("Attention", RUNTIME): [dtype("float64"), causal_with_past],
    ("Attention", WIDENED): [causal_with_past],
    ("Attention", REFERENCE): [dtype("float64")],
    ("FlexAttention", REFERENCE): [dtype("float64")],
    # what is ignored counts in the mean
    ("NegativeLogLikelihoodLoss", REFERENCE): [has("ignore_index")],
    ("SoftmaxCrossEntropyLoss", REFERENCE): [has("ignore_index")],
    # divides in the type of the data or in float32 where the scale has another type
    **{("QuantizeLinear", o): [scale_of_another_type] for o in (RUNTIME, REFERENCE, WIDENED)},
    # rounds after the zero point was added instead of before, so halves go to the other side
    ("QLinearConv", REFERENCE): [always],
    ("QLinearMatMul", REFERENCE): [always],
    # results have the type of the learning rate
    **{(n, REFERENCE): [mixed_types] for n in ("Adagrad", "Momentum")},
    ("Adam", REFERENCE): [always],
    # of ai.onnx.ml: results have the type of the input
    **{(n, REFERENCE): [not_float32] for n in LEARNED},
    ("LinearClassifier", REFERENCE): [always],
    ("LinearRegressor", REFERENCE): [not_float32, lambda case: "intercepts" not in case.attributes],
    ("SVMClassifier", REFERENCE): [always],
    # the greatest number, not the greatest absolute one
    ("Normalizer", REFERENCE): [
        not_float32,
        has("norm", "MAX"),
        lambda c: "norm" not in c.attributes,
    ],
    # categories that are named twice count once
    ("OneHotEncoder", REFERENCE): [repeats_categories],
    ("DictVectorizer", REFERENCE): [always],
    # two classes: votes for the first do not count, labels may be 0 and 1, base values get lost
    ("TreeEnsembleClassifier", RUNTIME): [two_classes, missing_differs],
    # a missing value differs from every threshold; no vote, no base value
    ("TreeEnsembleRegressor", RUNTIME): [missing_differs, several_targets],
    ("TreeEnsembleRegressor", REFERENCE): [not_float32, several_targets],
    # knows the transforms by their names alone
    # of a target without votes the least or the greatest is that of float32
    ("TreeEnsemble", REFERENCE): [
        has("post_transform", 1, 2, 3),
        has("aggregate_function", 2, 3),
        misses_what_differs,
        not_float32,
    ],
    # exchanges SOFTMAX and LOGISTIC, transforms no single target, orders missing values, and takes
    # members for integers
    ("TreeEnsemble", RUNTIME): [
        has("post_transform", 1, 2, 3),
        lambda case: case.attributes["n_targets"] > 1,
        infinite,
        asks_for_members,
    ],
    # NaN of half precision has sign 0
    ("Sign", RUNTIME): [dtype("float16", "bfloat16")],
    # a sum of both branches, one of them multiplied by 0
    ("Elu", REFERENCE): [is_extreme("alpha")],
    ("LeakyRelu", REFERENCE): [is_extreme("alpha")],
    # default gamma 1.0507 is that of opset 6; a sum of both branches again
    ("Selu", REFERENCE): [before(6), is_extreme("gamma")],
    # ends before the first axis count from the end again
    ("Shape", REFERENCE): [lambda case: case.attributes.get("end", 0) < -case.inputs[0].ndim],
    # a value below min is compared with NaN
    ("SwiGLU", REFERENCE): [infinite],
    # opset 28 fills strings with "0" rather than with nothing
    ("CenterCropPad", REFERENCE): [dtype("object")],
    ("Trilu", REFERENCE): [dtype("object")],
    # takes 0 for the missing value, which float8e8m0 does not have, and makes it NaN
    ("Pad", REFERENCE): [
        dtype("object"),
        lambda case: (
            case.inputs[0].dtype.name == "float8_e8m0fnu"
            and has("mode", "constant")(case)
            and (len(case.inputs) < 3 or case.inputs[2] is None)
        ),
    ],
    # everybody adds first and divides then, but for a formula in double
    ("Mean", "formula"): [sums_overflow],
    # NaN of bfloat16 is not ordered at all
    ("TopK", REFERENCE): [lambda case: dtype("bfloat16")(case) and has_nan(case)],
    # before opset 11 indices did not count from the end
    ("OneHot", REFERENCE): [before(11)],
    ("OneHot", RUNTIME): [before(11)],
    ("OneHot", WIDENED): [before(11)],
    # the order of NaN is not said
    ("TopK", RUNTIME): [infinite],
    ("TopK", WIDENED): [infinite],
    # an end of INT_MAX with a negative step stands for the front
    ("Slice", RUNTIME): [slices_backwards],
    ("Slice", WIDENED): [slices_backwards],
    # a start before the front, with a negative step, is not moved to the front
    ("Slice", REFERENCE): [slices_backwards],
    # no axes are all axes
    ("Squeeze", RUNTIME): [names_no_axes],
    ("Squeeze", WIDENED): [names_no_axes],
    ("Squeeze", REFERENCE): [names_no_axes],
    # of each slice only the first string arrives
    ("Gather", RUNTIME): [dtype("object")],
    # sorts although asked not to
    ("Unique", REFERENCE): [has("sorted", 0)],
    # axes that are not sorted are inserted one after the other
    ("Unsqueeze", REFERENCE): [before(13)],
    # NaN loses against numbers
    **{(n, o): [infinite] for n in NAN_LOSES for o in (RUNTIME, WIDENED)},
    # results have the type of NumPy's sum
    ("ReduceSumSquare", REFERENCE): [is_integer],
    # NumPy's determinant of bfloat16 is a double
    ("Det", REFERENCE): [dtype("bfloat16")],
    # a sum of no products is whatever the memory held
    ("MatMul", RUNTIME): [empty],
    ("MatMul", WIDENED): [empty],
    # where there is nothing to reduce, negative axes are left as they are; integers are rounded
    **{(n, o): [empty_behind, infinite] for n in REDUCTIONS for o in (RUNTIME, WIDENED)},
    # products of integers that overflow are the greatest number
    ("ReduceProd", RUNTIME): [empty_behind, infinite, dtype("int32", "int64")],
    # the mean of nothing is what NumPy makes of 0 / 0
    ("GlobalAveragePool", REFERENCE): [empty],
    ("ReduceMean", REFERENCE): [empty],
    # subtracts the greatest element, infinity too, from itself
    ("ReduceLogSumExp", REFERENCE): [infinite],
    ("ReduceLogSumExp", RUNTIME): [is_integer, infinite, empty_behind],
    # directions, activations, clips, sequence lengths and layouts are ignored or wrong
    ("GRU", REFERENCE): [always],
    ("LSTM", REFERENCE): [always],
    ("RNN", REFERENCE): [always],
    # padding counts, NaN does not
    ("AveragePool", REFERENCE): [always],
    ("LpPool", REFERENCE): [always],
    ("MaxPool", REFERENCE): [always],
    ("BatchNormalization", REFERENCE): [before(14), has("training_mode", 1)],
    ("ConvTranspose", REFERENCE): [always],
    # computes in float32
    ("DeformConv", REFERENCE): [dtype("float64")],
    ("GroupNormalization", REFERENCE): [dtype("float64")],
    ("GroupNormalization", RUNTIME): [dtype("float64")],
    ("GlobalMaxPool", REFERENCE): [lambda case: case.inputs[0].ndim != 4],
    # the type of the mean is that of the input
    ("LayerNormalization", REFERENCE): [lambda case: case.outputs > 1],
    # one scale for all elements costs half of the digits
    ("LayerNormalization", RUNTIME): [
        lambda case: dtype("float64")(case) and case.inputs[1].ndim == 0
    ],
    ("RMSNormalization", REFERENCE): [lambda case: case.inputs[0].dtype != case.inputs[1].dtype],
    # E[x²] − E[x]² becomes negative
    ("MeanVarianceNormalization", REFERENCE): [always],
    ("MeanVarianceNormalization", WIDENED): [always],
    ("MeanVarianceNormalization", RUNTIME): [always],
    # loses the difference of a number and itself
    ("InstanceNormalization", RUNTIME): [lambda case: set(case.inputs[0].shape[2:]) == {1}],
    ("InstanceNormalization", WIDENED): [lambda case: set(case.inputs[0].shape[2:]) == {1}],
    # as many channels are normalized as there are images
    ("LRN", REFERENCE): [
        dtype("float64"),
        lambda case: case.inputs[0].shape[1] > case.inputs[0].shape[0],
    ],
    # multiplies the gaps of dilated filters, which are 0, with infinity
    ("Conv", REFERENCE): [infinite],
    ("Gemm", REFERENCE): [before(7)],
    # dilations do not count for auto_pad; windows of nothing but padding; negative padding
    **{
        (n, o): [infinite, padding_only, same_with_dilations, same_with_gaps]
        for n in POOLS
        for o in (RUNTIME, WIDENED)
    },
    # the last state of an empty sequence is 0; a clip does not bound the cell's last activation;
    # Softplus of more than 88 is infinite
    **{
        (n, o): [empty_sequence, has("clip"), overflows]
        for n in ("GRU", "LSTM", "RNN")
        for o in (RUNTIME, WIDENED)
    },
    ("Shrink", RUNTIME): [dtype("float64"), infinite],
    ("Shrink", WIDENED): [infinite],
    ("Shrink", REFERENCE): [is_integer, infinite],
}


def is_excused(case: Case, oracle: str) -> bool:
    """Whether ``oracle`` is known to be wrong about ``case``.

    Conditions are about legal cases; of one for which they cannot be told, nothing is asked.
    """
    try:
        return any(condition(case) for condition in MISTAKES.get((case.title, oracle), ()))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return True
