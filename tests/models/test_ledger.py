"""The ledger's rules are the database's: balance, append-only, one entry a cause, and months that lock."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from threading import Event
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from billing.journal import CauseKind, Entry, Posting
from billing.money import Money
from models.closing import lock_period
from models.database import transaction
from models.ledger import journal, post, posting_day, trial_balance

Sql = Callable[..., list[tuple[Any, ...]]]
JANUARY = date(2026, 1, 1)


def entry(
    cause: str, minor: int = 100, day: date = JANUARY, kind: CauseKind = "payment", entity: str = "acme"
) -> Entry:
    amount = Money(minor, "EUR")
    sides = (Posting("1050", "D", amount), Posting("1100", "C", amount, contract_id="con"))
    return Entry(entity, day, kind, cause, "a test", sides)


def post_now(engine: Engine, *entries: Entry) -> None:
    with transaction(engine) as session:
        post(session, entries)


def code(error: pytest.ExceptionInfo[psycopg.Error]) -> str | None:
    return error.value.sqlstate


LINE = (
    "insert into journal_line (entry_id, line_no, entity_id, account, side, amount_minor, currency, functional_minor,"
    " functional_currency, posted_on, cause_kind, cause_id) values "
)
WRONG = {
    "one side only": "('e', 1, 'acme', '1100', 'D', 5, 'EUR', 5, 'EUR', '2026-01-01', 'payment', 'p')",
    "different amounts": "('e', 1, 'acme', '1100', 'D', 5, 'EUR', 5, 'EUR', '2026-01-01', 'payment', 'p'),"
    " ('e', 2, 'acme', '1050', 'C', 4, 'EUR', 4, 'EUR', '2026-01-01', 'payment', 'p')",
    "zero only over two currencies": "('e', 1, 'acme', '1100', 'D', 5, 'EUR', 5, 'EUR', '2026-01-01', 'payment', 'p'),"
    " ('e', 2, 'acme', '1050', 'C', 5, 'USD', 5, 'EUR', '2026-01-01', 'payment', 'p')",
    "zero only over two entities": "('e', 1, 'acme', '1100', 'D', 5, 'EUR', 5, 'EUR', '2026-01-01', 'payment', 'p'),"
    " ('e', 2, 'other', '1050', 'C', 5, 'EUR', 5, 'EUR', '2026-01-01', 'payment', 'p')",
    "zero only before conversion": "('e', 1, 'acme', '1100', 'D', 5, 'USD', 5, 'EUR', '2026-01-01', 'payment', 'p'),"
    " ('e', 2, 'acme', '1050', 'C', 5, 'USD', 4, 'EUR', '2026-01-01', 'payment', 'p')",
}


@pytest.mark.parametrize("values", WRONG.values(), ids=list(WRONG))
def test_what_does_not_balance_is_refused(values: str, sql: Sql) -> None:
    sql("insert into journal_entry values ('e', 'acme', '2026-01-01', 'payment', 'p', '')")
    with pytest.raises(psycopg.Error) as error:
        sql(LINE + values)
    assert code(error) == "PB002"
    assert sql("select count(*) from journal_line") == [(0,)]


def test_what_does_not_balance_is_refused_in_a_copy_too(engine: Engine, sql: Sql) -> None:
    good, bad = entry("good"), entry("bad")
    lame = Entry(bad.entity_id, bad.posted_on, bad.cause_kind, bad.cause_id, "lame", bad.postings[:1])
    with pytest.raises(psycopg.Error) as error:
        post_now(engine, good, lame)
    assert code(error) == "PB002"
    assert sql("select count(*) from journal_entry") == [(0,)]


def test_a_cause_is_posted_once(engine: Engine, sql: Sql) -> None:
    post_now(engine, entry("p1"))
    with pytest.raises(psycopg.errors.UniqueViolation):
        post_now(engine, entry("p2"), entry("p1", 70))
    assert sql("select cause_id, amount_minor from journal_line where side = 'D'") == [("p1", 100)]


APPEND_ONLY = (
    "journal_entry journal_line invoice invoice_line invoice_tax invoice_number credit_draw subscription_terms plan"
    " usage_void"
).split()
CHANGES = ("update {0} set {1} = {1}", "delete from {0}", "truncate {0} cascade")


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_what_is_written_stays(table: str, sql: Sql) -> None:
    [(column,)] = sql("select attname from pg_attribute where attrelid = %s::regclass and attnum = 1", [table])
    for change in CHANGES:
        with pytest.raises(psycopg.Error) as error:
            sql(change.format(table, column))
        assert code(error) == "PB001", change


def test_a_locked_month_takes_nothing_and_neither_does_any_month_before_it(engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session:
        lock_period(session, "acme", date(2026, 2, 1), "locked")
    for no, day in enumerate([date(2026, 2, 28), date(2026, 1, 31), date(2019, 7, 1)]):
        for kind in ("payment", "recognition"):
            with pytest.raises(psycopg.Error) as error:
                post_now(engine, entry(f"{kind}{no}", day=day, kind=kind))  # type: ignore[arg-type]
            assert code(error) == "PB003", day
    post_now(engine, entry("after", day=date(2026, 3, 1)))
    post_now(engine, entry("elsewhere", day=date(2026, 2, 1), entity="other"))
    assert sql("select cause_id from journal_entry order by 1") == [("after",), ("elsewhere",)]


def test_a_month_that_is_closing_takes_recognition_only(engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session:
        lock_period(session, "acme", JANUARY, "closing")
    for kind in ("invoice", "payment", "credit_draw"):
        with pytest.raises(psycopg.Error) as error:
            post_now(engine, entry(kind, kind=kind))  # type: ignore[arg-type]
        assert code(error) == "PB003"
    post_now(engine, entry("rec", kind="recognition"))
    assert sql("select cause_id from journal_entry") == [("rec",)]


def test_a_locked_month_stays_locked(engine: Engine, sql: Sql) -> None:
    for state in ("locked", "closing", "open"):
        with transaction(engine) as session:
            lock_period(session, "acme", JANUARY, state)
    assert sql("select state from ledger_period") == [("locked",)]


def test_the_posting_day_moves_to_the_first_open_month(engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session:
        assert posting_day(session, "acme", date(2026, 1, 17)) == date(2026, 1, 17)
        lock_period(session, "acme", JANUARY, "locked")
        lock_period(session, "acme", date(2026, 2, 1), "closing")
        assert posting_day(session, "acme", date(2026, 1, 17)) == date(2026, 3, 1)
        assert posting_day(session, "acme", date(2026, 2, 28)) == date(2026, 3, 1)
        assert posting_day(session, "acme", date(2026, 3, 9)) == date(2026, 3, 9)
        assert posting_day(session, "other", date(2026, 1, 17)) == date(2026, 1, 17)


def wait_until_blocked(sql: Sql) -> None:
    """Until somebody waits for a lock of somebody else."""
    for _ in range(2000):
        if sql("select 1 from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0"):
            return
        time.sleep(0.005)
    raise AssertionError("nobody waits")


@pytest.mark.parametrize("day", [JANUARY, date(2025, 11, 3)], ids=["that month", "a month before it"])
def test_locking_waits_for_who_is_posting(day: date, engine: Engine, sql: Sql, threads: ThreadPoolExecutor) -> None:
    def lock() -> None:
        with transaction(engine) as session:
            lock_period(session, "acme", JANUARY, "locked")

    with transaction(engine) as session:
        post(session, [entry("open", day=day)])
        locking = threads.submit(lock)
        wait_until_blocked(sql)
        assert sql("select state from ledger_period where state = 'locked'") == []
    locking.result(30)
    assert sql("select state from ledger_period where month = %s", [JANUARY]) == [("locked",)]
    assert sql("select count(*) from journal_line") == [(2,)]


@pytest.mark.parametrize("day", [JANUARY, date(2025, 11, 3)], ids=["that month", "a month before it"])
def test_posting_waits_for_who_is_locking(day: date, engine: Engine, sql: Sql, threads: ThreadPoolExecutor) -> None:
    with transaction(engine) as session:
        lock_period(session, "acme", JANUARY, "locked")
        posting = threads.submit(post_now, engine, entry("late", day=day))
        wait_until_blocked(sql)
    with pytest.raises(psycopg.Error) as error:
        posting.result(30)
    assert code(error) == "PB003"
    assert sql("select count(*) from journal_line") == [(0,)]


def test_the_posting_day_holds_until_the_end_of_the_transaction(
    engine: Engine, sql: Sql, threads: ThreadPoolExecutor
) -> None:
    """Between looking and posting nobody can close the month."""

    def lock() -> None:
        with transaction(engine) as session:
            lock_period(session, "acme", JANUARY, "closing")

    with transaction(engine) as session:
        day = posting_day(session, "acme", JANUARY)
        locking = threads.submit(lock)
        wait_until_blocked(sql)
        post(session, [entry("in time", day=day)])
    locking.result(30)
    assert sql("select posted_on, state from journal_entry, ledger_period") == [(JANUARY, "closing")]


def test_many_post_while_the_months_are_locked_one_by_one(
    engine: Engine, sql: Sql, threads: ThreadPoolExecutor
) -> None:
    """No line is in a locked month that was not there when the lock was committed; the sums stay those of the lines."""
    over = Event()

    def keep_posting(seed: int) -> None:
        dice, no = random.Random(seed), 0
        while not over.is_set():
            no += 1
            day = JANUARY + timedelta(days=dice.randrange(150))
            try:
                post_now(engine, entry(f"{seed}/{no}", dice.randrange(1, 99), day))
            except psycopg.Error as error:
                assert error.sqlstate == "PB003"

    posters = [threads.submit(keep_posting, seed) for seed in range(6)]
    at_the_lock: dict[date, int] = {}
    for month in (1, 2, 3, 4):
        while sql("select count(*) from journal_entry") < [(40 * month,)]:
            time.sleep(0.005)
        with transaction(engine) as session:
            lock_period(session, "acme", date(2026, month, 1), "locked")
        [(at_the_lock[date(2026, month, 1)],)] = sql(
            "select count(*) from journal_line where month <= %s", [date(2026, month, 1)]
        )
    over.set()
    for poster in posters:
        poster.result(30)
    for month_day, lines in at_the_lock.items():
        assert sql("select count(*) from journal_line where month <= %s", [month_day]) == [(lines,)]
    off = sql(
        "select * from (select month, account, coalesce(contract_id, '') as contract, sum(amount_minor) as minor"
        " from journal_line group by 1, 2, 3) l full join (select month, account, contract_id as contract,"
        " debit_minor + credit_minor as minor from account_total) t using (month, account, contract)"
        " where l.minor is distinct from t.minor"
    )
    assert off == []
    with transaction(engine) as session:
        assert sum(row.balance_minor for row in trial_balance(session, "acme", date(2026, 5, 1))) == 0
        rows = [row for month in range(1, 7) for row in journal(session, "acme", date(2026, month, 1))]
    assert len(rows) == sql("select count(*) from journal_line")[0][0]


def test_the_journal_is_paged_in_whole_entries(engine: Engine, sql: Sql) -> None:
    post_now(engine, *(entry(f"p{no}", day=date(2026, 1, 1 + no // 2)) for no in range(7)))
    with transaction(engine) as session:
        whole = journal(session, "acme", JANUARY)
        pages, behind = [], None
        while page := journal(session, "acme", JANUARY, behind, 3):
            pages += page
            behind = page[-1].posted_on, page[-1].entry_id
        assert pages == whole
        assert [row.line_no for row in whole] == [1, 2] * 7
        assert journal(session, "acme", date(2026, 2, 1)) == journal(session, "acme", date(2025, 12, 1)) == []
        assert journal(session, "acme", JANUARY, (date(2025, 12, 31), "z")) == whole
