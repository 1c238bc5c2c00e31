"""Day and hour on customers' clocks, which are looked up by quarters of an hour."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest

from billing.folding import Clocks
from billing.period import local_day, local_window

QUARTER = timedelta(minutes=15)


def settings(where: ZoneInfo, since: datetime, until: datetime) -> list[datetime]:
    """The moments at which its clocks are set, to the second; of what is undone within a week, maybe none."""
    found: list[datetime] = []
    early, week = since, timedelta(days=7)
    while early < until:
        late = early + week
        if early.astimezone(where).utcoffset() != late.astimezone(where).utcoffset():
            low, high = early, late
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // timedelta(seconds=2) * timedelta(seconds=1)
                if low.astimezone(where).utcoffset() == middle.astimezone(where).utcoffset():
                    low = middle
                else:
                    high = middle
            found.append(high)
        early = late
    return found


def test_day_and_hour_are_exact_around_each_moment_at_which_clocks_are_set() -> None:
    dice, many = random.Random(1), 0
    names = [*dice.sample(sorted(available_timezones()), 60), "Antarctica/Casey", "America/St_Johns", "Africa/Monrovia"]
    for where in map(ZoneInfo, names):
        clocks = Clocks()
        for moment in settings(where, datetime(1970, 1, 8, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)):
            near = [moment + timedelta(seconds=seconds) for seconds in (-1000, -840, -61, -1, 0, 30, 59, 60, 840, 1000)]
            for one in dice.sample(near, len(near)):
                many += 1
                expected = local_day(one, where), local_window(one, where, 60)
                assert clocks.day_and_hour(where, one) == expected, (where, one)
    assert many > 10_000


@pytest.mark.parametrize(
    ("name", "moment", "day"),
    [
        # Set back at 00:01, to 23:01 of the day before: this quarter began on the day after.
        ("America/St_Johns", datetime(2010, 11, 7, 2, 35, tzinfo=UTC), date(2010, 11, 6)),
        ("Africa/Monrovia", datetime(1971, 6, 1, 0, 44, 40, tzinfo=UTC), date(1971, 6, 1)),
        ("Africa/Monrovia", datetime(1971, 6, 1, 0, 44, 20, tzinfo=UTC), date(1971, 5, 31)),
        ("Asia/Kathmandu", datetime(2026, 3, 1, 18, 20, tzinfo=UTC), date(2026, 3, 2)),
        ("Asia/Kathmandu", datetime(2026, 3, 1, 18, 10, tzinfo=UTC), date(2026, 3, 1)),
    ],
)
def test_whoever_came_before_in_the_same_quarter_does_not_matter(name: str, moment: datetime, day: date) -> None:
    where, clocks = ZoneInfo(name), Clocks()
    start = moment - timedelta(minutes=moment.minute % 15, seconds=moment.second)
    for one in (start, moment, start + QUARTER - timedelta(seconds=1), moment):
        assert clocks.day_and_hour(where, one) == (local_day(one, where), local_window(one, where, 60))
    assert clocks.day_and_hour(where, moment)[0] == day
