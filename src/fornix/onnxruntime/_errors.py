"""Errors by onnxruntime's names, which are fornix errors at the same time.

Decides which of onnxruntime's names stand for what fornix says. An error that leaves the façade is
of the class that fornix raises and of the class that onnxruntime raises for the cause; its message
begins with onnxruntime's status. Where a node fails as it runs, onnxruntime raises one of three
classes, by the author of its kernel: ours are all three.
"""

from __future__ import annotations

import re

from fornix.dtype import DType
from fornix.errors import (
    ExternalDataError,
    Fail,
    FormatError,
    FornixError,
    InferenceError,
    InvalidArgument,
    InvalidUse,
    LimitError,
    NoSuchFile,
    NotSupported,
)


class NoModel(FornixError):
    """A session without a model."""


class EngineError(FornixError):
    """An engine that could not be started."""


class RuntimeException(FornixError):
    """A node that cannot compute its result."""


class InvalidProtobuf(FornixError):
    """Bytes that are no model."""


class ModelLoaded(FornixError):
    """A model that is loaded already."""


class NotImplemented(FornixError):
    """Something that is not implemented."""


class InvalidGraph(FornixError):
    """A model that breaks the standard."""


class EPFail(FornixError):
    """An execution provider that failed."""


class ModelLoadCanceled(FornixError):
    """Loading that was ended."""


class ModelRequiresCompilation(FornixError):
    """A model that has to be compiled ahead."""


class NotFound(FornixError):
    """Something that is not there."""


class DeviceReset(FornixError):
    """A device that was reset."""


class BadModel(InvalidGraph, InvalidArgument, Fail):
    """A model that breaks the standard: which of these onnxruntime raises depends on the rule."""


class FailedNode(Fail, RuntimeException, InvalidArgument):
    """A node that cannot compute its result from these inputs."""


STATUS: dict[type[FornixError], str] = {
    InvalidProtobuf: "7 : INVALID_PROTOBUF",
    NotImplemented: "9 : NOT_IMPLEMENTED",
    BadModel: "10 : INVALID_GRAPH",
    NoSuchFile: "3 : NO_SUCHFILE",
    FailedNode: "1 : FAIL",
    InvalidArgument: "2 : INVALID_ARGUMENT",
}
"""Status by class, the first that fits; "1 : FAIL" for others."""

LOADING: dict[type[FornixError], type[FornixError]] = {
    NoSuchFile: NoSuchFile,
    ExternalDataError: BadModel,
    FormatError: InvalidProtobuf,
    LimitError: Fail,
    NotSupported: NotImplemented,
    InvalidArgument: InvalidArgument,
    FornixError: BadModel,
}
RUNNING: dict[type[FornixError], type[FornixError]] = {
    NotSupported: NotImplemented,
    InvalidArgument: InvalidArgument,
    FornixError: FailedNode,
}
BOUND = RUNNING | {InvalidArgument: InvalidUse}
"""What fornix raises, and what onnxruntime does for that cause: the first that fits."""


ATTRIBUTE = re.compile(r"(\w+)-\d+ has the attributes .*, found '([^']*)'")
TYPE = re.compile(r"\((?:[\w.]*\.)?(\w+), opset \d+\): (\w+) is (\w+)\[.*, but .* allows ")
KEY = re.compile(r" is map\((\w+), .*, but the feed has the key .* of type (\w+)$")
"""What fornix says that onnxruntime has words for which programs look for."""


def with_words(message: str) -> str:
    """``message``, and onnxruntime's words for types, attributes and keys that do not fit."""
    if found := ATTRIBUTE.search(message):
        return f"{message}. Unrecognized attribute: {found[2]} for operator {found[1]}"
    if found := TYPE.search(message):
        name = DType.of(found[3]).text
        told = f"Type 'tensor({name})' of input parameter ({found[2]}) of operator ({found[1]})"
        return f"{message}. Type Error: {told} is invalid"
    if found := KEY.search(message):
        wanted = "std::string" if found[1] == "string" else "int64_t"
        told = f"Unexpected key type  <class '{found[2]}'>, it cannot be linked to C type {wanted}"
        return f"{message}. {told}"
    return message


def translated(
    error: FornixError, kinds: dict[type[FornixError], type[FornixError]]
) -> FornixError:
    """``error`` as an error of onnxruntime's too."""
    kind = next(theirs for ours, theirs in kinds.items() if isinstance(error, ours))
    status = next((text for x, text in STATUS.items() if issubclass(kind, x)), "1 : FAIL")
    if isinstance(error, InferenceError) and kind is BadModel:
        status = "1 : FAIL"
    made = _joined(kind, type(error))(f"[ONNXRuntimeError] : {status} : {with_words(str(error))}")
    made.__cause__ = error.__cause__
    return made.with_traceback(error.__traceback__)


_JOINED: dict[tuple[type, type], type[FornixError]] = {}


def _joined(kind: type[FornixError], own: type[FornixError]) -> type[FornixError]:
    """A class that is both."""
    if issubclass(own, kind):
        return own
    if issubclass(kind, own):
        return kind
    if (kind, own) not in _JOINED:
        names = {"__module__": kind.__module__, "__doc__": kind.__doc__}
        _JOINED[kind, own] = type(kind.__name__, (kind, own), names)
    return _JOINED[kind, own]
