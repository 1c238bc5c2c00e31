"""Seller and buyer as documents print them. Each change is a new version, and what is issued keeps the one it has."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlmodel import SQLModel

from models.values import moment


class Party(SQLModel):
    """What documents print of a seller or buyer; `country` is ISO 3166-1 alpha-2."""

    name: str
    email: str
    country: str
    address: str
    vat_id: str | None = None


class PartyVersion(Party):
    """The same from `since` on, and by whose key; `by_key` is None where no key of the API did it."""

    since: datetime = moment()
    by_key: str | None = None


class _Versioned(Protocol):
    version: int


def version_of(row: _Versioned, by_key: str | None) -> dict[str, Any]:
    """The columns of a `PartyVersion`, of a party as it is now."""
    printed = {name: getattr(row, name) for name in Party.model_fields}
    return {**printed, "version": row.version, "since": datetime.now(UTC), "by_key": by_key}


def change(row: _Versioned, wanted: Mapping[str, object]) -> set[str]:
    """Give a party what is wanted, and say what of that is new; it is another version if documents print any of it."""
    new = {name for name, value in wanted.items() if getattr(row, name) != value}
    for name in new:
        setattr(row, name, wanted[name])
    if new & Party.model_fields.keys():
        row.version += 1
    return new
