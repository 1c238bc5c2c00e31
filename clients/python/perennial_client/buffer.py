"""A buffer for services: events are taken at once and sent from a thread, in batches and soon."""

from __future__ import annotations

import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from types import TracebackType

from perennial_client.events import Event, Events, Receipt, RefusedEvent, check_batch
from perennial_client.forks import begin_in_children, call_at_end_of_children

log = logging.getLogger(__name__)


def warn(refused: RefusedEvent) -> None:
    """Log that an event was not taken in."""
    where = f"{refused.field}: " if refused.field else ""
    log.warning(
        "Event %r of %r was not taken in (%s): %s%s",
        *(refused.event.id, refused.event.source, refused.outcome, where, refused.reason),
    )


class BufferFull(Exception):
    """More events wait than may. Its cause is what keeps them from being sent, if that is known."""


class EventBuffer:
    """Sends when `batch` events wait, or the oldest waits `age` seconds; at the end of `with` and of the process, all.

    What cannot be sent stays, in order, and is tried again; `failure` says why it could not, and a warning is logged.
    `flush` and `close` raise it. Events that the server refuses are told to `on_refused`, from whichever thread sent
    them, and are not kept: they would be refused for ever. Events live in memory: whoever must not lose any in a crash
    keeps them until they are flushed, and sends them again, under the same ids. After a fork the child's buffer is
    empty: what waits, the parent sends.
    """

    def __init__(
        self,
        events: Events,
        *,
        batch: int = 1000,
        age: float = 2.0,
        limit: int = 100_000,
        on_refused: Callable[[RefusedEvent], None] = warn,
    ) -> None:
        check_batch(batch)
        self._events = events
        self._on_refused = on_refused
        self._batch, self._age, self._limit = batch, age, limit
        self._closed = False
        self._begin()
        begin_in_children(self)
        call_at_end_of_children(self, EventBuffer.close)
        atexit.register(self.close)

    def add(self, event: Event) -> None:
        """Take it and return at once. Raises BufferFull when `limit` events wait already."""
        with self._changed:
            if self._closed:
                raise ValueError("the buffer is closed")
            if len(self._waiting) >= self._limit:
                raise BufferFull(f"{self._limit} events wait to be sent") from self.failure
            self._waiting.append(event)
            if len(self._waiting) >= self._batch:
                self._changed.notify_all()

    def flush(self) -> Receipt:
        """Send what waits now. Raises what `Events.send` raises; what is not sent stays."""
        with self._changed:
            left = len(self._waiting)
        done = Receipt()
        while left > 0:
            receipt, sent = self._send_batch()
            done += receipt
            left = left - sent if sent else 0
        return done

    def close(self) -> None:
        """Send everything and end the thread; closing again sends what could not be sent before."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self.flush()
        atexit.unregister(self.close)

    def __len__(self) -> int:
        return len(self._waiting)

    def __enter__(self) -> EventBuffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        self._waiting: deque[Event] = deque()
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="perennial-events", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed:
            with self._changed:
                full = not self.failure and len(self._waiting) >= self._batch
                if not full and not self._closed:
                    self._changed.wait(self._age)
            before = self.failure
            try:
                while self._waiting and not self._closed:
                    self._send_batch()
            except Exception as failure:  # It is kept in `failure`, and tried again after `age`.
                if repr(failure) != repr(before):
                    log.warning("Events cannot be sent, and wait: %s", failure)

    def _send_batch(self) -> tuple[Receipt, int]:
        """The oldest batch, by one thread at a time: what was sent is what then leaves the buffer."""
        receipt, sent = self._send_oldest()
        self._tell(receipt.refused)
        return receipt, sent

    def _send_oldest(self) -> tuple[Receipt, int]:
        with self._sending:
            with self._changed:
                some = list(islice(self._waiting, self._batch))
            try:
                receipt = self._events.send(some, batch=self._batch)
            except Exception as failure:
                self.failure = failure
                raise
            self.failure = None
            with self._changed:
                for _ in some:
                    self._waiting.popleft()
            return receipt, len(some)

    def _tell(self, refused: Iterable[RefusedEvent]) -> None:
        """Whatever goes wrong there, the events after it are to be sent."""
        for one in refused:
            try:
                self._on_refused(one)
            except Exception:
                log.exception("on_refused failed for event %r of %r.", one.event.id, one.event.source)
