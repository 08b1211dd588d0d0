"""A scanner that leaves large tensors where they are and gives the rest to protobuf.

`scan` walks the bytes of a message, and wherever a `TensorProto` holds `raw_data` of at least
`THRESHOLD` bytes, replaces it by a marker of 24 bytes. What is left, the *skeleton*, is small;
protobuf parses it, so duplicate, merged, packed, reordered and unknown fields mean exactly what
they mean to protobuf: a marker lives and dies as the field that it stands in. So files above 2 GiB
can be read, and weights cost no memory. `contents` goes the other way: it serialises a skeleton and
puts the payloads back, one after the other, for a stream of any size.

A marker is 16 random bytes, drawn for each skeleton, and a number: no file can contain one. Only
the sizes around a payload change; every other byte passes through as it is. What `raw_data` means
is left to `tensors`, files beside the model to `external`, the cause of damage to `damage`.
"""

from __future__ import annotations

import re
import secrets
from bisect import bisect_left
from collections.abc import Callable, Iterator
from copy import copy
from functools import cache, cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

from google.protobuf.message import DecodeError, EncodeError, Message

from fornix.errors import FormatError
from fornix.format import damage, external, utf8
from fornix.format.damage import BYTES, END_GROUP, FIXED32, FIXED64, GROUP, LONG, SHORT, VARINT
from fornix.format.limits import MESSAGE_BYTES, MESSAGE_DEPTH
from fornix.format.mapped import MappedBytes, Memory, Payload, Region
from fornix.format.walk import descriptor_of, tensor_fields

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from typing_extensions import Buffer

    from fornix.format.messages import TensorProto

# Bytes from which `raw_data` stays in place. The standard's tools take the same bound for moving a
# tensor to a file of its own; below it, a payload costs less than the objects that describe it.
THRESHOLD = 1024
# Where the files of onnxruntime's own format have their mark, and what it is.
ORT_MARK, ORT = slice(4, 8), b"ORTM"
_NONCE_BYTES = 16
_MARKER_BYTES = _NONCE_BYTES + 8
# Bytes read at once while scanning.
_WINDOW = 1 << 18
# A tag and what follows it, a size or a number, take at most so many bytes.
_HEAD = SHORT + LONG
# Texts of up to so many bytes, and so many fields at once, are passed over by one pattern: a longer
# text is worth a step of its own, a longer run costs the pattern's memory and saves little. Where
# less is left of a message than a run of bytes, the steps are as fast.
_SHORT_TEXT = 31
_RUN = 1024

M = TypeVar("M", bound=Message)


def parts(payload: Payload) -> Iterator[Buffer]:
    """The bytes of ``payload`` for writing, one part after the other."""
    if isinstance(payload, MappedBytes):
        return payload.parts()
    return iter([payload.view()])


class Skeleton(Generic[M]):
    """A message whose large payloads stand elsewhere, each marked in its tensor's `raw_data`.

    `payload` finds a tensor's bytes, `attach` hands a tensor some; both work on the tensors of
    `message` at any depth, and on copies of them. ``folder`` holds the model's external files.
    """

    def __init__(self, message: M, folder: external.Folder | None = None) -> None:
        self.message = message
        self.folder = folder
        self.nonce = secrets.token_bytes(_NONCE_BYTES)
        self._payloads: list[Payload] = []

    def payload(self, tensor: TensorProto) -> Payload | None:
        """The bytes that stand elsewhere for ``tensor``; None if it holds its data itself.

        Raises ExternalDataError if they should be in a file that is unsafe or does not hold them.
        """
        if external.is_external(tensor):
            if self.folder is None:
                raise external.homeless(tensor)
            return self.folder.payload(tensor)
        return self.marked(tensor.raw_data)

    def attach(self, tensor: TensorProto, payload: Payload | Buffer) -> None:
        """Let ``tensor`` stand for ``payload`` when the skeleton is written."""
        there = payload if isinstance(payload, Payload) else MappedBytes.of(payload)
        tensor.raw_data = self.mark(there)

    def copy(self) -> Skeleton[M]:
        """The same with a message of its own; payloads are shared."""
        twin = copy(self)
        twin.message = type(self.message)()
        twin.message.CopyFrom(self.message)
        twin._payloads = [*self._payloads]  # noqa: SLF001 - of this class
        return twin

    def whole(self) -> M:
        """The message with every payload in place, a copy; FormatError above 2 GiB.

        What is in external files stays there.
        """
        total = self.message.ByteSize() + sum(payload.nbytes for payload in self._payloads)
        if total > MESSAGE_BYTES:
            raise FormatError(f"a message of at most 2 GiB is required, found {total} bytes")
        return type(self.message).FromString(b"".join(contents(self)))

    def mark(self, payload: Payload) -> bytes:
        """What stands in `raw_data` for ``payload``, henceforth one of this skeleton."""
        self._payloads.append(payload)
        return self.nonce + (len(self._payloads) - 1).to_bytes(8, "little")

    def marked(self, raw: bytes) -> Payload | None:
        """The payload that ``raw`` stands for; None if it stands for itself."""
        if len(raw) != _MARKER_BYTES or not raw.startswith(self.nonce):
            return None
        return self._payloads[int.from_bytes(raw[_NONCE_BYTES:], "little")]


def scan(
    region: Region,
    message: type[M],
    *,
    folder: external.Folder | None = None,
    threshold: int = THRESHOLD,
    strict: bool = False,
) -> Skeleton[M]:
    """The skeleton of the ``message`` in ``region``, with payloads of ``threshold`` bytes or more.

    Raises FormatError where protobuf refuses the bytes, if ``strict`` also for text that is not
    UTF-8, and for what is left above 2 GiB.
    """
    skeleton = Skeleton(message(), folder)

    def mark(start: int, stop: int) -> bytes:
        return skeleton.mark(MappedBytes.within(region, start, stop))

    scanner = _Scanner(region, max(threshold, 1), mark)
    try:
        size = region.size + scanner.run(descriptor_of(message))
        if size > MESSAGE_BYTES:
            raise FormatError(
                f"{region.name}: at most 2 GiB besides raw_data are required, found {size} "
                "bytes; tensors of that size belong into raw_data or external data"
            )
        data = b"".join(scanner.contents())
        skeleton.message.ParseFromString(data)
    except (DecodeError, _Malformed) as error:
        raise malformed(region, descriptor_of(message)) from error
    if strict:
        utf8.require(data, descriptor_of(message), region.name)
    return skeleton


def malformed(region: Region, descriptor: Descriptor) -> FormatError:
    """The error that says what is wrong with bytes that protobuf refuses."""
    if region.size >= ORT_MARK.stop and region.read(ORT_MARK.start, ORT_MARK.stop) == ORT:
        return FormatError(
            f"{region.name}: a model in a format of ONNX is required, found onnxruntime's ORT "
            "format; use the .onnx file that it was made from, which `fornix compile` turns into "
            "a file that loads as fast"
        )
    found = damage.find(region, descriptor)
    where = found or f"a message {descriptor.name} is required, and protobuf refuses this one"
    return FormatError(f"{region.name}: {where}")


def contents(skeleton: Skeleton[M]) -> Iterator[Buffer]:
    """The bytes of the message with its payloads in their places, part by part."""
    try:
        data = skeleton.message.SerializePartialToString()
    except (EncodeError, ValueError) as error:
        raise FormatError("at most 2 GiB besides raw_data are required") from error

    def unmark(start: int, stop: int) -> Payload | None:
        return skeleton.marked(data[start:stop])

    places = _places(data, skeleton.nonce)
    if not places:
        return iter([data])
    scanner = _Scanner(Memory(data), _MARKER_BYTES, unmark, places)
    scanner.run(descriptor_of(type(skeleton.message)))
    return scanner.contents()


class _Malformed(Exception):
    """The bytes are no message; `damage` says why."""


class _Routes(dict[int, "_Routes"]):
    """The tags of a message that lead to payloads, each with the routes of what it holds."""

    @cached_property
    def others(self) -> re.Pattern[bytes]:
        """Whole fields that lead nowhere, one after the other: the common ones, not all.

        Their tags take one byte. A tensor or an attribute may hold millions of them, of which
        each is one number or one short text.
        """
        texts = b"|".join(b"\\x%02x[\\s\\S]{%d}" % (size, size) for size in range(_SHORT_TEXT + 1))
        kinds = (
            (VARINT, b"[\\x80-\\xff]{0,%d}[\\x00-\\x7f]" % (LONG - 1)),
            (FIXED32, b"[\\s\\S]{4}"),
            (FIXED64, b"[\\s\\S]{8}"),
            (BYTES, b"(?:%b)" % texts),
        )
        fields = [b"[%b]%b" % (self._tags(kind), content) for kind, content in kinds]
        return re.compile(b"(?:%b){1,%d}" % (b"|".join(fields), _RUN))

    def _tags(self, kind: int) -> bytes:
        tags = range(kind, 128, 8)
        return b"".join(b"\\x%02x" % tag for tag in tags if tag not in self)


# The end of a route: `raw_data` itself.
_PAYLOAD = _Routes()


class _Scanner:
    """One pass over a region that notes what to replace, and by what.

    It descends only into messages that can hold a payload: those on a route to `raw_data`, of
    ``least`` bytes or more and, if ``places`` are given, around one of them. A payload for which
    ``replace`` returns None stays. What is malformed outside these messages is left to protobuf.
    """

    def __init__(
        self,
        region: Region,
        least: int,
        replace: Callable[[int, int], bytes | Payload | None],
        places: list[int] | None = None,
    ) -> None:
        self.region = region
        self.least = least
        self.replace = replace
        self.places = places
        self.longest_size = damage.longest_size(region)
        self.base = 0
        self.chunk = b""
        self.edits: list[tuple[int, int, bytes | Payload]] = []

    def run(self, descriptor: Descriptor) -> int:
        """Scan the whole region; returns by how many bytes the replacements make it longer."""
        try:
            return self.message(0, self.region.size, _routes(descriptor), 0)
        except IndexError:  # the region ends within a tag, size or number
            raise _Malformed from None

    def contents(self) -> Iterator[Buffer]:
        """The region with its replacements, part by part."""
        at = 0
        for start, stop, piece in self.edits:
            if start > at:
                yield self.read(at, start)
            if isinstance(piece, bytes):
                yield piece
            else:
                yield from parts(piece)
            at = stop
        if at < self.region.size:
            yield self.read(at, self.region.size)

    def message(self, at: int, end: int, routes: _Routes, depth: int) -> int:
        """Scan the fields of one message; returns its growth in bytes."""
        if depth > MESSAGE_DEPTH:
            raise _Malformed
        growth = 0
        chunk, base, safe = self.window(at)
        while at < end:
            i = at - base
            if i > safe:
                chunk, base, safe = self.window(at)
                i = at - base
            tag = chunk[i]
            is_other = tag not in routes and end - at > _RUN
            run = routes.others.match(chunk, i, end - base) if is_other else None
            if run is not None:
                at = base + run.end()
                continue
            i += 1
            if tag > 127:
                tag, i = _varint(chunk, i - 1, SHORT)
            if tag & 7 != BYTES:
                at = self.skip(tag, base + i)
                continue
            mark = base + i
            size = chunk[i]
            i += 1
            if size > 127:
                size, i = _varint(chunk, i - 1, self.longest_size)
            at = base + i + size
            if size >= self.least and tag in routes and at <= end:
                growth += self.field(mark, base + i, at, routes[tag], depth)
        if at != end:
            raise _Malformed
        return growth

    def field(self, mark: int, start: int, stop: int, routes: _Routes, depth: int) -> int:
        """Scan or replace one field, whose size is at ``mark``; returns its growth in bytes."""
        if self.places is not None:
            nearest = bisect_left(self.places, start)
            if nearest == len(self.places) or self.places[nearest] >= stop:
                return 0
        slot = len(self.edits)
        self.edits.append((mark, start, b""))
        if routes is _PAYLOAD:
            piece = self.replace(start, stop)
            growth = 0
            if piece is not None:
                self.edits.append((start, stop, piece))
                growth = _nbytes(piece) - (stop - start)
        else:
            growth = self.message(start, stop, routes, depth + 1)
        if len(self.edits) == slot + 1:
            self.edits.pop()
            return 0
        size = _encoded(stop - start + growth)
        self.edits[slot] = (mark, start, size)
        return growth + len(size) - (start - mark)

    def skip(self, tag: int, at: int) -> int:
        """The byte behind a field that is not of wire type BYTES; a group is skipped whole."""
        groups: list[int] = []
        while True:
            kind = tag & 7
            chunk, base, _ = self.window(at)
            if kind == VARINT:
                at = base + _varint(chunk, at - base, LONG)[1]
            elif kind == BYTES:
                size, i = _varint(chunk, at - base, self.longest_size)
                at = base + i + size
            elif kind == GROUP:
                groups.append(tag >> 3)
            elif kind in _WIDTHS:
                at += _WIDTHS[kind]
            elif kind != END_GROUP or not groups or groups.pop() != tag >> 3:
                raise _Malformed
            if not groups:
                return at
            if len(groups) > MESSAGE_DEPTH:
                raise _Malformed
            chunk, base, _ = self.window(at)
            tag, i = _varint(chunk, at - base, SHORT)
            at = base + i

    def window(self, at: int) -> tuple[bytes, int, int]:
        """Bytes around ``at``, where they begin, and up to where a tag and a size fit in them."""
        size = self.region.size
        if not self.base <= at <= self.base + len(self.chunk) - _HEAD:
            self.base = at
            self.chunk = self.region.read(at, min(at + _WINDOW, size)) if at < size else b""
        stop = self.base + len(self.chunk)
        return self.chunk, self.base, len(self.chunk) - (_HEAD if stop < size else 0)

    def read(self, start: int, stop: int) -> bytes:
        if start < self.base or stop > self.base + len(self.chunk):
            if stop - start > _WINDOW:
                return self.region.read(start, stop)
            self.base = start
            self.chunk = self.region.read(start, min(start + _WINDOW, self.region.size))
        return self.chunk[start - self.base : stop - self.base]


_WIDTHS = {FIXED32: 4, FIXED64: 8}
_ALL_BITS = 2**64 - 1


def _varint(chunk: bytes, at: int, longest: int) -> tuple[int, int]:
    """The varint at ``at`` and the byte behind it."""
    value = 0
    for index in range(longest):
        byte = chunk[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value & _ALL_BITS, at + index + 1
    raise _Malformed


def _encoded(value: int) -> bytes:
    """``value`` as a varint."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _nbytes(piece: bytes | Payload) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.nbytes


@cache
def _routes(descriptor: Descriptor) -> _Routes:
    """The tags by which a message of this kind leads to payloads."""
    known: dict[str, _Routes] = {}

    def routes(kind: Descriptor) -> _Routes:
        if kind.full_name not in known:
            found = known[kind.full_name] = _Routes()
            raw = kind.fields_by_name.get("raw_data")
            if raw is not None:
                found[raw.number << 3 | BYTES] = _PAYLOAD
            for field in tensor_fields(kind):
                if field.message_type is not None:
                    found[field.number << 3 | BYTES] = routes(field.message_type)
        return known[kind.full_name]

    return routes(descriptor)


def _places(data: bytes, nonce: bytes) -> list[int]:
    found = []
    at = data.find(nonce)
    while at >= 0:
        found.append(at)
        at = data.find(nonce, at + _NONCE_BYTES)
    return found
