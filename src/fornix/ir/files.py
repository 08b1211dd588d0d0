"""`load` and `save`: models in files as the graph IR, with weights mapped and not copied.

Which formats there are, how files are mapped and written, and what is refused, is decided by
`fornix.format.files`.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from fornix.format.external import is_external
from fornix.format.files import PathLike, open_model, write_model
from fornix.format.limits import DEFAULT, Limits
from fornix.format.mapped import MappedBytes, Payload
from fornix.format.messages import ModelProto, TensorProto
from fornix.format.wire import THRESHOLD, Skeleton
from fornix.ir.load import from_message
from fornix.ir.writing import Writer

if TYPE_CHECKING:
    from fornix.ir.graph import Model
    from fornix.ir.message_tensor import MessageTensor

__all__ = ["load", "save"]


def load(
    source: PathLike | IO[bytes],
    format: str | None = None,  # noqa: A002 - onnx's name for it
    *,
    allow_links: bool = False,
    limits: Limits = DEFAULT,
) -> Model:
    """The model in a file, of any size; its weights stay in the file until they are wanted.

    The format follows from the extension unless given. Raises NoSuchFile, FormatError naming file
    and place, or LimitError; external data that is unsafe or missing raises ExternalDataError when
    its tensor is wanted. The file may be replaced meanwhile, but not cut.
    """
    skeleton = open_model(source, format, allow_links=allow_links, limits=limits)
    return from_message(skeleton, limits=limits)


def save(
    model: Model,
    target: PathLike | IO[bytes],
    format: str | None = None,  # noqa: A002 - onnx's name for it
    *,
    external_data: str | None = None,
    threshold: int = THRESHOLD,
    limits: Limits = DEFAULT,
) -> None:
    """Write ``model`` to a path, whole or not at all, or to an open file.

    Everything goes into one file, also what came from others; ``external_data`` names a file beside
    it that takes the tensors of ``threshold`` bytes and more, a safetensors file if it is called
    ``….safetensors``. Saving where the model was loaded
    from is safe.
    """
    skeleton = Skeleton(ModelProto())
    SkeletonWriter(skeleton, limits).model(skeleton.message, model)
    write_model(skeleton, target, format, external_data=external_data, threshold=threshold)


class SkeletonWriter(Writer):
    """Writes into a skeleton: large payloads are attached to it, not copied."""

    def __init__(self, skeleton: Skeleton[Any], limits: Limits = DEFAULT) -> None:
        super().__init__(limits)
        self.skeleton = skeleton

    def store(self, message: TensorProto, payload: Payload | bytes) -> None:
        there = MappedBytes.of(payload) if isinstance(payload, bytes) else payload
        if there.nbytes < THRESHOLD:
            super().store(message, there)
        else:
            self.skeleton.attach(message, there)

    def message_tensor(self, message: TensorProto, tensor: MessageTensor) -> None:
        super().message_tensor(message, tensor)
        if is_external(message):
            payload = tensor.payload
            message.ClearField("external_data")
            message.data_location = TensorProto.DEFAULT
            if payload is not None:
                self.store(message, payload)
