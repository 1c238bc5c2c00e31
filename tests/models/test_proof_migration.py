"""What came before sets of events had digests: they have them now, hours are filled, and bills are unsigned."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config

import models.migrations
from models.database import open_engine, transaction
from models.event import ANY_CONTENT, Event, Named, digest_of
from models.migrations import migrate
from models.usage import folded
from sandbox.postgres import Postgres

START = datetime(
    2026, 3, 28, 22, 30, tzinfo=UTC
)  # Half past eleven in the evening in Berlin; clocks change that night.
SETTING = """
insert into legal_entity (id, name, country, functional_currency, time_zone, address, email)
  values ('acme', 'Acme GmbH', 'DE', 'EUR', 'Europe/Berlin', '', '');
insert into account_root (id) values ('berlin');
insert into customer (id, root_id, name, email, country, time_zone, address, created_at)
  values ('berlin', 'berlin', 'Kunde AG', '', 'DE', 'Europe/Berlin', 'Gasse 1', now());
insert into meter (id, name, event_type, quantity_field, unit) values ('tokens', 'Tokens', 'llm', 'n', 'tokens');
"""
METERS = """
insert into meter (id, name, event_type, quantity_field, unit, dimensions, aggregation)
  values ('calls', 'Calls', 'llm', '', '', '{}', 'count'), ('by', 'By', 'llm', 'n', '', '{model}', 'sum')
"""
EVENT = """
insert into usage_event (source, id, customer_id, type, occurred_at, day, data, meters)
  values (%s, %s, 'berlin', 'llm', %s, (%s at time zone 'Europe/Berlin')::date, %s, '{tokens,calls,by}')
"""
TOTALS = """
insert into usage_total (customer_id, meter_id, day, properties, each, quantity, events)
  select e.customer_id, m.id, e.day,
    case m.id when 'by' then jsonb_build_object('model', e.data ->> 'model') else '{}' end, 0,
    sum(case m.aggregation when 'sum' then (e.data ->> 'n')::numeric else 1 end), count(*)
  from usage_event e join meter m on m.id = any(e.meters)
  where not exists (select from usage_void v where v.source = e.source and v.id = e.id) group by 1, 2, 3, 4
"""
BILL = """
set session_replication_role = replica;
insert into subscription (id, contract_id, customer_id, root_id, entity_id, currency, time_zone, anchor, interval_unit,
    interval_count, state, terms_version)
  values ('sub', 'con', 'berlin', 'berlin', 'acme', 'EUR', 'Europe/Berlin', '2026-03-01', 'month', 1, 'active', 1);
insert into invoice (id, kind, entity_id, customer_id, contract_id, subscription_id, currency, issued_on, issued_at,
    due_on, period_start, period_end, net_minor, tax_minor, total_minor, drawn_minor, due_minor, run_id)
  values ('inv', 'invoice', 'acme', 'berlin', 'con', 'sub', 'EUR', '2026-04-01', now(), '2026-04-01', '2026-03-01',
    '2026-04-01', 0, 0, 0, 0, 0, 'run');
insert into invoice_line (id, invoice_id, no, subscription_id, kind, item, description, period_start, period_end,
    meter_id, quantity, gross_minor, discount_minor, currency, revenue, because)
  values ('line', 'inv', 1, 'sub', 'usage', 'tokens', 'Tokens', '2026-03-01', '2026-04-01', 'tokens', 0, 0, 0, 'EUR',
    'usage', '{}');
"""


def migrate_to(url: str, revision: str) -> None:
    engine = open_engine(url, pool=1)
    config = Config()
    config.set_main_option("script_location", str(Path(models.migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def events() -> list[Event]:
    return [
        Event("s", str(no), "berlin", "llm", START + timedelta(minutes=40 * no), {"n": no, "model": "ab"[no % 2]})
        for no in range(1, 9)
    ]


def test_what_came_before_is_digested(postgres: Postgres) -> None:
    url = postgres.create_database("before_proof")
    migrate_to(url, "0007")
    with psycopg.connect(url) as old:
        old.execute(SETTING)
        old.execute(METERS)
        for one in map(Named.of, events()):
            e = one.event
            content = ANY_CONTENT if e.id == "2" else one.content
            old.execute("insert into usage_key values (%s, %s, %s)", (one.key, content, e.occurred_at))
            old.execute(EVENT, (e.source, e.id, e.occurred_at, e.occurred_at, e.data_as_sent))
        old.execute(
            "insert into usage_void (source, id, customer_id, type, day, reason, by_key)"
            " values ('s', '8', 'berlin', 'llm', '2026-03-29', 'wrong', 'key')"
        )
        old.execute(TOTALS)
        hours = "insert into usage_window (customer_id, meter_id, starts_at, properties, each, quantity, events)"
        old.execute(
            f"{hours} values ('berlin', 'tokens', '2026-03-28 23:00+00', '{{}}', 0, 1, 1)"
        )  # Only what came later.
        old.execute(BILL)
    migrate(url)
    engine = open_engine(url, pool=1)
    with transaction(engine) as session:
        its = folded(session, ["berlin"])["berlin"]
    engine.dispose()
    counting = [Named.of(e) for e in events() if e.id != "8"]
    expected: dict[date, int] = {}
    for one in counting:
        day = (one.event.occurred_at + timedelta(hours=1)).date()
        content = ANY_CONTENT if one.event.id == "2" else one.content
        expected[day] = expected.get(day, 0) + digest_of(one.key, content)
    for meter in ("tokens", "calls", "by"):
        assert {day: found.digest for (name, day), found in its.sets.items() if name == meter} == expected
        assert sum(found.events for (name, _), found in its.sets.items() if name == meter) == 7
    with psycopg.connect(url) as new:
        printed = new.execute(
            "select e.name, c.name, c.address from invoice i join legal_entity_version e using (entity_id)"
            " join customer_version c using (customer_id) where (entity_version, customer_version) = (1, 1)"
        )
        assert printed.fetchall() == [("Acme GmbH", "Kunde AG", "Gasse 1")]
        found = new.execute(
            "select meter_id, starts_at, quantity, events from usage_window order by meter_id desc, starts_at"
        ).fetchall()
        proof = new.execute("select invoice_id, line_id, customer_id, events, digest from usage_proof").fetchall()
    by_hour: dict[datetime, list[Decimal]] = {}
    for one in counting:
        hour = one.event.occurred_at.replace(minute=0)
        by_hour.setdefault(hour, []).append(Decimal(one.event.id))
    tokens = [("tokens", hour, sum(some), len(some)) for hour, some in sorted(by_hour.items())]
    assert found == tokens + [("calls", hour, len(some), len(some)) for hour, some in sorted(by_hour.items())]
    assert proof == [("inv", "line", "berlin", None, None)]
    postgres.drop_database("before_proof")
