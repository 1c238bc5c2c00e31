"""The threads that take events in live on, whatever becomes of the requests that wait for them."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence

import pytest
from sqlmodel import Session

from api.intake import Intake
from models import intake
from models.event import Event
from models.intake import ACCEPTED, Outcome
from tests.api.conftest import Front
from tests.conftest import ANY_TIME
from tests.models.test_usage import NOON

pytestmark = pytest.mark.anyio


async def test_a_request_that_is_given_up_takes_no_thread_with_it(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, wait = threading.Event(), threading.Event()

    def slow(session: Session, events: Sequence[Event], *bounds: object) -> list[Outcome]:
        going.set()
        wait.wait(10)
        return [ACCEPTED] * len(events)

    monkeypatch.setattr(intake, "receive", slow)
    mine = Intake(front.house.engine, ANY_TIME)
    some = [Event("s", secrets.token_hex(4), "cus", "llm", NOON, {})]
    first = mine.take(some)
    assert going.wait(10)
    waiting = [mine.take(some) for _ in range(20)]
    given_up = [one for one in waiting if one.cancel()]
    assert given_up
    wait.set()
    assert first.result(10) == [ACCEPTED]
    assert [one.result(10) for one in waiting if one not in given_up] == [[ACCEPTED]] * (20 - len(given_up))
    assert mine.take(some).result(10) == [ACCEPTED]
    mine.close()
