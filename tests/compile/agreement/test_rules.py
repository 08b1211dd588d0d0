"""What is said to suffice of extents suffices: the rule of the node gives what inference found."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix import InferenceSession
from fornix.compile.agreement.terms import Agreement
from fornix.compile.bounds import Bound
from fornix.compile.lower import Lowering
from fornix.compile.traits import Survey
from fornix.dtype import INT32, INT64
from fornix.errors import Fail, FornixError
from fornix.infer import infer_model
from fornix.ir.dim import Dim, DimLike, maximum, minimum, symbol
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.ir.loops import Variable
from fornix.ops.fact import Fact
from fornix.reference import ReferenceEvaluator
from fornix.runtime.sizing.extents import name_extents

HEAD = '<ir_version: 8, opset_import: ["" : 23, "ai.onnx.ml" : 3, "com.microsoft" : 1]>\n'
CASES = {
    "Add": "f (float[N, M, 4] x, float[K, 4] y) => (float[N, M, 4] z) { z = Add (x, y) }",
    "Where": """f (bool[N, 1] c, float[N, M] x, float[K] y) => (float[N, M] z) {
        z = Where (c, x, y) }""",
    "PRelu": "f (float[N, 1] x, float[K] s) => (float[N, 1] z) { z = PRelu (x, s) }",
    "MatMul": "f (float[N, M] x, float[K, 3] y) => (float[N, 3] z) { z = MatMul (x, y) }",
    "stack": "f (float[N, 2, M] x, float[K, M, 3] y) => (float[N, 2, 3] z) { z = MatMul (x, y) }",
    "Gemm": """f (float[M, N] x, float[K, 3] y, float[N, 3] c) => (float[N, 3] z) {
        z = Gemm <transA = 1> (x, y, c) }""",
    "Concat": """f (float[N, 3] x, float[M, 3] y, float[K, 3] w) => (float[L, 3] z) {
        z = Concat <axis = 0> (x, y, w) }""",
    "sides": "f (float[N, 3] x, float[M, 2] y) => (float[N, 5] z) { z = Concat <axis = 1> (x, y) }",
    "Reshape": """f (float[N, M] x) => (float[N, 2, K] z) <int64[3] s = {0, 2, -1}> {
        z = Reshape (x, s) }""",
    "Split": """f (float[N, 6] x) => (float[N, 3] y, float[N, 3] z) {
        y, z = Split <axis = 1, num_outputs = 2> (x) }""",
    "part": """f (float[N, 6] x) => (float[N, 3] y) {
        y, z = Split <axis = 1, num_outputs = 2> (x) }""",
    "TopK": """f (float[N, M] x) => (float[N, 3] y, int64[N, 3] z) <int64[1] k = {3}> {
        y, z = TopK (x, k) }""",
    "Squeeze": "f (float[N, 1, M] x) => (float[N, M] z) <int64[1] a = {1}> { z = Squeeze (x, a) }",
    "LayerNormalization": """f (float[N, M] x, float[K] s) => (float[N, M] z) {
        z = LayerNormalization (x, s) }""",
    "Softmax": "f (float[N, M] x) => (float[N, M] z) { z = Softmax (x) }",
    "Slice": """f (float[N, M] x) => (float[N, L] z) <int64[1] s = {1}, int64[1] e = {-1}> {
        z = Slice (x, s, e, s) }""",
    "Conv": """f (float[N, 2, M, K] x, float[3, 2, 3, 2] w) => (float[N, 3, M, K] z) {
        z = Conv <pads = [0, 1, 1, 1], strides = [1, 2]> (x, w) }""",
    "MaxPool": """f (float[N, 2, M, K] x) => (float[N, 2, A, B] z) {
        z = MaxPool <kernel_shape = [3, 2], strides = [2, 2]> (x) }""",
    "Tile": """f (float[N, M] x) => (float[A, B] z) <int64[2] r = {2, 3}> { z = Tile (x, r) }""",
    "Resize": """f (float[N, 1, M, K] x) => (float[N, 1, A, B] z) <float[4] s = {1, 1, 2, 3}> {
        z = Resize <mode = "linear"> (x, , s) }""",
    "LSTM": """f (float[M, N, 3] x, float[1, K, 2] h, float[1, 8, 3] w, float[1, 8, 2] r)
        => (float[M, 1, N, 2] y) { y = LSTM <hidden_size = 2> (x, w, r, , , h) }""",
    "GRU": """f (float[N, M, 3] x, int32[K] n, float[1, 6, 3] w, float[1, 6, 2] r)
        => (float[N, M, 1, 2] y) {
        y = GRU <hidden_size = 2, layout = 1> (x, w, r, , n) }""",
    "Scaler": """f (float[N, 2] x) => (float[N, 2] z) {
        z = ai.onnx.ml.Scaler <offset = [1.0, 2.0], scale = [1.0]> (x) }""",
    "OneHotEncoder": """f (int64[N, M] x) => (float[N, M, 3] z) {
        z = ai.onnx.ml.OneHotEncoder <cats_int64s = [0, 2, 5]> (x) }""",
    "LabelEncoder": """f (int64[N, M] x) => (float[N, M] z) {
        z = ai.onnx.ml.LabelEncoder <keys_int64s = [0, 2], values_floats = [1.0, 5.0]> (x) }""",
    "LinearRegressor": """f (float[N, 2] x) => (float[N, 1] z) {
        z = ai.onnx.ml.LinearRegressor <coefficients = [1.0, 2.0]> (x) }""",
    "GatherElements": """f (float[N, M] x, int64[K, 2] i) => (float[K, 2] z) {
        z = GatherElements <axis = -1> (x, i) }""",
    "ScatterElements": """f (float[N, 3] x, int64[M, 2] i, float[K, 2] u) => (float[N, 3] z) {
        z = ScatterElements <axis = 1> (x, i, u) }""",
    "ScatterND": """f (float[N, M] x, int64[K, 1] i, float[K, 3] u) => (float[N, M] z) {
        z = ScatterND (x, i, u) }""",
    "AffineGrid": """f (float[N, M, K] x) => (float[2, 3, 4, 2] z) <int64[4] s = {2, 1, 3, 4}> {
        z = AffineGrid (x, s) }""",
    "GridSample": """f (float[N, 2, M, 3] x, float[K, M, 2, 2] g) => (float[N, 2, M, 2] z) {
        z = GridSample (x, g) }""",
    "RoiAlign": """f (float[N, 2, 4, 4] x, float[M, 4] r, int64[K] i) => (float[M, 2, 1, 1] z) {
        z = RoiAlign (x, r, i) }""",
    "OneHot": """f (int64[N, M] i, float[2] v) => (float[N, M, 4] z) <int64 d = {4}> {
        z = OneHot (i, d, v) }""",
    "Pad": """f (float[N, M] x) => (float[A, B] z) <int64[4] p = {1, 0, 0, 2}> {
        z = Pad (x, p) }""",
    "continued": """f (float[N, M] x) => (float[A, B] z) <int64[4] p = {1, -1, 0, 2}> {
        z = Pad <mode = "reflect"> (x, p) }""",
    "Trilu": "f (float[N, M, K] x) => (float[N, M, K] z) { z = Trilu (x) }",
    "Det": "f (float[N, M, K] x) => (float[N] z) { z = Det (x) }",
    "DepthToSpace": """f (float[N, 4, M, K] x) => (float[N, 1, A, B] z) {
        z = DepthToSpace <blocksize = 2> (x) }""",
    "Einsum": """f (float[N, M, 2] x, float[M, K] y) => (float[N, K] z) {
        z = Einsum <equation = "bij,ik->bk"> (x, y) }""",
    "diagonal": """f (float[N, M, 2] x, float[K, 2] y) => (float[2] z) {
        z = Einsum <equation = "ii...,i..."> (x, y) }""",
    "LRN": "f (float[N, 3, M, K] x) => (float[N, 3, M, K] z) { z = LRN <size = 3> (x) }",
    "MeanVarianceNormalization": """f (float[N, M, K, 2] x) => (float[N, M, K, 2] z) {
        z = MeanVarianceNormalization (x) }""",
    "SimplifiedLayerNormalization": """f (float[N, M] x, float[K] s) => (float[N, M] z) {
        z = SimplifiedLayerNormalization (x, s) }""",
    "FusedMatMul": """f (float[M, N] x, float[2, 3, K] y) => (float[2, N, 3] z) {
        z = com.microsoft.FusedMatMul <transA = 1, transB = 1> (x, y) }""",
    "FusedGemm": """f (float[N, M] x, float[3, K] y, float[N, 1] c) => (float[N, 3] z) {
        z = com.microsoft.FusedGemm <transB = 1, activation = "Relu"> (x, y, c) }""",
    "FusedConv": """f (float[N, 2, M, 3] x, float[3, 2, 1, 1] w, float[K, 3, M, 3] a)
        => (float[N, 3, M, 3] z) { z = com.microsoft.FusedConv (x, w, , a) }""",
    "BiasGelu": """f (float[N, M] x, float[K] b) => (float[N, M] z) {
        z = com.microsoft.BiasGelu (x, b) }""",
    "SkipLayerNormalization": """f (float[N, 2, M] x, float[1, 2, K] y, float[K] s)
        => (float[N, 2, M] z) { z = com.microsoft.SkipLayerNormalization (x, y, s) }""",
    "strides": """f (float[N, 2, M, K] x) => (float[N, 2, A, B] z) {
        z = AveragePool <ceil_mode = 1, kernel_shape = [3, 4], strides = [2, 3]> (x) }""",
    "same": """f (float[N, 2, M, K] x, float[3, 2, 3, 2] w) => (float[N, 3, A, B] z) {
        z = Conv <auto_pad = "SAME_LOWER", strides = [2, 1]> (x, w) }""",
    "LpPool": """f (float[N, 2, M, K] x) => (float[N, 2, A, B] z) {
        z = LpPool <kernel_shape = [3, 1], pads = [0, 1, 0, 0]> (x) }""",
    "ConvTranspose": """f (float[N, 2, M, K] x, float[2, 3, 3, 2] w) => (float[N, 3, A, B] z) {
        z = ConvTranspose <pads = [1, 1, 2, 0]> (x, w) }""",
    "NhwcMaxPool": """f (uint8[N, M, K, 2] x) => (uint8[N, A, B, 2] z) {
        z = com.microsoft.NhwcMaxPool <kernel_shape = [2, 3]> (x) }""",
    "ConvInteger": """f (uint8[N, 2, M, K] x, int8[3, 2, 2, 2] w, uint8 a) => (int32[N, 3, A, B] z)
        { z = ConvInteger (x, w, a) }""",
    "QLinearConv": """f (uint8[N, 2, M, K] x, float s, uint8 a, int8[3, 2, 2, 2] w, float[3] t,
        int8[3] b) => (uint8[N, 3, A, B] z) { z = QLinearConv (x, s, a, w, t, b, s, a) }""",
    "DeformConv": """f (float[N, 1, M, 5] x, float[2, 1, 1, 2] w, float[K, 4, M, 4] o)
        => (float[N, 2, A, B] z) { z = DeformConv (x, w, o) }""",
    "SpaceToDepth": """f (float[N, 2, M, K] x) => (float[N, 8, A, B] z) {
        z = SpaceToDepth <blocksize = 2> (x) }""",
    "MaxRoiPool": """f (float[N, 2, 5, M] x, float[K, 5] r) => (float[K, 2, 1, 2] z) {
        z = MaxRoiPool <pooled_shape = [1, 2]> (x, r) }""",
    "ReverseSequence": """f (float[N, M, 2] x, int64[K] l) => (float[N, M, 2] z) {
        z = ReverseSequence <batch_axis = 0, time_axis = 1> (x, l) }""",
    "GroupNorm": """f (float[N, M, K, 4] x, float[4] s) => (float[N, M, K, 4] z) {
        z = com.microsoft.GroupNorm <activation = 1, groups = 2> (x, s, s) }""",
    "QuantizeLinear": """f (float[N, M] x, float[K] s, uint8[K] a) => (uint8[N, M] z) {
        z = QuantizeLinear (x, s, a) }""",
    "DequantizeLinear": """f (int8[N, M] x, float[K] s) => (float[N, M] z) {
        z = com.microsoft.DequantizeLinear <axis = -2> (x, s) }""",
    "MatMulInteger": """f (uint8[2, N, M] x, int8[K, 3] y, uint8 a, int8[3] b)
        => (int32[2, N, 3] z) { z = MatMulInteger (x, y, a, b) }""",
    "QLinearMatMul": """f (uint8[N, 2, M] x, float s, uint8 a, int8[K, M, 3] y, float[3] t, int8 b)
        => (uint8[N, 2, 3] z) { z = QLinearMatMul (x, s, a, y, t, b, s, a) }""",
    "QGemm": """f (uint8[N, M] x, float s, uint8 a, int8[3, K] y, int8 b) => (float[M, 3] z) {
        z = com.microsoft.QGemm <transA = 1, transB = 1> (x, s, a, y, s, b) }""",
    "QLinearConcat": """f (uint8[N, 2] x, uint8[M, 2] y, uint8[K, 2] w, float s, uint8 a)
        => (uint8[A, 2] z) {
        z = com.microsoft.QLinearConcat <axis = 0> (s, a, x, s, a, y, s, a, w, s, a) }""",
    "RotaryEmbedding": """f (float[N, M, 8] x, float[6, 2] c, int64[K, M] p)
        => (float[N, M, 8] z) {
        z = com.microsoft.RotaryEmbedding <num_heads = 2> (x, p, c, c) }""",
    "angles": """f (float[N, 2, M, 4] x, float[N, K, 2] c) => (float[N, 2, M, 4] z) {
        z = RotaryEmbedding (x, c, c) }""",
    "Attention": """f (float[N, M, 4] q, float[N, K, 4] k, float[1, M, K] m)
        => (float[N, M, 4] z) {
        z = Attention <kv_num_heads = 2, q_num_heads = 2> (q, k, k, m) }""",
    "cache": """f (float[N, 2, 1, 2] q, float[M, 2, 1, 2] k, float[N, 2, K, 2] p)
        => (float[N, 2, 1, 2] z, float[N, 2, A, 2] r, float[N, 2, A, 2] s) {
        z, r, s = Attention (q, k, k, , p, p) }""",
    "EmbedLayerNormalization": """f (int32[N, M] x, int32[K, M] s, float[9, 4] w, float[5, 4] p,
        float[4] g) => (float[N, M, 4] z, int32[N] n) {
        z, n = com.microsoft.EmbedLayerNormalization (x, s, w, p, w, g, g) }""",
    "self_attention": """f (float[N, M, 4] x, float[4, 12] w, int32[K, M] m, float[N, 2, 1, M] b)
        => (float[N, M, 4] z) {
        z = com.microsoft.Attention <num_heads = 2> (x, w, , m, , b) }""",
    "lengths": """f (float[N, M, 4] x, float[4, 12] w, int32[N] m, float[2, K, 2, 5, 2] p)
        => (float[N, M, 4] z, float[2, N, 2, A, 2] r) {
        z, r = com.microsoft.Attention <num_heads = 2> (x, w, , m, p) }""",
    "MultiHeadAttention": """f (float[N, M, 4] q, float[N, K, 4] k, float[N, K, 4] v,
        int32[1, K] m) => (float[N, M, 4] z) {
        z = com.microsoft.MultiHeadAttention <num_heads = 2> (q, k, v, , m) }""",
    "apart": """f (float[N, M, 4] q, float[K, 2, M, 2] k, float[N, 2, K, 2] v)
        => (float[N, M, 4] z) {
        z = com.microsoft.MultiHeadAttention <num_heads = 2> (q, k, v) }""",
    "mask of queries": """f (float[N, M, 4] x, float[4, 12] w, int32[1, M, K] m)
        => (float[N, M, 4] z) { z = com.microsoft.Attention <num_heads = 2> (x, w, , m) }""",
    "mask with room": """f (float[N, M, 4] x, float[4, 12] w, int32[N, 1, K, K] m)
        => (float[N, M, 4] z) { z = com.microsoft.Attention <num_heads = 2> (x, w, , m) }""",
    "QAttention": """f (uint8[N, M, 4] x, uint8[4, 12] w, float[12] b, float s, int32[K, M] m,
        uint8 o) => (float[N, M, 4] z) {
        z = com.microsoft.QAttention <num_heads = 2> (x, w, b, s, s, m, o, o) }""",
    "packed": """f (float[N, M, 2, 3, 4] q, float[K, 1, M, M] a)
        => (float[N, M, 8] z) {
        z = com.microsoft.MultiHeadAttention <num_heads = 2> (q, , , , , a) }""",
    "keys with values": """f (float[N, M, 4] q, float[N, K, 2, 2, 2] k, float[12] b)
        => (float[N, M, 4] z) {
        z = com.microsoft.MultiHeadAttention <num_heads = 2> (q, k, , b) }""",
    "named heads": """f (float[N, M, 4] q, float[N, M, K, 2, 2] k) => (float[N, M, 4] z) {
        z = com.microsoft.MultiHeadAttention <num_heads = 2> (q, k) }""",
    "named heads of all": """f (float[N, M, K, 3, 4] q) => (float[N, M, 8] z) {
        z = com.microsoft.MultiHeadAttention <num_heads = 2> (q) }""",
    "keys of before": """f (float[N, 1, 4] q, float[N, 2, M, 2] p, float[N, 2, K, 2] o)
        => (float[N, 1, 4] z, float[N, 2, A, 2] r, float[N, 2, A, 2] t) {
        z, r, t = com.microsoft.MultiHeadAttention <num_heads = 2> (q, q, q, , , , p, o) }""",
    "numbers of keys": """f (float[N, M, 4] q, float[N, K, 4] k, int32[N] m)
        => (float[N, M, 4] z) {
        z = com.microsoft.MultiHeadAttention <num_heads = 2> (q, k, k, , m) }""",
    "positions": """f (float[N, M, 8] x, float[6, 4] c, int64[K, M] p) => (float[N, M, 8] z) {
        z = RotaryEmbedding <num_heads = 1> (x, c, c, p) }""",
    "an offset": """f (float[N, 2, M, 4] x, float[6, 2] c, int64[1] p)
        => (float[N, 2, M, 4] z) { z = com.microsoft.RotaryEmbedding (x, p, c, c) }""",
    "stated positions": """f (int32[N, M] x, float[9, 4] w, float[5, 4] p, float[4] g,
        int32[1, K] i) => (float[N, M, 4] z, int32[N] n) {
        z, n = com.microsoft.EmbedLayerNormalization (x, , w, p, , g, g, , i) }""",
    "QEmbedLayerNormalization": """f (int32[N, M] x, int32[K, M] k, uint8[9, 4] w, uint8[5, 4] p,
        uint8[4] g, float s, uint8 o) => (float[N, M, 4] z, int32[N] n) {
        z, n = com.microsoft.QEmbedLayerNormalization
            (x, , w, p, , g, g, k, s, s, , s, s, o, o, , o, o) }""",
    "queries apart": """f (float[N, 2, M, 2] q, float[N, 1, K, 2] k, bool[M, K] m)
        => (float[N, 2, M, 2] z) { z = Attention (q, k, k, m) }""",
    "heads apart": """f (float[2, N, 3, M] q, float[2, K, 3, M] k) => (float[2, N, 3, M] z) {
        z = Attention (q, k, k) }""",
    "QLinearGlobalAveragePool": """f (uint8[N, M, K, 2] x, float s, uint8 o)
        => (uint8[N, 1, 1, 2] z) {
        z = com.microsoft.QLinearGlobalAveragePool <channels_last = 1> (x, s, o, s, o) }""",
    "GroupNormalization": """f (float[N, 4, M, K] x, float[4] s) => (float[N, 4, M, K] z) {
        z = GroupNormalization <num_groups = 2> (x, s, s) }""",
    "DynamicQuantizeMatMul": """f (float[N, M] x, int8[K, 3] w, float[3] s) => (float[N, 3] z) {
        z = com.microsoft.DynamicQuantizeMatMul (x, w, s) }""",
    "MatMulIntegerToFloat": """f (uint8[N, 2, M] x, int8[K, M, 3] w, float s, float[3] b)
        => (float[N, 2, 3] z) { z = com.microsoft.MatMulIntegerToFloat (x, w, s, s, , , b) }""",
    "CenterCropPad": """f (float[N, 3, 6] x) => (float[N, 4, 4] z) <int64[2] l = {4, 4}> {
        z = CenterCropPad <axes = [1, 2]> (x, l) }""",
    "Col2Im": """f (float[N, 4, 6] x) => (float[N, 1, 3, 4] z)
        <int64[2] i = {3, 4}, int64[2] b = {2, 2}> { z = Col2Im (x, i, b) }""",
    "DFT": "f (float[N, 5, 1] x) => (float[N, 5, 2] z) { z = DFT (x) }",
    "FeatureVectorizer": """f (float[N, 2] x, float[M, 1] y) => (float[A, 3] z) {
        z = ai.onnx.ml.FeatureVectorizer <inputdimensions = [2, 1]> (x, y) }""",
    "ArrayFeatureExtractor": """f (float[N, 4] x, int64[2] y) => (float[N, 2] z) {
        z = ai.onnx.ml.ArrayFeatureExtractor (x, y) }""",
    "GatherND": """f (float[N, M] x, int64[K, 1] i) => (float[K, M] z) { z = GatherND (x, i) }""",
}


def bound(d: DimLike, extents: dict[str, int]) -> DimLike:
    return d.bind(extents) if isinstance(d, Dim) else d


@pytest.mark.parametrize("may_be_empty", [False, True])
@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_extents_that_agree_are_valid(text: str, *, may_be_empty: bool) -> None:
    model = from_message(parser.parse_model(HEAD + text))
    name_extents(model, {name: symbol(name) for name in "NMK"})
    inference = infer_model(model)
    survey = Survey(Lowering(inference, ["N", "M", "K"]))
    (node,) = model.graph.nodes
    agreement = survey.agreement(node, may_be_empty=may_be_empty)
    evaluator = ReferenceEvaluator(parser.parse_model(HEAD + text))
    rng = np.random.default_rng(0)
    assert agreement is not None
    agreed = 0
    for numbers in itertools.product((0, 1, 2, 3, 4, 6), repeat=3):
        extents = dict(zip("NMK", numbers, strict=True))
        if all(bound(a, extents) == bound(b, extents) for a, b in agreement.equal) and all(
            bound(a, extents) >= bound(b, extents)  # type: ignore[operator]
            for a, b in agreement.reach
        ):
            agreed += 1
            survey.infer(node, extents)  # raises where it is not valid
            with contextlib.suppress(Fail):  # of what data say
                evaluator.run(None, feeds(model, extents, rng))  # and so does the kernel
    assert agreed


@pytest.mark.slow
@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_sessions_take_what_kernels_take_and_refuse_the_rest(text: str) -> None:
    message = parser.parse_model(HEAD + text)
    engines = ReferenceEvaluator(message), InferenceSession(message.SerializeToString())
    rng = np.random.default_rng(1)
    for numbers in [(2, 3, 3), (3, 3, 3), *rng.choice([0, 1, 2, 3, 4, 6], (8, 3)).tolist()]:
        given = feeds(from_message(message), dict(zip("NMK", numbers, strict=True)), rng)
        wanted, found = (results(engine, given) for engine in engines)
        assert (wanted is None) == (found is None), numbers
        for one, other in zip(found or (), wanted or (), strict=True):
            is_float = one.dtype.kind == "f"  # bytes are rounded, at halves either way
            np.testing.assert_allclose(
                one.astype(np.float64), other, rtol=ROUNDING, atol=ROUNDING if is_float else 1
            )


ROUNDING = 1e-4
"""Sums of small numbers in another order."""


def results(engine: ReferenceEvaluator | InferenceSession, given: Any) -> list[Any] | None:
    try:
        return engine.run(None, given)
    except FornixError:
        return None


def feeds(
    model: Model, extents: dict[str, int], rng: np.random.Generator
) -> dict[str, np.ndarray[Any, Any]]:
    """Zeros for integers that may be positions, small numbers for other inputs."""
    given = {}
    for value in model.graph.inputs:
        fact = Fact(value.type)
        assert fact.dtype is not None
        shape = [bound(d, extents) for d in fact.shape]
        numbers = rng.integers(1, 4, shape)  # type: ignore[arg-type]
        is_place = fact.dtype in {INT32, INT64}
        given[value.name] = (numbers * (not is_place)).astype(fact.dtype.numpy)
    return given


def test_nothing_is_said_of_products_that_turn_a_batch() -> None:
    text = """f (float[N, 2, M] x, float[2, K, 3] y) => (float[A, B, C] z) {
        z = com.microsoft.FusedMatMul <transBatchA = 1> (x, y) }"""
    model = from_message(parser.parse_model(HEAD + text))
    (node,) = model.graph.nodes
    assert Survey(Lowering(infer_model(model), ["N", "M", "K"])).agreement(node) is None


def test_nothing_is_said_of_other_operators() -> None:
    text = """f (float[N, 3] x, int64[M] t) => (float z) {
        z = NegativeLogLikelihoodLoss (x, t) }"""
    model = from_message(parser.parse_model(HEAD + text))
    name_extents(model, {})
    survey = Survey(Lowering(infer_model(model), ["N", "M"]))
    (node,) = model.graph.nodes
    assert survey.agreement(node) is None


N, T, LENGTH = (symbol(name, least=1) for name in ("n", "t", "l"))
HALF = (T + 1) // 2
"""No less than 1."""


def rows_of(count: DimLike, width: DimLike) -> DimLike:
    """Where an element lies along two axes."""
    row, column = Variable("i", count), Variable("j", width)
    return row.dim * width + column.dim


def test_extents_less_a_number_are_as_long_as_is_agreed() -> None:
    width = (T + 1) // 4 - 1
    agreed = Agreement(reach=[(width, 1)])
    assert agreed.proves(Bound(rows_of(N, width), N * width))
    assert not agreed.proves(Bound(rows_of(N, width) + 1, N * width))
    assert not Agreement(reach=[(width, -1)]).proves(Bound(rows_of(N, width + 1) + 1, N * width))


def test_a_multiple_is_of_what_is_as_long_as_is_agreed() -> None:
    length = symbol("l", least=0)
    last = Bound(length - 1, length)
    assert Agreement(reach=[(6 * length, 1)]).proves(last)
    assert Agreement(reach=[(6 * length - 5, 2)]).proves(Bound(length - 2, length))
    assert not Agreement(reach=[(6 * length - 5, 1)]).proves(Bound(length - 2, length))
    assert not Agreement(reach=[(6 * length, 0)]).proves(last)
    assert not Agreement(reach=[(6 * length + N, 1)]).proves(last)
    assert not Agreement(reach=[(length * N, 1)]).proves(Bound(length - 2, length))


def test_counts_that_are_equal_bound_the_same() -> None:
    agreed = Agreement(equal=[(N * LENGTH, HALF * 6)])
    assert agreed.proves(Bound(rows_of(HALF, 6), N * LENGTH))
    assert not agreed.proves(Bound(rows_of(HALF, 6) + 1, N * LENGTH))
    assert not Agreement().proves(Bound(rows_of(HALF, 6), N * LENGTH))


def test_a_minimum_is_no_more_than_what_it_is_of() -> None:
    shorter = minimum(LENGTH, HALF)
    agreed = Agreement(reach=[(shorter, 1)])
    row, column = Variable("i", N), Variable("j", shorter)
    assert agreed.proves(Bound(row.dim * LENGTH + column.dim, N * LENGTH))
    assert agreed.proves(Bound(rows_of(N, shorter), N * shorter))
    assert not agreed.proves(Bound(row.dim * LENGTH + column.dim + 1, N * LENGTH))


def test_what_is_no_more_than_something_ends_before_it() -> None:
    bound = Bound(rows_of(T, LENGTH), N * LENGTH)
    assert Agreement(reach=[(N, T)]).proves(bound)
    assert Agreement(reach=[(1, T)]).proves(Bound(rows_of(T, LENGTH), LENGTH))
    assert not Agreement(reach=[(T, N)]).proves(bound)
    assert not Agreement(reach=[(N + 1, T)]).proves(bound)
    assert not Agreement(reach=[(N, T)]).proves(Bound(rows_of(T, LENGTH) + 1, N * LENGTH))
    assert Agreement(reach=[(HALF, 2), (N, T)]).proves(Bound(rows_of(T, HALF) + 0, N * HALF))


def test_a_maximum_that_is_agreed_is_the_greater_of_its_choices() -> None:
    part = minimum(4, LENGTH - N)
    whole, last = maximum(0, part), maximum(0, part - 1)
    agreed = Agreement(reach=[(whole, 1)])
    assert agreed.proves(Bound(last, whole))
    assert agreed.proves(Bound(rows_of(N, whole), N * whole))
    assert not agreed.proves(Bound(last + 1, whole))
    assert not Agreement(reach=[(whole, 0)]).proves(Bound(last, whole))
    assert not Agreement(reach=[(maximum(2, part), 1)]).proves(Bound(last, part))


def test_a_quotient_may_be_made_of_others() -> None:
    before, behind, length = (symbol(name, least=0) for name in ("a", "b", "l"))
    half = (length + 1) // 2
    side = before + behind + half - 1
    places = (side - 3) // 2 + 1
    row, column, tap = Variable("i", places), Variable("j", places), Variable("k", 3)
    last = Bound((2 * row.dim + tap.dim) * side + 2 * column.dim + tap.dim, side * side)
    agreed = Agreement(reach=[(side, 1), (places, 1), (half, 1)])
    assert agreed.proves(last)
    assert not agreed.proves(Bound(last.address + 1, last.elements))
    assert not Agreement(reach=[(side, 1), (places, 1)]).proves(last)
