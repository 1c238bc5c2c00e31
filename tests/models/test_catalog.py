"""The catalog as it is stored: versions that never change, days on which they are sold, all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import Engine

from billing.catalog import Catalog, Feature, Meter, Offer, Override, Product
from billing.errors import NotFound, Refused
from billing.modifiers import Bounds, Coupon, Discount
from billing.period import Interval
from billing.plan import Entitlement, Plan, PlanItem
from billing.pricing import Flat, Graduated, PerUnit, Tier
from models.catalog import apply, live, publish, put_coupon, put_feature, put_override, put_product
from models.database import connection, transaction
from models.entry import COUPONS
from models.plan import plan, plan_versions, sell, sold_from
from models.values import to_json
from tests.models.conftest import Sql

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
TODAY = datetime.now(UTC).date()
BASE = PlanItem("base", "Base", Flat(Decimal(100)))
TOKENS = PlanItem("tokens", "Tokens", PerUnit(Decimal("0.0000025")), basis="meter", meter="tokens")
TEAM = Plan("team", 1, "Team", "EUR", (BASE,))
SUPPORT = replace(TEAM, plan_id="support", name="Support", kind="add_on", items=(replace(BASE, key="fee"),))
SPRING = Coupon("SPRING", "Spring", (Discount("percent", Decimal(20), periods=3),))


def dearer(by: int) -> Plan:
    return replace(TEAM, items=(replace(BASE, price=Flat(Decimal(100 + by))),))


# Versions, and the days on which they are sold.


def test_a_version_is_content_and_is_sold_by_its_day(engine: Engine) -> None:
    with transaction(engine) as session:
        assert publish(session, TEAM, NOON, date(2026, 3, 1)).version == 1
        assert publish(session, replace(TEAM, version=7), NOON, date(2026, 3, 1)).version == 1
        assert publish(session, dearer(1), NOON, date(2026, 5, 1)).version == 2
        assert publish(session, dearer(2), NOON, None).version == 3
    with transaction(engine) as session:
        on = {
            day: plan(session, "team", on=day).version
            for day in (date(2026, 3, 1), date(2026, 4, 30), date(2026, 5, 1), date(2030, 1, 1))
        }
        assert list(on.values()) == [1, 1, 2, 2]
        assert plan(session, "team").version == 3 and plan(session, "team", 1) == TEAM
        assert sold_from(session, "team", 3) is None
        with pytest.raises(Refused) as refusal:
            plan(session, "team", on=date(2026, 2, 28))
        assert (refusal.value.code, [f.field for f in refusal.value.faults]) == ("not_sold", ["plan"])
        for unknown in (lambda: plan(session, "none", on=TODAY), lambda: plan(session, "team", 4)):
            with pytest.raises(NotFound):
                unknown()


def test_what_is_taken_back_gives_way_to_the_version_before(engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session:
        publish(session, TEAM, NOON, date(2026, 3, 1))
        publish(session, dearer(1), NOON, date(2026, 3, 1))
        assert plan(session, "team", on=TODAY).version == 2
        assert sell(session, "team", 2, None, NOON, "take-back of r1")
        assert not sell(session, "team", 2, None, NOON, "again")
        assert plan(session, "team", on=TODAY).version == 1
        publish(session, dearer(1), NOON, date(2026, 4, 1))
        assert plan(session, "team", on=TODAY).version == 2
    assert sql("select version, no, sold_from, cause from plan_sale order by 1, 2") == [
        (1, 1, date(2026, 3, 1), "published"),
        (2, 1, date(2026, 3, 1), "published"),
        (2, 2, None, "take-back of r1"),
        (2, 3, date(2026, 4, 1), "published"),
    ]


def test_at_once_is_today_wherever_that_is_latest_and_on_the_clock_furthest_behind(engine: Engine, sql: Sql) -> None:
    early = datetime(2026, 3, 10, 11, 59, tzinfo=UTC)
    with transaction(engine) as session:
        publish(session, TEAM, early)
        assert sold_from(session, "team", 1) == date(2026, 3, 9)
        publish(session, TEAM, NOON + timedelta(days=30))
        assert sold_from(session, "team", 1) == date(2026, 3, 9)
    sql("insert into test_clock (id, now_at, target_at) values ('c', '2024-05-02T12:00Z', '2024-05-02T12:00Z')")
    with transaction(engine) as session:
        publish(session, dearer(1), NOON)
        assert sold_from(session, "team", 2) == date(2024, 5, 2)


@pytest.mark.parametrize("table", ["product", "feature", "coupon", "customer_override", "plan", "plan_sale"])
def test_nothing_published_is_ever_rewritten(engine: Engine, sql: Sql, table: str) -> None:
    with transaction(engine) as session:
        put_product(session, Product("core", "Core"), NOON)
        put_feature(session, Feature("sso", "SSO"), NOON)
        put_coupon(session, SPRING, NOON)
        publish(session, TEAM, NOON)
        put_override(session, Override("o", "berlin", "team", "EUR", TODAY), NOON)
    key = "plan_id" if table == "plan_sale" else f"{table.removeprefix('customer_')}_id"
    for statement in (f"update {table} set {key} = 'x'", f"delete from {table}", f"truncate {table} cascade"):
        with pytest.raises(psycopg.ProgrammingError, match="append-only"):
            sql(statement)


def test_entries_have_versions_and_the_newest_counts(engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session:
        for name in ("Core", "Core", "Kern", "Core"):
            put_product(session, Product("core", name), NOON)
        put_coupon(session, SPRING, NOON)
        put_coupon(session, replace(SPRING, most=3), NOON)
        assert COUPONS.get(session, "SPRING").most == 3
        put_feature(session, Feature("seats", "Seats", "limit", "seats"), NOON)
        put_feature(session, Feature("seats", "People", "limit", "seats"), NOON)
        for other in (Feature("seats", "Seats"), Feature("seats", "Seats", "limit", "people")):
            with pytest.raises(Refused) as refusal:
                put_feature(session, other, NOON)
            assert {f.field for f in refusal.value.faults} <= {"kind", "unit"}
    assert sql("select version, content ->> 'name' from product order by 1") == [(1, "Core"), (2, "Kern"), (3, "Core")]
    assert sql("select version, content ->> 'name' from feature order by 1") == [(1, "Seats"), (2, "People")]


def test_a_version_that_was_rolled_back_is_not_remembered(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError), transaction(engine) as session:
        publish(session, dearer(5), NOON)
        assert plan_versions(session, [("team", 1)])["team", 1] == dearer(5)
        raise ZeroDivisionError
    with transaction(engine) as session:
        assert plan_versions(session, [("team", 1)]) == {}
        publish(session, TEAM, NOON)
    for _ in range(2):
        with transaction(engine) as session:
            assert plan_versions(session, [("team", 1), ("team", 2)]) == {("team", 1): TEAM}


def test_a_stored_plan_that_bills_usage_in_advance_is_the_same_without_it(engine: Engine, sql: Sql) -> None:
    """So they were written once, though usage was billed in arrears as ever."""
    metered = replace(TEAM, items=(BASE, TOKENS))
    content = to_json(metered)
    content["items"][1]["in_advance"] = True
    sql(
        "insert into plan (plan_id, version, currency, content, published_at) values ('team', 1, 'EUR', %s, now())",
        [Jsonb(content)],
    )
    with transaction(engine) as session:
        assert [item.in_advance for item in plan(session, "team").items] == [True, False]
        assert publish(session, metered, NOON).version == 1


def test_a_plan_stays_a_plan(engine: Engine) -> None:
    with transaction(engine) as session:
        publish(session, TEAM, NOON)
        for again in (
            lambda: publish(session, replace(TEAM, kind="add_on"), NOON),
            lambda: apply(session, Catalog(offers=(Offer(replace(TEAM, kind="add_on"), None),)), NOON),
        ):
            with pytest.raises(Refused) as refusal:
                again()
            assert refusal.value.faults[0].field.endswith("kind") and len(refusal.value.faults) == 1


# A whole catalog.


WHOLE = Catalog(
    products=(Product("core", "Core", "What everyone has"),),
    features=(Feature("seats", "Seats", "limit", "seats"), Feature("sso", "Single sign-on")),
    meters=(
        Meter("calls", "Calls", "call", "n", "calls", ("region",)),
        Meter("tokens", "Tokens", "llm", "n", "tokens"),
    ),
    coupons=(SPRING,),
    offers=(
        Offer(SUPPORT, date(2026, 4, 1)),
        Offer(replace(TEAM, product="core", entitlements=(Entitlement("sso"),), items=(BASE, TOKENS)), None),
    ),
    overrides=(Override("own", "berlin", "team", "EUR", TODAY, (replace(BASE, price=Flat(Decimal(80))),)),),
)


def test_a_catalog_is_applied_once_and_read_back(engine: Engine, sql: Sql) -> None:
    sql("update meter set name = 'Words'")
    with transaction(engine) as session:
        done = apply(session, WHOLE, NOON)
    assert {(one.kind, one.id, one.what, one.version) for one in done} == {
        ("product", "core", "new", 1),
        ("feature", "seats", "new", 1),
        ("feature", "sso", "new", 1),
        ("meter", "calls", "new", None),
        ("meter", "tokens", "changed", None),
        ("coupon", "SPRING", "new", 1),
        ("plan", "support", "new", 1),
        ("plan", "team", "new", 1),
        ("override", "own", "new", 1),
    }
    with transaction(engine) as session:
        assert live(session) == WHOLE
        assert apply(session, WHOLE, NOON) == apply(session, live(session), NOON) == []
        sold = replace(WHOLE, offers=(replace(WHOLE.offers[1], sold_from=date(2026, 5, 1)),))
        assert [(one.kind, one.id, one.what) for one in apply(session, sold, NOON)] == [("plan", "team", "sale")]
        assert [offer.sold_from for offer in live(session).offers] == [date(2026, 4, 1), date(2026, 5, 1)]
        changed = Catalog(offers=(Offer(replace(SUPPORT, name="Help", version=9), None),))
        assert [(one.what, one.version) for one in apply(session, changed, NOON)] == [("changed", 2)]


def test_what_stands_already_is_not_asked_for_one_by_one(engine: Engine, sql: Sql) -> None:
    """However many entries there are: the catalog is read as a whole, and one that differs is put."""
    many = Catalog(
        products=tuple(Product(f"p{i}", f"P {i}") for i in range(20)),
        features=tuple(Feature(f"f{i}", f"F {i}") for i in range(20)),
        meters=tuple(Meter(f"m{i}", f"M {i}", "llm", "n", "tokens") for i in range(20)),
        coupons=tuple(replace(SPRING, coupon_id=f"C{i}0") for i in range(20)),
    )
    with transaction(engine) as session:
        assert len(apply(session, many, NOON)) == 80
    asked: list[object] = []

    class Counted(psycopg.Cursor):  # type: ignore[type-arg]
        def execute(self, query: object, *more: object, **options: object) -> Counted:  # type: ignore[override]
            asked.append(query)
            return super().execute(query, *more, **options)  # type: ignore[arg-type]

    with transaction(engine) as session:
        connection(session).cursor_factory = Counted
        assert apply(session, many, NOON) == []
        counted = len(asked)
        renamed = replace(many.coupons[0], name="Other")
        assert [one.id for one in apply(session, replace(many, coupons=(renamed,)), NOON)] == ["C00"]
        connection(session).cursor_factory = psycopg.Cursor
    assert counted <= 10


@pytest.mark.parametrize("changed", [{"customer_id": "york"}, {"plan_id": "other"}])
def test_an_override_stays_with_its_customer_and_its_plan(engine: Engine, sql: Sql, changed: dict[str, str]) -> None:
    own = Override("own", "berlin", "team", "EUR", TODAY, (BASE,))
    with transaction(engine) as session:
        for name in ("team", "other"):
            publish(session, replace(TEAM, plan_id=name), NOON)
        put_override(session, own, NOON)
        assert put_override(session, replace(own, items=()), NOON).items == ()
    other = replace(own, **changed)  # type: ignore[arg-type]
    for at, refused in (
        ("", lambda session: put_override(session, other, NOON)),
        ("overrides.0.", lambda session: apply(session, Catalog(overrides=(other,)), NOON)),
    ):
        with pytest.raises(Refused) as refusal, transaction(engine) as session:
            refused(session)
        assert [fault.field for fault in refusal.value.faults] == [at + name for name in changed]
        assert "make another override" in refusal.value.faults[0].reason and refusal.value.remedy


def _wrong_offer(**changed: object) -> Catalog:
    return replace(WHOLE, offers=(WHOLE.offers[0], replace(WHOLE.offers[1], plan=replace(TEAM, **changed))))  # type: ignore[arg-type]


def _item(item: PlanItem) -> Callable[[], Catalog]:
    return lambda: _wrong_offer(items=(BASE, item))


def _override(**changed: object) -> Callable[[], Catalog]:
    return lambda: replace(WHOLE, overrides=(replace(WHOLE.overrides[0], **changed),))  # type: ignore[arg-type]


def _coupon(**changed: object) -> Callable[[], Catalog]:
    return lambda: replace(WHOLE, coupons=(replace(SPRING, **changed),))  # type: ignore[arg-type]


OVERLAP = Graduated((Tier(Decimal(10), Decimal(1)), Tier(Decimal(5), Decimal(1)), Tier(None, Decimal(1))))
OFF = Discount("amount", Decimal(5))
WRONG: dict[str, tuple[Callable[[], Catalog], set[str]]] = {
    "a rate below zero": (
        _item(replace(TOKENS, price=PerUnit(Decimal(-1)))),
        {"offers.1.plan.items.1.price.rate"},
    ),
    "tiers that overlap": (_item(replace(TOKENS, price=OVERLAP)), {"offers.1.plan.items.1.price.tiers.1.up_to"}),
    "no meter of that name": (_item(replace(TOKENS, meter="none")), {"offers.1.plan.items.1.meter"}),
    "money that is absurd": (
        _item(replace(TOKENS, price=PerUnit(Decimal("1e400")))),
        {"offers.1.plan.items.1.price.rate"},
    ),
    "quantities beyond 10^24": (_item(replace(TOKENS, free=Decimal("1e25"))), {"offers.1.plan.items.1.free"}),
    "no product of that name": (lambda: _wrong_offer(product="none"), {"offers.1.plan.product"}),
    "a limit for a switch": (
        lambda: _wrong_offer(entitlements=(Entitlement("sso", limit=Decimal(1)),)),
        {"offers.1.plan.entitlements.0.limit"},
    ),
    "an interval without end": (
        lambda: _wrong_offer(interval=Interval("year", 10**6)),
        {"offers.1.plan.interval.count"},
    ),
    "bounds of an add-on": (
        lambda: replace(WHOLE, offers=(Offer(replace(SUPPORT, bounds=Bounds(Decimal(1))), None), WHOLE.offers[1])),
        {"offers.0.plan.bounds"},
    ),
    "an id with capitals": (lambda: _wrong_offer(plan_id="Team"), {"offers.1.plan.plan_id", "overrides.0.plan_id"}),
    "the same id twice": (
        lambda: replace(WHOLE, products=(Product("core", "A"), Product("core", "B"))),
        {"products.0.product_id", "products.1.product_id"},
    ),
    "a meter that counts otherwise": (
        lambda: replace(WHOLE, meters=(Meter("tokens", "Tokens", "llm", "other", "tokens", ("region",)),)),
        {"meters.0.quantity_field", "meters.0.dimensions"},
    ),
    "an amount off without a currency": (_coupon(discounts=(OFF,)), {"coupons.0.currency"}),
    "units off by a coupon": (
        _coupon(discounts=(Discount("units", Decimal(5)), Discount("percent", Decimal(101)))),
        {"coupons.0.discounts.0.kind", "coupons.0.discounts.1.value"},
    ),
    "a coupon of nothing for nobody": (_coupon(discounts=(), most=0), {"coupons.0.discounts", "coupons.0.most"}),
    "an override of nobody's": (_override(customer_id="nobody"), {"overrides.0.customer_id"}),
    "an override of no plan": (_override(plan_id="none"), {"overrides.0.plan_id"}),
    "an override of an add-on": (_override(plan_id="support"), {"overrides.0.plan_id"}),
    "an override in another currency": (_override(currency="USD"), {"overrides.0.currency"}),
    "an override with a wrong item": (
        _override(items=(replace(TOKENS, meter="none"), replace(TOKENS, price=PerUnit(Decimal(-1))))),
        {
            "overrides.0.items.0.key",
            "overrides.0.items.1.key",
            "overrides.0.items.0.meter",
            "overrides.0.items.1.price.rate",
        },
    ),
    "an override's discount on nothing": (
        _override(discounts=(replace(OFF, on=("base", "none")),)),
        {"overrides.0.discounts.0.on"},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_catalog_is_refused_with_every_path_and_nothing_is_stored(engine: Engine, sql: Sql, name: str) -> None:
    draft, fields = WRONG[name]
    with pytest.raises(Refused) as refusal, transaction(engine) as session:
        apply(session, draft(), NOON)
    assert {fault.field for fault in refusal.value.faults} == fields, refusal.value.faults
    assert all(fault.reason for fault in refusal.value.faults) and refusal.value.remedy
    for table in ("product", "feature", "coupon", "plan", "plan_sale", "customer_override"):
        assert sql(f"select count(*) from {table}") == [(0,)]
    assert sql("select id from meter") == [("tokens",)]
