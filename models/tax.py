"""The table of tax rates, by country and day."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from datetime import date
from decimal import Decimal
from pathlib import Path

from sqlmodel import Field, Session, SQLModel, col, select

from billing.errors import Fault, Refused
from billing.taxes import TaxRate
from models.database import cursor

SEED = Path(__file__).with_name("tax_rates.toml")


class TaxRateRow(SQLModel, table=True):
    """A country's standard rate in percent over a stretch of days."""

    __tablename__ = "tax_rate"
    country: str = Field(primary_key=True)
    valid_from: date = Field(primary_key=True)
    valid_until: date | None = None
    percent: Decimal
    source: str


def seed_rates() -> list[TaxRateRow]:
    """The standard rates that ship with Perennial, from `tax_rates.toml`."""
    content = tomllib.loads(SEED.read_text(), parse_float=Decimal)
    rows: list[TaxRateRow] = []
    for country, rates in content["standard"].items():
        starts = [date.fromisoformat(start) for start in rates]
        for start, until, percent in zip(starts, [*starts[1:], None], rates.values(), strict=True):
            rows.append(
                TaxRateRow(
                    country=country,
                    valid_from=start,
                    valid_until=until,
                    percent=Decimal(percent),
                    source=content["source"],
                )
            )
    return rows


def store_seed(session: Session) -> int:
    """Add the shipped rates that are not there yet; nothing that stands is changed. Returns how many were new."""
    rows = seed_rates()
    cur = cursor(session)
    cur.executemany(
        "insert into tax_rate (country, valid_from, valid_until, percent, source) values (%s, %s, %s, %s, %s)"
        " on conflict do nothing",
        [(r.country, r.valid_from, r.valid_until, r.percent, r.source) for r in rows],
    )
    return cur.rowcount


def rates(session: Session, countries: Collection[str]) -> tuple[TaxRate, ...]:
    found = cursor(session).execute(
        "select country, percent, valid_from, valid_until from tax_rate where country = any(%s)", (list(countries),)
    )
    return tuple(TaxRate(*row) for row in found)


def rate_rows(session: Session, country: str | None) -> list[TaxRateRow]:
    """The table, by country and first day."""
    query = select(TaxRateRow).order_by(col(TaxRateRow.country), col(TaxRateRow.valid_from))
    return list(session.exec(query if country is None else query.where(TaxRateRow.country == country)))


def add_rate(session: Session, row: TaxRateRow) -> TaxRateRow:
    """Add the newest rate of a country, ending the one before; refused if a rate from that day on stands already."""
    standing = rate_rows(session, row.country)
    same = next((r for r in standing if r.valid_from == row.valid_from), None)
    if same is not None and same.percent == row.percent:
        return same
    last = standing[-1] if standing else None
    if same is not None or (last is not None and last.valid_from >= row.valid_from):
        fault = Fault("valid_from", f"a rate of {row.country} stands from {standing[-1].valid_from} on")
        raise Refused(
            "Only a later rate can be added; what was invoiced at stays.",
            code="conflict",
            faults=[fault],
            remedy="Choose a later first day.",
        )
    if last is not None:
        last.valid_until = row.valid_from
        session.add(last)
    session.add(row)
    return row
