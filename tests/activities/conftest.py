"""The company that these tests are about, in a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from tests.activities.company import Company
from tests.activities.launching import dearer, publish_version


@pytest.fixture
def company(engine: Engine) -> Company:
    return Company.founded(engine)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def february(company: Company) -> Company:
    """Ada, Bob and Cy since January, billed up to February; `team` version 2 has a fee of 110 and is not sold yet."""
    for name in ("ada", "bob", "cy"):
        company.customer(name)
        company.sign(name)
    company.use("bob", "2026-01-20", 100_000)
    company.live("2026-02-10")
    publish_version(company, "team", dearer("110"))
    return company
