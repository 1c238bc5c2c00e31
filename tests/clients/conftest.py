"""A small server on the loopback that takes events as Perennial does, and can be made to fail."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest
from perennial_client import (
    Event,
    Perennial,
    Retries,
)
from perennial_client.encoding import dumps

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUICK = Retries(attempts=4, first=0.001, longest=5.0)
PROBLEM_DOCUMENT = {"Content-Type": "application/problem+json; charset=utf-8"}


@dataclass
class Answer:
    """What the server does instead of answering well; with `status` 0 it hangs up without a word."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    commit: bool = False


class Server(ThreadingHTTPServer):
    """Remembers events by (source, id) as Perennial does. `faults` are used up first, one a request.

    Events of `nobody` are quarantined; tokens must be numbers; `longest` bounds a body in bytes, and one that names
    `poison` is refused as a whole.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.stored: dict[tuple[str, str], Any] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[Any] = []
        self.faults: deque[Answer] = deque()
        self.got_one = Flag()
        self.longest = 10**9
        self._connections: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.append(request)
        super().process_request(request, client_address)

    def die(self) -> None:
        """Nobody listens any more, and connections are cut."""
        self.shutdown()
        self.server_close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def take(self, events: list[Any]) -> Answer:
        outcomes = [self._take(e) for e in events]
        self.got_one.set()
        told = [{"index": n, **one} for n, one in enumerate(outcomes) if one["outcome"] != "accepted"]
        counts = {
            outcome: sum(one["outcome"] == outcome for one in outcomes)
            for outcome in ("accepted", "duplicate", "conflict", "quarantined", "invalid")
        }
        if counts["invalid"] == len(events):
            faults = [{"field": f"events.{e['index']}.{e['field']}", "reason": e["reason"]} for e in told[:20]]
            return refusal(422, code="invalid_events", detail="None of the events was taken in.", errors=faults)
        return Answer(207 if counts["invalid"] else 200, dumps({**counts, "events": told}).encode())

    def _take(self, event: Any) -> dict[str, str]:
        known = self.stored.get((event["source"], event["id"]))
        if not isinstance(event["data"]["tokens"], int | Decimal):
            return {"outcome": "invalid", "reason": "must be a number (meter tokens)", "field": "data.tokens"}
        if known is not None:
            return {"outcome": "duplicate"} if known == event else {"outcome": "conflict", "reason": "another content"}
        self.stored[event["source"], event["id"]] = event
        return {"outcome": "quarantined" if event["subject"] == "nobody" else "accepted"}


def refusal(status: int, **document: Any) -> Answer:
    return Answer(status, json.dumps({"title": "Refused", **document}).encode(), PROBLEM_DOCUMENT)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._note(None)
        self._answer(self.server.faults.popleft() if self.server.faults else self._well({"total": Decimal("0.10")}))

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        text = gzip.decompress(raw) if self.headers["Content-Encoding"] == "gzip" else raw
        body = json.loads(text, parse_float=Decimal)
        self._note(body)
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault and not fault.commit:
            return self._answer(fault)
        if len(text) > self.server.longest:
            return self._answer(refusal(413, code="too_large", detail="The body is too large."))
        if b"poison" in text:
            faults = [{"field": "body", "reason": "is not JSON that can be read"}]
            return self._answer(refusal(422, code="invalid_events", errors=faults))
        done = self.server.take(body["events"])
        return self._answer(fault or done)

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
    with serving() as running:
        yield running


@contextlib.contextmanager
def serving(port: int = 0) -> Iterator[Server]:
    with Server(port) as running:
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
