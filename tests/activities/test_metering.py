"""Room for events is made ahead, and for months of which many have come without."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.errors import LockNotAvailable
from temporalio.testing import ActivityEnvironment

import models.event_key
from activities.metering import ForgetNames, Forgotten, MakeMonths, Metering
from billing.period import month_of
from models.database import transaction
from models.discard import discard_named
from models.event import Event
from models.intake import receive, replay
from tests.activities.company import Company
from tests.activities.twice import twice

LONG_AGO = datetime(2019, 3, 31, 23, 59, 59, tzinfo=UTC)


@pytest.fixture
def metering(company: Company) -> Metering:
    company.customer("ada")
    return Metering(company.engine)


@pytest.fixture
def forgetful(metering: Metering) -> Metering:
    return Metering(metering.engine, timedelta(days=400))


def partitions(company: Company) -> list[str]:
    """Those of months, in order."""
    found = company.sql(
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'usage_event'::regclass order by 1"
    )
    return [name for (name,) in found if name != "usage_event_other"]


def use(company: Company, events: int, at: datetime) -> None:
    with transaction(company.engine) as session:
        some = [Event("s", f"{at} {no}", "ada", "llm", at + timedelta(seconds=no), {"n": 1}) for no in range(events)]
        assert {outcome.kind for outcome in receive(session, some)} == {"accepted"}


def where(company: Company) -> dict[str, int]:
    """How many events lie in which table."""
    return dict(company.sql("select tableoid::regclass::text, count(*)::int from usage_event group by 1"))


def test_the_months_around_this_one_are_made_once(company: Company, metering: Metering) -> None:
    start = month_of(datetime.now(UTC).date())
    days = [start.start - timedelta(days=1), start.start, start.end, start.end + timedelta(days=40)]
    assert twice(company, metering.make_months, MakeMonths()) == month_of(days[-1]).end
    assert partitions(company) == sorted(f"usage_event_{day:%Y_%m}" for day in days)
    use(company, 3, datetime.now(UTC))
    assert where(company) == {f"usage_event_{start.start:%Y_%m}": 3}


def test_a_month_of_which_many_have_come_gets_its_partition(company: Company, metering: Metering) -> None:
    """Of April there is one, of March as many as may be, and then one more."""
    use(company, 2, LONG_AGO)
    use(company, 2, LONG_AGO.replace(day=1))
    company_may = MakeMonths(ahead=0, most=3)
    twice(company, metering.make_months, company_may)
    assert where(company) == {"usage_event_other": 4}
    use(company, 1, LONG_AGO.replace(day=7))
    twice(company, metering.make_months, company_may)
    assert where(company) == {"usage_event_2019_03": 4, "usage_event_other": 1}
    [(folded,)] = company.sql("select sum(events)::int from usage_total where customer_id = 'ada'")
    assert folded == 5


def test_while_somebody_reads_for_long_nothing_is_made_and_events_still_come(
    company: Company, metering: Metering
) -> None:
    use(company, 2, LONG_AGO)
    with transaction(company.engine) as reader:
        reader.connection().exec_driver_sql("select from usage_event_other")
        with pytest.raises(LockNotAvailable):
            ActivityEnvironment().run(metering.make_months, MakeMonths())
        use(company, 1, LONG_AGO.replace(day=9))
    assert partitions(company) == []
    ActivityEnvironment().run(metering.make_months, MakeMonths(most=1))
    assert len(partitions(company)) == 5
    assert where(company) == {"usage_event_2019_03": 2, "usage_event_other": 1}


def months_apart(company: Company) -> dict[str, datetime]:
    """An event that lies in no month any more, one whose month is there, one that lies elsewhere, one of today."""
    gone, there, elsewhere = (LONG_AGO.replace(month=month, day=7) for month in (3, 5, 7))
    times = {"gone": gone, "there": there, "elsewhere": elsewhere, "today": datetime.now(UTC)}
    for month in (gone, there, times["today"]):
        company.sql("select make_usage_month(%s)", month.date())
    for at in times.values():
        use(company, 2, at)
    assert company.sql("select take_usage_month('2019-03-01')") == [(True,)]
    return times


def again(company: Company, at: datetime) -> str:
    with transaction(company.engine) as session:
        (outcome,) = receive(session, [Event("s", f"{at} 0", "ada", "llm", at, {"n": 1})])
    return outcome.kind


def test_names_are_known_for_ever_unless_an_end_is_set(company: Company, metering: Metering) -> None:
    times = months_apart(company)
    assert twice(company, metering.forget_names, ForgetNames()) == Forgotten(0)
    assert {again(company, at) for at in times.values()} == {"duplicate"}


def test_names_are_forgotten_after_so_long_if_no_event_of_their_month_is_there(
    company: Company, forgetful: Metering
) -> None:
    times = months_apart(company)
    assert ActivityEnvironment().run(forgetful.forget_names, ForgetNames()) == Forgotten(2)
    assert ActivityEnvironment().run(forgetful.forget_names, ForgetNames()) == Forgotten(0)
    found = {name: again(company, at) for name, at in times.items()}
    assert found == {"gone": "accepted", "there": "duplicate", "elsewhere": "duplicate", "today": "duplicate"}
    # Its month is not empty any more, so its new name stays.
    assert ActivityEnvironment().run(forgetful.forget_names, ForgetNames()) == Forgotten(0)


def test_what_is_not_longer_ago_stays_known(company: Company, metering: Metering) -> None:
    times = months_apart(company)
    patient = Metering(company.engine, datetime.now(UTC) - times["gone"] + timedelta(minutes=1))
    assert ActivityEnvironment().run(patient.forget_names, ForgetNames()) == Forgotten(0)
    assert again(company, times["gone"]) == "duplicate"


def test_a_long_table_of_names_is_gone_through_in_steps(company: Company, forgetful: Metering) -> None:
    months_apart(company)
    company.sql(
        "insert into usage_key select gen_random_uuid(), 1, '2019-03-05' from generate_series(1, 20000)"
    )  # Some 150 pages.
    steps = [Forgotten(0, 0)]
    while (page := steps[-1].page) is not None:
        steps.append(ActivityEnvironment().run(forgetful.forget_names, ForgetNames(page, at_a_time=40)))
    assert sum(step.names for step in steps) == 20_002
    assert [step.page for step in steps[:4]] == [0, 40, 80, 120]
    assert all(step.names > 4_000 for step in steps[1:4])


def test_of_an_event_that_comes_while_names_are_forgotten_the_name_stays(company: Company, forgetful: Metering) -> None:
    """It comes for a month that is gone: its name is entered and its event stored while the other looks."""
    late = months_apart(company)["gone"].replace(day=2)
    with transaction(company.engine) as sender:
        receive(sender, [Event("s", "late", "ada", "llm", late, {"n": 1})])
        assert ActivityEnvironment().run(forgetful.forget_names, ForgetNames()) == Forgotten(2)
    assert company.sql(
        "select count(*)::int from usage_event e join usage_key k on k.key = usage_key_of(e.source, e.id)"
        " where e.id = 'late'"
    ) == [(1,)]


def test_a_name_that_is_forgotten_while_it_is_looked_up_is_entered_again(
    company: Company, forgetful: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when it was to be entered, and is not when its content is asked for."""
    gone, look_up = months_apart(company)["gone"], models.event_key.contents_of

    def forgotten_before(*asked: Any) -> dict[str, int]:
        ActivityEnvironment().run(forgetful.forget_names, ForgetNames())
        return look_up(*asked)

    monkeypatch.setattr(models.event_key, "contents_of", forgotten_before)
    assert again(company, gone) == "accepted"
    assert again(company, gone) == "duplicate"


def test_names_of_void_events_stay_taken(company: Company, forgetful: Metering) -> None:
    """Void is told by the name: another event under it would be void too, and its totals would not."""
    times = months_apart(company)
    company.sql(
        "insert into usage_void (source, id, customer_id, type, day, reason, by_key)"
        " select 's', %s, 'ada', 'llm', '2019-03-07', 'wrong', 'key'",
        f"{times['gone']} 0",
    )
    assert ActivityEnvironment().run(forgetful.forget_names, ForgetNames()) == Forgotten(1)
    assert again(company, times["gone"]) == "duplicate"


def test_what_waited_once_is_forgotten_with_its_name(company: Company, forgetful: Metering) -> None:
    """Else it would be known as long as it waits again, and would never count."""
    gone = LONG_AGO.replace(day=7)
    stranger = Event("s", "1", "later", "llm", gone, {"n": 1})

    def sent() -> str:
        with transaction(company.engine) as session:
            return receive(session, [stranger])[0].kind

    assert sent() == "quarantined"
    company.customer("later")
    with transaction(company.engine) as session:
        assert [outcome.kind for outcome in replay(session, None, 10)] == ["accepted"]
    company.sql("select make_usage_month('2019-03-01')")
    company.sql("select take_usage_month('2019-03-01')")
    assert sent() == "duplicate"
    assert ActivityEnvironment().run(forgetful.forget_names, ForgetNames()) == Forgotten(1)
    assert company.sql("select * from usage_quarantine") == []
    assert sent() == "accepted"


def test_names_of_discarded_events_stay_taken(company: Company, forgetful: Metering) -> None:
    """With the name forgotten, what comes again with `whatever_time` would count."""
    stranger = Event("s", "1", "later", "llm", LONG_AGO.replace(day=7), {"n": 1})

    def sent() -> str:
        with transaction(company.engine) as session:
            return receive(session, [stranger])[0].kind

    assert sent() == "quarantined"
    with transaction(company.engine) as session:
        assert discard_named(session, [("s", "1")], "junk", "key") == 1
    company.sql("select make_usage_month('2019-03-01')")
    company.sql("select take_usage_month('2019-03-01')")
    company.customer("later")
    assert ActivityEnvironment().run(forgetful.forget_names, ForgetNames()).names == 0
    assert sent() == "duplicate"
