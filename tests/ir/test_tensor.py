from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

from fornix.dtype import BFLOAT16, FLOAT32, INT4, INT64, STRING
from fornix.errors import DTypeError, LimitError, TensorDataError
from fornix.format.messages import TensorProto
from fornix.format.tensors import from_array
from fornix.ir.message_tensor import KEPT_BYTES, MessageTensor
from fornix.ir.tensor import ArrayTensor, LazyTensor, MappedTensor, SparseTensor, Tensor

NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)
WORDS = np.array(["a", "é"], object)


def make_sparse() -> SparseTensor:
    values = ArrayTensor(np.array([1.0, 4.0], np.float32), "t")
    return SparseTensor(values, ArrayTensor(np.array([[0, 1], [1, 1]])), (2, 3))


DENSE: list[Tensor] = [
    ArrayTensor(NUMBERS, "t"),
    LazyTensor(NUMBERS.copy, FLOAT32, (2, 3), "t"),
    MappedTensor(NUMBERS.tobytes(), FLOAT32, (2, 3), "t"),
    MessageTensor(from_array(NUMBERS, "t")),
]


@pytest.mark.parametrize("tensor", DENSE, ids=lambda x: type(x).__name__)
def test_every_storage_offers_the_same(tensor: Tensor) -> None:
    assert (tensor.name, tensor.dtype, tensor.shape, tensor.nbytes) == ("t", FLOAT32, (2, 3), 24)
    np.testing.assert_array_equal(tensor.numpy(), NUMBERS)
    assert tensor.tobytes() == NUMBERS.tobytes()
    assert repr(tensor) == f"<{type(tensor).__name__} t: float32[2, 3]>"


@pytest.mark.parametrize("tensor", [*DENSE, make_sparse()], ids=lambda x: type(x).__name__)
def test_arrays_that_tensors_hand_out_are_read_only(tensor: Tensor) -> None:
    assert not tensor.numpy().flags.writeable


@pytest.mark.parametrize("tensor", [*DENSE, make_sparse()], ids=lambda x: type(x).__name__)
def test_tensors_pickle_with_their_data_and_copies_share_it(tensor: Tensor) -> None:
    again = pickle.loads(pickle.dumps(tensor))
    np.testing.assert_array_equal(again.numpy(), tensor.numpy())
    assert (again.name, again.dtype, again.shape) == (tensor.name, tensor.dtype, tensor.shape)
    assert copy.copy(tensor) is tensor
    assert copy.deepcopy(tensor) is tensor


def test_the_array_of_the_caller_stays_writeable() -> None:
    array = NUMBERS.copy()
    ArrayTensor(array)
    array[0, 0] = 7


@pytest.mark.parametrize(
    "tensor",
    [
        ArrayTensor(WORDS),
        ArrayTensor(WORDS.astype(str)),
        LazyTensor(lambda: WORDS, STRING, (2,)),
        MessageTensor(from_array(WORDS)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_strings_are_object_arrays_and_have_no_packed_form(tensor: Tensor) -> None:
    assert tensor.dtype is STRING
    assert tensor.numpy().tolist() == ["a", "é"]
    assert tensor.numpy().dtype == object
    assert tensor.nbytes == 3
    with pytest.raises(DTypeError, match="packed storage needs elements of fixed width"):
        tensor.tobytes()


def test_small_elements_are_packed() -> None:
    four = ArrayTensor(np.array([1, -2, 3], INT4.numpy))
    assert (four.nbytes, four.tobytes()) == (2, b"\xe1\x03")
    mapped = MappedTensor(b"\xe1\x03", INT4, (3,))
    assert mapped.numpy().astype(int).tolist() == [1, -2, 3]
    assert MappedTensor(bytes(4), BFLOAT16, (2,)).numpy().dtype == BFLOAT16.numpy


def test_mapped_data_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(TensorDataError, match="6 elements of float32 take 24 bytes, found 20"):
        MappedTensor(bytes(20), FLOAT32, (2, 3)).numpy()


def test_a_lazy_tensor_is_made_once_and_keeps_its_promise() -> None:
    calls = []

    def make() -> np.ndarray:
        calls.append(1)
        return NUMBERS

    lazy = LazyTensor(make, FLOAT32, (2, 3))
    assert lazy.nbytes == 24
    assert not calls
    assert lazy.numpy() is lazy.numpy()
    assert len(calls) == 1
    message = r"tensor 'z': int64\[6\] was promised, found float32\[2, 3\]"
    with pytest.raises(TensorDataError, match=message):
        LazyTensor(lambda: NUMBERS, INT64, (6,), "z").numpy()


def test_small_decoded_messages_stay_and_large_ones_go_with_their_last_user() -> None:
    small = MessageTensor(TensorProto(dims=[2], data_type=1, float_data=[1.0, 2.0]))
    assert small.numpy() is small.numpy()
    count = KEPT_BYTES
    large = MessageTensor(TensorProto(dims=[count], data_type=1, raw_data=bytes(4 * count)))
    array = large.numpy()
    assert large.numpy() is array
    gone = weakref.ref(array)
    del array
    gc.collect()
    assert gone() is None
    assert large.numpy().size == count


@pytest.mark.parametrize("indices", [np.array([1, 4]), np.array([[0, 1], [1, 1]])])
def test_sparse_tensors_become_dense(indices: np.ndarray) -> None:
    values = ArrayTensor(np.array([1.0, 4.0], np.float32), "s")
    sparse = SparseTensor(values, ArrayTensor(indices), (2, 3))
    assert sparse.numpy().tolist() == [[0, 1, 0], [0, 4, 0]]
    assert (sparse.name, sparse.dtype, sparse.nbytes) == ("s", FLOAT32, 24)
    assert sparse.tobytes() == sparse.numpy().tobytes()
    words = SparseTensor(ArrayTensor(WORDS), ArrayTensor(np.array([0, 2])), (3,))
    assert words.numpy().tolist() == ["a", "", "é"]


@pytest.mark.parametrize(
    ("indices", "shape", "message"),
    [
        (np.array([1]), (3,), r"found values\[2\] and indices\[1\]"),
        (np.array([1, 3]), (3,), r"sparse tensor 's': an index lies outside \[3\]"),
        (np.array([1, -1]), (3,), r"an index lies outside \[3\]"),
        (np.array([[0, 3], [0, 0]]), (2, 3), r"an index lies outside \[2, 3\]"),
        (np.array([1, 2]), (-3, -1), r"dims ≥ 0 are required, found \[-3, -1\]"),
    ],
)
def test_sparse_tensors_that_contradict_themselves_are_refused(
    indices: np.ndarray, shape: tuple[int, ...], message: str
) -> None:
    values = ArrayTensor(np.ones(2, np.float32), "s")
    with pytest.raises(TensorDataError, match=message):
        SparseTensor(values, ArrayTensor(indices), shape).numpy()


def test_a_sparse_tensor_of_any_size_is_not_made_dense() -> None:
    values = ArrayTensor(np.ones(1, np.float32), "s")
    sparse = SparseTensor(values, ArrayTensor(np.array([1])), (1 << 20, 1 << 20))
    with pytest.raises(LimitError, match="at most 4294967296 bytes are made dense"):
        sparse.numpy()
