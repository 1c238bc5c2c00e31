"""Whether the process lives, whether it can work, and its figures."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from temporalio.service import RPCError

from api.access import Open
from billing.errors import Unavailable
from models.home import is_at_home

router = APIRouter(tags=["Operation"])


@router.get("/healthz")
def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz")
async def ready(open_: Open) -> dict[str, str]:
    """Database and workflow server answer; 503 says which one does not, or that the database was moved."""

    def ask() -> None:
        with open_.transaction() as session:
            if not is_at_home(session):
                raise Unavailable("The database was restored on another server: run `perennial migrate`.")

    await run_in_threadpool(ask)
    try:
        answers = await open_.client.service_client.check_health()
    except RPCError:
        answers = False
    if not answers:
        raise Unavailable("The workflow server does not answer.")
    return {"database": "ready", "temporal": "ready"}


@router.get("/metrics", response_class=Response)
async def metrics(request: Request, open_: Open) -> Response:
    """Prometheus figures of the processes that serve this address, and what waits, counted anew after 15 seconds."""
    await open_.backlog.bring_up_to_date()
    return Response(generate_latest(request.app.state.figures), media_type=CONTENT_TYPE_LATEST)
