"""Events sent by several clients while the API and PostgreSQL are killed at random: none is lost, each counts once.

Two processes of the API take in what four clients send over and over until they are told what became of it: batches
that overlap, events within a batch twice, other contents under ids that are known, strangers, one customer with most of
it. A kill is SIGKILL to a process of the API, an immediate shutdown of PostgreSQL (SIGQUIT), or both. `make test` kills
ten times; `make storm` more (KILLS). The seed is printed and can be given (SEED); it decides what is sent and what is
killed, not how the processes run.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from models.api_key import create_key
from models.database import open_engine, transaction
from models.migrations import migrate
from sandbox.postgres import Postgres
from sandbox.process import Child, free_ports, wait_until
from sandbox.stack import PROJECT, Addresses, environment
from sandbox.temporal import Temporal
from tests.storm_events import ALIASES, METERS, ZONES, Sent, added_up, drawn

KILLS = int(os.environ.get("KILLS", "10"))
KILLS_A_ROUND = 25
SEED = int(os.environ.get("SEED", str(random.randrange(10**6))))
CLIENTS, PROCESSES = 4, 2
PATIENCE_SECONDS = 90
MONTHS = ("2026-01-01", "2026-02-01")
"""The first has a partition when it begins, the second gets one in the middle of it."""


@dataclass
class Api:
    """One process of the API, which can be killed and started again on the same port."""

    port: int
    settings: dict[str, str]
    log: Path
    child: Child | None = None

    def start(self) -> None:
        given = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
        command = [sys.executable, "-m", "cli", "serve"]
        self.child = Child(f"api-{self.port}", command, log=self.log, environment=given | self.settings, cwd=PROJECT)

    def wait(self) -> None:
        """Until it answers."""
        assert self.child
        wait_until(self.child, self.answers, 60)

    def kill(self) -> None:
        assert self.child
        self.child.kill()

    def answers(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.port}/healthz"
            return httpx.get(url, trust_env=False, verify=False, timeout=5).is_success
        except httpx.TransportError:
            return False


@dataclass
class Storm:
    """A round: a database of its own, the processes that work on it, and what clients were told so far."""

    postgres: Postgres
    url: str
    apis: Sequence[Api]
    key: str
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count())
    newest: int = 0
    told: Counter[tuple[Sent, str]] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(question).fetchall()

    def some(self, dice: random.Random) -> list[Sent]:
        """New events, events that others send at the moment or have sent, some twice, some with another content.

        The largest hold new ones alone: many are first taken for it (models/event_key.py).
        """
        size = dice.choice((1, 5, 50, 200, 300))
        with self.lock:
            fresh = [next(self.numbers) for _ in range(size)]
            self.newest = fresh[-1]
        if size == 300:
            return [Sent(no) for no in fresh]
        old = [dice.randint(max(0, fresh[0] - 1000), fresh[0]) for _ in range(size // 3)]
        batch = [Sent(no) for no in [*fresh, *old, *dice.choices(fresh, k=size // 20)]]
        batch += [Sent(no, other=True) for no in dice.sample(old, len(old) // 10)]
        dice.shuffle(batch)
        return batch

    def live(self, seed: str) -> None:
        """A client: sends a batch until it is told what became of it, then the next one."""
        dice = random.Random(seed)
        with httpx.Client(headers={"Authorization": f"Bearer {self.key}"}, timeout=20, trust_env=False) as http:
            while not self.over.is_set():
                batch = self.some(dice)
                receipt = self._insist(http, dice, batch)
                with self.lock:
                    self._note(batch, receipt)
                time.sleep(dice.uniform(0.0, 0.2))

    def _insist(self, http: httpx.Client, dice: random.Random, batch: Sequence[Sent]) -> dict[str, Any]:
        if dice.random() < 0.3:
            kind, body = "application/x-ndjson", "\n".join(json.dumps(one.written) for one in batch)
        else:
            kind, body = "application/json", json.dumps({"events": [one.written for one in batch]})
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert time.monotonic() < end, "a batch is not answered"
            url = f"http://127.0.0.1:{dice.choice(self.apis).port}/v1/events"
            try:
                answer = http.post(url, content=body, headers={"Content-Type": kind})
            except httpx.TransportError as error:
                self.answers[type(error).__name__] += 1
            else:
                self.answers[str(answer.status_code)] += 1
                if answer.status_code in (200, 207):
                    receipt: dict[str, Any] = answer.json()
                    return receipt
                assert answer.status_code in (429, 503), f"{answer.status_code}: {answer.text}"
            time.sleep(dice.uniform(0.02, 0.2))

    def _note(self, batch: Sequence[Sent], receipt: dict[str, Any]) -> None:
        outcomes = dict.fromkeys(range(len(batch)), "accepted")
        outcomes |= {one["index"]: one["outcome"] for one in receipt["events"]}
        found = Counter(outcomes.values())
        assert all(receipt[kind] == number for kind, number in found.items()), receipt
        self.told.update((one, outcomes[index]) for index, one in enumerate(batch))


@contextmanager
def round_of(postgres: Postgres, temporal: Temporal, folder: Path, name: str) -> Iterator[Storm]:
    """A database, two processes of the API, customers and meters."""
    url = postgres.create_database(name, template="storm")
    engine = open_engine(url, pool=1)
    with transaction(engine) as session:
        key = create_key(session, "storm", ["admin"])
    engine.dispose()
    apis = []
    for port in free_ports(PROCESSES):
        at = Addresses(api_port=port, database_url=url, temporal_address=temporal.address)
        settings = environment(folder, at) | {"EVENTS_OLDEST_DAYS": "20000"}
        apis.append(Api(port, settings, folder / f"{name}-{port}.log"))
    with ExitStack() as stack:
        for api in apis:
            api.start()
            stack.callback(api.kill)
        for api in apis:
            api.wait()
        storm = Storm(postgres, url, apis, key)
        with psycopg.connect(url) as connection:
            connection.execute("select make_usage_month(%s)", [MONTHS[0]])
        headers = {"Authorization": f"Bearer {key}"}
        base = f"http://127.0.0.1:{apis[0].port}/v1"
        with httpx.Client(base_url=base, headers=headers, timeout=20, trust_env=False) as http:
            for meter in METERS:
                assert http.post("/meters", json=meter).is_success
            for customer, zone in ZONES.items():
                body = {"id": customer, "name": customer, "email": "k@k.example", "country": "DE", "time_zone": zone}
                body["aliases"] = [alias for alias, owner in ALIASES.items() if owner == customer]
                answer = http.post("/customers", json=body)
                assert answer.is_success, answer.text
        yield storm


def rage(storm: Storm, kills: int, seed: str) -> Counter[str]:
    """Kill at random moments, and start again what was killed after a random rest. How often what was killed."""
    dice = random.Random(seed)
    done: Counter[str] = Counter()
    for no in range(kills):
        if storm.over.wait(dice.uniform(0.1, 1.0)):
            break
        (what,) = dice.choices(("api", "database", "both"), (4, 4, 2))
        api = dice.choice([one for one in storm.apis if one.answers()] or storm.apis)
        if what != "database":
            api.wait()  # What is still starting shall live to take something in.
            api.kill()
        if what != "api":
            crash(storm.postgres)
        done[what] += 1
        time.sleep(dice.uniform(0.0, 0.3))
        if what != "api":
            storm.postgres.start()
        if what != "database":
            api.start()
        if no == kills // 2:
            make_month(storm)
    return done


def make_month(storm: Storm) -> None:
    """In the middle of everything; as long as others keep it from being made, it is tried again."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            assert storm.rows(f"select make_usage_month('{MONTHS[1]}')") == [(True,)]
            return
        except psycopg.errors.LockNotAvailable:
            assert time.monotonic() < end, "the month cannot be made"


def crash(server: Postgres) -> None:
    """PostgreSQL's immediate shutdown: every process ends where it is, and the next start recovers."""
    os.kill(server.child.pid, signal.SIGQUIT)
    while server.child.alive():
        time.sleep(0.01)


def run(storm: Storm, kills: int, seed: int) -> Counter[str]:
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        clients = [pool.submit(storm.live, f"client {no} of {seed}") for no in range(CLIENTS)]
        for client in clients:
            client.add_done_callback(lambda done: storm.over.set())
        try:
            killed = pool.submit(rage, storm, kills, f"kills of {seed}").result()
            time.sleep(0.3)
        finally:
            storm.over.set()
        for client in clients:
            client.result()
    return killed


TOGETHER = (
    "case m.aggregation when 'max' then max({quantity}) when 'unique' then count(distinct {value})"
    " else sum({quantity}) end"
)
OF_TOTALS = TOGETHER.format(quantity="t.quantity", value="t.each")
OF_EVENTS = TOGETHER.format(quantity="(data ->> 'n')::numeric", value="data ->> 'model'")
TOTALS = {
    "of days": f"select customer_id, meter_id, day, {OF_TOTALS}, sum(events)::int"
    " from usage_total t join meter m on m.id = t.meter_id group by 1, 2, 3, m.aggregation",
    "of windows": f"select customer_id, meter_id, (starts_at at time zone c.time_zone)::date, {OF_TOTALS},"
    " sum(events)::int from usage_window t join customer c on c.id = t.customer_id join meter m on m.id = t.meter_id"
    " group by 1, 2, 3, m.aggregation",
    "of stored events": f"select customer_id, m.id, day, {OF_EVENTS}, count(*)::int"
    " from usage_event e join meter m on m.id = any(e.meters) group by 1, 2, 3, m.aggregation",
}
KEYS = (
    "select encode(substring(sha256(convert_to('1:s' || id, 'UTF8')) for 16), 'hex')::uuid from usage_event order by 1"
)
ANSWERED = (
    "select customer_id, type, day, sum(events)::int from usage_answered where outcome = 'accepted' group by 1, 2, 3"
)
DIGESTS = "select customer_id, meter_id, day, sum(digest) from usage_total group by 1, 2, 3 order by 1, 2, 3"
DIGESTS_OF_EVENTS = (
    "select e.customer_id, meter_id, e.day, sum(usage_digest(k.key, k.content)) from usage_event e"
    " join usage_key k on k.key = usage_key_of(e.source, e.id), unnest(e.meters) as meter_id"
    " group by 1, 2, 3 order by 1, 2, 3"
)


def judge(storm: Storm) -> int:
    """Everything that is kept says what clients were told. How many events there are."""
    taken = {sent.no: sent for (sent, outcome) in storm.told if sent.customer and outcome in ("accepted", "duplicate")}
    said = {
        outcome: {sent for (sent, kind) in storm.told if kind == outcome} for outcome in ("conflict", "quarantined")
    }
    accepted = Counter(
        sent.no for (sent, outcome), times in storm.told.items() for _ in range(times) if outcome == "accepted"
    )
    assert not [no for no, times in accepted.items() if times > 1], "events that were accepted twice"
    stored = storm.rows("select id, (data ->> 'n')::numeric from usage_event order by 1")
    assert stored == sorted((f"e{no}", sent.quantity) for no, sent in taken.items())
    assert len({sent.no for sent, outcome in storm.told if sent.customer}) == len(taken)

    expected = added_up(taken.values())
    for what, question in TOTALS.items():
        found = {(c, m, day): (quantity, events) for c, m, day, quantity, events in storm.rows(question)}
        assert found == expected, what
    assert storm.rows("select key from usage_key order by 1") == storm.rows(KEYS)
    assert storm.rows(DIGESTS) == storm.rows(DIGESTS_OF_EVENTS)

    by_day = Counter((sent.customer, drawn(no)[1], sent.day) for no, sent in taken.items())
    answered = storm.rows(ANSWERED)
    assert {(customer, kind, day): events for customer, kind, day, events in answered} == dict(by_day)
    conflicts = storm.rows("select id, (event -> 'data' ->> 'n')::numeric from usage_conflict order by 1, 2")
    assert conflicts == sorted((f"e{sent.no}", sent.quantity) for sent in said["conflict"])
    strangers = {f"e{sent.no}" for sent, _ in storm.told if not sent.customer}
    assert {id for (id,) in storm.rows("select id from usage_quarantine")} == strangers
    assert {f"e{sent.no}" for sent in said["quarantined"]} <= strangers
    return len(stored)


def test_what_was_acknowledged_is_there_once_whatever_was_killed(
    tmp_path: Path, temporal: Temporal, capsys: pytest.CaptureFixture[str]
) -> None:
    done = rounds = 0
    with Postgres(tmp_path / "postgres", keep=False) as postgres:
        migrate(postgres.create_database("storm"))
        while done < KILLS:
            seed, since = SEED + rounds, time.monotonic()
            with round_of(postgres, temporal, tmp_path, f"round_{rounds}") as storm:
                killed = run(storm, min(KILLS_A_ROUND, KILLS - done), seed)
                events = judge(storm)
            done, rounds = done + killed.total(), rounds + 1
            with capsys.disabled():
                print(
                    f"\n  round {rounds}, seed {seed}: {dict(killed)}, {done} of {KILLS} kills in all; {events} events"
                    f" in {time.monotonic() - since:.0f} s, answers {dict(storm.answers)}",
                    end="",
                    flush=True,
                )
            assert storm.answers["200"] + storm.answers["207"] > killed.total()
            postgres.drop_database(f"round_{rounds - 1}")
