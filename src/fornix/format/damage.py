"""Where and why bytes stop being a protobuf message.

protobuf says only that it could not parse. Once it, or the scanner in `wire`, has refused, `find`
walks the bytes again, as protobuf would, along the fields that the message class knows, and stops
at the first thing that cannot be. It decides nothing about well-formed input.
Source: the encoding of Protocol Buffers; the bounds on varints, depth and size are those of upb,
the implementation that google.protobuf uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from fornix.format.limits import MESSAGE_BYTES, MESSAGE_DEPTH
from fornix.format.messages import OperatorSetIdProto
from fornix.format.walk import is_repeated

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

    from fornix.format.mapped import Region

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
# Bytes of a varint: of a tag, and of a value, of which 64 bits count.
SHORT, LONG = 5, 10
_ALL_BITS = 2**64 - 1
_CHUNK = 1 << 16
# The types of packed numbers in ONNX messages.
_VARINTS = {
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_ENUM,
}
_FIXED_BYTES = {FieldDescriptor.TYPE_FLOAT: 4, FieldDescriptor.TYPE_DOUBLE: 8}


@dataclass(frozen=True, slots=True)
class Damage:
    """The first thing that is wrong: the byte it begins at, the field it is in, and the cause."""

    offset: int
    place: str
    cause: str

    def __str__(self) -> str:
        return f"byte {self.offset}, in {self.place}: {self.cause}"

    def relative(self) -> str:
        """The same without the byte, for bytes that are not those of a file."""
        return f"{self.place}: {self.cause}"


class _Found(Exception):
    """Ends the walk; never seen outside."""

    def __init__(self, offset: int, place: str, cause: str) -> None:
        self.damage = Damage(offset, place, cause)


def longest_size(region: Region) -> int:
    """How many bytes a size may take: more than a file of 2 GiB can need, in some versions."""
    return LONG if region.size > MESSAGE_BYTES else _longest_size()


@cache
def _longest_size() -> int:
    """The bound of the protobuf that is installed: 10 bytes before version 7, 5 since."""
    try:
        OperatorSetIdProto.FromString(b"\x0a\x80\x80\x80\x80\x80\x00")
    except DecodeError:
        return SHORT
    return LONG


def find(region: Region, descriptor: Descriptor, *, utf8: bool = False) -> Damage | None:
    """What keeps ``region`` from being the message that ``descriptor`` describes, if anything.

    With ``utf8``, strings that are not UTF-8 count too; protobuf lets them pass.
    """
    try:
        _Walk(region, utf8=utf8).message(0, region.size, descriptor, "", 0)
    except _Found as found:
        return found.damage
    return None


class _Walk:
    """One pass over a region, reading it in chunks."""

    def __init__(self, region: Region, *, utf8: bool) -> None:
        self.region = region
        self.utf8 = utf8
        self.base = 0
        self.chunk = b""

    def byte(self, at: int) -> int:
        if not self.base <= at < self.base + len(self.chunk):
            self.base = at
            self.chunk = self.region.read(at, min(at + _CHUNK, self.region.size))
        return self.chunk[at - self.base]

    def varint(self, at: int, stop: int, place: str, longest: int) -> tuple[int, int]:
        """The varint at ``at`` and the byte behind it."""
        value = 0
        for index in range(longest):
            if at + index >= stop:
                raise _Found(at, place, "a number is required, found the end of the message")
            byte = self.byte(at + index)
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value & _ALL_BITS, at + index + 1
        raise _Found(at, place, f"a number of at most {longest} bytes is required, found more")

    def message(self, at: int, stop: int, descriptor: Descriptor, path: str, depth: int) -> None:
        here = path or descriptor.name
        if depth > MESSAGE_DEPTH:
            cause = f"messages may nest {MESSAGE_DEPTH} deep (protobuf's bound), found more"
            raise _Found(at, here, cause)
        counts: dict[int, int] = {}
        while at < stop:
            begin = at
            tag, at = self.tag(at, stop, here)
            if tag < 8:  # within groups, which it does not know, upb lets it pass
                raise _Found(begin, here, "a field number from 1 is required, found 0")
            if tag & 7 == END_GROUP:
                raise _Found(begin, here, "a field is required, found the end of a group")
            field = descriptor.fields_by_number.get(tag >> 3)
            place = here if field is None else _place(path, field, counts)
            if tag & 7 != BYTES:
                at = self.skip(tag, at, stop, place, depth)
                continue
            at, size = self.size(at, stop, place)
            if field is not None:
                self.content(field, at, at + size, place, depth)
            at += size

    def tag(self, at: int, stop: int, place: str) -> tuple[int, int]:
        tag, behind = self.varint(at, stop, place, SHORT)
        if tag >= 2**32:
            raise _Found(at, place, f"a field number below 2**29 is required, found {tag >> 3}")
        if tag & 7 > FIXED32:
            raise _Found(at, place, f"a wire type from 0 to 5 is required, found {tag & 7}")
        return tag, behind

    def size(self, at: int, stop: int, place: str) -> tuple[int, int]:
        """Where a field's content begins, and its size, which fits."""
        longest = longest_size(self.region)
        size, behind = self.varint(at, stop, place, longest)
        if size > stop - behind:
            cause = f"{size} bytes are announced, but only {stop - behind} are left"
            raise _Found(at, place, cause)
        return behind, size

    def content(self, field: FieldDescriptor, at: int, stop: int, place: str, depth: int) -> None:
        """Look into a field: a message, or packed numbers."""
        each = _FIXED_BYTES.get(field.type, 1)
        if field.message_type is not None:
            self.message(at, stop, field.message_type, place, depth + 1)
        elif field.type in _VARINTS and is_repeated(field):
            while at < stop:
                _, at = self.varint(at, stop, place, LONG)
        elif (stop - at) % each and is_repeated(field):
            raise _Found(at, place, f"numbers of {each} bytes are required, found {stop - at}")
        elif self.utf8 and field.type == FieldDescriptor.TYPE_STRING:
            self.text(at, stop, place)

    def text(self, at: int, stop: int, place: str) -> None:
        content = self.region.read(at, stop)
        try:
            content.decode()
        except UnicodeDecodeError as error:
            shown = content[max(error.start - 20, 0) : error.start + 20]
            raise _Found(at, place, f"text in UTF-8 is required, found {shown!r}") from None

    def skip(self, tag: int, at: int, stop: int, place: str, depth: int) -> int:
        """The byte behind a field that is not of wire type BYTES."""
        open_groups: list[int] = []
        while True:
            at = self.scalar(tag, at, stop, place, open_groups)
            if depth + len(open_groups) > MESSAGE_DEPTH:
                cause = f"groups may nest {MESSAGE_DEPTH} deep (protobuf's bound), found more"
                raise _Found(at, place, cause)
            if not open_groups:
                return at
            if at >= stop:
                raise _Found(at, place, "the end of a group is required, found the message's")
            tag, at = self.tag(at, stop, place)

    def scalar(self, tag: int, at: int, stop: int, place: str, open_groups: list[int]) -> int:
        kind = tag & 7
        if kind == VARINT:
            return self.varint(at, stop, place, LONG)[1]
        if kind == BYTES:
            at, size = self.size(at, stop, place)
            return at + size
        if kind == GROUP:
            open_groups.append(tag >> 3)
            return at
        if kind == END_GROUP:
            if open_groups.pop() != tag >> 3:
                raise _Found(at, place, f"the end of another group is required, found {tag >> 3}")
            return at
        width = 8 if kind == FIXED64 else 4
        if stop - at < width:
            raise _Found(at, place, f"{width} bytes are required, found {stop - at}")
        return at + width


def _place(path: str, field: FieldDescriptor, counts: dict[int, int]) -> str:
    """``graph.node[3].attribute[0]``: the next entry of ``field``."""
    number = field.number
    index = counts[number] = counts.get(number, -1) + 1
    name = f"{path}.{field.name}" if path else field.name
    return f"{name}[{index}]" if is_repeated(field) else name
