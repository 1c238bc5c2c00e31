"""A dump restored on another server: it is noticed, what to do is said, and then late usage and proofs are right."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from billing.errors import Refused
from integrations.erp.pretend import PretendErp
from integrations.payments.pretend import PretendGateway
from models.database import open_engine, transaction
from models.home import is_at_home
from models.migrations import migrate
from models.tax import store_seed
from sandbox.postgres import Postgres
from tests.activities.company import Company
from tests.activities.test_usage_proof import proofs, said


@pytest.fixture
def restored(tmp_path: Path) -> Iterator[tuple[Postgres, Engine]]:
    """A server, and on it what was billed on another one, whose numbers of transactions are far ahead."""
    with Postgres(tmp_path / "old") as old:
        later(old, 3)
        founded(old.create_database("perennial"))
        dump = tmp_path / "dump"
        subprocess.run([old.programs / "pg_dump", "-Fc", "-f", dump, old.url("perennial")], check=True)
    with Postgres(tmp_path / "new") as new:
        url = new.create_database("perennial")
        subprocess.run([new.programs / "pg_restore", "--exit-on-error", "-d", url, dump], check=True)
        engine = open_engine(url, pool=2)
        yield new, engine
        engine.dispose()


def later(server: Postgres, epoch: int) -> None:
    """As after so many times 2^32 transactions."""
    server.stop()
    owner = server.data.stat() if os.geteuid() == 0 else None
    subprocess.run(
        [server.programs / "pg_resetwal", f"--epoch={epoch}", server.data],
        check=True,
        user=owner and owner.st_uid,
        stdout=subprocess.DEVNULL,
    )
    server.start()


def founded(url: str) -> None:
    """Anna's January, billed."""
    migrate(url)
    engine = open_engine(url, pool=2)
    with transaction(engine) as session:
        store_seed(session)
    company = Company.founded(engine)
    company.customer("anna")
    company.sign("anna", "usage")
    company.use("anna", "2026-01-10", 1_000_000, "one")
    company.live("2026-02-02")
    engine.dispose()


def test_a_dump_that_is_restored_on_another_server(restored: tuple[Postgres, Engine]) -> None:
    server, engine = restored
    url = server.url("perennial")
    with transaction(engine) as session:
        assert not is_at_home(session)
    with pytest.raises(Refused) as refused:
        migrate(url)
    engine.dispose()
    [epoch] = re.findall("--epoch=([0-9]+)", refused.value.remedy)
    later(server, int(epoch))
    migrate(url)
    migrate(url)
    with transaction(engine) as session:
        assert is_at_home(session)
    company = Company(engine, PretendGateway(), PretendErp())
    company.use("anna", "2026-01-11", 500_000, "late")
    assert [said(one) for one in proofs(company)] == [("holds", 1, 2, {"came": 1})]
    company.live("2026-03-02")
    late = "select sum(quantity)::int from invoice_line where kind = 'late_usage'"
    assert company.sql(late) == [(500_000,)]
    assert {one.verdict for one in proofs(company)} == {"holds"}
