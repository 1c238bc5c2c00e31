"""The door to accounting systems: a month's journal goes in once, under our reference."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Protocol

from billing.money import Money


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One posting. `debit` is positive for a debit, negative for a credit."""

    account: str
    debit: Money


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A balanced entry as the ERP is to show it."""

    entry_id: str
    posted_on: date
    description: str
    cause: str
    lines: tuple[JournalLine, ...]


@dataclass(frozen=True, slots=True)
class JournalBatch:
    """A month of one legal entity. `external_id` is our reference and the idempotency key."""

    external_id: str
    entity_id: str
    entity_name: str
    month: date
    currency: str
    entries: tuple[JournalEntry, ...]


@dataclass(frozen=True, slots=True)
class Posted:
    """The ERP has it. `reference` is the ERP's own name for it, `digest` what it holds, as far as it can tell."""

    reference: str
    digest: str


class Erp(Protocol):
    """One accounting system. Down or slow raises `Unavailable`; a closed period or a wrong account `Refused`."""

    def post_journal(self, batch: JournalBatch) -> Posted:
        """Post once: the same batch again gives the first answer; another one under the same id is Refused."""

    def find(self, external_id: str) -> Posted | None:
        """What stands there under our reference; asked before anything is sent again."""
