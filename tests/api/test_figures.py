"""Figures are open to whoever reaches the port, and nobody can make the database count at will."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine, event

import api.backlog
from api.backlog import Backlog
from api.observed import METHODS
from models.database import cursor, transaction
from tests.api.conftest import Front

pytestmark = pytest.mark.anyio


def shown() -> float | None:
    return REGISTRY.get_sample_value("perennial_backlog", {"kind": "tasks"})


async def test_what_waits_is_counted_once_for_all_who_ask(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[object] = []
    event.listen(engine, "checkout", lambda *connection: counts.append(connection))
    kept = Backlog(engine)
    await asyncio.gather(*(kept.bring_up_to_date() for _ in range(20)))
    assert (len(counts), shown()) == (1, 0)
    with transaction(engine) as session:
        cursor(session).execute(
            "insert into task (id, kind, subject, reason, remedy, opened_at) values ('t', 'deal', 's', '', '', now())"
        )
    counts.clear()
    await kept.bring_up_to_date()
    assert (len(counts), shown()) == (0, 0)
    monkeypatch.setattr(api.backlog, "SECONDS_KEPT", 0.0)
    await kept.bring_up_to_date()
    assert (len(counts), shown()) == (1, 1)


async def test_a_count_that_fails_is_not_kept(engine: Engine) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionError("no database")

    kept = Backlog(engine)
    event.listen(engine, "checkout", refuse)
    with pytest.raises(ConnectionError):
        await kept.bring_up_to_date()
    event.remove(engine, "checkout", refuse)
    await kept.bring_up_to_date()
    assert shown() == 0


async def test_figures_need_no_key_and_the_document_has_the_package_s_version(front: Front) -> None:
    answer = await front.api.get("/metrics", headers={"Authorization": ""})
    assert answer.status_code == 200 and 'perennial_backlog{kind="tasks"}' in answer.text
    assert (await front.api.get("/openapi.json")).json()["info"]["version"] == version("perennial")


async def test_a_caller_s_own_methods_have_no_figures_of_their_own(front: Front) -> None:
    labels = {"route": "unmatched", "status": "404"}
    for method in ("BREW", "WHEN"):
        await front.api.request(method, "/nowhere")
    assert (REGISTRY.get_sample_value("perennial_http_seconds_count", {"method": "other", **labels}) or 0) >= 2
    methods = {
        sample.labels["method"] for found in REGISTRY.collect() for sample in found.samples if "route" in sample.labels
    }
    assert methods <= METHODS | {"other"}
