"""scikit-learn models on scikit-learn's own data, converted by skl2onnx.

It decides what is fitted, on which data and with which options of the converter; the truth is
what scikit-learn answers in float64 to the same float32 features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ValueInfoProto

from bench.models.cache import cached, read, write_cases
from bench.models.export import quiet
from bench.models.spec import Arrays, Built

# Raise it when a recipe below changes.
VERSION = 2
# The newest opsets that onnxruntime and the converter both know.
TARGET = {"": 21, "ai.onnx.ml": 3}
# Rows per feed.
ROWS = 40
# float32 scores of up to 64 features of unit scale: 8·2⁻²⁴·√64 ≈ 4e-6; softmax and sums over up
# to 30 trees add a little. Relative to the largest magnitude of the output.
PROBABILITY = 1e-5
# Kernels exp(−γ·|x − s|²) lose the digits of |x − s|², which is up to 100: 100·2⁻²⁴·√K ≈ 5e-5.
KERNEL = 1e-4


@dataclass(frozen=True)
class Recipe:
    """How to fit one estimator and what to expect from it.

    `load` names a loader of `sklearn.datasets`; `methods` of the estimator say the truth for the
    outputs of the ONNX model, in order; `options` go to the converter.
    """

    load: str
    estimator: Callable[[], Any]
    methods: tuple[str, ...]
    tolerance: float = PROBABILITY
    options: Mapping[str, Any] = field(default_factory=dict)
    text_labels: bool = False
    text_features: bool = False
    missing: bool = False


CLASSIFIER = ("predict", "predict_proba")
DECISION = ("predict", "decision_function")
REGRESSOR = ("predict",)
TRANSFORMER = ("transform",)
CLUSTERS = ("predict", "transform")
NO_ZIPMAP = {"zipmap": False}


def logistic_regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000)


def scaled_logistic_regression() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), logistic_regression())


def random_forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(30, max_depth=8, random_state=0)


def hundred_trees() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(100, random_state=0)


def five_hundred_trees() -> Any:
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(n_estimators=500, random_state=0)


def nearest_means() -> Any:
    from sklearn.cluster import KMeans

    return KMeans(10, n_init=1, random_state=0)


def forest_regressor() -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(20, max_depth=6, random_state=0)


def gradient_boosting() -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(n_estimators=10, random_state=0)


def boosting_regressor() -> Any:
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(n_estimators=20, random_state=0)


def decision_tree() -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=5, random_state=0)


def support_vectors() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(gamma=0.05))


def support_vector_regressor() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    return make_pipeline(StandardScaler(), SVR(gamma=0.05, C=100))


def perceptron() -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    network = MLPClassifier((16,), max_iter=40, tol=0.1, random_state=0)
    return make_pipeline(Normalizer(), network)


def linear_regression() -> Any:
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    return make_pipeline(MinMaxScaler(), LinearRegression())


def standard_scaler() -> Any:
    from sklearn.preprocessing import StandardScaler

    return StandardScaler()


def principal_components() -> Any:
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import RobustScaler

    return make_pipeline(RobustScaler(), PCA(4, random_state=0))


def imputed_forest() -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(SimpleImputer(), random_forest())


def mixed_columns() -> Any:
    """Column 0 holds words, the others numbers."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore"), [0]),
            ("numbers", StandardScaler(), list(range(1, 13))),
        ]
    )
    return make_pipeline(columns, logistic_regression())


CLASSICAL: dict[str, Recipe] = {
    "logistic_regression": Recipe("load_iris", logistic_regression, CLASSIFIER, options=NO_ZIPMAP),
    "logistic_regression_maps": Recipe(
        "load_wine", scaled_logistic_regression, CLASSIFIER, text_labels=True
    ),
    "logistic_regression_two_classes": Recipe(
        "load_breast_cancer", scaled_logistic_regression, CLASSIFIER, options=NO_ZIPMAP
    ),
    "scaled_logistic_regression": Recipe(
        "load_digits", scaled_logistic_regression, CLASSIFIER, options=NO_ZIPMAP
    ),
    "random_forest": Recipe("load_digits", random_forest, CLASSIFIER, options=NO_ZIPMAP),
    "hundred_trees": Recipe("load_digits", hundred_trees, CLASSIFIER, options=NO_ZIPMAP),
    "five_hundred_trees": Recipe("load_diabetes", five_hundred_trees, REGRESSOR),
    "nearest_means": Recipe("load_digits", nearest_means, CLUSTERS, KERNEL),
    "forest_regressor": Recipe("load_diabetes", forest_regressor, REGRESSOR),
    "gradient_boosting": Recipe("load_iris", gradient_boosting, CLASSIFIER, options=NO_ZIPMAP),
    "boosting_regressor": Recipe("load_diabetes", boosting_regressor, REGRESSOR),
    "decision_tree": Recipe("load_breast_cancer", decision_tree, CLASSIFIER, options=NO_ZIPMAP),
    "support_vectors": Recipe("load_wine", support_vectors, DECISION, KERNEL, options=NO_ZIPMAP),
    "support_vector_regressor": Recipe(
        "load_diabetes", support_vector_regressor, REGRESSOR, KERNEL
    ),
    "perceptron": Recipe("load_digits", perceptron, CLASSIFIER, options=NO_ZIPMAP),
    "linear_regression": Recipe("load_diabetes", linear_regression, REGRESSOR),
    "standard_scaler": Recipe("load_wine", standard_scaler, TRANSFORMER),
    "principal_components": Recipe("load_wine", principal_components, TRANSFORMER),
    "imputed_forest": Recipe(
        "load_breast_cancer", imputed_forest, CLASSIFIER, options=NO_ZIPMAP, missing=True
    ),
    "mixed_columns": Recipe(
        "load_wine", mixed_columns, CLASSIFIER, options=NO_ZIPMAP, text_features=True
    ),
}


def build_classical(name: str) -> Built:
    """The model ``name``, converted now or earlier, with feeds and scikit-learn's answers."""
    releases = f"sklearn{version('scikit-learn')}-skl2onnx{version('skl2onnx')}"

    def write(draft: Path) -> None:
        with quiet():
            fit(CLASSICAL[name], draft)

    return read(cached(f"{name}-v{VERSION}-{releases}", write))


def fit(recipe: Recipe, draft: Path) -> None:
    """Fit, convert and ask; write ``model.onnx`` and ``cases.npz`` into ``draft``."""
    from skl2onnx import to_onnx

    features, labels = data(recipe)
    model = recipe.estimator().fit(table(recipe, features), labels)
    options = {id(model): dict(recipe.options)} if recipe.options else None
    kinds = initial_types(recipe, features.shape[1])
    proto = to_onnx(model, initial_types=kinds, options=options, target_opset=TARGET)
    (draft / "model.onnx").write_bytes(proto.SerializeToString())
    batches = [features[:ROWS], shuffled(features)[:ROWS], features[:1]]
    feeds = [feed(recipe, rows) for rows in batches]
    answers = [
        {
            output.name: shaped(output, getattr(model, method)(table(recipe, rows)))
            for output, method in zip(proto.graph.output, recipe.methods, strict=True)
        }
        for rows in batches
    ]
    write_cases(draft / "cases.npz", feeds, answers, recipe.tolerance)


def shaped(output: ValueInfoProto, answer: np.ndarray) -> np.ndarray:
    """``answer`` as ``output`` has it: y[N, 1] where scikit-learn predicts y[N], and int64."""
    if answer.dtype.kind == "i":
        answer = answer.astype(np.int64)
    column = answer.ndim == 1 and len(output.type.tensor_type.shape.dim) == 2
    return answer[:, None] if column else answer


def data(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Features float32[N, K] in a seeded order, and labels; some NaN if the recipe says so."""
    from sklearn import datasets

    bunch = getattr(datasets, recipe.load)()
    stream = np.random.default_rng(0)
    order = stream.permutation(len(bunch.data))
    features = bunch.data[order].astype(np.float32)
    if recipe.missing:
        features[stream.random(features.shape) < 0.1] = np.nan
    labels = bunch.target[order]
    return features, bunch.target_names[labels] if recipe.text_labels else labels


def shuffled(features: np.ndarray) -> np.ndarray:
    """Rows that mix the features of different samples: data of the same scale, never seen."""
    return np.random.default_rng(1).permuted(features, axis=0)


def words(column: np.ndarray) -> np.ndarray:
    """Wine's alcohol, per cent by volume, told as text[N, 1]."""
    names = np.array(["light", "medium", "strong", "unverhältnismäßig"], dtype=object)
    return names[np.digitize(column, [12.5, 13.5, 14.5])][:, None]


def table(recipe: Recipe, rows: np.ndarray) -> np.ndarray:
    """``rows`` as the estimator takes them: float64, or objects with words in column 0."""
    if not recipe.text_features:
        return rows.astype(np.float64)
    mixed: np.ndarray = np.hstack([words(rows[:, 0]), rows[:, 1:].astype(object)])
    return mixed


def feed(recipe: Recipe, rows: np.ndarray) -> Arrays:
    """``rows`` as the ONNX model takes them."""
    if not recipe.text_features:
        return {"X": rows}
    return {"words": words(rows[:, 0]), "numbers": rows[:, 1:]}


def initial_types(recipe: Recipe, features: int) -> list[tuple[str, object]]:
    """Names and types of the ONNX inputs."""
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    if not recipe.text_features:
        return [("X", FloatTensorType([None, features]))]
    return [
        ("words", StringTensorType([None, 1])),
        ("numbers", FloatTensorType([None, features - 1])),
    ]
