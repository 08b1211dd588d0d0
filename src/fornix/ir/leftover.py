"""What messages say and IR objects do not: kept as bytes, so that writing gives back what was read.

An object's ``leftover`` is a serialized message of its kind. It holds the fields that the IR does
not model, unknown ones included, and of those that it models the ones with an unusual encoding:
present though empty, not UTF-8, keys repeated. `fornix.ir.writing` parses it first and then *sets
each modelled field only where reading it does not give the object's value*. So an unusual encoding
survives as long as it still means the same, and gives way when the object has changed.

This file finds leftovers and reads and sets the fields that are alike in all messages: texts, lists
of names, entries of metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from google.protobuf.unknown_fields import UnknownFieldSet

from fornix.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from google.protobuf.message import Message

    from fornix.format.messages import OperatorSetIdProto

# The default domain has two spellings; the IR uses the empty one.
DEFAULT_DOMAIN = "ai.onnx"
_BYTES = 2  # the wire type


@dataclass(frozen=True)
class Modelled:
    """The fields of a message that the IR models, by how they are read.

    `children` are read by the caller, who says which of them are odd.
    """

    message: type[Message]
    texts: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    domain: str = ""

    @cached_property
    def checks(self) -> dict[str, Callable[[Any], bool]]:
        """For each modelled field, what tells whether a present value is encoded plainly."""
        return {
            **dict.fromkeys(self.texts, is_plain_text),
            **dict.fromkeys(self.names, are_plain_names),
            **dict.fromkeys(self.entries, plain_entries),
            **dict.fromkeys(self.children, left_to_caller),
            **({self.domain: is_plain_domain} if self.domain else {}),
        }

    def leftover(self, message: Message, odd: Collection[str] = ()) -> bytes:
        """What of ``message`` the IR does not hold; ``odd`` are fields that the caller found so."""
        checks = self.checks
        kept = list(odd)
        for field, value in message.ListFields():
            name = field.name
            check = checks.get(name)
            if check is None or not check(value):
                kept.append(name)
        return kept_fields(message, kept)


def is_plain_text(value: str | bytes) -> bool:
    """Whether a text that is present is not empty, and UTF-8."""
    return isinstance(value, str) and value != ""


def is_plain_domain(value: str | bytes) -> bool:
    return is_plain_text(value) and value != DEFAULT_DOMAIN


def are_plain_names(values: Iterable[str | bytes]) -> bool:
    """Whether all names are UTF-8."""
    try:
        "".join(values)  # type: ignore[arg-type] # the fastest way to find one that is bytes
    except TypeError:
        return False
    return True


def left_to_caller(_value: object) -> bool:
    """Whoever reads the field tells whether it is plain."""
    return True


def kept_fields(message: Message, names: Collection[str]) -> bytes:
    """The fields ``names`` of ``message`` and its unknown fields, serialized."""
    parts = []
    if names:
        for field, value in message.ListFields():
            if field.name in names:
                parts.append(_field_bytes(type(message), field.name, field.number, value))
    if len(UnknownFieldSet(message)):
        parts.append(_unknown_bytes(message))
    return b"".join(parts)


def _field_bytes(kind: type[Message], name: str, number: int, value: Any) -> bytes:
    if isinstance(value, bytes):  # also a string that is not UTF-8, which no field accepts
        return _tagged(number) + _sized(value)
    small: Any = kind()
    if hasattr(value, "ListFields"):
        getattr(small, name).CopyFrom(value)
    elif hasattr(value, "extend"):
        if any(isinstance(item, bytes) for item in value):
            encoded = [item.encode() if isinstance(item, str) else item for item in value]
            return b"".join(_tagged(number) + _sized(item) for item in encoded)
        getattr(small, name).extend(value)
    else:
        setattr(small, name, value)
    return bytes(small.SerializePartialToString())


def _unknown_bytes(message: Message) -> bytes:
    """The unknown fields of ``message``, byte by byte as they stood in the file."""
    bare = type(message)()
    bare.CopyFrom(message)
    for field, _ in message.ListFields():
        bare.ClearField(field.name)
    return bare.SerializePartialToString()


def varint(value: int) -> bytes:
    """``value`` in the base-128 form of protobuf."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tagged(number: int) -> bytes:
    return varint(number << 3 | _BYTES)


def _sized(data: bytes) -> bytes:
    return varint(len(data)) + data


def as_text(value: str | bytes) -> str:
    """A string of a message; bytes that are not UTF-8 survive as surrogate escapes."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def as_domain(value: str | bytes) -> str:
    """A domain of operators; the default domain is the empty one, however it is spelt."""
    text = as_text(value)
    return "" if text == DEFAULT_DOMAIN else text


def as_names(values: Iterable[str | bytes]) -> list[str]:
    """A repeated string field."""
    names: list[Any] = list(values)
    return names if are_plain_names(names) else [as_text(name) for name in names]


def as_dict(entries: Iterable[Any]) -> dict[str, str]:
    """The entries of metadata; of several with one key, the last."""
    return {as_text(entry.key): as_text(entry.value) for entry in entries}


def plain_entries(entries: Iterable[Any]) -> bool:
    """Whether a dict holds everything that ``entries`` say."""
    keys = set()
    for entry in entries:
        if not (entry.HasField("key") and entry.HasField("value")) or len(UnknownFieldSet(entry)):
            return False
        texts: tuple[str | bytes, ...] = (entry.key, entry.value)
        if any(isinstance(text, bytes) for text in texts) or entry.key in keys:
            return False
        keys.add(entry.key)
    return True


def set_text(message: Any, name: str, value: str) -> None:
    """Let field ``name`` read as ``value``; raises GraphError if it cannot be written as UTF-8."""
    if as_text(getattr(message, name)) != value:
        setattr(message, name, writable(value))


def set_domain(message: Any, name: str, value: str) -> None:
    if as_domain(getattr(message, name)) != value:
        setattr(message, name, writable(value))


def set_names(field: Any, values: list[str]) -> None:
    """Let a repeated string field read as ``values``."""
    if as_names(field) != values:
        del field[:]
        field.extend([writable(value) for value in values])


def as_opsets(imports: Iterable[OperatorSetIdProto]) -> dict[str, int]:
    """Opset imports by domain; of several for one domain, the last."""
    return {as_domain(entry.domain): entry.version for entry in imports}


def plain_opsets(imports: Iterable[OperatorSetIdProto]) -> bool:
    """Whether a dict holds everything that ``imports`` say."""
    domains = set()
    for entry in imports:
        domain: str | bytes = entry.domain
        if not (entry.HasField("domain") and entry.HasField("version")):
            return False
        if isinstance(domain, bytes) or domain == DEFAULT_DOMAIN or domain in domains:
            return False
        if len(UnknownFieldSet(entry)):
            return False
        domains.add(domain)
    return True


def set_opsets(field: Any, imports: Mapping[str, int]) -> None:
    """Let opset imports read as ``imports``, in the spelling that domains have."""
    if imports != as_opsets(field):
        spellings = {as_domain(entry.domain): entry.domain for entry in field}
        del field[:]
        for domain, version in imports.items():
            field.add(domain=spellings.get(domain, writable(domain)), version=version)


def set_entries(field: Any, values: Mapping[str, str]) -> None:
    """Let entries of metadata read as ``values``."""
    if values != as_dict(field):
        del field[:]
        for key, value in values.items():
            field.add(key=writable(key), value=writable(value))


def writable(text: str) -> str:
    """``text``, if it has a form in UTF-8; raises GraphError otherwise."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise GraphError(f"text: UTF-8 is required, found {text!r}") from error
    return text
