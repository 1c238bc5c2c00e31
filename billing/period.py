"""Periods: half-open stretches of local days, anchored so that the 31st comes back after February.

Dates here are days in the customer's time zone. `instant` and `local_day` are the only passage to points in time.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from billing.errors import Broken, Fault, Refused

Unit = Literal["day", "week", "month", "quarter", "year"]
_MONTHS: dict[Unit, int] = {"month": 1, "quarter": 3, "year": 12}
_DAYS: dict[Unit, int] = {"day": 1, "week": 7}


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """Days from `start` up to but not including `end`."""

    start: date
    end: date

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise Broken(f"period ends before it starts: {self.start} to {self.end}")

    def __contains__(self, day: date) -> bool:
        return self.start <= day < self.end

    def __str__(self) -> str:
        return f"{self.start} to {self.end - timedelta(days=1)}" if self.days else f"nothing at {self.start}"

    @property
    def days(self) -> int:
        return (self.end - self.start).days

    def overlap(self, other: Period) -> Period:
        """The days in both; empty (start equals end) if there are none."""
        start = max(self.start, other.start)
        return Period(start, max(start, min(self.end, other.end)))

    def share_of(self, whole: Period) -> Fraction:
        """This period's days over the real days of `whole`: 16/31."""
        return Fraction(self.days, whole.days)


@dataclass(frozen=True, slots=True)
class Interval:
    """How often: `Interval('month', 3)` is every three months."""

    unit: Unit = "month"
    count: int = 1

    def start(self, anchor: date, n: int) -> date:
        """The start of the n-th period, computed from the anchor and never from the last period.

        An anchor on day 29-31 falls on the last day of shorter months and comes back afterwards.
        """
        if self.unit in _DAYS:
            return anchor + timedelta(days=_DAYS[self.unit] * self.count * n)
        months = anchor.year * 12 + anchor.month - 1 + _MONTHS[self.unit] * self.count * n
        year, month = divmod(months, 12)
        last = 28 if anchor.day <= 28 else calendar.monthrange(year, month + 1)[1]
        return date(year, month + 1, min(anchor.day, last))

    def period_at(self, anchor: date, day: date) -> Period:
        """The anchored period that contains `day`."""
        n = self.number(anchor, day)
        return Period(self.start(anchor, n), self.start(anchor, n + 1))

    def number(self, anchor: date, day: date) -> int:
        """Which period contains `day`, counted from 0 at the anchor; below zero before it."""
        if self.unit in _DAYS:
            n = (day - anchor).days // (_DAYS[self.unit] * self.count)
        else:
            months = (day.year - anchor.year) * 12 + day.month - anchor.month
            n = months // (_MONTHS[self.unit] * self.count)
        return n - 1 if self.start(anchor, n) > day else n


def days_between(since: date, until: date) -> Period:
    """The days that somebody asks for; refused if there are none."""
    refuse_empty(since, until)
    return Period(since, until)


def refuse_empty(start: date, end: date, names: tuple[str, str] = ("since", "until")) -> None:
    """Refused if a range of days, or of moments, that somebody asks for by those names holds nothing."""
    if fault := emptiness(start, end, names):
        raise Refused(
            "The range holds nothing: it ends where it begins, or before.",
            code="invalid_request",
            faults=[fault],
            remedy=f"Give a later `{names[1]}`, or an earlier `{names[0]}`.",
        )


def emptiness(start: date, end: date, names: tuple[str, str] = ("since", "until")) -> Fault | None:
    """What is wrong with a range that holds nothing; None of one that holds something."""
    if start < end:
        return None
    what = "moment" if isinstance(end, datetime) else "day"
    return Fault(names[1], f"must be a later {what} than `{names[0]}`; it is not itself part of the range")


def month_of(day: date) -> Period:
    """The calendar month that contains `day`."""
    return Interval("month").period_at(day.replace(day=1), day)


@cache
def zone(name: str) -> ZoneInfo:
    """The IANA time zone of that name; refused if there is none. Looked up once: listing all zones takes long."""
    if name not in available_timezones():
        raise Refused(
            f"{name!r} is not a time zone.",
            code="unknown_time_zone",
            remedy="Use a name of the IANA database, such as Europe/Berlin.",
        )
    return ZoneInfo(name)


def instant(day: date, where: ZoneInfo) -> datetime:
    """The moment at which `day` begins there, in UTC. With daylight saving, a day may have 23 or 25 hours."""
    return datetime.combine(day, time(), tzinfo=where).astimezone(UTC)


def local_day(moment: datetime, where: ZoneInfo) -> date:
    """The day it is there at `moment`, which must carry a zone."""
    if moment.tzinfo is None:
        raise Broken(f"a moment without a time zone: {moment}")
    return moment.astimezone(where).date()


def local_window(moment: datetime, where: ZoneInfo, minutes: int) -> datetime:
    """The start, in UTC, of the hour (60) or minute (1) of the clock there in which `moment` lies.

    In the night in which clocks go back, the repeated hour is an hour of its own. Where they are set by half an hour,
    as on Lord Howe Island, so is the half that is repeated or left over.
    """
    local = moment.astimezone(where)
    past = timedelta(minutes=local.minute % minutes, seconds=local.second, microseconds=local.microsecond)
    start = (moment - past).astimezone(UTC)
    if minutes > 1:
        while start < moment and start.astimezone(where).utcoffset() != local.utcoffset():
            start += timedelta(minutes=1)  # By another offset it is another hour: this one began when clocks were set.
    return start
