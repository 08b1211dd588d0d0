"""What a fork means for locks: its child has one thread, and nobody who would ever release them.

Decides which of two things happens. Objects that hold a lock for long are told in the child, and
take a new one: what they guard are tables of Python's, whole at any time. Where a lock is held for
an instant, or native code is behind it, the fork waits until it is free.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol, TypeVar

LONGEST = 60.0
"""Seconds that a fork waits: native code takes long on a busy machine."""


class Told(Protocol):
    """Somebody with a lock of their own."""

    def forget(self) -> None:
        """Called in the child: other threads are not there, and hold nothing."""


Lock = TypeVar("Lock", threading.Lock, threading.RLock)

_told: weakref.WeakSet[Told] = weakref.WeakSet()
_awaited: list[threading.Lock | threading.RLock] = []
_held: list[threading.Lock | threading.RLock] = []


def tell(owner: Told) -> None:
    """Let ``owner`` forget in children of forks, as long as it is there."""
    _told.add(owner)


def awaited(lock: Lock) -> Lock:
    """``lock``, which is there for ever; forks wait for whoever holds it."""
    _awaited.append(lock)
    return lock


def _before() -> None:
    _held[:] = [lock for lock in _awaited if lock.acquire(timeout=LONGEST)]


def _after() -> None:
    while _held:
        _held.pop().release()


def _after_in_child() -> None:
    _after()
    for owner in list(_told):
        owner.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
