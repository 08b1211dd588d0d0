"""Tensors that stay in the message of the format that they came in."""

from __future__ import annotations

from typing import Any, TypeGuard
from weakref import ref

import numpy as np

from fornix.dtype import STRING, DType
from fornix.format.external import Folder, homeless, is_external
from fornix.format.mapped import MappedBytes, MappedFile, Payload
from fornix.format.messages import TensorProto
from fornix.format.tensors import to_array, unpack
from fornix.format.wire import Skeleton
from fornix.ir.leftover import as_text
from fornix.ir.tensor import MappedTensor, Stored, packed_bytes, packed_size

Array = np.ndarray[Any, np.dtype[Any]]

# Decoded copies up to this size (bytes) stay with their tensor; larger ones live while in use.
# Of payloads in files, smaller ones are copied: what becomes of the file is no matter then.
KEPT_BYTES = 1 << 16


class MessageTensor(Stored):
    """A tensor that stays in its message until its elements are wanted.

    The message must not change any more. Its payload may stand elsewhere: where ``skeleton`` has
    put it, or in an external file in ``folder``. `dtype` and `numpy` raise DTypeError or
    TensorDataError if the message is not sound, `numpy` also ExternalDataError; `shape` tells its
    dims unchecked.
    """

    __slots__ = ("_array", "_shared", "folder", "message", "skeleton")

    def __init__(
        self,
        message: TensorProto,
        skeleton: Skeleton[Any] | None = None,
        folder: Folder | None = None,
    ) -> None:
        self.message = message
        self.skeleton = skeleton
        self.folder = folder
        self._array: Array | None = None
        self._shared: ref[Array] | None = None

    @property
    def name(self) -> str:
        return as_text(self.message.name)

    @property
    def dtype(self) -> DType:
        return DType.of(self.message.data_type)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.message.dims)

    @property
    def nbytes(self) -> int:
        return packed_size(self.numpy(), STRING) if self.dtype is STRING else packed_bytes(self)

    @property
    def payload(self) -> Payload | None:
        """The bytes that stand elsewhere for it; None if the message has the data itself."""
        if is_external(self.message):
            if self.folder is None:
                raise homeless(self.message)
            return self.folder.payload(self.message)
        return None if self.skeleton is None else self.skeleton.marked(self.message.raw_data)

    @property
    def is_kept_elsewhere(self) -> bool:
        """Whether whoever made the message keeps the elements: its location begins with "#"."""
        if self.folder is not None or not is_external(self.message):
            return False
        said = {entry.key: entry.value for entry in self.message.external_data}
        return said.get("location", "").startswith("#")

    def numpy(self) -> Array:
        array = self._array if self._shared is None else self._shared()
        if array is None:
            payload = self.payload
            array = self._decoded(payload)
            array.flags.writeable = False
            if array.nbytes <= KEPT_BYTES and (payload is None or _is_copied(payload)):
                self._array = array
            else:
                self._shared = ref(array)
        return array

    def _decoded(self, payload: Payload | None) -> Array:
        if payload is None:
            return to_array(self.message)
        if _is_copied(payload):
            return unpack(self.message, memoryview(payload.tobytes()))
        return unpack(self.message, memoryview(payload.view()))

    @property
    def place(self) -> Payload | None:
        """The payload whose bytes `numpy` shows in place; None if it copies them."""
        payload = self.payload
        return None if payload is None or _is_copied(payload) else payload

    def tobytes(self) -> bytes:
        return self.dtype.pack(self.numpy())

    def __reduce__(self) -> tuple[type[Stored], tuple[object, ...]]:
        payload = None if is_external(self.message) else self.payload
        if payload is None:
            return MessageTensor, (self.message, None, self.folder)
        bare = TensorProto()
        bare.CopyFrom(self.message)
        bare.ClearField("raw_data")
        return MappedTensor, (payload, self.dtype, self.shape, self.name, bare)


def _is_copied(payload: Payload) -> TypeGuard[MappedBytes]:
    """Whether it is a small part of a file."""
    is_in_file = isinstance(payload, MappedBytes) and isinstance(payload.region, MappedFile)
    return is_in_file and payload.nbytes <= KEPT_BYTES
