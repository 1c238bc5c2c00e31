"""Taking in events for many requests by one transaction: whoever waits while one commits is in the next."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from itertools import islice
from typing import NamedTuple, TypeVar

import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from api.bodies import MEBIBYTE
from billing.errors import Refused, Unavailable
from billing.time_bounds import TimeBounds
from models import intake
from models.database import transaction
from models.event import Event
from models.intake import Outcome

T = TypeVar("T")

MOST_AT_ONCE = 10_000
"""A transaction takes what waits, up to so many events; a single request may have as many."""
MOST_SECONDS_OF_GATHERING = 0.1
"""If the last transaction was shared, the next waits for more requests, until as many events are there as when that one
ended, or as much time as it took has passed since, but no longer than this. Events that share a transaction share its
commit and the rows of its totals (benchmarks/RESULTS.md)."""
MOST_WAITING = 50_000
MOST_BYTES_AT_ONCE = 256 * MEBIBYTE
TIMES_IN_MEMORY = 8
"""Measured: a body and its events take 3 to 8 times its bytes, and 28 if they are lists of numbers. So bodies of 32 MiB
in all are read at once, of which one may have 16."""


class Waiting(NamedTuple):
    """A request's events, whether their times are meant whatever they are, and what becomes of them."""

    events: Sequence[Event]
    whatever_time: bool
    answer: asyncio.Future[list[Outcome]]


class _Last(NamedTuple):
    """The last transaction: of how many requests, how many events were there when it ended (its own, and those that
    waited), when that was and how many seconds it took.
    """

    requests: int
    events: int
    ended: float
    seconds: float


class TooBusy(Unavailable):
    """More events wait than may; whoever comes now is asked to come back, and no memory is taken for it."""


def too_many(reason: str) -> Refused:
    return Refused(reason, code="too_many_requests", remedy="Send it again after a second, with the same ids.")


class Room:
    """How much memory bodies and the events in them may take at once, in bytes. It belongs to one loop.

    What is asked for is the size of bodies as they come; here alone it is weighed by what they become.
    """

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Gives what a request asks for more with; refused when there is no room. At the end, all of it is free."""
        held = 0

        def hold(more: int) -> None:
            nonlocal held
            weight = more * TIMES_IN_MEMORY
            if weight > self._free:
                raise too_many("Too much is being read at the moment.")
            self._free -= weight
            held += weight

        try:
            yield hold
        finally:
            self._give_back(held)

    def has(self, size: int) -> bool:
        """Whether a chunk would have room at once."""
        return not self._turn.locked() and size * TIMES_IN_MEMORY <= self._free

    @asynccontextmanager
    async def waited_for(self, size: int) -> AsyncIterator[None]:
        """All the room that a chunk needs, as soon as there is so much; who came first goes first.

        Nobody may hold room and wait for more. What is larger than all of it has all of it.
        """
        weight = min(size * TIMES_IN_MEMORY, self._most)
        async with self._turn:
            while weight > self._free:
                self._freed.clear()
                await self._freed.wait()
            self._free -= weight
        try:
            yield
        finally:
            self._give_back(weight)

    def _give_back(self, weight: int) -> None:
        self._free += weight
        self._freed.set()


class Intake:
    """A thread that takes events in, for one loop. Open it once a process, and close it at the end: what waits is then
    stored first. Two threads were measured: in one interpreter they win nothing, and share transactions worse.
    """

    def __init__(self, engine: Engine, bounds: TimeBounds) -> None:
        self.room = Room(MOST_BYTES_AT_ONCE)
        self._engine = engine
        self._bounds = bounds
        self._waiting: deque[Waiting] = deque()
        self._events = 0
        self._enough = 1
        """The thread is woken when so many wait."""
        self._changed = threading.Condition()
        self._closed = False
        self._last = _Last(0, 0, 0, 0)
        self._thread: threading.Thread | None = None

    def take(self, events: Sequence[Event], *, whatever_time: bool = False) -> asyncio.Future[list[Outcome]]:
        """What becomes of events, at least one, known when it is committed. Raises TooBusy if too many wait already.

        To be called on the loop. Those whose time is out of bounds are quarantined, unless it is meant `whatever_time`
        they have.
        """
        future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._closed or self._events + len(events) > MOST_WAITING:
                raise TooBusy(f"{self._events} events wait to be stored.", after=timedelta(seconds=1))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="intake", daemon=True)
                thread.start()
                self._thread = thread
            self._waiting.append(Waiting(events, whatever_time, future))
            self._events += len(events)
            if self._events >= self._enough:
                self._changed.notify()
        return future

    def close(self) -> None:
        """Store what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        while some := self._next():
            if not self._store(some):  # One of them cannot be stored; the others shall not suffer for it.
                each = [[one] for one in some]
                some.clear()
                for alone in each:
                    self._store(alone)

    def _next(self) -> list[Waiting]:
        """As many requests as fit into a transaction; none when it is over."""
        some: list[Waiting] = []
        while not some and self._some_wait():
            self._gather()
            with self._changed:
                some = self._take_some()
        return some

    def _gather(self) -> None:
        """Wait for others, if the last ones came in a crowd just now; who is alone waits for nobody."""
        last = self._last
        if last.requests > 1:
            until = last.ended + min(last.seconds, MOST_SECONDS_OF_GATHERING)
            with self._changed:
                self._enough = last.events
                while self._events < self._enough and not self._closed and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)
                self._enough = 1

    def _some_wait(self) -> bool:
        """As soon as there are some; not any more when it is over."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return bool(self._waiting)

    def _take_some(self) -> list[Waiting]:
        """From the front, without those that were given up meanwhile. Who gives up later is stored all the same."""
        some: list[Waiting] = []
        events = 0
        while self._waiting and (not events or events + len(self._waiting[0].events) <= MOST_AT_ONCE):
            request = self._waiting.popleft()
            events += len(request.events)
            if not request.answer.cancelled():
                some.append(request)
        self._events -= events
        return some

    def _store(self, some: list[Waiting]) -> bool:
        """Answer all of them; or, of several, none, if the database refuses what one of them holds. Who is answered is
        not in the list any more: an error holds whatever its functions had, and a request in it would be kept with its
        events until Python looks for what holds itself.
        """
        begun = time.monotonic()
        try:
            with transaction(self._engine) as session:
                outcomes = intake.receive(session, [e for one in some for e in one.events], self._bounds, _meant(some))
        except BaseException as error:
            if len(some) > 1 and not _is_trouble(error):
                return False
            _on_loop(some, _fail, error)
            return True
        ended, there = time.monotonic(), len(outcomes) + self._events  # Who is answered may come again at once.
        self._last = _Last(len(some), min(there, MOST_AT_ONCE), ended, ended - begun)
        _on_loop(some, _answer, outcomes)
        return True


def _on_loop(some: list[Waiting], tell: Callable[[list[Waiting], T], None], what: T) -> None:
    """The loop is woken once for all of them: for each by itself, that takes as long as to answer it."""
    with suppress(RuntimeError):  # The loop has ended, and nobody waits for an answer.
        some[0].answer.get_loop().call_soon_threadsafe(tell, some, what)


def _answer(some: list[Waiting], outcomes: Sequence[Outcome]) -> None:
    """To each request those of its own events, in order."""
    left = iter(outcomes)
    for one in some:
        mine = list(islice(left, len(one.events)))
        if not one.answer.done():
            one.answer.set_result(mine)
    some.clear()


def _fail(some: list[Waiting], error: BaseException) -> None:
    for one in some:
        if not one.answer.done():
            one.answer.set_exception(error)
    some.clear()


def _meant(some: Sequence[Waiting]) -> set[int]:
    """The places of the events whose times are meant, whatever they are."""
    found: set[int] = set()
    start = 0
    for one in some:
        if one.whatever_time:
            found.update(range(start, start + len(one.events)))
        start += len(one.events)
    return found


def _is_trouble(error: BaseException) -> bool:
    """Whether it is the database that is in trouble, and whether it has committed is not known."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError | NoConnectionFree)
