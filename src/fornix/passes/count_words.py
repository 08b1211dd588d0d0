"""Texts that are cut into words which are counted, as one node; and what is computed with counts.

For sessions alone. Few words of a long list occur in a text, so work goes with those that do:

1. StringNormalizer, Tokenizer and TfIdfVectorizer in a row become WordCounts, times weights: of a
   list of texts, or of a column of them whose words Flatten puts in rows.
2. Counts times a row of numbers, divided by the length of each row, times a matrix become
   WordProduct, which reads no row of the matrix for a word that does not occur.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fornix.dtype import FLOAT32, STRING
from fornix.infer import Inference
from fornix.ir.attribute import plain_attributes
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ops.text_classes import word_class
from fornix.passes.apply import replace, sweep
from fornix.passes.make import Maker

PARTS, ML = "fornix.parts", "ai.onnx.ml"
MUL = 13
"""The opset whose operators compute with counts where a model has no opset of the standard's."""
NORMS = {"L1": 1, "L2": 2}
MOST_PRODUCTS = 256
"""Columns of a matrix up to which words are multiplied one by one."""


def count_words(model: Model, inference: Inference) -> bool:
    """Count words of texts, and multiply counts, without a row for each list; whether it did."""
    graph, changed = model.graph, False
    for node in [n for n in graph.nodes if n.op_type == "TfIdfVectorizer" and not n.domain]:
        found = _Words.of(node, inference)
        if found is not None:
            model.opset_imports.setdefault(PARTS, 1)
            _Counting(node, found, graph, inference).replace()
            changed = True
    for node in [n for n in graph.nodes if n.op_type == "WordCounts"]:
        _multiply(node, graph, inference)
    return changed


class _Words(NamedTuple):
    """Texts, and how their words are counted."""

    texts: Value
    attributes: dict[str, Any]
    """Those of WordCounts."""
    mode: str
    weights: np.ndarray[Any, Any]
    """By coordinate."""

    @classmethod
    def of(cls, node: Node, inference: Inference) -> _Words | None:
        """What ``node`` counts; None if it is not what code can count."""
        cutting = _cutting(node, inference)
        grams: dict[str, Any] = {**plain_attributes(node.attributes, {})}
        pool = grams.get("pool_strings")
        if cutting is None or not pool or node in inference.broken:
            return None
        texts, attributes = cutting
        indexes, mode = grams["ngram_indexes"], grams.pop("mode")
        given = grams.pop("weights", None)
        weights = np.array([1] * len(indexes) if given is None else given, np.float32)
        is_plain = len(weights) == len(indexes) == len(set(indexes)) and min(indexes) >= 0
        if not is_plain or not (np.isfinite(weights) & (weights >= 0)).all():
            return None
        if attributes["pad_value"] in pool:
            return None
        placed = np.zeros(max(indexes) + 1, np.float32)
        placed[indexes] = weights
        return cls(texts, attributes | grams, mode, placed)


def _cutting(node: Node, inference: Inference) -> tuple[Value, dict[str, Any]] | None:
    """The texts that Tokenizer cuts for ``node``, and how."""
    cut = _made_by(node.inputs[0], {"Tokenizer"}, {"Flatten", "Identity"}, inference)
    if cut is None:
        return None
    attributes: dict[str, Any] = {**plain_attributes(cut.attributes, {})}
    words = word_class(attributes.get("tokenexp"), attributes.get("separators"))
    if words is None or attributes.pop("mark", 0) or attributes.get("mincharnum", 0) < 1:
        return None
    attributes["case_change_action"] = "NONE"
    (texts,) = cut.inputs
    normal = texts.producer if texts is not None else None
    if normal is not None and normal.op_type == "StringNormalizer" and not normal.domain:
        if normal.attr("stopwords"):
            return None
        attributes["case_change_action"] = normal.attr("case_change_action", "NONE")
        (texts,) = normal.inputs
    fact = None if texts is None else inference.fact(texts)
    if fact is None or not fact.has_rank or fact.dtype is not STRING or fact.constant is not None:
        return None
    rest = {(), (1,)} if texts is cut.inputs[0] else {()}  # StringNormalizer refuses columns
    if texts is None or fact.shape[1:] not in rest or fact.rank == 0 or fact.shape[0] == 0:
        return None
    return _flat_source(texts, inference), attributes


def _flat_source(texts: Value, inference: Inference) -> Value:
    """What a list of ``texts`` was before a Reshape made it a list."""
    node = texts.producer
    if node is None or node.domain or node.op_type != "Reshape" or node in inference.broken:
        return texts
    x, shape = node.inputs[:2]
    to = inference.fact(shape).constant if shape is not None else None
    if x is None or to is None or to.tolist() != [-1] or not inference.fact(x).has_rank:
        return texts
    extents = inference.fact(x).shape
    return texts if 0 in extents or inference.fact(x).constant is not None else x


def _made_by(
    value: Value | None, wanted: set[str], passed: set[str], inference: Inference
) -> Node | None:
    """The node that makes ``value``, past some that leave it as it is."""
    node = value.producer if value is not None else None
    while node is not None and node.op_type in passed and node not in inference.broken:
        x = node.inputs[0]
        is_flat = node.op_type != "Flatten" or _is_flat(node, inference)
        node = x.producer if is_flat and x is not None else None
    return node if node is not None and node.op_type in wanted else None


def _is_flat(node: Node, inference: Inference) -> bool:
    """Whether a Flatten takes nothing away but an axis of extent 1 behind the first."""
    fact = None if node.inputs[0] is None else inference.fact(node.inputs[0])
    if fact is None or not fact.has_rank or node.attr("axis", 1) != 1:
        return False
    return fact.rank == 2 or (fact.rank == 3 and fact.shape[1] == 1)


class _Counting:
    """A TfIdfVectorizer on its way to counts."""

    def __init__(self, node: Node, words: _Words, graph: Graph, inference: Inference) -> None:
        self.node, self.words, self.inference = node, words, inference
        self.make = Maker(node, graph, inference)

    def replace(self) -> None:
        """Put WordCounts in its place, times weights or compared with 0 if they are asked for."""
        words, make = self.words, self.make
        result = make.WordCounts(words.texts, domain=PARTS, **words.attributes)
        if words.mode == "IDF":
            zero = np.zeros((), np.float32)
            result = make.Where(make.Greater(result, zero), words.weights, zero)
        elif words.mode == "TFIDF":
            result = make.Mul(result, words.weights)
        replace(self.node, [result], self.inference)


# ── products


class _Chain(NamedTuple):
    """What is done with counts before they are multiplied by a matrix."""

    scale: np.ndarray[Any, Any]
    norm: int
    value: Value


def _multiply(node: Node, graph: Graph, inference: Inference) -> None:
    """Multiply the counts of ``node`` word by word, if that is all that is done with them."""
    chain = _chain(node, inference)
    user = _only_user(chain.value) if chain is not None else None
    if chain is None or user is None or user.inputs[0] is not chain.value:
        return
    weights = _weights(user, inference)
    if weights is None or weights.shape[1] > MOST_PRODUCTS or not np.isfinite(weights).all():
        return
    if weights.shape[0] != len(chain.scale):
        return
    texts = node.inputs[0]
    attributes = {**plain_attributes(node.attributes, {}), "norm": chain.norm}
    make = Maker(user, graph, inference)
    inputs = [texts, make.value(chain.scale), make.value(weights)]
    made = Node(PARTS, "WordProduct", inputs, 2, attributes, name=user.name)
    graph.insert_before(user, made)
    inference.update([made])
    product, size = made.outputs
    if chain.norm:
        length = make.Sqrt(size) if chain.norm == NORMS["L2"] else size
        one = np.ones((), np.float64)
        is_empty = make.Equal(length, np.zeros((), np.float64))
        product = make.Div(product, make.Where(is_empty, one, length))
    product = make.Cast(product, to=FLOAT32.code)
    if not user.domain:
        added = _added(user)
        replace(user, [product if added is None else make.Add(product, added)], inference)
        return
    count = weights.shape[1]
    user.set_attribute("coefficients", np.eye(count, dtype=np.float32).reshape(-1).tolist())
    user.set_input(0, product)
    sweep([chain.value])


def _only_user(value: Value) -> Node | None:
    """The one node that reads ``value``, if nobody else does."""
    return value.users[0] if value.use_count == 1 and not value.is_output else None


def _chain(node: Node, inference: Inference) -> _Chain | None:
    """What follows the counts of ``node``: products with a row of numbers, one normalization."""
    width = inference.fact(node.output).shape[1]
    if not isinstance(width, int):
        return None
    scale, norm, value = np.ones(width, np.float32), 0, node.output
    while (user := _only_user(value)) is not None and not norm:
        if user.op_type == "Normalizer" and user.attr("norm", "MAX") in NORMS:
            norm = NORMS[user.attr("norm")]
        elif user.op_type == "Mul" and not user.domain:
            factor = _row(user, value, width)
            if factor is None:
                break
            scale = scale * factor
        elif user.op_type != "Identity":
            break
        value = user.output
    return _Chain(scale, norm, value) if np.isfinite(scale).all() else None


def _row(user: Node, value: Value, width: int) -> np.ndarray[Any, Any] | None:
    """The stored row of numbers that ``user`` multiplies ``value`` with."""
    others = [x for x in user.inputs if x is not None and x is not value]
    found = _stored(others[0]) if len(others) == 1 else None
    if found is None or found.dtype != np.float32 or found.shape not in {(width,), (1, width)}:
        return None
    return np.asarray(found.reshape(-1))


def _weights(user: Node, inference: Inference) -> np.ndarray[Any, Any] | None:
    """The matrix that ``user`` multiplies its first input with."""
    if user.op_type in {"Gemm", "MatMul"} and not user.domain:
        return _matrix(user)
    if user.domain != ML or user.op_type not in {"LinearClassifier", "LinearRegressor"}:
        return None
    given = user.attr("coefficients") or []
    width = inference.fact(user.inputs[0]).shape[1] if user.inputs[0] is not None else None
    if not given or not isinstance(width, int) or len(given) % width:
        return None
    return np.ascontiguousarray(np.array(given, np.float32).reshape(-1, width).T)


def _stored(value: Value | None) -> np.ndarray[Any, Any] | None:
    """The numbers that are stored for ``value``."""
    return None if value is None or value.constant is None else value.constant.numpy()


def _matrix(user: Node) -> np.ndarray[Any, Any] | None:
    """The matrix of a MatMul or Gemm, as it is multiplied with."""
    found = _stored(user.inputs[1])
    if found is None or found.ndim != 2 or found.dtype != np.float32 or user.attr("transA", 0):
        return None
    if user.op_type == "Gemm" and len(user.inputs) > 2 and _added(user) is None:
        return None
    turned = found.T if user.attr("transB", 0) else found
    return np.ascontiguousarray(turned * np.float32(user.attr("alpha", 1.0)))


def _added(user: Node) -> np.ndarray[Any, Any] | None:
    """What a Gemm adds."""
    given = user.inputs[2] if len(user.inputs) > 2 else None
    found = _stored(given)
    if found is None or found.dtype != np.float32:
        return None
    return found * np.float32(user.attr("beta", 1.0))
