"""Every exception and warning that fornix raises.

    FornixError
    ├─ FormatError (ValueError)            bytes or text that are not what they claim to be
    │  ├─ ParseError                       ONNX text notation; carries line, column, source line
    │  ├─ TensorDataError                  a payload that does not fit its dims and dtype
    │  └─ ExternalDataError                a reference to external data that is unsafe or wrong;
    │                                      a ValidationError as well
    ├─ NoSuchFile (FileNotFoundError)      a path that names no readable file
    ├─ LimitError (ValueError)             a bound of `Limits` was reached; names the option
    ├─ ValidationError (ValueError)        a model that breaks the standard
    ├─ SchemaError (ValueError)            what no schema describes: operator, version, attribute
    ├─ GraphError (ValueError)             an edit that would leave the IR inconsistent
    ├─ InferenceError (ValueError)         types or shapes that contradict each other
    │  ├─ ShapeError
    │  └─ DTypeError (TypeError)
    ├─ ConvertError (ValueError)           a version or framework conversion that does not exist
    ├─ InvalidArgument (ValueError)        feeds, fetches or options that do not fit the model
    │  └─ InvalidUse (RuntimeError)        a value or option that cannot do what it is asked to
    ├─ NotSupported (NotImplementedError)  not implemented, or in need of an optional extra
    ├─ Fail (RuntimeError)                 a node that cannot compute its result from its inputs
    └─ CompileError (RuntimeError)         machine code that could not be made: our defect

    FornixWarning (UserWarning)

Messages have the form ``subject: what is required, what was found[; the remedy]``. Rules of
operators state the finding only; whoever knows the node adds the subject with `FornixError.at`.
"""

from __future__ import annotations

from typing import Self


class FornixError(Exception):
    """Base of every error that fornix raises on purpose."""

    def at(self, subject: str) -> Self:
        """The same error with ``subject`` ahead of its message, once."""
        message = str(self)
        if message.startswith(subject):
            return self
        self.args = (f"{subject}: {message}", *self.args[1:])
        return self

    def with_remedy(self, remedy: str) -> Self:
        """The same error with ``remedy``, if there is one, behind its message."""
        if remedy:
            self.args = (f"{self}; {remedy}", *self.args[1:])
        return self


class FormatError(FornixError, ValueError):
    """Bytes or text cannot be read as what they claim to be."""


class ParseError(FormatError):
    """ONNX text notation breaks its grammar; `line` and `column` count from 1."""

    line: int = 0
    column: int = 0
    source_line: str = ""


class TensorDataError(FormatError):
    """A tensor's payload does not have the size or form that its dims and dtype require."""


class NoSuchFile(FornixError, FileNotFoundError):
    """A path names no readable file."""


class LimitError(FornixError, ValueError):
    """A bound of `Limits` was reached; the message names the option that raises it."""


class ValidationError(FornixError, ValueError):
    """A model breaks the ONNX standard."""


class ExternalDataError(FormatError, ValidationError):
    """A reference to external data is unsafe, or its file does not hold what it promises."""


class SchemaError(FornixError, ValueError):
    """No schema describes this operator, version or attribute."""


class GraphError(FornixError, ValueError):
    """An edit would leave the IR inconsistent, or `verify` found it so."""


class InferenceError(FornixError, ValueError):
    """Types or shapes contradict each other."""


class ShapeError(InferenceError):
    """Shapes, ranks, axes or values that become shapes contradict each other."""


class DTypeError(InferenceError, TypeError):
    """Element types contradict each other or the schema."""


class ConvertError(FornixError, ValueError):
    """A conversion between versions or frameworks does not exist."""


class InvalidArgument(FornixError, ValueError):
    """Feeds, fetches or options do not fit the model."""


class InvalidUse(InvalidArgument, RuntimeError):
    """A value, option or entry cannot do what it is asked to; to onnxruntime a RuntimeError."""


class NotSupported(FornixError, NotImplementedError):
    """Part of the standard that is not implemented, or that needs an optional extra."""


class Fail(FornixError, RuntimeError):
    """A node cannot compute its result from these inputs."""


class CompileError(FornixError, RuntimeError):
    """Machine code could not be made or loaded: a defect of the compiler, not of a model."""


class FornixWarning(UserWarning):
    """Base of every warning that fornix issues."""


def require(condition: object, message: str, error: type[FornixError] = ShapeError) -> None:
    """Raise ``error`` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise error(message)
