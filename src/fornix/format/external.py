"""External data: the one place where a tensor's bytes are read from or written to another file.

A model names such files, and a model may be hostile. So they are opened by the rules of `beneath`;
keys are a closed set; offset and length lie inside the file, agree with dims and dtype, and a
checksum is verified. ``allow_links=True`` admits symbolic and hard links, which content-addressed
caches use, wherever they lead: for folders that you trust.

What the bytes mean is left to `tensors`, which tensors go where to the callers.
Source: ONNX, docs/ExternalData.md.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fornix.dtype import STRING, DType
from fornix.errors import ExternalDataError
from fornix.format.atomic import Replacement
from fornix.format.beneath import components, open_file, open_folder, refused
from fornix.format.mapped import MappedBytes, MappedFile
from fornix.format.messages import TensorProto
from fornix.format.tensors import layout, subject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer


KEYS = ("location", "offset", "length", "checksum", "basepath")
# 64-bit file offsets have at most 19 digits.
_NUMBER = re.compile(r"[0-9]{1,19}")
_SHA1 = re.compile(r"[0-9a-fA-F]{40}")
_CHUNK = 1 << 20
# Descriptors to spend on the files of one model if the system does not tell its bound.
_FILES = 128


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a tensor says its bytes are; `length` and `checksum` may be left unsaid."""

    location: str
    offset: int = 0
    length: int | None = None
    checksum: str | None = None


def is_external(tensor: TensorProto) -> bool:
    """Whether ``tensor`` keeps its bytes in another file."""
    return tensor.data_location == TensorProto.EXTERNAL


def homeless(tensor: TensorProto) -> ExternalDataError:
    """The error for external data of a model that came from no folder."""
    return ExternalDataError(
        f"{subject(tensor)}: external data needs the folder that it is relative to, "
        "and the model was not read from a file"
    )


def reference(tensor: TensorProto) -> Reference:
    """Where ``tensor`` keeps its bytes, checked for form.

    Raises ExternalDataError for keys outside the standard's, repeated keys, no location, and
    numbers that are not decimal digits.
    """
    name = subject(tensor)
    found: dict[str, str] = {}
    for entry in tensor.external_data:
        key, value = entry.key, entry.value
        if key not in KEYS:
            known = ", ".join(KEYS)
            raise ExternalDataError(
                f"{name}: external data may have the keys {known}, found {key!r:.100}"
            )
        if key in found:
            raise ExternalDataError(f"{name}: external data must give {key} once, found twice")
        if not isinstance(value, str):  # protobuf hands out bytes that are not UTF-8 as they are
            raise ExternalDataError(f"{name}: {key} must be UTF-8, found {value!r:.100}")
        found[key] = value
    offset, length = _number(found, "offset", name), _number(found, "length", name)
    checksum = found.get("checksum")
    if checksum is not None and not _SHA1.fullmatch(checksum):
        raise ExternalDataError(
            f"{name}: checksum must be a SHA-1 digest of 40 hexadecimal digits, "
            f"found {checksum!r:.100}"
        )
    return Reference(found.get("location", ""), offset or 0, length, checksum)


def _number(found: dict[str, str], key: str, name: str) -> int | None:
    text = found.get(key)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise ExternalDataError(
            f"{name}: {key} must be a non-negative integer, found {text!r:.100}"
        )
    return int(text)


def _nbytes(tensor: TensorProto) -> int:
    """Bytes that the dims and dtype of ``tensor`` require."""
    declared = layout(tensor)
    if declared.dtype is STRING:
        raise ExternalDataError(f"{subject(tensor)}: strings cannot be external data")
    return declared.nbytes


class Folder:
    """The external files of one model, each opened once.

    ``path`` is the model's folder, which the user named: it may be reached through links. Files
    are mapped; where there are more than a process may well hold open, they are read instead.
    """

    def __init__(self, path: str | os.PathLike[str], *, allow_links: bool = False) -> None:
        self.path = os.fspath(path) or "."
        self.allow_links = allow_links
        self._files: dict[str, MappedFile] = {}
        self._digests: dict[str, str] = {}
        self._budget = _file_budget()

    def payload(self, tensor: TensorProto) -> MappedBytes:
        """The bytes of ``tensor``, in place; raises ExternalDataError by the rules above."""
        where, needed = reference(tensor), _nbytes(tensor)
        name = subject(tensor)
        file = self._open(where.location, name)
        self._check(tensor, where, needed, file.size)
        if where.checksum is not None:
            self._verify(where, file, name)
        if where.location not in self._files:
            return MappedBytes.of(file.read(where.offset, where.offset + needed))
        return MappedBytes(file, where.offset, needed)

    def read(self, tensor: TensorProto) -> bytes:
        """A copy of the bytes of ``tensor``; raises ExternalDataError by the rules above."""
        return self.payload(tensor).tobytes()

    @staticmethod
    def _check(tensor: TensorProto, where: Reference, needed: int, size: int) -> None:
        name = subject(tensor)
        if where.length is not None and where.length != needed:
            dtype, dims = DType.of(tensor.data_type), list(tensor.dims)
            raise ExternalDataError(
                f"{name}: {dtype}{dims} takes {needed} bytes, found length {where.length}"
            )
        if where.offset + needed > size:
            raise ExternalDataError(
                f"{name}: bytes {where.offset} to {where.offset + needed} of "
                f"{where.location!r} are required, found a file of {size} bytes"
            )

    def _open(self, location: str, name: str) -> MappedFile:
        found = self._files.get(location)
        if found is not None:
            return found
        file = open_file(self.path, location, name, allow_links=self.allow_links)
        if len(self._files) < self._budget:
            self._files[location] = file
        return file

    def _verify(self, where: Reference, file: MappedFile, name: str) -> None:
        """Compare the digest of the whole file, which is what the standard's checksum covers."""
        digest = self._digests.get(where.location)
        if digest is None:
            sha1 = hashlib.sha1(usedforsecurity=False)
            for start in range(0, file.size, _CHUNK):
                sha1.update(file.read(start, min(start + _CHUNK, file.size)))
            digest = self._digests[where.location] = sha1.hexdigest()
        if where.checksum is None or digest != where.checksum.lower():
            raise ExternalDataError(
                f"{name}: {where.location!r} must have the checksum {where.checksum}, "
                f"found {digest}"
            )


def load(
    tensor: TensorProto, folder: str | os.PathLike[str], *, allow_links: bool = False
) -> bytes:
    """A copy of the bytes that ``tensor`` keeps in a file under ``folder``.

    Raises ExternalDataError by the rules above. For many tensors use one `Folder`.
    """
    return Folder(folder, allow_links=allow_links).read(tensor)


class ExternalFile:
    """A new external file, or more at the end of an old one, unseen until `commit`.

    With ``keep`` the old content comes first, so that tensors which refer to it stay right.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        location: str,
        *,
        keep: bool = False,
        allow_links: bool = False,
    ) -> None:
        self.location = location
        subject = f"external data {location!r:.200}"
        base = os.fspath(folder) or "."
        *parents, name = components(location, subject)
        old = _existing(base, location, subject, allow_links)
        path = os.path.join(base, *parents)
        self._fd = None
        try:
            self._fd = open_folder(base, parents, allow_links=allow_links)
            self._new = Replacement(path, name, self._fd)
        except OSError as error:
            self._close()
            raise refused(base, [*parents, name], subject, error) from error
        if old is not None and keep:
            for start in range(0, old.size, _CHUNK):
                self._new.write(old.read(start, min(start + _CHUNK, old.size)))

    @property
    def size(self) -> int:
        """Bytes so far, the kept ones included."""
        return self._new.written

    def append(self, parts: Iterable[Buffer], alignment: int = 1) -> tuple[int, int]:
        """Write ``parts`` at the next multiple of ``alignment``; returns offset and length."""
        self._new.write(bytes(-self._new.written % alignment))
        offset = self._new.written
        for part in parts:
            self._new.write(part)
        return offset, self._new.written - offset

    def commit(self) -> None:
        """Put the file in place of the old one."""
        try:
            self._new.commit()
        finally:
            self._close()

    def discard(self) -> None:
        """Leave the old file; harmless after `commit`."""
        self._new.discard()
        self._close()

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def set_reference(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Let ``tensor`` say that its bytes are in another file, and no longer hold any."""
    for entry, _ in tensor.ListFields():
        if entry.name.endswith("_data"):
            tensor.ClearField(entry.name)  # type: ignore[arg-type] # the payload, of any kind
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def _existing(
    base: str,
    location: str,
    name: str,
    allow_links: bool,  # noqa: FBT001
) -> MappedFile | None:
    """The file that stands at ``location`` already, if any, by the rules above."""
    path = os.path.join(base, *components(location, name))
    if not os.path.lexists(path):
        return None
    return open_file(base, location, name, allow_links=allow_links)


def _file_budget() -> int:
    """How many files a model may hold open: a quarter of what the process may."""
    try:
        import resource  # noqa: PLC0415 - only POSIX has it
    except ImportError:
        return _FILES
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _FILES if soft == resource.RLIM_INFINITY else max(soft // 4, 1)
