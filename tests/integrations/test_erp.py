"""What every ERP must do, tried over every entry of the registry and the pretended one; then what only one has."""

from __future__ import annotations

import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pytest
from beancount import loader
from beancount.core.data import Transaction

from billing.chart import CHART
from billing.errors import Refused, Unavailable
from billing.money import Money
from integrations.erp import Erp, JournalBatch, JournalEntry, JournalLine
from integrations.erp.beancount_file import BeancountFile, render
from integrations.erp.pretend import PretendErp
from integrations.erp.registry import ERPS, open_erp

HOSTILE = 'He said "12%"; \\" * \\\\ ^link #tag\n2026-01-05 * "stolen"\r\n  Assets:1000-Cash-At-Bank  1.00 EUR\t€ 漢字'


def entry(
    key: str, day: int, *lines: tuple[str, int], currency: str = "EUR", said: str = "Invoice issued"
) -> JournalEntry:
    postings = tuple(JournalLine(account, Money(minor, currency)) for account, minor in lines)
    return JournalEntry(f"je_{key}", date(2026, 1, day), said, f"invoice inv_{key}", postings)


JANUARY = JournalBatch(
    external_id="ent_1-2026-01",
    entity_id="ent_1",
    entity_name="Perennial GmbH",
    month=date(2026, 1, 1),
    currency="EUR",
    entries=(
        entry("a", 1, ("1100", 1428_00), ("1200", -1200_00), ("2400", -228_00)),
        entry("b", 31, ("1200", 151_92), ("4000", -101_92), ("4010", -50_00), said="Revenue recognised"),
    ),
)


class Stand(ABC):
    """An ERP, a second connection to the same one, and a way to lose an answer."""

    erp: Erp

    @abstractmethod
    def again(self) -> Erp: ...
    @abstractmethod
    def held(self) -> list[str]:
        """Our references of all journals that it holds."""

    @abstractmethod
    def lose_answer(self, batch: JournalBatch) -> None:
        """Post, and let the answer be lost on its way back."""


class PretendStand(Stand):
    def __init__(self, folder: Path) -> None:
        self.erp = self.pretend = PretendErp()

    def again(self) -> Erp:
        return self.pretend

    def held(self) -> list[str]:
        return list(self.pretend.journals)

    def lose_answer(self, batch: JournalBatch) -> None:
        self.pretend.lose_answer()
        with pytest.raises(Unavailable):
            self.erp.post_journal(batch)


@dataclass(frozen=True, slots=True)
class FolderSettings:
    erp_folder: Path


class BeancountStand(Stand):
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "books" / "2026"
        self.erp = self.again()

    def again(self) -> Erp:
        return open_erp("beancount-file", FolderSettings(self.folder))

    def held(self) -> list[str]:
        return [path.name.removesuffix(".beancount") for path in self.folder.iterdir()] if self.folder.exists() else []

    def lose_answer(self, batch: JournalBatch) -> None:
        """A file gives no answer that could be lost on a wire: whoever asked goes down after the file was written."""
        self.again().post_journal(batch)


STANDS: Mapping[str, Callable[[Path], Stand]] = {"pretend": PretendStand, "beancount-file": BeancountStand}


@pytest.fixture(params=[*sorted(ERPS), "pretend"])
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Stand:
    """A registered ERP without a stand here fails: it would be one that nobody has tried."""
    return STANDS[request.param](tmp_path)


def test_a_journal_goes_in_once(stand: Stand) -> None:
    assert stand.erp.find(JANUARY.external_id) is None
    posted = stand.erp.post_journal(JANUARY)
    assert posted.reference
    assert stand.erp.post_journal(JANUARY) == stand.again().post_journal(JANUARY) == posted
    assert stand.erp.find(JANUARY.external_id) == stand.again().find(JANUARY.external_id) == posted
    assert stand.held() == [JANUARY.external_id]


def test_another_journal_under_the_same_reference_is_refused(stand: Stand) -> None:
    posted = stand.erp.post_journal(JANUARY)
    changed = replace(
        JANUARY.entries[0], lines=(*JANUARY.entries[0].lines[:2], JournalLine("4020", Money(-228_00, "EUR")))
    )
    for other in (
        replace(JANUARY, entries=(changed, *JANUARY.entries[1:])),
        replace(JANUARY, entries=JANUARY.entries[:1]),
        replace(JANUARY, entries=(*JANUARY.entries, entry("c", 7, ("1000", 1), ("2400", -1)))),
        replace(JANUARY, currency="USD"),
    ):
        with pytest.raises(Refused) as refused:
            stand.again().post_journal(other)
        assert refused.value.code == "erp_differs"
    assert stand.erp.find(JANUARY.external_id) == posted
    assert stand.erp.post_journal(JANUARY) == posted


def test_a_lost_answer_is_asked_for_again(stand: Stand) -> None:
    stand.lose_answer(JANUARY)
    found = stand.again().find(JANUARY.external_id)
    assert found is not None
    assert stand.again().post_journal(JANUARY) == found
    assert stand.held() == [JANUARY.external_id]


def test_each_entity_and_month_has_its_own(stand: Stand) -> None:
    february = replace(JANUARY, external_id="ent_1-2026-02", month=date(2026, 2, 1), entries=())
    other = replace(JANUARY, external_id="ent_2-2026-01", entity_id="ent_2")
    references = {stand.erp.post_journal(batch).reference for batch in (JANUARY, february, other)}
    assert len(references) == 3
    assert sorted(stand.held()) == ["ent_1-2026-01", "ent_1-2026-02", "ent_2-2026-01"]


# What only the registry has.


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        open_erp("sap", FolderSettings(tmp_path))
    assert (refused.value.code, "beancount-file" in refused.value.remedy) == ("erp_settings", True)


# What only the folder of plain text has. Beancount itself says whether a file is sound.


def bean_check(path: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("bean-check")
    return subprocess.run([program, "--no-cache", path], capture_output=True, text=True, timeout=60, check=False)


def file_of(folder: Path, batch: JournalBatch) -> Path:
    return folder / BeancountFile(folder).post_journal(batch).reference


def test_beancount_accepts_the_file(tmp_path: Path) -> None:
    path = file_of(tmp_path, JANUARY)
    checked = bean_check(path)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    assert "1428.00 EUR" in path.read_text()


@pytest.mark.parametrize(
    ("line", "tampered"),
    [
        ("1428.00 EUR", "1428.01 EUR"),
        ("-228.00 EUR", "228.00 EUR"),
        ("-50.00 EUR", "-50.00 USD"),
        ("2026-01-01 open Liabilities:2400-Tax-Payable", ""),
    ],
)
def test_beancount_refuses_the_file_when_one_line_is_tampered_with(tmp_path: Path, line: str, tampered: str) -> None:
    path = file_of(tmp_path, JANUARY)
    text = path.read_text()
    assert text.count(line) == 1
    path.write_text(text.replace(line, tampered))
    assert bean_check(path).returncode != 0
    with pytest.raises(Refused, match="another journal"):
        BeancountFile(tmp_path).post_journal(JANUARY)


def test_beancount_accepts_every_account_and_currency(tmp_path: Path) -> None:
    accounts = [(number, 10 * n) for n, number in enumerate(sorted(CHART), 1)]
    rest = ("1000", -sum(minor for _, minor in accounts))
    entries = tuple(
        entry(currency, 5, *accounts, rest, currency=currency) for currency in ("EUR", "JPY", "KWD", "IQD", "USD")
    )
    big = entry("big", 31, ("1100", 10**17 + 1), ("1200", -(10**17) - 1))
    checked = bean_check(file_of(tmp_path, replace(JANUARY, entries=(*entries, big))))
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_month_without_entries_is_a_file_too(tmp_path: Path) -> None:
    assert bean_check(file_of(tmp_path, replace(JANUARY, entries=()))).returncode == 0


@pytest.mark.parametrize(
    "text", [HOSTILE, '"', "\\", "a\\", 'a\\"', "a\nb", "a\r\nb", "a\rb", "a\u2028b", "", "\x00\x1b[2J"]
)
def test_hostile_words_stay_words(tmp_path: Path, text: str) -> None:
    first = replace(JANUARY.entries[0], description=text, cause=text)
    batch = replace(JANUARY, entity_name=text, entries=(first, *JANUARY.entries[1:]))
    path = file_of(tmp_path, batch)
    checked = bean_check(path)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    directives, errors, _ = loader.load_string(path.read_bytes().decode())
    assert errors == []
    assert len([d for d in directives if isinstance(d, Transaction)]) == 2
    assert BeancountFile(tmp_path).post_journal(batch).reference == path.name
    assert BeancountFile(tmp_path).find(batch.external_id) is not None


def test_a_reference_cannot_leave_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    for reference in ("../outside", "a/b", "/etc/passwd", "..", "", "a\x00b"):
        with pytest.raises(Refused):
            BeancountFile(folder).post_journal(replace(JANUARY, external_id=reference))
        with pytest.raises(Refused):
            BeancountFile(folder).find(reference)
    assert not list(tmp_path.rglob("*.beancount"))


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(Unavailable):
        BeancountFile(tmp_path / "file" / "books").post_journal(JANUARY)


def test_the_text_is_the_same_every_time() -> None:
    assert render(JANUARY) == render(replace(JANUARY))
    assert render(JANUARY).count("\n\n") == len(JANUARY.entries) + 1
