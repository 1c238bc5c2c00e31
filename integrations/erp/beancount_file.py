"""An ERP that is a folder of plain-text accounting: one beancount file for each entity and month.

Written for `bean-check` and Fava (beancount 3 syntax). A file appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import get_ident

from billing.chart import CHART
from billing.errors import Refused, Unavailable
from integrations.erp import JournalBatch, JournalEntry, Posted

_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class BeancountFile:
    """Keeps journals in `folder`, which is made when first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def post_journal(self, batch: JournalBatch) -> Posted:
        path = self._path(batch.external_id)
        content = render(batch).encode()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _write_once(path, content)
            standing = path.read_bytes()
        except OSError as error:
            raise Unavailable(f"The journal folder cannot be written: {error}") from error
        if standing != content:
            raise Refused(
                f"{path.name} holds another journal than the one to be posted.",
                code="erp_differs",
                remedy="Compare the file with the journal of the month; remove it if it is wrong, then resume.",
            )
        return Posted(path.name, _digest(content))

    def find(self, external_id: str) -> Posted | None:
        path = self._path(external_id)
        return Posted(path.name, _digest(path.read_bytes())) if path.exists() else None

    def _path(self, external_id: str) -> Path:
        if not _FILE_NAME.fullmatch(external_id):
            raise Refused(
                f"{external_id!r} cannot be the name of a file.",
                code="erp_reference",
                remedy="Use letters, digits, hyphens and underscores in the ids of legal entities.",
            )
        return self.folder / f"{external_id}.beancount"


def _write_once(path: Path, content: bytes) -> None:
    """The whole file or nothing; if somebody else has written it meanwhile, theirs stands."""
    fresh = path.with_suffix(f".{os.getpid()}-{get_ident()}.tmp")
    fresh.write_bytes(content)
    try:
        with suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def render(batch: JournalBatch) -> str:
    """The month as a beancount file that stands by itself: accounts are opened on the first of the month."""
    return "\n".join(_text(batch)) + "\n"


def _text(batch: JournalBatch) -> Iterator[str]:
    yield f";; {_plain(batch.entity_name)}: {batch.month:%B %Y}. Posted under {batch.external_id}."
    yield f'option "title" "{_plain(batch.entity_name)} {batch.month:%Y-%m}"'
    yield f'option "operating_currency" "{batch.currency}"'
    yield ""
    for number in sorted({line.account for entry in batch.entries for line in entry.lines}):
        yield f"{batch.month:%Y-%m-%d} open {_account(number)}"
    for entry in batch.entries:
        yield ""
        yield from _transaction(entry)


def _transaction(entry: JournalEntry) -> Iterator[str]:
    yield f'{entry.posted_on} * "{_plain(entry.description)}"'
    yield f'  entry: "{entry.entry_id}"'
    yield f'  cause: "{_plain(entry.cause)}"'
    for line in entry.lines:
        yield f"  {_account(line.account):<44} {line.debit.major:>16f} {line.debit.currency}"


def _account(number: str) -> str:
    account = CHART[number]
    return f"{account.of}:{number}-{account.name.replace(' ', '-').title()}"


def _plain(text: str) -> str:
    """Text that cannot end a string or a line: every line break and control character is a space."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return printable.replace("\\", "/").replace('"', "'")
