"""Messages ⇄ graph IR, without loss: what is read and written again gives the same bytes.

`from_message` represents what breaks the standard as it is, so that it can be reported and
repaired; it fails only where nesting exceeds its limit. Tensors stay in their messages until they
are wanted, so reading copies no weights; the message must not change afterwards. How names are
resolved is `fornix.ir.scope`'s business, what the IR does not model `fornix.ir.leftover`'s, files
are `fornix.ir.files`'.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fornix.format.external import Folder
from fornix.format.limits import DEFAULT, Limits
from fornix.format.messages import ModelProto, own
from fornix.format.wire import Skeleton
from fornix.ir.reading import Reader
from fornix.ir.writing import Writer

if TYPE_CHECKING:
    from fornix.ir.graph import Model

__all__ = ["from_message", "to_message"]


def from_message(
    source: ModelProto | Skeleton[ModelProto],
    base_dir: str | os.PathLike[str] | None = None,
    *,
    limits: Limits = DEFAULT,
) -> Model:
    """The model that a message, or a skeleton whose payloads stand elsewhere, describes.

    ``base_dir`` is the folder that external data is relative to; a skeleton knows its own. Raises
    LimitError where nodes are more or graphs nest deeper than ``limits`` allow.
    """
    folder = None if base_dir is None else Folder(base_dir)
    if isinstance(source, Skeleton):
        reader, message = Reader(source, folder or source.folder, limits), source.message
    else:
        reader, message = Reader(None, folder, limits), own(source, ModelProto)
    with collector_paused():
        return reader.model(message)


def to_message(model: Model, *, limits: Limits = DEFAULT) -> ModelProto:
    """The message that describes ``model``, payloads included; external data stays external.

    Raises GraphError if something in it has no form as a message; LimitError where graphs nest
    deeper than ``limits`` allow.
    """
    message = ModelProto()
    Writer(limits).model(message, model)
    return message


@contextmanager
def collector_paused() -> Iterator[None]:
    """Do without Python's cycle collector: it would walk the growing model again and again.

    That takes longer than making the objects, of which none is garbage.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
