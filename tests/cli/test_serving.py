"""One port served by several processes: events count once, figures are told together, one that dies is replaced."""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.cli.conftest import Api, Sender

PROCESSES = 2


def processes(api: Api) -> list[int]:
    assert api.child
    pid = api.child.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_many_connections_to_two_processes_count_each_event_once(api: Api, send: Sender) -> None:
    assert len(processes(api)) == PROCESSES
    before = accepted(api)
    with ThreadPoolExecutor(16) as rivals:
        answers = list(rivals.map(lambda no: post(api, send, no % 40), range(160)))
    assert sum(answer["accepted"] for answer in answers) == 40
    assert sum(answer["duplicate"] for answer in answers) == 120
    assert send.total() == sum(range(40))
    assert {accepted(api) - before for _ in range(8)} == {40.0}  # Whichever of the two is asked.


def test_a_process_that_dies_is_replaced_and_nothing_is_lost(api: Api, send: Sender) -> None:
    first, *others = processes(api)
    assert post(api, send, 1)["accepted"] == 1
    os.kill(first, signal.SIGKILL)
    ends = time.monotonic() + 30
    while time.monotonic() < ends and (len(now := processes(api)) < PROCESSES or first in now):
        time.sleep(0.1)
    now = processes(api)
    assert first not in now
    assert set(others) < set(now)
    answered = [sent_in_spite(api, send, 2) for _ in range(8)]
    assert sum(answer["accepted"] for answer in answered) == 1
    assert send.total() == 1 + 2


def sent_in_spite(api: Api, send: Sender, no: int) -> dict[str, int]:
    """A connection that the dead process had may be refused; what is sent again with the same id is safe."""
    for _ in range(50):
        try:
            return post(api, send, no)
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the door stayed shut")


def post(api: Api, send: Sender, no: int) -> dict[str, int]:
    """On a connection of its own, so that any process may get it."""
    sent = {
        "source": send.source,
        "id": f"e{no}",
        "subject": send.customer,
        "type": "llm",
        "time": "2026-01-05T10:00:00Z",
        "data": {"n": no},
    }
    headers = {"Authorization": f"Bearer {api.environment['PERENNIAL_API_KEY']}"}
    answer = httpx.post(f"{api.url}/v1/events", json=sent, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, int] = answer.json()
    return found


def accepted(api: Api) -> float:
    figures = httpx.get(f"{api.url}/metrics").text
    found = re.search(r'^perennial_usage_events_total\{outcome="accepted"\} ([\d.]+)$', figures, re.MULTILINE)
    return float(found[1]) if found else 0.0
