"""What a child begins anew after `os.fork()`: its parent's threads are not there, and the sockets are its parent's."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    def _begin(self) -> None:
        """With locks, threads and connections of this process."""


_forked: WeakSet[Forked] = WeakSet()


def begin_in_children(one: Forked) -> None:
    """Have it begin anew in every child of `os.fork()`, as long as it lives."""
    _forked.add(one)


def _begin_all() -> None:
    for one in list(_forked):
        one._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all)
