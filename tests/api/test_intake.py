"""The threads that take events in live on, whatever becomes of the requests; what is too much waits or is refused."""

from __future__ import annotations

import asyncio
import gc
import json
import secrets
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence

import anyio
import httpx
import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import TimeoutError as NoConnectionFree
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
    given_up = waiting[::2]
    assert all(one.cancel() for one in given_up)
    slow.wait.set()
    assert await soon(first) == [ACCEPTED]
    assert [await soon(one) for one in waiting if one not in given_up] == [[ACCEPTED]] * 10
    assert await soon(mine.take(some)) == [ACCEPTED]
    mine.close()


async def test_who_gives_up_while_it_is_stored_leaves_the_others_their_answers(front: Front, slow: Slow) -> None:
    mine = Intake(front.house.engine, ANY_TIME)
    with mine._changed:
        first, second = mine.take(ONE), mine.take(ONE * 2)
    assert slow.going.wait(10)
    first.cancel()
    slow.wait.set()
    assert await soon(second) == [ACCEPTED] * 2
    mine.close()


def test_what_waits_is_stored_even_if_the_loop_has_ended(engine: Engine, slow: Slow) -> None:
    mine = Intake(engine, ANY_TIME)

    async def come_and_go() -> None:
        mine.take(ONE)
        assert slow.going.wait(10)
        mine.take(ONE * 2)

    asyncio.run(come_and_go())
    slow.wait.set()
    mine.close()
    assert not mine._waiting


TROUBLE, REFUSAL = psycopg.OperationalError, psycopg.DataError


@pytest.mark.parametrize("errors", [[TROUBLE], [NoConnectionFree], [REFUSAL, REFUSAL, REFUSAL]])
async def test_who_was_told_what_failed_is_kept_no_longer(
    front: Front, monkeypatch: pytest.MonkeyPatch, errors: list[type[Exception]]
) -> None:
    """Not even until Python looks for what holds itself: in an outage that is after gigabytes."""
    left = iter(errors)

    def fails(session: Session, events: Sequence[Event], *bounds: object) -> list[Outcome]:
        raise next(left)

    monkeypatch.setattr(intake, "receive", fails)
    mine = Intake(front.house.engine, ANY_TIME)
    gc.disable()
    try:
        with mine._changed:
            some = [mine.take(ONE), mine.take(ONE)]
        await asyncio.wait(some, timeout=10)
        assert [type(one.exception()) for one in some] == [errors[-1]] * 2
        assert next(left, None) is None, "in trouble not each is tried by itself"
        gone = [weakref.ref(one) for one in some]
        some.clear()
        assert [one() for one in gone] == [None, None]
    finally:
        gc.enable()
    mine.close()


async def soon(answer: asyncio.Future[list[Outcome]]) -> list[Outcome]:
    return await asyncio.wait_for(answer, 10)


class Clock(threading.Condition):
    """Time that passes only while somebody waits for more; half of it, if somebody comes meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.waited = 0.0, list[float]()
        self.coming: list[Callable[[], object]] = []

    def monotonic(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is None:
            return super().wait()
        comes = self.coming.pop() if self.coming else None
        passed = timeout / 2 if comes else timeout
        self.now += passed
        self.waited.append(passed)
        if comes:
            self.release()
            comes()
            self.acquire()
        return comes is not None


ONE = [Event("s", "1", "cus", "llm", NOON, {})]


class Door:
    """An intake by that clock. Each transaction takes so long, and `together` says how many events it had."""

    def __init__(self, intake_: Intake, slow: Slow) -> None:
        self.intake, self.clock, self.took, self.together = intake_, Clock(), 0.0, list[int]()
        self.intake._changed = self.clock
        self.late: list[asyncio.Future[list[Outcome]]] = []
        self._slow, self._loop = slow, asyncio.get_running_loop()

    def receive(self, session: Session, events: Sequence[Event], *bounds: object) -> list[Outcome]:
        self.clock.now += self.took
        self.together.append(len(events))
        return self._slow.receive(session, events, *bounds)

    async def take(self, many: int = 1) -> list[Outcome]:
        return await soon(self.intake.take(ONE * many))

    def one_comes_late(self) -> None:
        """As soon as somebody waits."""

        async def comes() -> None:
            self.late.append(self.intake.take(ONE))

        self.clock.coming = [lambda: asyncio.run_coroutine_threadsafe(comes(), self._loop).result(10)]

    async def meet(self, first: int, meanwhile: int) -> None:
        """So many at once, and so many that come while those are stored."""
        self._slow.going.clear()
        self._slow.wait.clear()
        with self.intake._changed:
            some = [self.intake.take(ONE) for _ in range(first)]
        assert self._slow.going.wait(10)
        some += [self.intake.take(ONE) for _ in range(meanwhile)]
        self._slow.wait.set()
        assert [await soon(each) for each in some] == [[ACCEPTED]] * len(some)


@pytest.fixture
async def door(front: Front, slow: Slow, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    made = Door(Intake(front.house.engine, ANY_TIME), slow)
    monkeypatch.setattr(intake, "receive", made.receive)
    monkeypatch.setattr("api.intake.time", made.clock)
    yield made
    made.intake.close()


async def test_who_comes_in_a_crowd_is_waited_for_and_who_is_alone_is_not(door: Door) -> None:
    door.took = 0.01
    await door.meet(1, 3)
    assert (door.together, door.clock.waited) == ([1, 3], [])
    door.one_comes_late()
    assert await door.take() == await soon(door.late.pop()) == [ACCEPTED]
    assert (door.together[2:], door.clock.waited) == ([2], pytest.approx([0.005, 0.005]))
    assert await door.take(2) == [ACCEPTED] * 2  # As many as the last ones: nobody else is waited for.
    assert await door.take() == [ACCEPTED]  # The last one was alone.
    assert (door.together[3:], len(door.clock.waited)) == ([2, 1], 2)

    door.took = 20.0  # An outage, say; a tenth of a second is the most.
    await door.meet(1, 3)
    door.clock.waited.clear()
    assert await door.take() == [ACCEPTED]
    assert door.clock.waited == pytest.approx([0.1])

    await door.meet(1, 3)
    door.clock.waited.clear()
    door.clock.now += 0.1  # The crowd has gone.
    assert await door.take() == [ACCEPTED]
    assert door.clock.waited == []


async def test_as_soon_as_all_are_there_again_nobody_is_waited_for(door: Door) -> None:
    door.took = 0.01
    await door.meet(1, 3)
    door.one_comes_late()
    assert await door.take(2) == [ACCEPTED] * 2
    assert await soon(door.late.pop()) == [ACCEPTED]
    assert (door.together[2:], door.clock.waited) == ([3], pytest.approx([0.005]))


async def test_who_waited_while_others_were_stored_is_there_as_they_are(door: Door) -> None:
    door.took = 0.01
    await door.meet(1, 3)
    door.one_comes_late()
    await door.meet(3, 2)
    assert await soon(door.late.pop()) == [ACCEPTED]
    assert door.together == [1, 3, 3, 3], "with the late one there are three again"
    assert sum(door.clock.waited) == pytest.approx(0.01), "when the three ended there were five"


async def test_at_the_end_nobody_is_waited_for(door: Door) -> None:
    def close() -> None:
        closing.start()
        while not door.intake._closed:
            pass

    closing = threading.Thread(target=door.intake.close)
    door.took = 0.01
    await door.meet(1, 3)
    door.clock.coming = [close]
    assert await door.take() == [ACCEPTED]
    assert door.clock.waited == pytest.approx([0.005])
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
