"""Recipes of ai.onnx.ml: linear models, vectors, tables and trees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.ops.differential.draw import Arguments, Draw

Recipe = Callable[[Draw], Arguments]

TRANSFORMS = (None, "NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def reals(draw: Draw, count: int, least: float = -2.0, most: float = 2.0) -> list[float]:
    return [draw.real(least, most) for _ in range(count)]


def rows(draw: Draw, variable: str, width: int) -> Any:
    return draw.weights(variable, (draw.whole(1, 4), width))


def array_feature_extractor(draw: Draw) -> Arguments:
    shape = draw.shape(1, 3, zero=False)
    places = draw.rng.integers(0, shape[-1], draw.whole(1, 4))
    return Arguments([draw.weights("T", shape), places])


def binarizer(draw: Draw) -> Arguments:
    return Arguments([draw.weights("T", draw.shape())], {"threshold": draw.maybe(draw.real)})


WORDS, NUMBERS = ["a", "b", "né"], [3, -1, 7]


def category_mapper(draw: Draw) -> Arguments:
    given = {"cats_strings": WORDS, "cats_int64s": NUMBERS}
    given |= {"default_string": draw.maybe(lambda: "?"), "default_int64": draw.maybe(lambda: -5)}
    shape = draw.shape()
    options = [*WORDS, "zz"] if draw.dtype("T1").kind == "string" else [*NUMBERS, 9]
    dtype = object if draw.dtype("T1").kind == "string" else np.int64
    return Arguments([draw.rng.choice(np.array(options, dtype), shape)], given)


def feature_vectorizer(draw: Draw) -> Arguments:
    batch = draw.whole(1, 3)
    widths = [draw.whole(1, 3) for _ in range(draw.whole(1, 3))]
    inputs = [draw.weights("T1", (batch, width)) for width in widths]
    return Arguments(inputs, {"inputdimensions": widths})


def imputer(draw: Draw) -> Arguments:
    x = rows(draw, "T", 3)
    is_int = x.dtype.kind == "i"
    count = draw.pick((1, 3))
    given: dict[str, Any]
    if is_int:
        least = draw.whole(-2, 2)
        given = {"imputed_value_int64s": list(range(count)), "replaced_value_int64": least}
    else:
        replaced = draw.pick((0.0, float("nan")))
        x = np.where(draw.rng.random(x.shape) < 0.4, np.asarray(replaced, x.dtype), x)
        given = {"imputed_value_floats": reals(draw, count), "replaced_value_float": replaced}
    return Arguments([x], given)


def label_encoder(draw: Draw) -> Arguments:
    source, target = draw.dtype("T1"), draw.dtype("T2")
    names = {"string": "strings", "int": "int64s", "float": "floats"}
    shape = draw.shape(0, 2)
    if draw.opset == 1:
        is_text = source.kind == "string"
        options: list[Any] = [*WORDS, "zz"] if is_text else [0, 1, 2, 5]
        x = draw.rng.choice(np.array(options, object if is_text else np.int64), shape)
        return Arguments([x], {"classes_strings": WORDS})
    if source.kind == target.kind == "string" and draw.opset == 1:
        raise AssertionError
    unlisted = {"double", "int16", "int32"}  # the lists of keys and values hold no such numbers
    if source.text in unlisted or target.text in unlisted:
        return tensor_label_encoder(draw)
    tables: dict[str, list[Any]] = {"string": WORDS, "int": NUMBERS, "float": [0.5, -1.0, 2.0]}
    keys, values = tables[source.kind], tables[target.kind]
    default = {"string": "default_string", "int": "default_int64", "float": "default_float"}
    given: dict[str, Any] = {f"keys_{names[source.kind]}": keys}
    given |= {f"values_{names[target.kind]}": values}
    if draw.chance():
        given[default[target.kind]] = {"string": "?", "int": -9, "float": -2.5}[target.kind]
    unknown = {"string": "zz", "int": 99, "float": 9.5}[source.kind]
    dtype = object if source.kind == "string" else source.numpy
    return Arguments([draw.rng.choice(np.array([*keys, unknown], dtype), shape)], given)


def tensor_label_encoder(draw: Draw) -> Arguments:
    count = int(draw.rng.choice([3, 10, 60]))
    numbers = draw.rng.permutation(count if draw.chance() else 4 * count)[:count] - count

    def table(dtype: Any, numbers: Any) -> Any:
        is_text = dtype.kind == "string"
        return np.array([*map(str, numbers)], object) if is_text else numbers.astype(dtype.numpy)

    source, target = draw.dtype("T1"), draw.dtype("T2")
    keys, values = table(source, numbers), table(target, np.arange(count))
    default = table(target, np.array([-1]))
    x = draw.rng.choice(
        np.concatenate([keys, table(source, np.array([99, 300]))]), draw.shape(0, 2)
    )
    given = {"keys_tensor": keys, "values_tensor": values, "default_tensor": default}
    return Arguments([x.astype(keys.dtype)], given)


def labels(draw: Draw, count: int, name: str = "classlabels_ints") -> dict[str, Any]:
    if draw.chance():
        return {name: [5, -2, 0, 9][:count]}
    return {"classlabels_strings": ["b", "a", "né", "c"][:count]}


def linear_classifier(draw: Draw) -> Arguments:
    width, classes = draw.whole(1, 3), draw.whole(2, 4)
    given: dict[str, Any] = {
        "coefficients": reals(draw, width * classes),
        "intercepts": draw.maybe(lambda: reals(draw, classes)),
        "post_transform": draw.pick(TRANSFORMS[:5]),
        **labels(draw, classes),
    }
    return Arguments([rows(draw, "T1", width)], given, 2)


def linear_regressor(draw: Draw) -> Arguments:
    width, targets = draw.whole(1, 3), draw.whole(1, 3)
    given = {
        "coefficients": reals(draw, width * targets),
        "intercepts": draw.maybe(lambda: reals(draw, targets)),
        "targets": targets,
        "post_transform": draw.pick(TRANSFORMS[:2]),
    }
    return Arguments([rows(draw, "T", width)], given)


def normalizer(draw: Draw) -> Arguments:
    return Arguments(
        [rows(draw, "T", draw.whole(1, 4))], {"norm": draw.pick((None, "MAX", "L1", "L2"))}
    )


def one_hot_encoder(draw: Draw) -> Arguments:
    is_text = draw.dtype("T").kind == "string"
    given: dict[str, Any] = {"cats_strings": WORDS} if is_text else {"cats_int64s": NUMBERS}
    options: list[Any] = [*WORDS, "zz"] if is_text else [*NUMBERS, 9]
    dtype = object if is_text else draw.dtype("T").numpy
    x = draw.rng.choice(np.array(options, object), draw.shape(0, 3)).astype(dtype)
    return Arguments([np.asarray(x)], given | {"zeros": draw.pick((None, 1))})


def scaler(draw: Draw) -> Arguments:
    width = draw.whole(1, 3)
    count = draw.pick((1, width))
    given = {"offset": reals(draw, count), "scale": reals(draw, count)}
    return Arguments([rows(draw, "T", width)], given)


def kernel(draw: Draw) -> dict[str, Any]:
    kind = draw.pick(("LINEAR", "POLY", "RBF", "SIGMOID"))
    return {
        "kernel_type": kind,
        "kernel_params": [draw.real(0.1, 1), draw.real(), draw.pick((1.0, 2.0))],
    }


def svm_regressor(draw: Draw) -> Arguments:
    width, count = draw.whole(1, 3), draw.whole(1, 4)
    given = {
        **kernel(draw),
        "coefficients": reals(draw, count),
        "support_vectors": reals(draw, count * width),
        "n_supports": count,
        "rho": reals(draw, 1),
        "one_class": draw.pick((None, 0, 1)),
        "post_transform": draw.pick(TRANSFORMS[:2]),
    }
    return Arguments([rows(draw, "T", width)], given)


def svm_classifier(draw: Draw) -> Arguments:
    width, classes = draw.whole(1, 3), draw.whole(2, 4)
    per_class = [draw.whole(1, 2) for _ in range(classes)]
    count, pairs = sum(per_class), classes * (classes - 1) // 2
    given: dict[str, Any] = {
        **kernel(draw),
        "vectors_per_class": per_class,
        "support_vectors": reals(draw, count * width),
        "coefficients": reals(draw, (classes - 1) * count),
        "rho": reals(draw, pairs),
        **labels(draw, classes),
    }
    if draw.chance():
        given |= {"prob_a": reals(draw, pairs, -2, -0.5), "prob_b": reals(draw, pairs)}
    return Arguments([rows(draw, "T1", width)], given, 2)


MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


def tree_nodes(
    draw: Draw, trees: int, width: int
) -> tuple[dict[str, list[Any]], list[tuple[int, int]]]:
    """Nodes of random binary trees in the old form, and (tree, node) of each leaf."""
    nodes: dict[str, list[Any]] = {
        f"nodes_{name}": []
        for name in (
            "treeids nodeids featureids values modes truenodeids falsenodeids"
            " missing_value_tracks_true hitrates"
        ).split()
    }
    leaves = []
    mode = draw.pick(MODES)
    for tree in range(trees):
        depth = draw.whole(0, 2)
        inner = 2**depth - 1
        for node in range(2 * inner + 1):
            is_leaf = node >= inner
            if is_leaf:
                leaves.append((tree, node))
            entries = {
                "treeids": tree, "nodeids": node,
                "featureids": 0 if is_leaf else draw.whole(0, width - 1),
                "values": 0.0 if is_leaf else draw.pick((0.5, -0.5, 0.0, 1.0)),
                "modes": "LEAF" if is_leaf else mode,
                "truenodeids": 0 if is_leaf else 2 * node + 1,
                "falsenodeids": 0 if is_leaf else 2 * node + 2,
                "missing_value_tracks_true": 0 if is_leaf else draw.whole(0, 1),
                "hitrates": 1.0,
            }  # fmt: skip
            for name, value in entries.items():
                nodes[f"nodes_{name}"].append(value)
    return nodes, leaves


def tree_rows(draw: Draw, variable: str, width: int) -> Any:
    """Numbers on and beside the thresholds, and missing ones."""
    dtype = draw.dtype(variable)
    shape = (draw.whole(1, 5), width)
    options = [0.5, -0.5, 0.0, 1.0, 0.75, -3.0, *([np.nan] if dtype.is_float else [])]
    return draw.rng.choice(np.array(options), shape).astype(dtype.numpy)


def tree_regressor(draw: Draw) -> Arguments:
    width, targets = draw.whole(1, 3), draw.whole(1, 2)
    nodes, leaves = tree_nodes(draw, draw.whole(1, 3), width)
    given: dict[str, Any] = {
        **nodes,
        "target_treeids": [tree for tree, _ in leaves],
        "target_nodeids": [node for _, node in leaves],
        "target_ids": [draw.whole(0, targets - 1) for _ in leaves],
        "target_weights": reals(draw, len(leaves)),
        "n_targets": targets,
        "aggregate_function": draw.pick((None, "SUM", "AVERAGE", "MIN", "MAX")),
        "base_values": draw.maybe(lambda: reals(draw, targets)),
        "post_transform": draw.pick(TRANSFORMS[:2]),
    }
    return Arguments([tree_rows(draw, "T", width)], given)


def tree_classifier(draw: Draw) -> Arguments:
    width, classes = draw.whole(1, 3), draw.whole(2, 3)
    nodes, leaves = tree_nodes(draw, draw.whole(1, 3), width)
    votes = [(tree, node, c) for tree, node in leaves for c in range(classes)]
    given: dict[str, Any] = {
        **nodes,
        "class_treeids": [tree for tree, _, _ in votes],
        "class_nodeids": [node for _, node, _ in votes],
        "class_ids": [c for _, _, c in votes],
        "class_weights": reals(draw, len(votes), 0.1, 2),
        "base_values": draw.maybe(lambda: reals(draw, classes)),
        "post_transform": draw.pick(TRANSFORMS[:4]),
        **labels(draw, classes, "classlabels_int64s"),
    }
    return Arguments([tree_rows(draw, "T1", width)], given, 2)


ASKED = (0, 1, 2, 3, 4, 5, 6)
"""Numbers of the modes of TreeEnsemble; the last asks for members of a set."""


def tree_ensemble(draw: Draw) -> Arguments:
    """Random binary trees in the new form: nodes and leaves are numbered apart."""
    width, targets = draw.whole(1, 3), draw.whole(1, 3)
    names = "modes featureids splits truenodeids trueleafs falsenodeids falseleafs tracks".split()
    nodes: dict[str, list[Any]] = {name: [] for name in names}
    members: list[float] = []
    leaves: list[int] = []

    def grow(depth: int) -> int:
        """A node over ``depth`` levels of others; its number."""
        own, mode = len(nodes["modes"]), draw.pick(ASKED)
        for name in names:
            nodes[name].append(0)
        nodes["modes"][own], nodes["featureids"][own] = mode, draw.whole(0, width - 1)
        nodes["splits"][own] = draw.pick((0.5, -0.5, 0.0, 1.0))
        nodes["tracks"][own] = draw.whole(0, 1)
        if mode == ASKED[-1]:
            chosen = draw.rng.permutation([0.5, -3.0, 1.0, 0.75])[: draw.whole(1, 3)]
            members.extend([*map(float, chosen), float("nan")])
        for side in ("true", "false"):
            is_leaf = depth == 0 or draw.chance(0.3)
            nodes[f"{side}leafs"][own] = int(is_leaf)
            nodes[f"{side}nodeids"][own] = len(leaves) if is_leaf else grow(depth - 1)
            if is_leaf:
                leaves.append(draw.whole(0, targets - 1))
        return own

    roots = [grow(draw.whole(0, 2)) for _ in range(draw.whole(1, 3))]
    dtype = draw.dtype("T").numpy
    given: dict[str, Any] = {
        "tree_roots": roots,
        "n_targets": targets,
        "nodes_modes": np.array(nodes["modes"], np.uint8),
        "nodes_splits": np.array(nodes["splits"], dtype),
        "nodes_missing_value_tracks_true": draw.pick((None, nodes["tracks"])),
        "membership_values": np.array(members, dtype) if members else None,
        "leaf_targetids": leaves,
        "leaf_weights": np.array(reals(draw, len(leaves)), dtype),
        "aggregate_function": draw.pick((None, 0, 1, 2, 3)),
        "post_transform": draw.pick((None, 0, 1, 2, 3)),
    }
    for name in ("featureids", "truenodeids", "trueleafs", "falsenodeids", "falseleafs"):
        given[f"nodes_{name}"] = nodes[name]
    return Arguments([tree_rows(draw, "T", width)], given)


def cast_map(draw: Draw) -> Arguments:
    keys = [key for key in (0, 1, 2, 5) if draw.chance(0.7)] or [1]
    target, form = draw.pick(("TO_FLOAT", "TO_STRING", "TO_INT64")), draw.pick(("DENSE", "SPARSE"))
    texts = ["1", "-2.5", "7"] if target != "TO_INT64" else ["1", "-2", "7"]
    is_text = draw.chance()
    feed = {key: draw.pick(texts) if is_text else np.float32(draw.real()) for key in keys}
    return Arguments([feed], {"cast_to": target, "map_form": form, "max_map": draw.whole(1, 6)})


def zip_map(draw: Draw) -> Arguments:
    width = draw.whole(1, 3)
    x = draw.rng.standard_normal((draw.whole(1, 3), width)).astype(np.float32)
    return Arguments([x], labels(draw, width, "classlabels_int64s"))


def dict_vectorizer(draw: Draw) -> Arguments:
    texts = draw.chance()
    keys: list[Any] = WORDS if texts else NUMBERS
    chosen = [key for key in keys if draw.chance(0.7)] or keys[:1]
    values = {key: draw.real() for key in chosen}
    feed = {key: np.float32(value) for key, value in values.items()}
    return Arguments([feed], {"string_vocabulary" if texts else "int64_vocabulary": keys})


RECIPES: dict[str, Recipe] = {
    "ArrayFeatureExtractor": array_feature_extractor,
    "Binarizer": binarizer,
    "CastMap": cast_map,
    "CategoryMapper": category_mapper,
    "DictVectorizer": dict_vectorizer,
    "FeatureVectorizer": feature_vectorizer,
    "Imputer": imputer,
    "LabelEncoder": label_encoder,
    "LinearClassifier": linear_classifier,
    "LinearRegressor": linear_regressor,
    "Normalizer": normalizer,
    "OneHotEncoder": one_hot_encoder,
    "SVMClassifier": svm_classifier,
    "SVMRegressor": svm_regressor,
    "Scaler": scaler,
    "TreeEnsemble": tree_ensemble,
    "TreeEnsembleClassifier": tree_classifier,
    "TreeEnsembleRegressor": tree_regressor,
    "ZipMap": zip_map,
}
