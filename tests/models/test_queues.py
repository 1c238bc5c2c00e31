"""Numbers without gaps, the outbox's claims, keys of the API, and what is due on a test clock."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from billing.errors import Broken, NotFound, Refused
from billing.invoice import Heading, Invoice
from billing.line import Because, Line
from billing.money import Money
from billing.period import Period
from models import agenda, outbox
from models.api_key import SCOPES, create_key, key_behind, revoke_key
from models.database import transaction
from models.invoice import number

Sql = Callable[..., list[tuple[Any, ...]]]
START = datetime(2026, 1, 1, tzinfo=UTC)

# A test of numbers needs documents, not what is on them.
BARE = "set session_replication_role = replica; insert into invoice (id, kind, entity_id, customer_id, contract_id,"
BARE += " subscription_id, currency, issued_on, issued_at, due_on, period_start, period_end, net_minor, tax_minor,"
BARE += " total_minor, drawn_minor, due_minor, run_id, entity_version, customer_version) select i, 'invoice', 'acme',"
BARE += " 'berlin', 'c', 's', 'EUR', d, d, d, d, d, 0, 0, 0, 0, 0, 'r', 1, 1 from unnest(array[{ids}]) i,"
BARE += " (values (date '2026-01-01')) v (d);"
BARE += " set session_replication_role = origin"


def documents(sql: Sql, ids: list[str], entity: str = "acme", minor: int = 1) -> list[Invoice]:
    for statement in BARE.format(ids=", ".join(f"'{key}'" for key in ids)).split(";"):
        sql(statement)
    price, day = Money(minor, "EUR"), date(2026, 1, 1)
    because = Because(1, "p", 1, "flat", quantity=1)  # type: ignore[arg-type]
    line = Line("k", "recurring", "i", "", Period(day, day), price, Money.zero("EUR"), "recurring", because)
    return [Invoice(Heading(key, entity, "berlin", "c", "s", "EUR", day, START, 14), (line,), (), ()) for key in ids]


def numbers(sql: Sql, entity: str = "acme") -> list[str]:
    return [n for (n,) in sql("select number from invoice_number where entity_id = %s order by kind desc, n", [entity])]


def test_numbers_go_on_in_the_order_of_the_batch(engine: Engine, sql: Sql) -> None:
    many = documents(sql, ["b", "a", "c"])
    with transaction(engine) as session:
        number(session, "acme", many[:2])
    with transaction(engine) as session:
        number(session, "acme", many[2:])
        number(session, "acme", [])
    found = sql("select invoice_id, number from invoice_number order by n")
    assert found == [("b", "A-000001"), ("a", "A-000002"), ("c", "A-000003")]


def test_series_are_independent(engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session:
        number(session, "acme", documents(sql, ["a"]))
        number(session, "other", documents(sql, ["o"], "other"))
        number(session, "acme", documents(sql, ["cn"], minor=-1))
    assert numbers(sql) == ["A-000001", "A-CN-000001"]
    assert numbers(sql, "other") == ["O-000001"]


def test_a_series_goes_on_after_999999(engine: Engine, sql: Sql) -> None:
    sql("update invoice_series set next_number = 999999")
    with transaction(engine) as session:
        number(session, "acme", documents(sql, ["a", "b", "c"]))
    assert numbers(sql) == ["A-999999", "A-1000000", "A-1000001"]


def test_no_document_stays_without_a_number(engine: Engine, sql: Sql) -> None:
    with pytest.raises(Broken), transaction(engine) as session:
        number(session, "other", documents(sql, ["cn"], "other", minor=-1))


def test_numbers_have_no_gaps_whoever_fails(engine: Engine, sql: Sql, threads: ThreadPoolExecutor) -> None:
    batches = [[f"{batch}-{no}" for no in range(1 + batch % 4)] for batch in range(60)]
    ready = {tuple(batch): documents(sql, batch) for batch in batches}

    class Thrown(Exception):
        """A batch that fails after it took its numbers."""

    def take(batch: tuple[str, ...]) -> list[str]:
        try:
            with transaction(engine) as session:
                number(session, "acme", ready[batch])
                if random.Random(batch[0]).random() < 0.4:
                    raise Thrown
        except Thrown:
            return []
        return list(batch)

    kept = [key for done in threads.map(take, ready) for key in done]
    given = sql("select n, number, invoice_id from invoice_number order by n")
    assert 0 < len(kept) < sum(map(len, batches))
    assert [n for n, _, _ in given] == list(range(1, len(kept) + 1))
    assert sorted(key for _, _, key in given) == sorted(kept)
    place = {key: n for n, _, key in given}
    assert all(place[b[i]] + 1 == place[b[i + 1]] for b in batches if b[0] in place for i in range(len(b) - 1))


def post(session: Session, *causes: str) -> None:
    outbox.post(session, "crm", {cause: {"cause": cause} for cause in causes}, "acme", None)


def claim(engine: Engine, limit: int = 50) -> list[str]:
    with transaction(engine) as session:
        session.connection().exec_driver_sql("set local lock_timeout = '5s'")
        return [delivery.payload["cause"] for delivery in outbox.claim(session, "crm", limit)]


def test_a_cause_is_delivered_once_and_in_order(engine: Engine, sql: Sql) -> None:
    for cause in ("c", "a", "b", "a"):
        with transaction(engine) as session:
            post(session, cause)
    assert claim(engine, 2) == ["c", "a"]
    assert claim(engine, 2) == ["b"]
    assert claim(engine, 2) == []


def test_two_couriers_never_hold_the_same_delivery(engine: Engine, sql: Sql, threads: ThreadPoolExecutor) -> None:
    with transaction(engine) as session:
        post(session, *(f"{no:03}" for no in range(300)))

    def work(_: int) -> list[str]:
        mine: list[str] = []
        while some := claim(engine, 7):
            assert len(some) <= 7
            mine += some
        return mine

    with transaction(engine) as first:
        held = [d.payload["cause"] for d in outbox.claim(first, "crm", 10)]
        others = [cause for mine in threads.map(work, range(6)) for cause in mine]
    assert len(held) == 10
    assert sorted([*held, *others]) == [f"{no:03}" for no in range(300)]


def test_a_claim_that_died_is_given_again_in_time(engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session:
        post(session, "x")
    assert (claim(engine), claim(engine)) == (["x"], [])
    sql("update outbox set not_before = clock_timestamp()")
    assert claim(engine) == ["x"]
    with transaction(engine) as session:
        outbox.delivered(session, sql("select id from outbox")[0][0])
    sql("update outbox set not_before = clock_timestamp()")
    assert claim(engine) == []
    assert sql("select attempts from outbox") == [(2,)]


def test_what_failed_waits_longer_each_time(engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session:
        post(session, "x")
    [(key,)] = sql("select id from outbox")
    waits = []
    for _ in range(14):
        sql("update outbox set not_before = clock_timestamp()")
        assert claim(engine) == ["x"]
        with transaction(engine) as session:
            outbox.failed(session, key, "no answer" * 100)
        [(wait,)] = sql("select extract(epoch from not_before - clock_timestamp()) from outbox")
        waits.append(round(wait))
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600, 600]
    assert sql("select length(last_error) from outbox") == [(500,)]


def test_a_key_is_kept_as_a_hash_and_dies_when_revoked(engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session:
        text = create_key(session, "ingest", ["ingest", "read"])
    key_id, secret = text.split(".")
    [(row, digest)] = sql("select row_to_json(k)::text, secret_sha256 from api_key k")
    assert secret not in row
    assert digest == hashlib.sha256(secret.encode()).digest()
    with transaction(engine) as session:
        found = key_behind(session, text)
        assert found is not None
        assert found.scopes == ["ingest", "read"]
        for wrong in (
            key_id,
            f"{key_id}.",
            f"{key_id}.{secret}x",
            f"key_none.{secret}",
            secret,
            "",
            f"{text}.{secret}",
        ):
            assert key_behind(session, wrong) is None, wrong
    with transaction(engine) as session:
        revoke_key(session, key_id)
    with transaction(engine) as session:
        assert key_behind(session, text) is None
        with pytest.raises(NotFound):
            revoke_key(session, "key_none")


def test_scopes_are_the_four(engine: Engine, sql: Sql) -> None:
    assert SCOPES == ("ingest", "read", "write", "admin")
    for scopes in ([], ["root"], ["read", "Admin"]):
        with transaction(engine) as session, pytest.raises(Refused) as error:
            create_key(session, "x", scopes)
        assert error.value.code == "invalid_scopes"
    assert sql("select count(*) from api_key") == [(0,)]


LANES = """
insert into test_clock values ('clk', '2026-01-01', '2026-01-01'), ('clk2', '2026-01-01', '2026-01-01');
insert into contract (id, customer_id, entity_id, currency, signed_at, payment_terms_days)
  values ('con', 'berlin', 'acme', 'EUR', now(), 14);
insert into subscription select s, 'con', c, c, 'acme', k, 'EUR', 'UTC', date '2026-01-01', 'month', 1, 'active', 1
  from (values ('s1', 'berlin', 'clk'), ('s2', 'york', 'clk'), ('s3', 'berlin', 'clk2')) v (s, c, k);
insert into billing_lane values ('s1', 'advance', 'acme', 'clk', '2026-02-01', '2026-02-01'),
  ('s2', 'advance', 'acme', 'clk', '2026-02-01', '2026-02-03'),
  ('s3', 'advance', 'acme', 'clk2', '2026-01-02', '2026-01-02')
"""


@pytest.fixture
def clock(engine: Engine, sql: Sql) -> Session:
    for statement in LANES.split(";"):
        sql(statement)
    with transaction(engine) as session:
        for day, subject, kind in [
            (31, "subscription/s1", "end"),
            (31, "close/acme/2026-01", "close"),
            (31, "collection/i", "collect"),
            (31, "subscription/s2", "amendment"),
            (20, "collection/i", "collect"),
        ]:
            due_at = START + timedelta(days=day)
            agenda.plan_ahead(session, subject, kind, f"{kind}{day}", due_at, "acme", "clk")  # type: ignore[arg-type]
    return Session(engine)


def test_a_clock_stops_at_every_moment_that_anything_is_due(clock: Session) -> None:
    with clock as session:
        assert agenda.next_moment(session, "clk", START + timedelta(days=19)) is None
        assert agenda.next_moment(session, "clk", START + timedelta(days=90)) == START + timedelta(days=20)
        assert agenda.next_moment(session, "clk2", START + timedelta(days=90)) == START + timedelta(days=1)
        agenda.done(session, "collection/i", "collect20", START)
        assert agenda.next_moment(session, "clk", START + timedelta(days=90)) == START + timedelta(days=31)


def test_what_is_due_at_one_moment_comes_by_rank(clock: Session) -> None:
    now = START + timedelta(days=31)
    seen = []
    with clock as session:
        agenda.done(session, "collection/i", "collect20", START)
        for _ in range(5):
            due = agenda.due_on_clock(session, "clk", now)
            seen.append(due.subjects or due.entities)
            for subject in due.subjects:
                for item in agenda.due_for(session, [subject], now):
                    agenda.done(session, item.subject, item.cause, now)
            if due.entities:
                session.connection().exec_driver_sql("update billing_lane set next_bill_at = '2026-03-01'")
    assert seen == [
        ("subscription/s1", "subscription/s2"),
        ("acme",),
        ("collection/i",),
        ("close/acme/2026-01",),
        (),
    ]


def test_who_waits_for_a_person_does_not_hold_the_clock(clock: Session) -> None:
    now = START + timedelta(days=33)
    with clock as session:
        for subject in ("subscription/s1", "collection/i", "close/acme/2026-01"):
            agenda.park(session, subject, True)
        for root in ("berlin", "york"):
            session.connection().exec_driver_sql(
                "insert into task (id, kind, subject, reason, remedy, opened_at)"
                f" values ('{root}', 'billing', 'billing/{root}', '', '', now())"
            )
        assert agenda.due_on_clock(session, "clk", now).subjects == ("subscription/s2",)
        agenda.done(session, "subscription/s2", "amendment31", now)
        assert agenda.next_moment(session, "clk", now) is None
        assert agenda.due_on_clock(session, "clk", now) == agenda.ClockMoment(now, (), ())
        session.connection().exec_driver_sql("update task set answered_at = now() where id = 'york'")
        assert agenda.due_on_clock(session, "clk", now).entities == ("acme",)
        agenda.park(session, "close/acme/2026-01", False)
        session.connection().exec_driver_sql("update billing_lane set next_bill_at = null")
        assert agenda.due_on_clock(session, "clk", now).subjects == ("close/acme/2026-01",)
        assert agenda.next_due(session, "subscription/s1") is None
