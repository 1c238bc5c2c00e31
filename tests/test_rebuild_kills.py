"""A meter's days counted anew while events come in and the worker is killed at random moments: exact, and done once.

`make test` kills six times; KILLS asks for more. The seed is printed and can be given (SEED).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from models.api_key import create_key
from models.database import open_engine, transaction
from sandbox.stack import Stack
from tests.test_kills import killing

KILLS = min(int(os.environ.get("KILLS", "6")), 40)
SEED = int(os.environ.get("SEED", str(random.randrange(10**6))))
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
CUSTOMERS, BATCH, BEFORE, MOST = 12, 5_000, 8, 80
"""So many customers, events in a batch, batches before the rebuild, and batches at the most."""
PATIENCE_SECONDS = 480
"""Each kill costs a new start of the worker and a heartbeat's timeout, on a machine that runs other tests as well."""
TOTALS = "select customer_id, day::text, max(quantity), sum(events)::int from usage_total group by 1, 2"

Days = dict[tuple[str, str], list[int]]


def drawn(no: int) -> dict[str, Any]:
    dice = random.Random(no)
    at = FIRST + timedelta(seconds=dice.randrange(20 * 86_400))
    subject = "hot" if dice.random() < 0.5 else f"cus-{dice.randrange(CUSTOMERS)}"
    data = {"n": dice.randrange(1, 10_000), "cached": dice.choice(["yes", "no"])}
    return {"source": "s", "id": f"e{no}", "subject": subject, "type": "llm", "time": at.isoformat(), "data": data}


class Front:
    """The API of a stack, with an administrator's key."""

    def __init__(self, stack: Stack) -> None:
        engine = open_engine(stack.environment["DATABASE_URL"], pool=1)
        with transaction(engine) as session:
            key = create_key(session, "tests", ["admin"])
        engine.dispose()
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=stack.addresses.api_url, headers=headers, timeout=60, trust_env=False)

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def post(self, path: str, body: Any) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def reaches(self, stage: str) -> Any:
        until = time.monotonic() + PATIENCE_SECONDS
        while (found := self.http.get("/v1/meters/tokens/rebuilds/reb-1").json())["stage"] != stage:
            assert time.monotonic() < until, found
            time.sleep(0.05)
        return found


def send(front: Front, batch: int) -> None:
    sent = front.post("/v1/events", {"events": [drawn(no) for no in range(batch * BATCH, (batch + 1) * BATCH)]})
    assert sent["accepted"] == BATCH


def expected(batches: int) -> dict[tuple[str, str], tuple[Decimal, int]]:
    """By customer and day, the largest quantity that was not cached, and how many there were."""
    found: Days = defaultdict(list)
    for no in range(batches * BATCH):
        e = drawn(no)
        if e["data"]["cached"] == "no":
            found[e["subject"], e["time"][:10]].append(e["data"]["n"])
    return {place: (Decimal(max(some)), len(some)) for place, some in found.items()}


def test_killed_at_random_it_is_exact_and_done_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    over = threading.Event()
    sent = [BEFORE]
    with Stack(tmp_path / "stack", keep=False) as stack, Front(stack) as front:
        for name in ["hot", *(f"cus-{no}" for no in range(CUSTOMERS))]:
            who = {"id": name, "name": name, "email": "a@b.example", "country": "DE", "time_zone": "UTC"}
            front.post("/v1/customers", who)
        front.post("/v1/meters", {"id": "tokens", "name": "T", "event_type": "llm", "quantity_field": "n"})
        for batch in range(BEFORE):
            send(front, batch)

        def sending() -> None:
            while sent[0] < MOST and not over.wait(0.2):
                send(front, sent[0])
                sent[0] += 1

        sender = threading.Thread(target=sending)
        sender.start()
        change = {"aggregation": "max", "filters": [{"field": "cached", "among": ["no"]}]}
        try:
            with killing(stack, random.Random(SEED), KILLS) as killed:
                front.post("/v1/meters/tokens/rebuilds", {"id": "reb-1", "since": "2026-02-01", "change": change})
                front.reaches("compared")
                front.post("/v1/meters/tokens/rebuilds/reb-1/apply", {})
                done = front.reaches("applied")
        finally:
            over.set()
            sender.join()
        versions = front.http.get("/v1/meters/tokens/versions").json()
        with capsys.disabled():
            print(f"\n  seed {SEED}: {len(killed)} kills, {sent[0] * BATCH:,} events", end="", flush=True)
        assert killed, "it was over before the worker could be killed"
        assert done["counted_events"] == done["events"] >= BEFORE * BATCH
        with psycopg.connect(stack.environment["DATABASE_URL"]) as database:
            totals = database.execute(TOTALS).fetchall()
            marks = database.execute(
                "select array_to_string(meters, ' '), data ->> 'cached', count(*)::int from usage_event group by 1, 2"
            ).fetchall()
        assert {(who, day): (quantity, events) for who, day, quantity, events in totals} == expected(sent[0])
        assert {mark for mark, cached, _ in marks if cached == "no"} == {"tokens"}
        assert {mark for mark, cached, _ in marks if cached == "yes"} == {""}
        assert [one["version"] for one in versions] == [1, 2]
