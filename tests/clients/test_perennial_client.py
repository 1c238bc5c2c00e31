"""Requests of the client: what is repeated and how long is waited, refusals, and exact numbers."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest
from perennial_client import (
    FieldError,
    Perennial,
    ProblemError,
    Retries,
    UnreadableAnswer,
)
from perennial_client.encoding import dumps, loads
from perennial_client.retries import asked_wait

from tests.clients.conftest import NOON, PROBLEM_DOCUMENT, QUICK, Answer, Server, event

PROBLEM = {
    "type": "about:blank",
    "title": "Conflict",
    "status": 409,
    "detail": "The plan is another one by now.",
    "code": "conflict",
    "errors": [{"field": "items.1.price", "reason": "must be a number"}],
    "remedy": "Look again.",
}


def test_retries_end(server: Server, perennial: Perennial) -> None:
    server.faults += [Answer(503)] * QUICK.attempts
    with pytest.raises(ProblemError, match="503 Service Unavailable") as raised:
        perennial.events.send([event(1)])
    assert (raised.value.status, raised.value.code) == (503, "http_503")
    server.faults += [Answer(0)] * QUICK.attempts
    with pytest.raises(httpx.TransportError):
        perennial.events.send([event(1)])
    assert len(server.requests) == 2 * QUICK.attempts


def test_a_server_that_wants_more_patience_than_we_have_is_left_alone(server: Server, perennial: Perennial) -> None:
    server.faults.append(Answer(429, headers={"Retry-After": "3600"}))
    with pytest.raises(ProblemError, match="429 Too Many Requests"):
        perennial.events.send([event(1)])
    assert len(server.requests) == 1


def test_the_pause_grows_is_bounded_and_is_never_shorter_than_asked() -> None:
    retries = Retries(attempts=9, first=1.0, longest=10.0)
    for failed, bound in enumerate([1, 2, 4, 8, 10, 10, 10, 10], 1):
        pause = retries.pause(failed)
        assert pause is not None and bound / 2 <= pause <= bound
    assert retries.pause(9) is None
    assert retries.pause(1, asked=7.5) == 7.5
    assert retries.pause(1, asked=10.5) is None
    assert len({retries.pause(3) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30.0),
        ("soon", None),
        ("-1", None),
        ("", None),
    ],
)
def test_retry_after(said: str, seconds: float | None) -> None:
    assert asked_wait(httpx.Response(503, headers={"Retry-After": said}), NOON) == seconds


def test_a_refusal_says_everything_and_is_not_repeated(server: Server, perennial: Perennial) -> None:
    server.faults.append(Answer(409, json.dumps(PROBLEM).encode(), PROBLEM_DOCUMENT))
    with pytest.raises(ProblemError) as raised:
        perennial.events.send([event(1), event(2)])
    problem = raised.value
    assert (problem.status, problem.code, problem.title) == (409, "conflict", "Conflict")
    assert (problem.detail, problem.remedy) == (PROBLEM["detail"], PROBLEM["remedy"])
    assert problem.errors == (FieldError("items.1.price", "must be a number"),)
    assert "items.1.price: must be a number" in str(problem)
    assert len(server.requests) == 1


def test_an_address_that_is_none_is_not_tried_again() -> None:
    with Perennial("127.0.0.1:1", "key", retries=Retries(attempts=9, first=60.0)) as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            client.get("/v1/invoices")


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'{"errors": [3, "x"], "title": 7}'])
def test_a_refusal_that_is_no_proper_document(server: Server, perennial: Perennial, body: bytes) -> None:
    server.faults.append(Answer(404, body, {"Content-Type": "application/problem+json"}))
    with pytest.raises(ProblemError) as raised:
        perennial.get("/v1/invoices/inv_1")
    assert (raised.value.status, raised.value.title, raised.value.code) == (404, "Not Found", "http_404")


def test_reading_is_exact_and_repeated(server: Server, perennial: Perennial) -> None:
    server.faults.append(Answer(503))
    assert perennial.get("/v1/invoices", limit=5) == {"total": Decimal("0.10")}
    assert [path for _, path, _ in server.requests] == ["/v1/invoices?limit=5"] * 2


@pytest.mark.parametrize(
    "unreadable",
    [
        Answer(200, b"<html>one moment</html>"),
        Answer(200, b"[" * 100_000),
        Answer(200, b'{"total": 1}', {"Content-Encoding": "gzip"}),
    ],
)
def test_an_answer_that_cannot_be_read_is_asked_for_again(
    server: Server, perennial: Perennial, unreadable: Answer
) -> None:
    server.faults.append(unreadable)
    assert perennial.get("/v1/invoices") == {"total": Decimal("0.10")}
    server.faults += [unreadable] * QUICK.attempts
    with pytest.raises(UnreadableAnswer):
        perennial.get("/v1/invoices")
    assert len(server.requests) == 2 + QUICK.attempts


def test_what_is_asked_for_once_is_not_asked_for_again(server: Server, perennial: Perennial) -> None:
    server.faults.append(Answer(200, b"<html>"))
    with pytest.raises(UnreadableAnswer):
        perennial.post("/v1/events", {"events": []})
    assert len(server.requests) == 1


def test_asking_is_repeated_only_when_told_to(server: Server, perennial: Perennial) -> None:
    server.faults.append(Answer(503))
    with pytest.raises(ProblemError):
        perennial.post("/v1/events", {"events": [dict(event(1).to_json())]})
    server.faults.append(Answer(503))
    assert perennial.post("/v1/events", {"events": [dict(event(1).to_json())]}, repeat=True)
    assert len(server.requests) == 3


@pytest.mark.parametrize("number", ["0.0000025", "123456789012345678901234567890.1", "0.10", "-5.00"])
def test_numbers_survive(number: str) -> None:
    assert dumps({"n": [Decimal(number)]}) == f'{{"n":[{number}]}}'
    assert loads(dumps([Decimal(number)])) == [Decimal(number)]


@pytest.mark.parametrize("number", ["1E+999999999", "-2.5E-999999999"])
def test_a_number_takes_no_more_room_than_its_digits(number: str) -> None:
    assert dumps(Decimal(number)) == number
    assert loads(dumps(Decimal(number))) == Decimal(number)


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), float("nan")])
def test_what_is_no_number_is_not_sent(value: Any) -> None:
    with pytest.raises(ValueError):
        dumps(value)
