"""Models in half precision, by onnxruntime's names for it, over `fornix.edit.precision`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fornix.dtype import FLOAT16, FLOAT32
from fornix.edit.precision import Span, lower_precision, narrowed
from fornix.errors import NotSupported
from fornix.format.messages import ValueInfoProto, own
from fornix.format.tensors import from_array, to_array
from fornix.ir.files import load
from fornix.ir.load import from_message, to_message

DEFAULT_OP_BLOCK_LIST = [
    "ArrayFeatureExtractor", "Binarizer", "CastMap", "CategoryMapper", "DictVectorizer",
    "FeatureVectorizer", "Imputer", "LabelEncoder", "LinearClassifier", "LinearRegressor",
    "Normalizer", "OneHotEncoder", "RandomUniformLike", "SVMClassifier", "SVMRegressor", "Scaler",
    "TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble", "ZipMap",
    "NonMaxSuppression", "TopK", "RoiAlign", "Range", "CumSum", "Min", "Max", "Upsample",
]  # fmt: skip
"""Operators that go on in float32 unless another list is given."""
ALWAYS_FLOAT_INPUTS = {"Resize": [2], "GroupNorm": [1, 2], "SkipGroupNorm": [1, 2]}
"""Inputs that stay in float32: schemas say so too."""
LEAST, MOST = 5.96e-8, 65504.0
"""Positive numbers outside of these become the nearest."""


def convert_float_to_float16(
    model: Any,
    min_positive_val: float = LEAST,
    max_finite_val: float = MOST,
    keep_io_types: bool | Sequence[str] = False,
    disable_shape_infer: bool = False,
    op_block_list: Sequence[str] | None = None,
    node_block_list: Sequence[str] | None = None,
    force_fp16_initializers: bool = False,
    force_fp16_inputs: Mapping[str, Sequence[int]] | None = None,
    use_bfloat16_as_blocked_nodes_dtype: bool = False,
) -> Any:
    """A model like ``model``, which may be a path, that computes in float16.

    ``keep_io_types`` leaves inputs and outputs in float32, all or those called so. Types are
    inferred whatever ``disable_shape_infer`` says. Raises ValueError for what is no model, and
    NotSupported for what is to be computed against the operators' schemas, or in bfloat16.
    """
    if force_fp16_inputs or use_bfloat16_as_blocked_nodes_dtype:
        raise NotSupported(
            "convert_float_to_float16: force_fp16_inputs and use_bfloat16_as_blocked_nodes_dtype "
            "are not supported; leave them out"
        )
    is_path = isinstance(model, str | os.PathLike)
    if not is_path and not hasattr(model, "SerializeToString"):
        raise ValueError(f"a model or its path is required, found {type(model).__name__}")
    given = load(model) if is_path else from_message(own(model))
    names = [value.name for value in (*given.graph.inputs, *given.graph.outputs)]
    changed = lower_precision(
        given,
        FLOAT16,
        keep_io=[name for name in names if keep_io_types is True or name in (keep_io_types or ())],
        keep_ops=DEFAULT_OP_BLOCK_LIST if op_block_list is None else op_block_list,
        keep_nodes=node_block_list or (),
        span=Span(min_positive_val, max_finite_val),
        force_weights=force_fp16_initializers,
    )
    made = to_message(changed)
    is_ours = is_path or isinstance(model, type(made))
    return made if is_ours else type(model).FromString(made.SerializeToString())


def convert_np_to_float16(
    np_array: np.ndarray[Any, Any], min_positive_val: float = LEAST, max_finite_val: float = MOST
) -> np.ndarray[Any, Any]:
    """An array in float16: finite numbers stay finite, and none but 0 becomes 0."""
    return narrowed(np_array, FLOAT16, Span(min_positive_val, max_finite_val))


def convert_tensor_float_to_float16(
    tensor: Any, min_positive_val: float = LEAST, max_finite_val: float = MOST
) -> Any:
    """A message of a float32 tensor in float16; raises ValueError for what is none."""
    if getattr(tensor, "DESCRIPTOR", None) is None or not hasattr(tensor, "raw_data"):
        raise ValueError(f"a TensorProto is required, found {type(tensor).__name__}")
    if tensor.data_type != FLOAT32.code:
        return tensor
    array = to_array(own(tensor))
    made = from_array(convert_np_to_float16(array, min_positive_val, max_finite_val), tensor.name)
    tensor.Clear()
    tensor.MergeFromString(made.SerializeToString())
    return tensor


def float_to_float16_max_diff(
    tensor: Any, min_positive_val: float = LEAST, max_finite_val: float = MOST
) -> float:
    """How far the farthest element of a float32 tensor moves."""
    if getattr(tensor, "data_type", None) != FLOAT32.code:
        raise ValueError("a TensorProto of float32 is required")
    array = to_array(own(tensor))
    moved = convert_np_to_float16(array, min_positive_val, max_finite_val).astype(np.float32)
    return float(np.max(np.abs(array - moved), initial=0.0))


def make_value_info_from_tensor(tensor: Any) -> Any:
    """The declaration of a value like ``tensor``."""
    made = ValueInfoProto(name=tensor.name)
    made.type.tensor_type.elem_type = tensor.data_type
    for extent in tensor.dims:
        made.type.tensor_type.shape.dim.add().dim_value = extent
    return made
