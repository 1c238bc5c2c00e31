"""`perennial catalog` against a real database: what it says, what it does, and that a refusal leaves nothing."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from billing.catalog import AddOnSold, Catalog
from cli.catalog_files import SCHEMA, read, texts
from models import catalog
from models.catalog import Published
from models.database import cursor, transaction
from models.signing import Agreement, sign
from models.sold import sold_counts
from tests.cli.conftest import EXAMPLE, Perennial

PEOPLE = """
insert into legal_entity (id, version, name, country, functional_currency, time_zone, address, email)
  values ('acme', 1, 'Acme GmbH', 'DE', 'EUR', 'Europe/Berlin', '', '');
insert into account_root (id) values ('a'), ('b'), ('c');
insert into customer (id, version, root_id, name, email, country, time_zone, address, created_at)
  select id, 1, id, id, '', 'DE', 'Europe/Berlin', '', now() from account_root;
"""
TABLES = "product feature meter coupon plan plan_sale customer_override".split()
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def live(engine: Engine) -> Catalog:
    with transaction(engine) as session:
        return catalog.live(session)


def rows(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        return {
            table: next(iter(connection.execute(f"select count(*) from {table}")))[0]  # type: ignore[arg-type,call-overload]
            for table in TABLES
        }


def change(folder: Path, file: str, before: str, after: str) -> None:
    text = (folder / file).read_text()
    assert before in text
    (folder / file).write_text(text.replace(before, after, 1))


def agree(session: Session, name: str, plan_id: str, version: int, add_ons: tuple[AddOnSold, ...] = ()) -> None:
    plan = catalog.plan(session, plan_id, version)
    agreed = Agreement(f"con_{name}", f"sub_{name}", name, "acme", plan, Decimal(3), NOW.date(), add_ons=add_ons)
    sign(session, agreed, NOW)


def test_plan_says_what_apply_then_does(perennial: Perennial, engine: Engine, database_url: str) -> None:
    before = rows(database_url)
    code, said = perennial("catalog", "plan", EXAMPLE)
    assert code == 3
    assert "plan team: new, version 1\n  Team, in EUR, every month\n" in said
    assert "add-on more_requests: new, version 1\n" in said and "coupon LAUNCH25: new\n" in said
    assert rows(database_url) == before == dict.fromkeys(TABLES, 0)

    code, said = perennial("catalog", "apply", EXAMPLE, "--yes")
    assert code == 0
    assert "plan team, version 1: published.\n" in said and "meter llm_tokens: published.\n" in said
    assert live(engine) == read(EXAMPLE)

    stored = rows(database_url)
    for verb in (["plan"], ["apply", "--yes"], ["apply"]):
        code, said = perennial("catalog", *verb, EXAMPLE)
        assert (code, said) == (0, "Nothing to do: the live catalog says the same.\n")
    assert rows(database_url) == stored


def test_a_change_is_said_with_whom_it_touches_and_from_when(
    perennial: Perennial, engine: Engine, database_url: str, folder: Path
) -> None:
    perennial("catalog", "apply", folder, "--yes")
    with psycopg.connect(database_url) as connection:
        connection.execute(PEOPLE)
    with transaction(engine) as session:
        agree(session, "a", "team", 1, (AddOnSold("more_requests", 1, Decimal(2)),))
        agree(session, "b", "team", 1)
        agree(session, "c", "starter", 1)
    change(folder, "plans/team.yaml", "rate: 0.000012", "rate: 0.000010")
    change(folder, "plans/team.yaml", "sold_from: 2026-01-01", "sold_from: 2026-04-01")
    change(folder, "plans/more_requests.yaml", "amount: 80", "amount: 90")
    (folder / "plans/starter.yaml").unlink()
    code, said = perennial("catalog", "plan", folder)
    assert (code, said) == (
        3,
        "add-on more_requests: changed, version 2\n"
        "  requests: amount from 80 to 90\n"
        "  version 2: sold from 2026-01-01\n"
        "  1 running subscription on version 1, which they keep\n"
        "plan team: changed, version 2\n"
        "  tokens: cell 1 from 0.000012 to 0.000010 per unit\n"
        "  version 2: sold from 2026-04-01\n"
        "  2 running subscriptions on version 1, which they keep\n"
        "Not in the files, and left as they are: plan starter.\n",
    )
    code, said = perennial("catalog", "apply", folder, "--yes")
    assert code == 0 and said.endswith("plan more_requests, version 2: published.\nplan team, version 2: published.\n")
    with transaction(engine) as session:
        assert sold_counts(session) == {("more_requests", 1): 1, ("starter", 1): 1, ("team", 1): 2}
        assert catalog.plan(session, "team", on=date(2026, 3, 31)).version == 1
        assert catalog.plan(session, "team", on=date(2026, 4, 1)).version == 2
        connection = session.connection()
        connection.exec_driver_sql("update subscription set state = 'ended' where id = 'sub_b'")
        assert sold_counts(session)["team", 1] == 1
    assert [offer.plan.plan_id for offer in live(engine).offers] == ["enterprise", "more_requests", "starter", "team"]


def test_another_day_of_sale_is_no_new_version(perennial: Perennial, engine: Engine, folder: Path) -> None:
    perennial("catalog", "apply", folder, "--yes")
    change(folder, "plans/team.yaml", "sold_from: 2026-01-01\n", "")
    code, said = perennial("catalog", "apply", folder, "--yes")
    assert code == 0 and "  no longer sold to new customers\n" in said
    assert said.endswith("plan team, version 1: sale decided.\n")
    assert {o.plan.version: o.sold_from for o in live(engine).offers if o.plan.plan_id == "team"} == {1: None}


def test_a_refused_apply_leaves_nothing_and_names_every_line(
    perennial: Perennial, database_url: str, folder: Path
) -> None:
    change(folder, "plans/team.yaml", "up_to: 50", "up_to: 5")
    change(folder, "plans/team.yaml", "by: workspace", "by: team")
    change(folder, "plans/starter.yaml", "amount: 19", "amount: -19")
    change(folder, "plans/enterprise.yaml", "ceil(quantity / 1000000)", "ceil(tokens / 1000000)")
    change(folder, "plans/enterprise.yaml", "{feature: audit_log}", "{feature: audits}")
    change(folder, "coupons.yaml", "value: 25", "value: 125")
    (folder / "overrides").mkdir()
    (folder / "overrides/o1.yaml").write_text(
        "customer_id: nobody\nplan_id: team\ncurrency: EUR\neffective_from: 2026-01-01\n"
    )
    before = rows(database_url)
    expected = {
        _line(folder, "plans/team.yaml", "up_to: 5,", "items.2.price.tiers.1.up_to: must be above 10"),
        _line(folder, "plans/team.yaml", "by: team", "items.4.price.by: the meter 'images' does not keep 'team'"),
        _line(folder, "plans/starter.yaml", "amount: -19", "items.0.price.amount: must be a number, and not negative"),
        _line(folder, "plans/enterprise.yaml", "expression:", "items.6.price.expression: asks for tokens"),
        _line(folder, "plans/enterprise.yaml", "audits", "entitlements.1.feature: there is no feature 'audits'"),
        _line(folder, "coupons.yaml", "value: 125", "LAUNCH25.discounts.0.value: must be from 0 to 100"),
        "overrides/o1.yaml:1: customer_id: there is no customer 'nobody'",
    }
    for verb in (["plan"], ["apply", "--yes"]):
        code, said = perennial("catalog", *verb, folder)
        assert code == 2
        assert [want for want in expected if f"\n  {want}" not in said] == [], said
        assert len(said.splitlines()) == len(expected) + 2
    assert rows(database_url) == before


def _line(folder: Path, file: str, text: str, reason: str) -> str:
    lines = (folder / file).read_text().splitlines()
    return f"{file}:{next(i for i, line in enumerate(lines, 1) if text in line)}: {reason}"


def test_files_that_cannot_be_read_are_refused_without_a_database(
    perennial: Perennial, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost:1/none")
    change(folder, "meters.yaml", "per_event: true", "per_event: maybe")
    line = _line(folder, "meters.yaml", "per_event: maybe", "marketplace_sales.per_event: must be true or false")
    code, said = perennial("catalog", "plan", folder)
    assert code == 2 and f"\n  {line}\n" in said


def test_export_after_apply_is_the_identity(perennial: Perennial, folder: Path, tmp_path: Path) -> None:
    perennial("catalog", "apply", EXAMPLE, "--yes")
    out = tmp_path / "out"
    code, said = perennial("catalog", "export", out)
    assert code == 0 and "9 files are in" in said
    files = {name: text for name, text in contents(EXAMPLE).items() if name != "README.md"}
    assert contents(out) == {**files, SCHEMA: schema_text()}
    assert perennial("catalog", "export", out)[0] == 0
    assert perennial("catalog", "plan", out)[0] == 0


def test_export_overwrites_only_when_told(perennial: Perennial, folder: Path) -> None:
    perennial("catalog", "apply", folder, "--yes")
    change(folder, "plans/team.yaml", "amount: 99", "amount: 89")
    (folder / "products.yaml").unlink()
    before = contents(folder)
    code, said = perennial("catalog", "export", folder)
    assert code == 2 and "  plans/team.yaml: differs\n" in said and "--force" in said
    assert contents(folder) == before
    assert perennial("catalog", "export", folder, "--force")[0] == 0
    assert contents(folder) == {**contents(EXAMPLE), SCHEMA: schema_text()}
    (folder / "plans/team.yaml").rename(folder / "plans/team.toml")
    code, said = perennial("catalog", "export", folder, "--force")
    assert code == 2 and "  plans/team.toml: is the same plan\n" in said


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def schema_text() -> str:
    """What `export` writes beside the plans, for editors."""
    return texts(read(EXAMPLE))[SCHEMA]


class Keyboard(io.StringIO):
    """A terminal at which somebody sits; `before` happens while they think."""

    def isatty(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> str:
        self.before()
        return super().readline(-1 if size is None else size)

    def before(self) -> None:
        """Nothing, unless a test says otherwise."""


@contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, words: str) -> Iterator[Keyboard]:
    keyboard = Keyboard(words)
    with monkeypatch.context() as context:
        context.setattr(sys, "stdin", keyboard)
        yield keyboard


def test_on_a_terminal_apply_asks(perennial: Perennial, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(monkeypatch, "n\n"):
        code, said = perennial("catalog", "apply", EXAMPLE)
        assert code == 1 and "Apply this? [y/N]" in said and "Nothing was changed.\n" in said
    assert live(engine) == Catalog()
    with answering(monkeypatch, "y\n"):
        assert perennial("catalog", "apply", EXAMPLE)[0] == 0
    assert live(engine) == read(EXAMPLE)


def test_where_nobody_can_be_asked_yes_must_be_said(
    perennial: Perennial, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, said = perennial("catalog", "apply", EXAMPLE)
    assert code == 2 and "--yes" in said
    assert live(engine) == Catalog()


def test_what_was_shown_is_what_is_applied(
    perennial: Perennial, engine: Engine, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """Somebody else publishes while the question is open: nothing is applied unseen."""
    rival = read(folder)
    other = replace(rival, offers=tuple(replace(o, sold_from=None) for o in rival.offers))

    def publish() -> None:
        with transaction(engine) as session:
            assert Published("plan", "team", "new", 1) in catalog.apply(session, other, NOW)

    with answering(monkeypatch, "y\n") as keyboard:
        monkeypatch.setattr(keyboard, "before", publish)
        code, said = perennial("catalog", "apply", folder)
    assert code == 2 and "another one by now" in said
    assert live(engine) == other


def test_one_who_publishes_just_then_is_waited_for_and_seen(
    perennial: Perennial, engine: Engine, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """Somebody has published and not committed when the answer comes, and commits once this one waits for it."""
    other = replace(read(folder), coupons=())
    waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"

    def rival() -> None:
        with transaction(engine) as session:
            catalog.apply(session, other, NOW)
            holds.set()
            for _ in range(600):
                if cursor(session).execute(waits).fetchone() == (1,):
                    break
                time.sleep(0.05)

    holds = threading.Event()
    publishing = threading.Thread(target=rival)
    with answering(monkeypatch, "y\n") as keyboard:
        monkeypatch.setattr(keyboard, "before", lambda: publishing.start() or holds.wait(30))
        code, said = perennial("catalog", "apply", folder)
    publishing.join(60)
    assert code == 2 and "another one by now" in said
    assert live(engine).coupons == ()


def test_schema_prints_what_export_writes(perennial: Perennial) -> None:
    code, said = perennial("catalog", "schema")
    assert code == 0 and said == schema_text()
    assert json.loads(said)["properties"]["items"]
    assert json.loads(said)["title"] == "A plan or add-on of the catalog"


def test_the_codes_are_in_the_help(perennial: Perennial) -> None:
    code, said = perennial("catalog", "plan", "--help")
    assert code == 0 and "Exit code 0: nothing to do. 2: refused" in " ".join(said.replace("│", " ").split())
