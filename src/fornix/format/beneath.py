"""Files that a model names: opened beneath its folder, and nowhere else.

A model may be hostile. So a location is a relative path that stays in the model's folder; it is
walked component by component without following symbolic links; what it ends at is a regular file
with one name. ``allow_links=True`` admits symbolic and hard links, wherever they lead.

What the files hold is left to `external`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable

from fornix.errors import ExternalDataError
from fornix.format.mapped import READ_FLAGS, MappedFile

_DRIVE = re.compile(r"[A-Za-z]:")
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FOLDER_FLAGS = READ_FLAGS | getattr(os, "O_DIRECTORY", 0)
# A named pipe must not block; what is not a regular file is refused once it is open.
_FILE_FLAGS = READ_FLAGS | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_BENEATH = bool(_NO_FOLLOW) and os.open in os.supports_dir_fd

_REMEDY = (
    "put a file in its place or, if you trust its folder, read the model by "
    "fornix.load(path, allow_links=True)"
)


def open_file(base: str, location: str, subject: str, *, allow_links: bool = False) -> MappedFile:
    """The file at ``location`` beneath ``base``, by the rules above.

    Raises ExternalDataError, which begins with ``subject``, for one that breaks them or cannot be
    opened.
    """
    path = os.path.join(base, *components(location, subject))
    return MappedFile(_open_regular(base, location, subject, allow_links), path)


def open_folder(base: str, names: list[str], *, allow_links: bool = False) -> int | None:
    """A descriptor of the folder that ``names`` lead to from ``base``; None where none is needed.

    Raises OSError; `refused` says what that means.
    """
    if _BENEATH:
        return _descend(base, names, 0 if allow_links else _NO_FOLLOW)
    if not allow_links:
        _require_no_link(base, names)
    return None


def components(location: str, subject: str) -> list[str]:
    """The names along ``location``, which stays inside the folder it is relative to.

    Raises ExternalDataError for an empty or absolute path, one that leaves the folder, and
    characters that mean something else on some system.
    """
    form = _fault(location)
    names: list[str] = []
    for name in location.split("/"):
        if name == "..":
            form = form or (None if names else "must stay inside the model's folder")
            names = names[:-1]
        elif name not in {"", "."}:
            names.append(name)
    if form is None and not names:
        form = "must name a file"
    if form is not None:
        raise ExternalDataError(f"{subject}: location {form}, found {location!r:.200}")
    return names


def _fault(location: str) -> str | None:
    """What is wrong with a location at first sight."""
    if not location:
        return "must be given"
    if location.startswith("/") or _DRIVE.match(location):
        return "must be relative to the model's folder"
    if "\\" in location:
        return "must separate folders by '/'"
    if "\0" in location or (os.name == "nt" and ":" in location):
        return "must be a path"
    return None


def _open_regular(base: str, location: str, name: str, allow_links: bool) -> int:  # noqa: FBT001
    """A descriptor of the file at ``location`` under ``base``, by the rules above."""
    names = components(location, name)
    try:
        if allow_links:
            descriptor = os.open(os.path.join(base, *names), _FILE_FLAGS)
        elif _BENEATH:
            descriptor = _open_beneath(base, names)
        else:
            descriptor = _open_checked(base, names)
    except (OSError, ValueError) as error:  # ValueError: a name that the system cannot encode
        raise refused(base, names, name, error) from error
    status = os.fstat(descriptor)
    form = None
    if not stat.S_ISREG(status.st_mode):
        form = "must be a regular file"
    elif status.st_nlink > 1 and not allow_links:
        form = f"has {status.st_nlink} hard links; {_REMEDY}"
    if form is not None:
        os.close(descriptor)
        raise ExternalDataError(f"{name}: {location!r:.200} {form}")
    return descriptor


def _open_beneath(base: str, names: list[str]) -> int:
    """Open component by component, each relative to the last: nothing can be swapped between."""
    folder = _descend(base, names[:-1], _NO_FOLLOW)
    try:
        return os.open(names[-1], _FILE_FLAGS | _NO_FOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


def _descend(base: str, names: Iterable[str], flags: int) -> int:
    """A descriptor of the folder that ``names`` lead to from ``base``."""
    folder = os.open(base, _FOLDER_FLAGS)
    for name in names:
        try:
            inner = os.open(name, _FOLDER_FLAGS | flags, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
    return folder


def _open_checked(base: str, names: list[str]) -> int:
    """Open where the system cannot open relative to a folder: look first, and compare after."""
    _require_no_link(base, names)
    path = os.path.join(base, *names)
    before = os.lstat(path)
    descriptor = os.open(path, _FILE_FLAGS)
    after = os.fstat(descriptor)
    if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino):
        os.close(descriptor)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return descriptor


def _require_no_link(base: str, names: list[str]) -> None:
    link = _first_link(base, names)
    if link is not None:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), link)


def _first_link(base: str, names: list[str]) -> str | None:
    """The first component under ``base`` that is a symbolic link or a junction of Windows."""
    path = base
    for name in names:
        path = os.path.join(path, name)
        try:
            status = os.lstat(path)
        except (OSError, ValueError):
            return None
        reparse = getattr(status, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_REPARSE_POINT
        if stat.S_ISLNK(status.st_mode) or reparse:
            return path
    return None


def refused(base: str, names: list[str], name: str, error: Exception) -> ExternalDataError:
    """The error for a file that could not be opened, and why."""
    link = _first_link(base, names)
    path = os.path.join(base, *names)
    if link is not None:
        return ExternalDataError(f"{name}: {link!r} is a symbolic link; {_REMEDY}")
    reason = getattr(error, "strerror", None) or str(error)
    return ExternalDataError(f"{name}: cannot open {path!r:.400}: {reason}")
