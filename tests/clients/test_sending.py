"""Sending events: batches, what became of each, and bodies that are refused as a whole."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from perennial_client import (
    Event,
    EventBuffer,
    Perennial,
    ProblemError,
    Receipt,
    RefusedEvent,
    UnreadableAnswer,
)

from tests.clients.conftest import NOON, QUICK, Answer, Server, event, refusal


def test_events_go_in_batches_and_the_counts_add_up(server: Server, perennial: Perennial) -> None:
    done = perennial.events.send((event(n) for n in (*range(2500), 7)), batch=1000)
    assert set(server.stored) == {("test", f"e{n}") for n in range(2500)}
    assert done == Receipt(accepted=2500, duplicate=1)
    assert [len(body["events"]) for body in server.bodies] == [1000, 1000, 501]
    assert perennial.events.send([event(1), event(-1, "nobody")]) == Receipt(duplicate=1, quarantined=1)


def test_nothing_is_sent_for_nothing(server: Server, perennial: Perennial) -> None:
    assert perennial.events.send([]) == Receipt()
    assert server.requests == []


def test_what_is_sent(server: Server, perennial: Perennial) -> None:
    moment = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    perennial.events.send([Event("s", "1", "cus_1", "api_call", moment, {"tokens": Decimal("0.00000250"), "to": "ü"})])
    ((method, path, headers),) = server.requests
    assert (method, path, headers["Authorization"]) == ("POST", "/v1/events", "Bearer key_1.secret")
    (sent,) = server.bodies[0]["events"]
    data = {"tokens": Decimal("0.00000250"), "to": "ü"}
    expected = {"source": "s", "id": "1", "subject": "cus_1", "type": "api_call", "data": data}
    assert sent == expected | {"time": "2026-03-01T12:00:00+01:00"}


def test_usage_from_before_is_said_to_be_meant(server: Server, perennial: Perennial) -> None:
    """Also by the halves of a body that is too large."""
    server.longest = 700
    done = perennial.events.send((event(n) for n in range(8)), batch=8, whatever_time=True)
    assert done == Receipt(accepted=8)
    assert len(server.requests) > 2
    assert {path for _, path, _ in server.requests} == {"/v1/events?whatever_time=true"}


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="'1' has no time zone"):
        Event("s", "1", "cus_1", "api_call", NOON.replace(tzinfo=None))


@pytest.mark.parametrize(
    "fault",
    [
        Answer(0),
        Answer(503, b"<html>down</html>"),
        Answer(500),
        Answer(408),
        Answer(425),
        Answer(200, b"<html>"),
        Answer(429, headers={"Retry-After": "0"}),
        Answer(503, headers={"Retry-After": "Sun, 01 Mar 2026 12:00:00 GMT"}),
    ],
    ids=["dropped", "503", "500", "408", "425", "unreadable", "429", "503 with a date"],
)
def test_passing_trouble_is_tried_again(server: Server, perennial: Perennial, fault: Answer) -> None:
    server.faults += [fault, fault]
    assert perennial.events.send([event(1)]) == Receipt(accepted=1)
    assert len(server.requests) == 3
    assert server.bodies[0] == server.bodies[1] == server.bodies[2]


@pytest.mark.parametrize("status", [0, 503], ids=["connection dropped", "503"])
def test_what_was_stored_before_the_answer_was_lost_is_stored_once(
    server: Server, perennial: Perennial, status: int
) -> None:
    server.faults.append(Answer(status, commit=True))
    assert perennial.events.send([event(1), event(2)]) == Receipt(duplicate=2)
    assert len(server.stored) == 2


def test_what_is_refused_is_named_and_the_others_are_stored(server: Server, perennial: Perennial) -> None:
    perennial.events.send([event(1)])
    other, wrong = replace(event(1), subject="cus_2"), replace(event(3), data={"tokens": "many"})
    done = perennial.events.send([event(1), other, event(2), wrong])
    refused = (
        RefusedEvent(other, "conflict", "another content"),
        RefusedEvent(wrong, "invalid", "must be a number (meter tokens)", "data.tokens"),
    )
    assert done == Receipt(accepted=1, duplicate=1, conflict=1, invalid=1, refused=refused)
    assert done + done == Receipt(2, 2, 2, 0, 2, refused + refused)
    assert len(server.stored) == 2


def test_when_all_are_invalid_each_one_is(server: Server, perennial: Perennial) -> None:
    wrong = [replace(event(n), data={"tokens": "many"}) for n in range(30)]
    done = perennial.events.send([*wrong, event(30)], batch=30)
    assert (done.accepted, done.invalid, [one.event for one in done.refused]) == (1, 30, wrong)
    [said] = {(one.reason, one.field) for one in done.refused[:20]}
    assert said == ("must be a number (meter tokens)", "data.tokens")
    assert {(one.reason, one.field) for one in done.refused[20:]} == {("None of the events was taken in.", "")}
    assert len(server.requests) == 2


def test_a_body_that_is_too_large_goes_in_halves(server: Server, perennial: Perennial) -> None:
    server.longest = 1000
    huge = replace(event(7), data={"tokens": 1, "note": "x" * 2000})
    done = perennial.events.send([event(n) if n != 7 else huge for n in range(50)])
    assert (done.accepted, done.invalid) == (49, 1)
    assert done.refused == (RefusedEvent(huge, "invalid", "The body is too large."),)
    assert ("test", "e7") not in server.stored


def test_one_that_spoils_the_whole_body_is_found(server: Server, perennial: Perennial) -> None:
    poison = replace(event(5), data={"tokens": 1, "note": "poison"})
    done = perennial.events.send([event(n) if n != 5 else poison for n in range(20)])
    assert (done.accepted, done.invalid) == (19, 1)
    assert done.refused == (RefusedEvent(poison, "invalid", "body: is not JSON that can be read"),)


@pytest.mark.parametrize(
    "fault",
    [
        refusal(422, code="invalid_body", detail="The body is not gzip, or not all of it."),
        refusal(422, code="invalid_request", errors=[{"field": "whatever_time", "reason": "must be true or false"}]),
        refusal(422, code="refused"),
        Answer(422, b"<html>stopped by a proxy</html>"),
    ],
    ids=["packed wrongly", "a parameter", "another reason", "a proxy"],
)
def test_a_body_that_no_event_is_to_blame_for_is_refused_as_it_is(
    server: Server, perennial: Perennial, fault: Answer
) -> None:
    server.faults.append(fault)
    with pytest.raises(ProblemError, match="422"):
        perennial.events.send([event(1), event(2)])
    assert (len(server.requests), server.stored) == (1, {})


def test_what_the_database_cannot_hold_is_found(server: Server, perennial: Perennial) -> None:
    server.faults += [refusal(422, code="invalid_value", detail="A value cannot be stored.")] * 2
    done = perennial.events.send([event(1), event(2)])
    assert done == Receipt(
        accepted=1, invalid=1, refused=(RefusedEvent(event(1), "invalid", "A value cannot be stored."),)
    )


def test_what_is_no_json_is_invalid_and_not_sent(server: Server, perennial: Perennial) -> None:
    wrong = [
        replace(event(1), data={"tokens": Decimal("NaN")}),
        replace(event(2), data={"tokens": {1, 2}}),  # type: ignore[dict-item]
        replace(event(3), data={"tokens": nested(5000)}),
    ]
    done = perennial.events.send([event(0), *wrong])
    assert (done.accepted, done.invalid, [one.event.id for one in done.refused]) == (1, 3, ["e1", "e2", "e3"])
    assert all(one.reason.startswith("cannot be written as JSON") for one in done.refused)
    assert perennial.events.send(wrong).invalid == 3
    assert len(server.requests) == 1


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("batch", [0, -1, 10_001])
def test_batches_have_a_size_that_the_server_takes(perennial: Perennial, batch: int) -> None:
    with pytest.raises(ValueError, match="10000 events"):
        perennial.events.send([event(1)], batch=batch)
    with pytest.raises(ValueError, match="10000 events"):
        EventBuffer(perennial.events, batch=batch)


def test_large_bodies_are_packed_if_wanted(server: Server) -> None:
    with Perennial(server.url, "key", gzip_above=2000) as packing:
        assert packing.events.send([event(1)]) == Receipt(accepted=1)
        assert packing.events.send([event(n) for n in range(100)]).accepted == 99
    (_, _, small), (_, _, large) = server.requests
    assert ("Content-Encoding" in small, large["Content-Encoding"]) == (False, "gzip")
    assert int(large["Content-Length"]) < 2000
    assert len(server.bodies[1]["events"]) == 100


def counted(*listed: dict[str, object], **counts: object) -> str:
    """An answer about two events."""
    none = dict.fromkeys(("accepted", "duplicate", "conflict", "quarantined", "invalid"), 0)
    return json.dumps({**none, **counts, "events": listed})


WRONG = {"index": 0, "outcome": "invalid"}


@pytest.mark.parametrize(
    "body",
    [
        '{"ok": true}',
        "[]",
        "7",
        "<html>",
        "",
        '{"accepted": 2, "duplicate": 0, "conflict": 0, "quarantined": 0, "invalid": 0}',
        counted(),
        counted(accepted=1),
        counted(accepted=3),
        counted(accepted=3, quarantined=-1),
        counted(accepted=True, duplicate=1),
        counted(accepted=1, invalid=1),
        counted(WRONG, accepted=2),
        counted(WRONG, WRONG, invalid=2),
        counted({"index": 2, "outcome": "invalid"}, accepted=1, invalid=1),
    ],
)
def test_an_answer_that_does_not_tell_of_each_event_is_no_receipt(
    server: Server, perennial: Perennial, body: str
) -> None:
    """They are sent again, under the same ids; in the end it is an error."""
    wrong = Answer(200, body.encode(), commit=True)
    server.faults.append(wrong)
    assert perennial.events.send([event(1), event(2)]) == Receipt(duplicate=2)
    assert server.bodies[0] == server.bodies[1]
    server.faults += [wrong] * QUICK.attempts
    with pytest.raises(UnreadableAnswer):
        perennial.events.send([event(1), event(2)])
    assert len(server.requests) == 2 + QUICK.attempts
