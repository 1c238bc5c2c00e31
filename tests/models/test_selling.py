"""What is sold from the catalog stays as it was sold, goes together, and is redeemed as often as promised."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from sqlalchemy import Engine

from billing.catalog import AddOnSold, Extras, Feature, Override
from billing.errors import Refused
from billing.modifiers import Discount, Redeemed
from billing.period import Interval
from billing.plan import Entitlement, Plan
from billing.pricing import Flat
from models.catalog import publish, put_coupon, put_feature, put_override
from models.database import transaction
from models.entry import redeem, redeemed_count
from models.plan import plan
from models.selling import extras_of, metered_elsewhere, meterings, put_together, versions_in
from models.signing import Agreement, sign
from models.standing import standing
from tests.models.conftest import Sql
from tests.models.test_catalog import BASE, NOON, OFF, SPRING, SUPPORT, TEAM, TODAY, TOKENS, dearer


def agreed(key: str, customer: str, sold: Plan, **more: object) -> Agreement:
    return Agreement(f"con-{key}", f"sub-{key}", customer, "acme", sold, Decimal(1), TODAY, **more)  # type: ignore[arg-type]


def test_what_was_sold_stays_whatever_is_published_later(engine: Engine, sql: Sql) -> None:
    own = Override("own", "berlin", "team", "EUR", TODAY, (replace(BASE, price=Flat(Decimal(80))),))
    later = replace(own, override_id="later", effective_from=TODAY + timedelta(days=1), items=())
    with transaction(engine) as session:
        sold, support = publish(session, TEAM, NOON), publish(session, SUPPORT, NOON)
        put_coupon(session, SPRING, NOON)
        for override in (own, replace(own, override_id="york", customer_id="york"), later):
            put_override(session, override, NOON)
        more = {"add_ons": (AddOnSold("support", 1, Decimal(3)),), "coupons": ("SPRING",)}
        sign(session, agreed("a", "berlin", sold, **more), datetime.now(UTC))
    with transaction(engine) as session:
        before = standing(session, "sub-a")
        assert before is not None and support.version == 1
        items = {item.key: item for item in before.terms.plan.items}
        assert items["base"].price == Flat(Decimal(80)) and items["base"].origin == "override own"
        assert items["support.fee"].price == Flat(Decimal(300))
        assert items["support.fee"].origin == "add-on support, version 1"
        assert [(r.coupon, r.on) for r in before.terms.coupons] == [(SPRING, TODAY)]
    with transaction(engine) as session:
        publish(session, dearer(9), NOON)
        publish(session, replace(SUPPORT, items=(replace(BASE, key="other"),)), NOON)
        put_override(session, replace(own, items=()), NOON)
        put_coupon(session, replace(SPRING, discounts=(Discount("percent", Decimal(50)),)), NOON)
    with transaction(engine) as session:
        assert standing(session, "sub-a") == before
        assert extras_of(session, "sub-a", 1).override == own


def test_things_that_do_not_go_together_are_not_sold(engine: Engine, sql: Sql) -> None:
    yearly = replace(SUPPORT, plan_id="yearly", interval=Interval("year"))
    clash = replace(TEAM, plan_id="clash", items=(replace(BASE, key="support.fee"),))
    dollars = replace(TEAM, plan_id="dollars", currency="USD")
    with transaction(engine) as session:
        team, support, *others = [publish(session, p, NOON) for p in (TEAM, SUPPORT, yearly, clash, dollars)]
        put_coupon(session, replace(SPRING, redeem_by=TODAY - timedelta(days=1)), NOON)
        put_coupon(session, replace(SPRING, coupon_id="USD5", discounts=(OFF,), currency="USD"), NOON)
    cases: list[tuple[Plan, dict[str, object], set[str]]] = [
        (support, {}, {"plan"}),
        (team, {"add_ons": (AddOnSold("team", 1),)}, {"add_ons.0"}),
        (team, {"add_ons": (AddOnSold("support", 1), AddOnSold("support", 1))}, {"add_ons.1"}),
        (team, {"add_ons": (AddOnSold("support", 1), AddOnSold("yearly", 1))}, {"add_ons.1"}),
        (others[1], {"add_ons": (AddOnSold("support", 1),)}, {"add_ons"}),
        (others[2], {}, {"plan"}),
        (team, {"currency": "USD"}, {"currency"}),
        (team, {"coupons": ("SPRING", "USD5", "NONE", "USD5")}, {f"coupons.{i}" for i in range(4)}),
    ]
    for sold, more, fields in cases:
        with pytest.raises(Refused) as refusal, transaction(engine) as session:
            sign(session, agreed("a", "berlin", sold, **more), datetime.now(UTC))
        assert {fault.field for fault in refusal.value.faults} == fields, refusal.value.faults
    assert sql("select count(*) from subscription") == sql("select count(*) from coupon_redemption") == [(0,)]


def test_a_coupon_for_five_is_redeemed_by_five_of_sixteen_at_once(
    engine: Engine, sql: Sql, threads: ThreadPoolExecutor
) -> None:
    with transaction(engine) as session:
        sold = publish(session, TEAM, NOON)
        put_coupon(session, replace(SPRING, most=5), NOON)

    def one(n: int) -> str:
        try:
            with transaction(engine) as session:
                customer = f"c{n}"
                sign(session, agreed(str(n), customer, sold, coupons=("SPRING",)), datetime.now(UTC))
                return "signed"
        except Refused as refusal:
            return refusal.code

    sql("insert into account_root select 'c' || n from generate_series(0, 15) n")
    sql(
        "insert into customer (id, version, root_id, name, email, country, time_zone, address, created_at)"
        " select 'c' || n, 1, 'c' || n, 'C', '', 'DE', 'UTC', '', now() from generate_series(0, 15) n"
    )
    answers = list(threads.map(one, range(16)))
    assert sorted(answers) == ["coupon_refused"] * 11 + ["signed"] * 5
    with transaction(engine) as session:
        assert redeemed_count(session, "SPRING") == 5
    assert sql("select count(*) from subscription") == [(5,)]


def test_a_subscription_redeems_a_coupon_once(engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session:
        sold = publish(session, TEAM, NOON)
        put_coupon(session, SPRING, NOON)
        sign(session, agreed("a", "berlin", sold, coupons=("SPRING",)), datetime.now(UTC))
        sign(session, agreed("a", "berlin", sold, coupons=("SPRING",)), datetime.now(UTC))
    with pytest.raises(Refused) as refusal, transaction(engine) as session:
        redeem(session, "sub-a", [Redeemed(SPRING, TODAY)], "amendment", NOON)
    assert refusal.value.code == "coupon_refused"
    assert sql("select coupon_id, subscription_id, cause from coupon_redemption") == [("SPRING", "sub-a", "con-a")]
    with pytest.raises(psycopg.ProgrammingError, match="append-only"):
        sql("delete from coupon_redemption")


def test_usage_is_billed_by_one_subscription_add_ons_included(engine: Engine, sql: Sql) -> None:
    words = replace(SUPPORT, plan_id="words", items=(TOKENS,))
    with transaction(engine) as session:
        sold = publish(session, TEAM, NOON)
        publish(session, words, NOON)
        sign(session, agreed("a", "berlin", sold, add_ons=(AddOnSold("words", 1),)), datetime.now(UTC))
    with transaction(engine) as session:
        found = meterings(session, ["berlin", "york"], TODAY)
        assert metered_elsewhere(found["berlin"], "sub-b", TODAY) == {"tokens": "sub-a"}
        assert metered_elsewhere(found["berlin"], "sub-a", TODAY) == metered_elsewhere(found["york"], "", TODAY) == {}
        with pytest.raises(Refused) as refusal:
            sign(session, agreed("b", "berlin", sold, add_ons=(AddOnSold("words", 1),)), datetime.now(UTC))
        assert refusal.value.code == "double_metering"
    sql(
        "insert into subscription_terms (subscription_id, version, effective_on, plan_id, plan_version, seats,"
        " discount_percent, cause) values ('sub-a', 2, %s, 'team', 1, 1, 0, 'test')",
        [TODAY + timedelta(days=5)],
    )
    with transaction(engine) as session:
        for days, taken in ((4, {"tokens": "sub-a"}), (5, {})):
            day = TODAY + timedelta(days=days)
            assert metered_elsewhere(meterings(session, ["berlin"], TODAY)["berlin"], "sub-b", day) == taken
            assert metered_elsewhere(meterings(session, ["berlin"], day)["berlin"], "sub-b", day) == taken


def test_counts_of_add_ons_are_exact(engine: Engine) -> None:
    many = Decimal("3")
    limited = replace(SUPPORT, entitlements=(Entitlement("seats", limit=Decimal("2.5")),))
    with transaction(engine) as session:
        put_feature(session, Feature("seats", "Seats", "limit"), NOON)
        publish(session, replace(TEAM, entitlements=(Entitlement("seats", limit=Decimal(10)),)), NOON)
        publish(session, limited, NOON)
        extras = Extras((AddOnSold("support", 1, many),))
        whole = put_together(plan(session, "team"), "EUR", extras, versions_in(session, [extras]))
    assert whole.entitlements == (Entitlement("seats", limit=Decimal("17.5")),)
