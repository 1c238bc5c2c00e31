"""The operations console: what happens next, what waits for a person, invoices and closes. Read only.

Signed in with HTTP Basic: any user name, and an API key with the scope `read` as the password.
"""

from __future__ import annotations

import pathlib
from datetime import date
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from fastapi.templating import Jinja2Templates

from api.access import Database, Open, allowed
from billing.errors import Refused
from billing.explain import explain
from billing.money import CURRENCIES, Money
from models import agenda, closing, invoice, ledger, task
from models.backlog import backlog
from models.customer import names_of
from models.payment import attempts
from models.reasons import MONTH
from models.transfer import transfers

router = APIRouter()
templates = Jinja2Templates(directory=pathlib.Path(__file__).parent / "templates")
templates.env.globals["money"] = Money
templates.env.globals["explain"] = explain


def _figure(value: Decimal, unit: str) -> str:
    """Money as its currency is written, any other quantity with its thousands told apart and its unit."""
    return str(Money.of(value, unit)) if unit in CURRENCIES else f"{value.normalize():,f} {unit}"


templates.env.globals["figure"] = _figure

_basic = HTTPBasic(realm="Perennial", description="Any user name; an API key as the password.")


def _signed_in(open_: Open, given: Annotated[HTTPBasicCredentials, Depends(_basic)]) -> str:
    """The key's id. For a wrong key the browser asks again, which only a challenge of its own kind makes it do."""
    try:
        return allowed(open_, given.password, "read")
    except Refused as refusal:
        if refusal.code != "unauthenticated":
            raise
        raise HTTPException(401, "This key is not known.", {"WWW-Authenticate": 'Basic realm="Perennial"'}) from refusal


Month = Annotated[str, Path(pattern=MONTH)]
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
            "buyer": invoice.parties(session, seen.id)[1],
            "lines": invoice.lines(session, seen.id),
            "taxes": invoice.taxes(session, seen.id),
            "attempts": attempts(session, seen.id),
            "transfers": transfers(session, seen.id),
            "printed": invoice.is_printed(session, seen.id),
        },
    )


@router.get("/console/invoices/{invoice_id}/pdf")
def invoice_pdf(invoice_id: str, session: Database, viewer: Viewer) -> Response:
    """The printed invoice."""
    number, document = invoice.printed(session, invoice_id)
    headers = {"Content-Disposition": f'inline; filename="{number}.pdf"'}
    return Response(document.content, media_type=document.media_type, headers=headers)


@router.get("/console/closes/{entity_id}/{month}")
def one_close(request: Request, entity_id: str, month: Month, session: Database, viewer: Viewer) -> HTMLResponse:
    """A month's close with its tie-outs, and the trial balance up to its end."""
    close = closing.month_close(session, entity_id, date.fromisoformat(f"{month}-01"))
    tie_outs = closing.tie_outs(session, entity_id, close.month)
    return templates.TemplateResponse(
        request,
        "close.html",
        {
            "close": close,
            "tie_outs": tie_outs,
            "holding": sum(one.holds for one in tie_outs),
            "trial": ledger.trial_balance(session, entity_id, close.month),
        },
    )
