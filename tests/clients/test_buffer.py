"""The buffer: when it sends, what it keeps, what it gives up, and how it outlives a server."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest
from perennial_client import (
    BufferFull,
    EventBuffer,
    Perennial,
    ProblemError,
    Receipt,
    RefusedEvent,
    Retries,
)

from tests.clients.conftest import QUICK, Answer, Server, event, refusal, serving


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


def test_the_buffer_goes_on_after_what_is_refused(server: Server, perennial: Perennial) -> None:
    told: list[RefusedEvent] = []

    def complain(refused: RefusedEvent) -> None:
        told.append(refused)
        raise RuntimeError("a callback's own trouble")

    wrong = [replace(event(n), data={"tokens": "many"}) for n in range(4)]
    with EventBuffer(perennial.events, batch=2, age=3600, on_refused=complain) as usage:
        for one in (*wrong, event(4), event(0), replace(event(4), subject="cus_2"), event(5)):
            usage.add(one)
    assert [(one.event.id, one.outcome) for one in told] == [(f"e{n}", "invalid") for n in range(4)] + [
        ("e4", "conflict")
    ]
    assert (len(usage), usage.failure) == (0, None)
    assert {name for _, name in server.stored} == {"e4", "e0", "e5"}


def test_what_no_event_is_to_blame_for_is_said_once_and_loses_none(
    server: Server, perennial: Perennial, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults += [refusal(422, code="invalid_body", detail="The body is not gzip.")] * 3
    told: list[RefusedEvent] = []
    with (
        caplog.at_level(logging.WARNING, "perennial_client"),
        EventBuffer(perennial.events, batch=2, age=0.01, on_refused=told.append) as usage,
    ):
        usage.add(event(1))
        usage.add(event(2))
        until(lambda: len(usage) == 0)
    assert caplog.messages == ["Events cannot be sent, and wait: 422 Refused. The body is not gzip."]
    assert ({name for _, name in server.stored}, told) == ({"e1", "e2"}, [])


def test_what_is_refused_is_logged(server: Server, perennial: Perennial, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "perennial_client"), EventBuffer(perennial.events, age=3600) as usage:
        usage.add(replace(event(1), data={"tokens": "many"}))
    why = "data.tokens: must be a number (meter tokens)"
    assert caplog.messages == [f"Event 'e1' of 'test' was not taken in (invalid): {why}"]


def test_the_buffer_survives_a_restart_of_the_server(server: Server) -> None:
    """While nobody listens, then while the server is busy; the events keep their ids and their order."""
    impatient = Retries(attempts=2, first=0.001)
    with Perennial(server.url, "key", retries=impatient) as client, EventBuffer(client.events, age=0.01) as usage:
        usage.add(event(1))
        assert server.got_one.wait(30)
        until(lambda: len(usage) == 0)  # Its answer has come too, so it is not sent again.
        server.die()
        usage.add(event(2))
        until(lambda: isinstance(usage.failure, httpx.ConnectError))
        usage.add(event(3))
        with serving(server.server_port) as again:
            again.faults += [Answer(503)] * 3 + [Answer(429, headers={"Retry-After": "0"})] * 3
            until(lambda: len(usage) == 0)
    assert [e["id"] for e in again.stored.values()] == ["e2", "e3"]
    assert usage.failure is None


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_buffer_is_emptied_when_the_process_ends(server: Server) -> None:
    program = f"""
from datetime import UTC, datetime
from perennial_client import Event, EventBuffer, Perennial
usage = EventBuffer(Perennial({server.url!r}, "key").events, age=3600)
usage.add(Event("test", "last", "cus_1", "api_call", datetime.now(UTC), {{"tokens": 1}}))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert set(server.stored) == {("test", "last")}


def test_a_child_sends_what_is_its_own_and_the_parent_the_rest(server: Server) -> None:
    """By a thread and a connection of its own, even if the parent's were at work and held their locks."""
    program = f"""
import os, signal, time
from datetime import UTC, datetime
from perennial_client import Event, EventBuffer, Perennial

def add(name):
    usage.add(Event("test", name, "cus_1", "api_call", datetime.now(UTC), {{"tokens": 1}}))

usage = EventBuffer(Perennial({server.url!r}, "key").events, batch=2, age=3600)
add("before")
usage.flush()
add("parent")
with usage._changed, usage._sending:
    child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
else:
    signal.alarm(30)
    assert len(usage) == 0
    add("child 1")
    add("child 2")
    while len(usage):
        time.sleep(0.005)
    add("child 3")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    sent = [[event["id"] for event in body["events"]] for body in server.bodies]
    assert sent == [["before"], ["child 1", "child 2"], ["child 3"], ["parent"]]
    assert len(server._connections) == 2


def test_children_of_multiprocessing_send_what_they_have_at_their_end(server: Server) -> None:
    program = f"""
import multiprocessing
from datetime import UTC, datetime
from perennial_client import Event, EventBuffer, Perennial

def add(name):
    usage.add(Event("test", name, "cus_1", "api_call", datetime.now(UTC), {{"tokens": 1}}))

usage = EventBuffer(Perennial({server.url!r}, "key").events, batch=100, age=3600)
add("parent")
child = multiprocessing.get_context("fork").Process(target=add, args=("child",))
child.start()
child.join(30)
assert child.exitcode == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert [[event["id"] for event in body["events"]] for body in server.bodies] == [["child"], ["parent"]]
