"""The operations console: what happens next, what waits for a person, invoices and closes. Read only.

Signed in with HTTP Basic: any user name, and an API key with the scope `read` as the password.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from fastapi.templating import Jinja2Templates

from api.access import Database, Open, allowed
from billing.errors import Refused
from billing.explain import explain
from billing.money import Money
from models import agenda, closing, invoice, task
from models.backlog import backlog
from models.customer import customer, names_of
from models.payment import attempts

router = APIRouter()
templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
templates.env.globals["money"] = Money
templates.env.globals["explain"] = explain

_basic = HTTPBasic(realm="Perennial", description="Any user name; an API key as the password.")


def _signed_in(open_: Open, given: Annotated[HTTPBasicCredentials, Depends(_basic)]) -> str:
    """The key's id. For a wrong key the browser asks again, which only a challenge of its own kind makes it do."""
    try:
        return allowed(open_, given.password, "read")
    except Refused as refusal:
        if refusal.code != "unauthenticated":
            raise
        raise HTTPException(401, "This key is not known.", {"WWW-Authenticate": 'Basic realm="Perennial"'}) from refusal


Viewer = Annotated[str, Depends(_signed_in)]


@router.get("/")
def home() -> RedirectResponse:
    return RedirectResponse("/console")


@router.get("/console")
def overview(request: Request, session: Database, viewer: Viewer) -> HTMLResponse:
    """Everything on one page."""
    latest = invoice.latest(session, 25)
    return templates.TemplateResponse(
        request,
        "overview.html",
        {
            "backlog": backlog(session),
            "agenda": agenda.upcoming(session, 20),
            "tasks": task.open_tasks(session),
            "invoices": latest,
            "names": names_of(session, sorted({i.customer_id for i in latest})),
            "closes": closing.closes(session),
        },
    )


@router.get("/console/invoices/{invoice_id}")
def one_invoice(request: Request, invoice_id: str, session: Database, viewer: Viewer) -> HTMLResponse:
    """An invoice with its lines explained, and its payments."""
    seen = invoice.summary(session, invoice_id)
    return templates.TemplateResponse(
        request,
        "invoice.html",
        {
            "invoice": seen,
            "customer": customer(session, seen.customer_id),
            "lines": invoice.lines(session, seen.id),
            "taxes": invoice.taxes(session, seen.id),
            "attempts": attempts(session, seen.id),
        },
    )
