"""What a child begins anew after `os.fork()`: its parent's threads are not there, and the sockets are its parent's."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing import util
from typing import Protocol, TypeVar
from weakref import WeakSet

T = TypeVar("T")


class Forked(Protocol):
    def _begin(self) -> None:
        """With locks, threads and connections of this process."""


_forked: WeakSet[Forked] = WeakSet()


def begin_in_children(one: Forked) -> None:
    """Have it begin anew in every child of `os.fork()`, as long as it lives."""
    _forked.add(one)


def call_at_end_of_children(one: T, call: Callable[[T], object]) -> None:
    """Forked children of `multiprocessing` end without `atexit`, and forget what was to be done before they began."""
    util.register_after_fork(one, lambda it: util.Finalize(None, call, (it,), exitpriority=0))


def _begin_all() -> None:
    for one in list(_forked):
        one._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all)
