from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import fornix
from tools.train_demo import LEAST_ACCURACY, Digits, accuracy, load, model, train

DEMO = Path(__file__).parents[2] / "src" / "fornix" / "demo"
MODEL = DEMO / "digits.onnx"


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load()


@pytest.fixture(scope="module")
def shown() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    with np.load(DEMO / "digits.npz") as arrays:
        yield arrays["image"], arrays["label"]


def probabilities(x: np.ndarray) -> np.ndarray:
    (found,) = onnxruntime.InferenceSession(str(MODEL)).run(None, {"image": x})
    return np.asarray(found)


def test_files_are_small_and_inside_the_package() -> None:
    specification = importlib.util.find_spec("fornix")
    assert specification is not None
    assert specification.origin is not None
    assert Path(specification.origin).parent == DEMO.parent
    assert sum(file.stat().st_size for file in DEMO.iterdir()) < 200_000
    assert MODEL.stat().st_size < 150_000


def test_training_never_saw_the_test_pictures(digits: Digits) -> None:
    trained = {picture.tobytes() for picture in digits.train_x}
    assert not trained & {picture.tobytes() for picture in digits.test_x}


def test_shown_pictures_and_labels_are_from_the_test_part(
    digits: Digits, shown: tuple[np.ndarray, np.ndarray]
) -> None:
    known = {x.tobytes(): int(y) for x, y in zip(digits.test_x, digits.test_y, strict=True)}
    images, labels = shown
    assert images.dtype == np.float32
    assert images.shape == (12, 1, 8, 8)
    assert [known[x.tobytes()] for x in images] == labels.tolist()
    assert set(labels.tolist()) == set(range(10))


def test_the_model_is_what_it_says_it_is() -> None:
    proto = onnx.load(MODEL)
    onnx.checker.check_model(proto, full_check=True)
    (image,), (probability,) = proto.graph.input, proto.graph.output
    assert (image.name, probability.name) == ("image", "probability")
    for value, shape in ((image, ["N", 1, 8, 8]), (probability, ["N", 10])):
        dims = value.type.tensor_type.shape.dim
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert [dim.dim_param or dim.dim_value for dim in dims] == shape


def test_held_out_pictures_are_classified_as_promised(digits: Digits) -> None:
    found = probabilities(digits.test_x)
    assert (found.argmax(1) == digits.test_y).mean() >= LEAST_ACCURACY
    assert found.sum(1) == pytest.approx(1, abs=1e-6)


def test_session_agrees_with_onnxruntime(shown: tuple[np.ndarray, np.ndarray]) -> None:
    images, _ = shown
    (found,) = fornix.InferenceSession(str(MODEL)).run(["probability"], {"image": images})
    # scores are sums of at most 512 products: 8 · 2⁻²⁴ · √(9 + 144 + 288 + 512) ≈ 1.5e-5
    np.testing.assert_allclose(found, probabilities(images), rtol=0, atol=1.5e-5)


@pytest.mark.slow
def test_training_again_gives_a_model_as_good(digits: Digits, tmp_path: Path) -> None:
    network = train(digits, epochs=20)
    assert accuracy(network, digits.test_x, digits.test_y) >= LEAST_ACCURACY
    onnx.save(model(network), tmp_path / "digits.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "digits.onnx"))
    (found,) = session.run(None, {"image": digits.test_x})
    assert (found.argmax(1) == digits.test_y).mean() == pytest.approx(
        accuracy(network, digits.test_x, digits.test_y)
    )
