"""Messages of callers as fornix's own, and back; whoever passes anything else gets a TypeError."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from fornix.errors import FormatError
from fornix.format.messages import own

M = TypeVar("M", bound=Message)


def owned(source: object, kind: type[M]) -> M:
    """``source`` as a message of fornix; raises TypeError for anything but a ``kind``."""
    try:
        return own(source, kind)
    except FormatError as error:
        raise TypeError(str(error)) from None


def put(result: Message, into: Message) -> None:
    """Let ``into``, a message of this package or of onnx, say what ``result`` does."""
    if type(into) is type(result):
        into.CopyFrom(result)
    else:
        into.ParseFromString(result.SerializeToString())
