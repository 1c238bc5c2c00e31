"""Every route asks for a key, with the scope it names; what is secret is never said again."""

from __future__ import annotations

import base64
import logging
from typing import Any

import pytest
import structlog
from fastapi import FastAPI

from tests.api.conftest import Front, problem
from tests.conftest import application

pytestmark = pytest.mark.anyio

# Routes that answer without a key, each for a reason. A new route belongs here only with one.
OPEN = {
    "/": "leads to the console",
    "/healthz": "the process is alive",
    "/readyz": "the process can work",
    "/metrics": "figures for the operator's own network",
    "/webhooks/{gateway}": "the gateway signs",
    "/docs": "the reference",
    "/openapi.json": "the reference",
    "/v1/schemas/{name}.json": "editors fetch it, and the reference says no less",
}
FILLED = {"month": "2026-01", "gateway": "pretend"}


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Every (method, path) of the application, however it got there, documented or not."""
    found: set[tuple[str, str]] = set()

    def walk(nodes: Any) -> None:
        for node in nodes:
            if hasattr(node, "original_router"):
                walk(node.original_router.routes)
            elif hasattr(node, "path"):
                found.update(
                    (m, node.path) for m in getattr(node, "methods", None) or () if m not in ("HEAD", "OPTIONS")
                )

    walk(app.routes)
    return sorted(found)


ALL = routes(application())
GUARDED = [(method, path) for method, path in ALL if path not in OPEN]


def filled(path: str) -> str:
    return "/".join(FILLED.get(p.strip("{}"), "x1") if p.startswith("{") else p for p in path.split("/"))


def test_all_routes_are_found_by_both_ways_of_looking() -> None:
    app = application()
    documented = {(m.upper(), path) for path, by in app.openapi()["paths"].items() for m in by}
    assert documented <= set(ALL)
    assert len(GUARDED) > 40
    assert {path for path in OPEN if path not in {p for _, p in ALL}} == set()


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_without_a_key_nothing_is_said(front: Front, method: str, path: str) -> None:
    console = path.startswith("/console")
    basic = base64.b64encode(b"me:key_1.wrong").decode()
    for given in ("", "Bearer nonsense", "Bearer key_1.secret", "Bearer \u00e9.x", f"Basic {basic}", "Bearer"):
        response = await front.api.request(method, filled(path), headers={"Authorization": given.encode("latin-1")})
        refusal = problem(response, 401, "unauthorized" if console else "unauthenticated")
        assert response.headers["www-authenticate"].startswith("Basic realm=" if console else "Bearer")
        assert "wrong" not in str(refusal)


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_the_wrong_scope_is_named(front: Front, method: str, path: str) -> None:
    key = front.key("read" if path == "/v1/events" else "ingest")
    basic = base64.b64encode(f"me:{key}".encode()).decode()
    given = f"Basic {basic}" if path.startswith("/console") else f"Bearer {key}"
    refusal = problem(
        await front.api.request(method, filled(path), headers={"Authorization": given}, json={}), 403, "missing_scope"
    )
    assert any(f"'{scope}'" in refusal["detail"] for scope in ("ingest", "read", "write", "admin"))
    assert key.split(".")[1] not in str(refusal)


async def test_reading_needs_read_and_changing_needs_more(front: Front) -> None:
    """A key that may only read changes nothing, whatever the route."""
    key = front.key("read")
    answers = {
        (method, path): (
            await front.api.request(method, filled(path), headers={"Authorization": f"Bearer {key}"}, json={})
        ).status_code
        for method, path in GUARDED
        if not path.startswith("/console")
    }
    harmless = {
        ("POST", "/v1/subscriptions/{subscription_id}/amendments/preview"),
        ("POST", "/v1/prices/preview"),
    }
    assert {at for at, status in answers.items() if status != 403} == harmless | {
        at for at in answers if at[0] == "GET"
    }


async def test_a_revoked_key_and_a_key_with_a_nul_are_unknown(front: Front) -> None:
    key = front.key("read")
    front.rows("update api_key set revoked_at = now() where id = %s returning 1", key.split(".")[0])
    answer = await front.api.get("/v1/plans", headers={"Authorization": f"Bearer {key}"})
    problem(answer, 401, "unauthenticated")
    nul = base64.b64encode(b"me:key\x00.x").decode()
    problem(await front.api.get("/console", headers={"Authorization": f"Basic {nul}"}), 401)


async def test_no_secret_in_answers_or_logs(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    key = front.key("admin")
    secret = key.split(".")[1]
    said: list[str] = []
    before = structlog.get_config()

    def keep(logger: object, name: str, event: structlog.typing.EventDict) -> str:
        said.append(repr(event))
        return ""

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, keep],
        cache_logger_on_first_use=False,
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    )
    try:
        bearer = {"Authorization": f"Bearer {key}"}
        texts = [
            (await front.api.get(path, headers=bearer)).text
            for path in ("/v1/plans", "/v1/nothing", "/v1/customers/none", "/v1/customers?limit=x", "/openapi.json")
        ]
        basic = base64.b64encode(f"me:{key}".encode()).decode()
        texts.append((await front.api.get("/console", headers={"Authorization": f"Basic {basic}"})).text)
        texts.append((await front.api.post("/v1/meters", headers=bearer, content=b"{")).text)
    finally:
        structlog.configure(**before)
    assert secret not in "".join(texts) + "".join(said) + caplog.text
    assert front.rows("select 1 from api_key where encode(secret_sha256, 'escape') like %s", f"%{secret}%") == []
