"""Messages of callers as fornix's own, and back."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from fornix.errors import FormatError
from fornix.format.messages import own

M = TypeVar("M", bound=Message)


class WrongKind(FormatError, TypeError):
    """Something else than the message, text or path that is required; onnx raises TypeError."""


def owned(source: object, kind: type[M]) -> M:
    """``source`` as a message of fornix; raises WrongKind for anything but a ``kind``."""
    try:
        return own(source, kind)
    except FormatError as error:
        raise WrongKind(str(error)) from None


def owned_part(message: M) -> M:
    """``message``, of any kind, as one of fornix; raises WrongKind for anything else."""
    try:
        return own(message)
    except FormatError as error:
        raise WrongKind(str(error)) from None


def put(result: Message, into: Message) -> None:
    """Let ``into``, a message of this package or of onnx, say what ``result`` does."""
    if type(into) is type(result):
        into.CopyFrom(result)
    else:
        into.ParseFromString(result.SerializeToString())
