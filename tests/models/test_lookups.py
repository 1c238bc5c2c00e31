"""What is asked for often is found by an index, and lists go by numbers and days, not by their text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow, tuple_row
from sqlalchemy import Engine
from sqlmodel import Session

from billing.errors import NotFound, Refused
from models import agenda, credit, ledger, payment, task
from models.database import connection, transaction
from models.invoice import latest, place_of, summaries, summary

Sql = Callable[..., list[tuple[Any, ...]]]
NOW = datetime(2026, 2, 1, tzinfo=UTC)
DAY = date(2026, 1, 1)

INVOICES = """
set session_replication_role = replica;
insert into payment_method values ('berlin', 'pretend', 'card', now());
insert into invoice (id, kind, entity_id, customer_id, contract_id, subscription_id, currency, issued_on, issued_at,
    due_on, period_start, period_end, net_minor, tax_minor, total_minor, drawn_minor, due_minor, run_id, entity_version,
    customer_version)
  select id, kind, entity, 'berlin', 'c', 's', 'EUR', at, at, at, at, at, 1, 0, 1, drawn, 1 - drawn, 'run', 1, 1
  from (values
    ('inv_c', 'invoice', 'acme', 0, date '2026-01-01'), ('inv_b', 'invoice', 'acme', 0, '2026-01-02'),
    ('inv_a', 'invoice', 'acme', 0, '2026-01-03'), ('inv_o', 'invoice', 'other', 0, '2026-01-02'),
    ('inv_n', 'credit_note', 'acme', 1, '2026-01-02')) v (id, kind, entity, drawn, at);
insert into invoice_number select entity, v.kind, n, prefix || lpad(n::text, greatest(6, length(n::text)), '0'), id
  from (values ('inv_c', 'invoice', 'acme', 999998), ('inv_b', 'invoice', 'acme', 999999),
    ('inv_a', 'invoice', 'acme', 1000000), ('inv_o', 'invoice', 'other', 1), ('inv_n', 'credit_note', 'acme', 7))
    v (id, kind, entity, n) join invoice_series s on s.entity_id = entity and s.kind = v.kind;
insert into journal_line (entry_id, line_no, entity_id, account, side, amount_minor, currency, functional_minor,
    functional_currency, posted_on, cause_kind, cause_id, invoice_id)
  select 'je_' || id, 1, entity_id, '1100', 'D', 1, 'EUR', 1, 'EUR', issued_on, 'invoice', id, id from invoice;
set session_replication_role = origin;
"""
IN_ORDER = ["A-CN-000007", "A-999998", "A-999999", "A-1000000", "O-000001"]


@pytest.fixture
def issued(sql: Sql) -> Sql:
    """Five documents around the millionth."""
    for statement in INVOICES.split(";"):
        sql(statement or "select")
    return sql


def test_the_millionth_invoice_comes_behind_the_one_before(engine: Engine, issued: Sql) -> None:
    with transaction(engine) as session:
        whole = [found.number for found in summaries(session, None, None, None, 10)]
        paged: list[str] = []
        while page := summaries(session, "berlin", "s", place_of(session, paged[-1]) if paged else None, 2):
            paged += [found.number for found in page]
        assert whole == paged == IN_ORDER
        assert payment.to_charge(session, "run", 9) == ["inv_o", "inv_c", "inv_b", "inv_a"]
        assert place_of(session, "A-0999999") is None


def test_the_newest_come_first(engine: Engine, issued: Sql) -> None:
    with transaction(engine) as session:
        assert [found.id for found in latest(session, 9)] == ["inv_a", "inv_n", "inv_b", "inv_o", "inv_c"]
        assert [found.id for found in latest(session, 1)] == ["inv_a"]


def test_one_is_found_by_id_and_by_number(engine: Engine, issued: Sql) -> None:
    with transaction(engine) as session:
        assert summary(session, "inv_b") == summary(session, "A-999999")
        with pytest.raises(NotFound):
            summary(session, "A-000001")


def test_what_happens_next_is_of_subjects_and_lanes_together(engine: Engine, sql: Sql) -> None:
    sql("set session_replication_role = replica")
    for no in range(1, 7):
        at = datetime(2026, 1, no, tzinfo=UTC)
        if no % 2:
            sql("insert into billing_lane values (%s, 'arrears', 'acme', null, '2026-01-01', %s)", [f"s{no}", at])
        else:
            sql("insert into agenda values (%s, 'end', %s, 10, 'end', 'acme')", [f"subscription/s{no}", at])
    with transaction(engine) as session:
        for limit in (1, 2, 3, 6, 9):
            found = [row.subject for row in agenda.upcoming(session, limit)]
            assert found == [f"subscription/s{no}" for no in range(1, 7)][:limit]


ASKED: dict[str, tuple[Callable[[Session], object], str]] = {
    "invoice": (lambda session: summary(session, "inv_a"), "invoice_pkey"),
    "by number": (lambda session: summary(session, "A-1000000"), "invoice_number_number_key"),
    "invoices": (lambda session: summaries(session, None, None, ("acme", "invoice", 5), 50), "invoice_number_pkey"),
    "of a customer": (lambda session: summaries(session, "berlin", None, None, 50), "invoice_customer_id_idx"),
    "newest": (lambda session: latest(session, 25), "invoice_newest"),
    "to be charged": (lambda session: payment.to_charge(session, "run", 50), "invoice_run"),
    "credit": (lambda session: credit.make_usable(session, "inv_a", NOW), "credit_grant_invoice"),
    "task": (lambda session: task.open_task(session, "deal", "deal/1", None, Refused("so"), NOW), "task_subject_kind"),
    "journal": (lambda session: ledger.journal(session, "acme", DAY, (DAY, "je"), 50), "journal_entry_page"),
    "next": (lambda session: agenda.upcoming(session, 20), "agenda_soonest billing_lane_soonest"),
}


@pytest.mark.parametrize("name", ASKED)
def test_no_question_reads_a_whole_table(engine: Engine, issued: Sql, name: str) -> None:
    """Where reading all of a table is dear, as it is once there is much, PostgreSQL goes by these indexes."""
    ask, indexes = ASKED[name]
    with transaction(engine) as session, explained(session) as plans:
        ask(session)
    plan = "\n".join(plans)
    assert "Seq Scan" not in plan and not [index for index in indexes.split() if index not in plan], plan


@contextmanager
def explained(session: Session) -> Iterator[list[str]]:
    """The lines of the plans of all that is asked meanwhile."""
    plans: list[str] = []

    class Explaining(psycopg.Cursor[TupleRow]):
        def execute(self, query: Any, params: Any = None, **how: Any) -> Any:
            aside = psycopg.Cursor(self.connection, row_factory=tuple_row)
            plans.extend(line for (line,) in aside.execute(f"explain {query}", params))
            return super().execute(query, params, **how)

    raw = connection(session)
    raw.execute("set local enable_seqscan = off")
    before, raw.cursor_factory = raw.cursor_factory, Explaining
    try:
        yield plans
    finally:
        raw.cursor_factory = before
