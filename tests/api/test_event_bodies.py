"""How bodies of events come from the network: how long they are waited for, and to which end they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from backports import zstd
from fastapi import Request
from starlette.types import Message

from api import events
from tests.api.conftest import Front, problem
from tests.api.test_events import batch

pytestmark = pytest.mark.anyio


async def test_a_batch_of_which_no_more_comes_gives_its_room_back(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SECONDS_OF_SILENCE", 0.1)
    room = front.house.app.state.doors.intake.room

    async def half() -> AsyncIterator[bytes]:
        yield batch()[:20]
        assert room._free < room._most
        await anyio.sleep(10)

    refusal = problem(await front.api.post("/v1/events", content=half()), 408, "too_slow")
    assert "with the same ids" in refusal["remedy"]
    assert room._free == room._most


async def test_a_batch_of_which_nothing_comes_is_not_waited_for_either(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SECONDS_OF_SILENCE", 0.1)

    async def nothing() -> AsyncIterator[bytes]:
        await anyio.sleep(10)
        yield batch()

    problem(await front.api.post("/v1/events", content=nothing()), 408, "too_slow")


@pytest.mark.parametrize(
    ("headers", "read"),
    [
        ({"content-length": "4"}, b"abcd"),
        ({"content-length": "6"}, b"abcdef"),
        ({}, b"abcdef"),
        ({"content-length": "4", "transfer-encoding": "chunked"}, b"abcdef"),
    ],
)
async def test_a_body_is_read_to_the_length_that_its_headers_say(headers: dict[str, str], read: bytes) -> None:
    """Without asking for more when that is there; but a length beside chunks says nothing (RFC 9112, 6.3)."""
    left = [b"ef", b"cd", b"ab"]

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop(), "more_body": bool(left)}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    request = Request({"type": "http", "headers": raw}, receive)
    assert b"".join([piece async for piece in events._as_they_come(request)]) == read
    assert left == ([] if len(read) == 6 else [b"ef"])


async def test_a_packed_batch_that_comes_slowly_is_waited_for(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes may unpack to nothing for a long while."""
    monkeypatch.setattr(events, "SECONDS_OF_SILENCE", 0.5)
    packed = zstd.compress(batch())

    async def slowly() -> AsyncIterator[bytes]:
        for at in range(0, len(packed), len(packed) // 8):
            await anyio.sleep(0.1)
            yield packed[at : at + len(packed) // 8]

    answer = await front.api.post("/v1/events", content=slowly(), headers={"content-encoding": "zstd"})
    assert answer.status_code == 200
