"""What onnx's functions in C++ and its messages refuse: arguments of the wrong kind."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from enum import Enum
from types import NoneType
from typing import Any, Generic, ParamSpec, Self, SupportsIndex, TypeVar, overload

from fornix.onnx._own import WrongKind

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
E = TypeVar("E", bound=Enum)
Kinds = type | tuple[type, ...]

TEXT = (str, bytes)
"""What a text field of a message takes; protobuf reads bytes as UTF-8."""
TEXT_OR_NONE = (str, NoneType)
PATH = (str, os.PathLike)
WHOLE = SupportsIndex
MANY = Iterable

_MISSING = object()


def takes(**kinds: Kinds) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function raise WrongKind for an argument that is none of the ``kinds`` of its name."""

    def checked(function: Callable[P, R]) -> Callable[P, R]:
        names = list(inspect.signature(function).parameters)
        places = [(names.index(name), name, kind) for name, kind in kinds.items()]
        label = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for index, name, kind in places:
                value: Any = args[index] if index < len(args) else kwargs.get(name, _MISSING)
                if value is not _MISSING and not isinstance(value, kind):
                    raise WrongKind(_told(label, name, kind, value))
            return function(*args, **kwargs)

        return call

    return checked


def all_of(label: str, values: Iterable[T], kind: Kinds) -> list[T]:
    """``values`` as a list; raises WrongKind unless each is one of ``kind``."""
    listed = list(values)
    for value in listed:
        if not isinstance(value, kind):
            owner, _, name = label.partition(": ")
            raise WrongKind(_told(owner, f"each of {name}", kind, value))
    return listed


def member_of(kind: type[E], label: str, value: object) -> E:
    """``value``, a member of an enumeration or its number, as that; raises WrongKind."""
    try:
        return kind(value)
    except ValueError:
        label, _, name = label.partition(": ")
        raise WrongKind(_told(label, name, kind, value)) from None


def _told(label: str, name: str, kind: Kinds, value: object) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    words = {NoneType: "None", SupportsIndex: "int", str: "text"}
    listed = " or ".join(words.get(one, one.__name__) for one in kinds)
    return f"{label}: {name} must be {listed}, found {type(value).__name__}"


class Member(Generic[T]):
    """A member that classes show too; of an instance it is set once or, if so told, whenever."""

    name = ""

    def __init__(self, *, is_settable: bool = False) -> None:
        self.is_settable = is_settable

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | T:
        """The member of ``instance``; of the class, the descriptor."""
        if instance is None:
            return self
        value: T = vars(instance)[self.name]
        return value

    def __set__(self, instance: object, value: T) -> None:
        """Set it; raises AttributeError if it must stay as it is."""
        members = vars(instance)
        if self.name in members and not self.is_settable:
            raise AttributeError(f"{type(instance).__name__}.{self.name} cannot be set")
        members[self.name] = value
