"""Room for events is made ahead, and for months of which many have come without."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from psycopg.errors import LockNotAvailable
from temporalio.testing import ActivityEnvironment

from activities.metering import MakeMonths, Metering
from billing.period import month_of
from models.database import transaction
from models.event import Event
from models.intake import receive
from tests.activities.company import Company
from tests.activities.twice import twice

LONG_AGO = datetime(2019, 3, 31, 23, 59, 59, tzinfo=UTC)


@pytest.fixture
def metering(company: Company) -> Metering:
    company.customer("ada")
    return Metering(company.engine)


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
