"""The threads that take events in live on, whatever becomes of the requests; what is too much waits or is refused."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future

import anyio
import httpx
import pytest
from sqlmodel import Session

from api import event_formats, events
from api.event_formats import Read
from api.intake import MOST_BYTES_AT_ONCE, TIMES_IN_MEMORY, Intake, Room
from models import intake
from models.event import Event
from models.intake import ACCEPTED, Outcome
from tests.api.conftest import Front, problem
from tests.api.test_event_formats import LINES
from tests.api.test_events import batch, event
from tests.conftest import ANY_TIME
from tests.models.test_usage import NOON

pytestmark = pytest.mark.anyio


class Slow:
    """A database that takes nothing in before it is let."""

    def __init__(self) -> None:
        self.going, self.wait = threading.Event(), threading.Event()

    def receive(self, session: Session, events: Sequence[Event], *bounds: object) -> list[Outcome]:
        self.going.set()
        self.wait.wait(10)
        return [ACCEPTED] * len(events)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    made = Slow()
    monkeypatch.setattr(intake, "receive", made.receive)
    return made


async def test_a_request_that_is_given_up_takes_no_thread_with_it(front: Front, slow: Slow) -> None:
    mine = Intake(front.house.engine, ANY_TIME)
    some = [Event("s", secrets.token_hex(4), "cus", "llm", NOON, {})]
    first = mine.take(some)
    assert slow.going.wait(10)
    waiting = [mine.take(some) for _ in range(20)]
    given_up = [one for one in waiting if one.cancel()]
    assert given_up
    slow.wait.set()
    assert first.result(10) == [ACCEPTED]
    assert [one.result(10) for one in waiting if one not in given_up] == [[ACCEPTED]] * (20 - len(given_up))
    assert mine.take(some).result(10) == [ACCEPTED]
    mine.close()


class Clock:
    """Time that passes only while somebody sleeps; then, too, somebody else may come."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()
        self.coming: list[Callable[[], object]] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        if self.coming:
            self.coming.pop()()


ONE = [Event("s", "1", "cus", "llm", NOON, {})]


class Door:
    """An intake by that clock. Each transaction takes so long, and `together` says how many events it had."""

    def __init__(self, intake_: Intake, slow: Slow) -> None:
        self.intake, self.clock, self.took, self.together = intake_, Clock(), 0.0, list[int]()
        self.late: list[Future[list[Outcome]]] = []
        self._slow = slow

    def receive(self, session: Session, events: Sequence[Event], *bounds: object) -> list[Outcome]:
        self.clock.now += self.took
        self.together.append(len(events))
        return self._slow.receive(session, events, *bounds)

    def take(self, many: int = 1) -> list[Outcome]:
        return self.intake.take(ONE * many).result(10)

    def one_comes_late(self) -> None:
        """As soon as somebody waits."""
        self.clock.coming = [lambda: self.late.append(self.intake.take(ONE))]

    def meet(self, first: int, meanwhile: int) -> None:
        """So many at once, and so many that come while those are stored."""
        self._slow.going.clear()
        self._slow.wait.clear()
        with self.intake._changed:
            some = [self.intake.take(ONE) for _ in range(first)]
        assert self._slow.going.wait(10)
        some += [self.intake.take(ONE) for _ in range(meanwhile)]
        self._slow.wait.set()
        assert [each.result(10) for each in some] == [[ACCEPTED]] * len(some)


@pytest.fixture
def door(front: Front, slow: Slow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    made = Door(Intake(front.house.engine, ANY_TIME), slow)
    monkeypatch.setattr(intake, "receive", made.receive)
    monkeypatch.setattr("api.intake.time", made.clock)
    yield made
    made.intake.close()


async def test_who_comes_in_a_crowd_is_waited_for_and_who_is_alone_is_not(door: Door) -> None:
    door.took = 0.01  # In so long it is looked five times.
    door.meet(1, 3)
    assert (door.together, door.clock.slept) == ([1, 3], [])
    door.one_comes_late()
    assert door.take() == door.late.pop().result(10) == [ACCEPTED]
    assert (door.together[2:], door.clock.slept) == ([2], [0.002] * 5)
    assert door.take(2) == [ACCEPTED] * 2  # As many as the last ones: nobody else is waited for.
    assert door.take() == [ACCEPTED]  # The last one was alone.
    assert (door.together[3:], door.clock.slept) == ([2, 1], [0.002] * 5)

    door.took = 20.0  # An outage, say; a tenth of a second is the most.
    door.meet(1, 3)
    door.clock.slept.clear()
    assert door.take() == [ACCEPTED]
    assert sum(door.clock.slept) == pytest.approx(0.1, abs=0.002)

    door.meet(1, 3)
    door.clock.slept.clear()
    door.clock.now += 0.1  # The crowd has gone.
    assert door.take() == [ACCEPTED]
    assert door.clock.slept == []


async def test_who_waited_while_others_were_stored_is_there_as_they_are(door: Door) -> None:
    door.took = 0.01
    door.meet(1, 3)
    door.one_comes_late()
    door.meet(3, 2)
    assert door.late.pop().result(10) == [ACCEPTED]
    assert door.together == [1, 3, 3, 3], "with the late one there are three again"
    assert door.clock.slept == [0.002] * 5, "when the three ended there were five"


async def test_at_the_end_nobody_is_waited_for(door: Door) -> None:
    def close() -> None:
        closing.start()
        while not door.intake._closed:
            pass

    closing = threading.Thread(target=door.intake.close)
    door.took = 0.01
    door.meet(1, 3)
    door.clock.coming = [close]
    assert door.take() == [ACCEPTED]
    assert door.clock.slept == [0.002]
    closing.join(10)


def sent(front: Front) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(front.api.post("/v1/events", content=batch()))


def streamed(front: Front, body: bytes | AsyncIterator[bytes]) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(front.api.post("/v1/events", content=body, headers=LINES))


def lines(many: int) -> bytes:
    return b"".join(json.dumps(event()).encode() + b"\n" for _ in range(many))


async def eventually(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not holds():
            await anyio.sleep(0.01)


def come_back(response: httpx.Response) -> str:
    assert response.headers["retry-after"] == "1"
    return str(problem(response, 429, "too_many_requests")["detail"])


async def test_who_comes_while_too_much_waits_is_told_to_come_back(
    front: Front, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.intake.MOST_WAITING", 3)
    doors = front.house.app.state.doors
    first = sent(front)
    await eventually(slow.going.is_set)
    second = sent(front)
    await eventually(lambda: doors.intake._events == 2)
    assert come_back(await sent(front)) == "2 events wait to be stored."
    line, stream = streamed(front, lines(1)), streamed(front, lines(2))
    await eventually(lambda: doors.intake._events == 3)
    assert not stream.done()
    slow.wait.set()
    answers = [await one for one in (first, second, line, stream)]
    assert [answer.json()["accepted"] for answer in answers] == [2, 2, 1, 2]


async def test_a_batch_without_room_is_told_to_come_back(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    doors = front.house.app.state.doors
    monkeypatch.setattr(doors.intake, "room", Room(len(batch()) * TIMES_IN_MEMORY + 100))
    with doors.intake.room.holding() as hold:
        hold(100)
        assert come_back(await sent(front)) == "Too much is being read at the moment."
    assert (await sent(front)).status_code == 200


async def test_streams_are_read_as_events_only_as_there_is_room(
    front: Front, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, read = lines(100), list[int]()
    room = Room(len(body) * TIMES_IN_MEMORY * 5 // 2)

    def noted(found: Sequence[bytes]) -> list[Read]:
        read.append(len(found))
        return event_formats.read_lines(found)

    monkeypatch.setattr(events, "read_lines", noted)
    monkeypatch.setattr(front.house.app.state.doors.intake, "room", room)
    streams = [streamed(front, body) for _ in range(6)]
    larger = streamed(front, body * 3)
    await eventually(lambda: len(read) == 2)
    await anyio.sleep(0.3)
    assert read == [100, 100]
    come_back(await front.api.post("/v1/events", content=body))
    streams.pop().cancel()
    slow.wait.set()
    assert [(await one).json()["accepted"] for one in (*streams, larger)] == [100] * 5 + [300]
    assert room._free == room._most


async def test_a_stream_that_waits_for_room_is_read_from_the_network_no_further(
    front: Front, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow.wait.set()
    body, came = lines(10), list[int]()
    room = Room(len(body) * TIMES_IN_MEMORY * 3 // 2)
    monkeypatch.setattr(front.house.app.state.doors.intake, "room", room)

    async def pieces() -> AsyncIterator[bytes]:
        for no in range(30):
            came.append(no)
            yield body

    with room.holding() as hold:
        hold(len(body))
        streams = [streamed(front, pieces()) for _ in range(3)]
        await eventually(lambda: came == [0, 0, 0])
        await anyio.sleep(0.3)
        assert came == [0, 0, 0]
    assert [(await one).json()["accepted"] for one in streams] == [300] * 3


def test_the_largest_batch_and_the_largest_chunk_have_room() -> None:
    largest = max(events.MOST_BYTES_OF_BATCH, events.MOST_BYTES_OF_CHUNK + events.MOST_BYTES_OF_LINE)
    assert (largest + events.MUCH) * TIMES_IN_MEMORY <= MOST_BYTES_AT_ONCE
