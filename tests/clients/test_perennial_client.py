"""The client that others install, against a small server on the loopback that can be made to fail."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event as Flag
from threading import Thread
from typing import Any

import httpx
import pytest
from perennial_client import BufferFull, Event, EventBuffer, FieldError, Perennial, ProblemError, Receipt, Retries
from perennial_client.encoding import dumps, loads
from perennial_client.retries import asked_wait

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUICK = Retries(attempts=4, first=0.001, longest=5.0)
PROBLEM = {
    "type": "about:blank",
    "title": "Unprocessable Content",
    "status": 422,
    "detail": "The batch was not taken in.",
    "code": "invalid_events",
    "errors": [{"field": "events.1.data.tokens", "reason": "must be a number"}],
    "remedy": "Correct these events and send all again.",
}


@dataclass
class Answer:
    """What the server does instead of answering well; with `status` 0 it hangs up without a word."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    commit: bool = False


class Server(ThreadingHTTPServer):
    """Remembers events by (source, id) as Perennial does. `faults` are used up first, one a request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.stored: dict[tuple[str, str], Any] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[Any] = []
        self.faults: deque[Answer] = deque()
        self.got_one = Flag()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def take(self, events: list[Any]) -> Receipt:
        fresh = {(e["source"], e["id"]): e for e in events if (e["source"], e["id"]) not in self.stored}
        self.stored |= fresh
        strange = sum(e["subject"] == "nobody" for e in fresh.values())
        self.got_one.set()
        return Receipt(len(fresh) - strange, len(events) - len(fresh), strange)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._note(None)
        self._answer(self.server.faults.popleft() if self.server.faults else self._well({"total": Decimal("0.10")}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])), parse_float=Decimal)
        self._note(body)
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault and not fault.commit:
            return self._answer(fault)
        done = self.server.take(body["events"])
        told = {"accepted": done.accepted, "duplicate": done.duplicate, "quarantined": done.quarantined}
        return self._answer(fault or self._well(told))

    def _note(self, body: Any) -> None:
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        self.server.bodies.append(body)

    def _well(self, value: Any) -> Answer:
        return Answer(200, dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, answer: Answer) -> None:
        if not answer.status:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def perennial(server: Server) -> Iterator[Perennial]:
    with Perennial(server.url, "key_1.secret", retries=QUICK) as client:
        yield client


def event(number: int, subject: str = "cus_1") -> Event:
    return Event("test", f"e{number}", subject, "api_call", NOON, {"tokens": number})


def test_events_go_in_batches_and_the_counts_add_up(server: Server, perennial: Perennial) -> None:
    done = perennial.events.send((event(n) for n in (*range(2500), 7)), batch=1000)
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


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="'1' has no time zone"):
        Event("s", "1", "cus_1", "api_call", NOON.replace(tzinfo=None))


@pytest.mark.parametrize(
    "fault",
    [
        Answer(0),
        Answer(503, b"<html>down</html>"),
        Answer(500),
        Answer(429, headers={"Retry-After": "0"}),
        Answer(503, headers={"Retry-After": "Sun, 01 Mar 2026 12:00:00 GMT"}),
    ],
    ids=["dropped", "503", "500", "429", "503 with a date"],
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
    document = Answer(422, json.dumps(PROBLEM).encode(), {"Content-Type": "application/problem+json; charset=utf-8"})
    server.faults.append(document)
    with pytest.raises(ProblemError) as raised:
        perennial.events.send([event(1), event(2)])
    problem = raised.value
    assert (problem.status, problem.code, problem.title) == (422, "invalid_events", "Unprocessable Content")
    assert (problem.detail, problem.remedy) == (PROBLEM["detail"], PROBLEM["remedy"])
    assert problem.errors == (FieldError("events.1.data.tokens", "must be a number"),)
    assert "events.1.data.tokens: must be a number" in str(problem)
    assert len(server.requests) == 1


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


def test_asking_is_repeated_only_when_told_to(server: Server, perennial: Perennial) -> None:
    server.faults.append(Answer(503))
    with pytest.raises(ProblemError):
        perennial.post("/v1/events", {"events": []})
    server.faults.append(Answer(503))
    assert perennial.post("/v1/events", {"events": []}, repeat=True)
    assert len(server.requests) == 3


def test_a_wrong_answer_is_not_taken_for_a_receipt(server: Server, perennial: Perennial) -> None:
    server.faults.append(Answer(200, b'{"ok": true}'))
    with pytest.raises(ValueError, match="did not say what became"):
        perennial.events.send([event(1)])


def test_a_full_batch_leaves_the_buffer_by_itself(server: Server, perennial: Perennial) -> None:
    with EventBuffer(perennial.events, batch=3, age=3600) as usage:
        for number in range(3):
            usage.add(event(number))
        assert server.got_one.wait(30)
        assert len(server.stored) == 3
        usage.add(event(3))
    assert len(server.stored) == 4


def test_age_empties_the_buffer(server: Server, perennial: Perennial) -> None:
    with EventBuffer(perennial.events, age=0.01) as usage:
        usage.add(event(1))
        assert server.got_one.wait(30)
    assert len(server.requests) == 1


def test_flush_sends_what_waits(server: Server, perennial: Perennial) -> None:
    with EventBuffer(perennial.events, batch=1000, age=3600) as usage:
        usage.add(event(1))
        usage.add(event(2))
        assert usage.flush() == Receipt(accepted=2)
        assert (len(usage), usage.flush()) == (0, Receipt())


def test_what_cannot_be_sent_stays_in_the_buffer(server: Server, perennial: Perennial) -> None:
    usage = EventBuffer(perennial.events, age=3600, limit=2)
    usage.add(event(1))
    usage.add(event(2))
    server.faults += [Answer(503)] * QUICK.attempts
    with pytest.raises(ProblemError):
        usage.flush()
    with pytest.raises(BufferFull) as full:
        usage.add(event(3))
    assert isinstance(full.value.__cause__, ProblemError)
    server.faults += [Answer(503)] * QUICK.attempts
    with pytest.raises(ProblemError):
        usage.close()
    assert len(usage) == 2
    usage.close()
    assert (len(usage), len(server.stored)) == (0, 2)
    with pytest.raises(ValueError, match="closed"):
        usage.add(event(3))


def test_the_buffer_is_emptied_when_the_process_ends(server: Server) -> None:
    program = f"""
from datetime import UTC, datetime
from perennial_client import Event, EventBuffer, Perennial
usage = EventBuffer(Perennial({server.url!r}, "key").events, age=3600)
usage.add(Event("test", "last", "cus_1", "api_call", datetime.now(UTC), {{"tokens": 1}}))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert set(server.stored) == {("test", "last")}


@pytest.mark.parametrize("number", ["0.0000025", "123456789012345678901234567890.1", "0.10", "-5.00"])
def test_numbers_survive(number: str) -> None:
    assert dumps({"n": [Decimal(number)]}) == f'{{"n":[{number}]}}'
    assert loads(dumps([Decimal(number)])) == [Decimal(number)]


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), float("nan")])
def test_what_is_no_number_is_not_sent(value: Any) -> None:
    with pytest.raises(ValueError):
        dumps(value)
