"""Roll-outs in sets: who becomes a member and why, moves on their day, answers, taking back; each activity twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from activities import rolling_out
from activities.rolling_out import NextBatch, Outlook
from billing.catalog import Override
from billing.plan import PlanItem
from billing.pricing import Flat
from models import agenda, launch, movable, rollout, task
from models.catalog import plan, put_override
from models.database import transaction
from models.selling import meterings
from tests.activities.company import FEE_ONLY, TEAM, Company
from tests.activities.launching import TODAY, dearer, go_on, hands, make, publish_version
from tests.activities.twice import twice


def take_back(company: Company, name: str = "r") -> Outlook:
    for _ in range(2):
        with transaction(company.engine) as session:
            launch.ask_back(session, name, "key", company.now())
    return go_on(company, name)


def answer(company: Company, subscription: str, text: str, name: str = "r") -> None:
    subject = rollout.task_subject(name, subscription)
    with transaction(company.engine) as session:
        [(task_id,)] = company.sql("select id from task where subject = %s and answered_at is null", subject)
        task.answer(session, task_id, "Carla", text, company.now())
        clock_id = f"clock-{company.entity}"
        agenda.plan_ahead(session, f"rollout/{name}", "rollout", task_id, company.now(), "acme", clock_id)


def states(company: Company, name: str = "r") -> dict[str, str]:
    return dict(company.sql("select subscription_id, state from rollout_member where rollout_id = %s", name))


def why(company: Company, subscription: str, name: str = "r") -> str:
    [(found,)] = company.sql(
        "select why from rollout_member where rollout_id = %s and subscription_id = %s", name, subscription
    )
    return str(found)


def versions(company: Company, subscription: str) -> list[tuple[str, int, date]]:
    return company.sql(
        "select plan_id, plan_version, effective_on from subscription_terms where subscription_id = %s"
        " order by version",
        subscription,
    )


def test_all_are_moved_today_with_proration_and_what_it_does_to_their_bills(february: Company) -> None:
    make(february)
    assert go_on(february).moved == 3
    assert versions(february, "sub-ada") == [("team", 1, date(2026, 1, 1)), ("team", 2, TODAY)]
    assert february.sql("select before_minor, after_minor, from_version from rollout_member order by 1") == [
        (11_000, 12_000, 1),
        (11_000, 12_000, 1),
        (111_000, 112_000, 1),
    ]
    assert "rises from 110.00 EUR to 120.00 EUR (9.0%)" in why(february, "sub-ada")
    february.live("2026-03-02")
    # 19 of 28 days at 110 for those at 100, then March at 110 and a seat.
    assert february.sql(
        "select sum(net_minor) from invoice where subscription_id = 'sub-ada' and issued_on >= '2026-02-10'"
    ) == [(7_464 - 6_786 + 12_000,)]


def test_on_a_later_day_each_waits_on_the_agenda_and_whoever_ends_or_changes_before_is_skipped(
    february: Company,
) -> None:
    make(february, on_day=date(2026, 3, 10), notice_days=28)
    assert go_on(february).planned == 3
    assert february.sql("select count(*) from agenda where kind = 'amendment' and done_at is null") == [(3,)]
    assert february.sql("select answer ->> 'scheduled', applied_at from amendment limit 1") == [("true", None)]
    february.cancel("can", "sub-bob", date(2026, 3, 10))
    assert february.amend("other", "sub-cy", TODAY, "fee").accepted
    february.live("2026-03-11")
    assert states(february) == {"sub-ada": "moved", "sub-bob": "skipped", "sub-cy": "skipped"}
    assert why(february, "sub-bob") == "the subscription ends on 2026-03-10"
    assert why(february, "sub-cy") == "the subscription has been moved to another plan since"
    assert versions(february, "sub-ada")[-1] == ("team", 2, date(2026, 3, 10))
    assert versions(february, "sub-cy")[-1][0] == "fee"
    twice(february, hands(february).look_at_rollout, "r")


def test_one_that_ended_before_its_move_is_written_down(february: Company) -> None:
    make(february, on_day=date(2026, 3, 10))
    go_on(february)
    february.cancel("can", "sub-bob", date(2026, 2, 20))
    february.live("2026-02-21")
    assert states(february)["sub-bob"] == "skipped" and why(february, "sub-bob") == "the subscription has ended"
    with transaction(february.engine) as session:
        assert rollout.is_open(session, "r")
    february.live("2026-03-11")
    go_on(february)
    with transaction(february.engine) as session:
        assert not rollout.is_open(session, "r")


def test_whoever_comes_between_becomes_a_member_whichever_way_they_come(
    february: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dan signs, Eve amends into the plan; who was refused is not asked again; one batch after the other."""
    monkeypatch.setattr(rolling_out, "BATCH", 2)
    february.customer("eve")
    february.sign("eve", "fee", starts_on=date(2026, 2, 1))
    make(february, on_day=date(2026, 3, 10), guard_percent=Decimal(9), guard_action="refuse")
    seen = go_on(february)
    assert (seen.planned, seen.refused) == (1, 2)
    february.live("2026-02-20")
    february.customer("dan")
    february.sign("dan", starts_on=date(2026, 2, 20), seats=Decimal(30), plan_version=1)
    assert february.amend("into", "sub-eve", date(2026, 2, 20), seats=30).accepted
    assert go_on(february) == seen, "the day is far"
    february.live("2026-03-09")
    february.set_clock(datetime(2026, 3, 9, 10, tzinfo=UTC))
    assert go_on(february).planned == 3
    february.live("2026-03-11")
    assert go_on(february) == replace(seen, planned=0, moved=3)
    assert [versions(february, f"sub-{name}")[-1] for name in ("bob", "dan", "eve")] == [
        ("team", 2, date(2026, 3, 10))
    ] * 3
    with transaction(february.engine) as session:
        assert not rollout.is_open(session, "r")


def test_taken_back_before_the_day_nobody_is_looked_for_any_more(february: Company) -> None:
    make(february, on_day=date(2026, 3, 10))
    go_on(february)
    assert take_back(february).taken_back == 3
    february.customer("dan")
    february.sign("dan", plan_version=1)
    february.live("2026-03-11")
    assert go_on(february).taken_back == 3
    assert set(states(february)) == {"sub-ada", "sub-bob", "sub-cy"}


def test_at_renewal_each_moves_at_its_own_period_start(february: Company) -> None:
    february.customer("dan")
    february.sign("dan", starts_on=date(2026, 2, 5), plan_version=1)
    february.live("2026-02-10")
    make(february, audience="renewal", on_day=date(2026, 3, 2))
    assert go_on(february).planned == 4
    february.live("2026-04-02")
    assert versions(february, "sub-dan")[-1] == ("team", 2, date(2026, 3, 5))
    assert versions(february, "sub-ada")[-1] == ("team", 2, date(2026, 4, 1))
    assert not february.sql("select 1 from invoice_line where kind = 'proration'")


def test_a_cohort_is_named_or_a_share_and_nobody_else_moves(february: Company) -> None:
    make(february, "named", audience="cohort", subscriptions=["sub-ada"], customers=["cy"])
    assert go_on(february, "named").moved == 2
    assert set(states(february, "named")) == {"sub-ada", "sub-cy"}
    publish_version(february, "team", dearer("120"))
    make(february, "share", audience="cohort", share_percent=Decimal(100), to_version=3)
    assert go_on(february, "share").moved == 3


def test_the_guard_refuses_and_leaves_with_both_figures(february: Company) -> None:
    """Bob used much: of his bill the ten more are little."""
    make(february, guard_percent=Decimal("9"), guard_action="refuse")
    seen = go_on(february)
    assert (seen.moved, seen.refused) == (1, 2)
    assert states(february) == {"sub-ada": "refused", "sub-bob": "moved", "sub-cy": "refused"}
    assert why(february, "sub-ada").endswith("rises from 110.00 EUR to 120.00 EUR (9.0%), by more than 9%")
    assert versions(february, "sub-ada") == [("team", 1, date(2026, 1, 1))]


def test_a_rise_of_exactly_the_guard_is_no_rise_beyond_it(february: Company) -> None:
    publish_version(february, "team", dearer("111"))
    make(february, guard_percent=Decimal(10), guard_action="refuse", to_version=3)
    assert go_on(february).moved == 3  # 110 to 121


def test_held_ones_are_moved_or_left_as_people_answer(february: Company) -> None:
    make(february, guard_percent=Decimal(9), guard_action="hold", on_day=date(2026, 2, 12))
    seen = go_on(february)
    assert (seen.planned, seen.held) == (1, 2)
    assert [subject for subject, _ in february.open_tasks()] == ["rollout/r/sub-ada", "rollout/r/sub-cy"]
    assert "by more than 9%" in february.open_tasks()[0][1]
    answer(february, "sub-ada", "Move, she agreed")
    seen = go_on(february)
    assert (seen.planned, seen.held, seen.refused) == (2, 1, 0)
    february.live("2026-02-20")  # the day has gone by: moved on the day of the answer
    answer(february, "sub-cy", "leave, he has a promise")
    assert go_on(february).refused == 1
    assert why(february, "sub-cy").endswith("left by Carla: leave, he has a promise")
    assert versions(february, "sub-ada")[-1] == ("team", 2, date(2026, 2, 12))
    assert len(versions(february, "sub-cy")) == 1


def test_an_answer_after_the_day_moves_today_and_not_whoever_left_the_plan(february: Company) -> None:
    make(february, guard_percent=Decimal(9), guard_action="hold")
    go_on(february)
    february.live("2026-02-20")
    february.amend("other", "sub-cy", date(2026, 2, 20), "fee")
    answer(february, "sub-ada", "move")
    answer(february, "sub-cy", "move")
    seen = go_on(february)
    assert (seen.moved, seen.skipped, seen.held) == (2, 1, 0)
    assert versions(february, "sub-ada")[-1] == ("team", 2, date(2026, 2, 20))
    assert why(february, "sub-cy") == "The subscription is on 'fee' by now."


def test_taken_back_the_planned_are_dropped_the_held_closed_and_the_moved_go_back_to_what_they_had(
    february: Company,
) -> None:
    february.customer("dan")
    february.sign("dan", starts_on=date(2026, 3, 1), plan_version=1)
    make(february, guard_percent=Decimal("9.05"), guard_action="hold")
    seen = go_on(february)
    assert (seen.moved, seen.planned, seen.held) == (1, 0, 3)
    answer(february, "sub-dan", "move")
    assert go_on(february).planned == 1
    february.live("2026-02-15")
    seen = take_back(february)
    assert (seen.taken_back, seen.moved, seen.held) == (4, 0, 0)
    assert february.open_tasks() == []
    assert february.sql("select outcome from agenda where subject = 'subscription/sub-dan' and kind = 'amendment'") == [
        ("dropped",)
    ]
    assert why(february, "sub-dan").startswith("taken back before 2026-03-01; ")
    assert why(february, "sub-ada").startswith("taken back before anybody decided; ")
    assert take_back(february) == seen
    with transaction(february.engine) as session:
        assert not rollout.is_open(session, "r")


def test_the_moved_keep_their_other_terms_and_whoever_was_changed_since_is_left_alone(february: Company) -> None:
    make(february)
    go_on(february)
    february.set_clock(datetime(2026, 2, 12, 9, tzinfo=UTC))
    february.sql(
        "insert into amendment (id, subscription_id, effective_on, seats, requested_by, requested_at)"
        " values ('seats', 'sub-bob', '2026-02-12', 4, 'test', now())"
    )
    assert february.lifecycle.amend("seats").accepted
    assert february.amend("other", "sub-cy", date(2026, 2, 12), "fee").accepted
    february.set_clock(datetime(2026, 2, 15, 9, tzinfo=UTC))
    seen = take_back(february)
    assert (seen.taken_back, seen.moved) == (2, 1)
    assert versions(february, "sub-bob")[-1] == ("team", 1, date(2026, 2, 15))
    assert february.sql("select seats from subscription_terms where subscription_id = 'sub-bob' order by version") == [
        (1,),
        (1,),
        (4,),
        (4,),
    ]
    assert why(february, "sub-cy") == "left alone when the roll-out was taken back: it is on fee version 1 by now"
    assert versions(february, "sub-cy")[-1][0] == "fee"


def test_what_was_paid_for_the_days_after_a_take_back_is_given_back(february: Company) -> None:
    """Moved and taken back on the same day, the bills are as if nothing had happened."""
    make(february)
    go_on(february)
    take_back(february)
    february.live("2026-03-02")
    assert february.sql(
        "select sum(net_minor) from invoice where subscription_id = 'sub-ada' and issued_on >= '2026-02-10'"
    ) == [(11_000,)]


def test_a_take_back_between_two_batches_ends_the_staging(february: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling_out, "BATCH", 1)
    make(february)
    seen = hands(february).stage(NextBatch("r", ""))
    assert (seen.to_do, seen.after, seen.moved) == ("stage", "ada", 1)
    with transaction(february.engine) as session:
        launch.ask_back(session, "r", "key", february.now())
    late = twice(february, hands(february).stage, NextBatch("r", "ada"))
    assert (late.to_do, late.moved) == ("take back", 1)
    assert go_on(february).taken_back == 1
    assert set(states(february)) == {"sub-ada"}


def test_batches_go_on_where_the_last_one_ended(february: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling_out, "BATCH", 2)
    make(february)
    assert go_on(february).moved == 3
    assert take_back(february).taken_back == 3


def test_a_version_that_would_bill_usage_twice_is_skipped_with_the_reason(february: Company) -> None:
    february.sign("ada", "fee", subscription_id="sub-second", starts_on=date(2026, 2, 1))
    publish_version(february, "fee", {**FEE_ONLY, "items": [*FEE_ONLY["items"], TEAM["items"][2]]})  # type: ignore[index,misc]
    make(february, plan_id="fee", to_plan_id="fee")
    assert go_on(february).skipped == 1
    assert "billed twice" in why(february, "sub-second") and "sub-ada" in why(february, "sub-second")


def test_of_two_that_would_come_to_price_the_same_usage_one_moves(february: Company) -> None:
    february.customer("dan")
    for name in ("sub-one", "sub-two"):
        february.sign("dan", "fee", subscription_id=name, starts_on=date(2026, 2, 1))
    publish_version(february, "fee", {**FEE_ONLY, "items": [*FEE_ONLY["items"], TEAM["items"][2]]})  # type: ignore[index,misc]
    make(february, plan_id="fee", to_plan_id="fee")
    go_on(february)
    assert states(february) == {"sub-one": "moved", "sub-two": "skipped"}
    assert "billed twice" in why(february, "sub-two") and "sub-one" in why(february, "sub-two")


def test_what_others_price_is_read_once_for_a_batch(february: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(movable, "meterings", lambda *asked: read.append(asked[1]) or meterings(*asked))
    make(february, to_plan_id="bigger", to_version=1)
    hands(february).stage(NextBatch("r"))
    assert read == [["ada", "bob", "cy"]]


def test_another_plan_takes_over_and_gives_back(february: Company) -> None:
    make(february, to_plan_id="bigger", to_version=1)
    assert go_on(february).moved == 3
    assert versions(february, "sub-ada")[-1] == ("bigger", 1, TODAY)
    assert take_back(february).taken_back == 3
    assert versions(february, "sub-ada")[-1] == ("team", 1, TODAY)


def sold_on(company: Company, day: date) -> int:
    with transaction(company.engine) as session:
        return plan(session, "team", on=day).version


def test_new_customers_only_moves_nobody_and_sells_until_it_is_taken_back(february: Company) -> None:
    make(february, audience="new", on_day=date(2026, 2, 20))
    seen = go_on(february)
    assert seen == replace(seen, planned=0, held=0, moved=0) and states(february) == {}
    assert (sold_on(february, date(2026, 2, 19)), sold_on(february, date(2026, 2, 20))) == (1, 2)
    take_back(february)
    assert sold_on(february, date(2026, 2, 20)) == 1
    make(february, "again", audience="all", on_day=date(2026, 2, 20))
    go_on(february, "again")
    assert sold_on(february, date(2026, 2, 20)) == 2


def test_a_cohort_does_not_change_what_is_sold(february: Company) -> None:
    make(february, audience="cohort", customers=["ada"])
    assert sold_on(february, date(2026, 3, 1)) == 1


def test_who_would_be_moved_is_asked_without_storing(february: Company) -> None:
    row = make(february)
    before = february.counts(["rollout_member", "amendment"])
    with transaction(february.engine) as session:
        found = movable.movable(session, row, ["ada", "bob", "cy"], february.now())
    assert [one.judged.outcome for one in found if one.judged] == ["planned"] * 3
    assert february.counts(["rollout_member", "amendment"]) == before


def test_a_customers_own_price_stays_theirs(company: Company) -> None:
    """What is judged in sets is what the amendment does: the override is put into the new version too, and back."""
    company.customer("ada")
    own = PlanItem("base", "Base", Flat(Decimal(50)))
    with transaction(company.engine) as session:
        put_override(session, Override("own", "ada", "team", "EUR", date(2026, 1, 1), (own,)), company.now())
    company.sign("ada")
    company.live("2026-02-10")
    publish_version(company, "team", dearer("110"))
    make(company, guard_percent=Decimal(0), guard_action="refuse")
    assert go_on(company).moved == 1
    assert company.sql("select before_minor, after_minor from rollout_member") == [(6_000, 6_000)]
    take_back(company)
    stored = "select plan_version, extras -> 'override' ->> 'override_id' from subscription_terms order by version"
    assert company.sql(stored) == [(1, "own"), (2, "own"), (1, "own")]
    company.live("2026-03-02")
    assert [net for _, net in company.invoices()] == [6_000, 6_000, 6_000]
