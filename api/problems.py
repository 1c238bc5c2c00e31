"""Errors as RFC 9457 problem documents: what is wrong, in which field, and what to do about it."""

from __future__ import annotations

from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, OperationalError
from starlette.exceptions import HTTPException
from temporalio.service import RPCError, RPCStatusCode

from billing.errors import Fault, NotFound, Refused, Unavailable

log = structlog.get_logger()

_STATUS = {
    "unauthenticated": HTTPStatus.UNAUTHORIZED,
    "missing_scope": HTTPStatus.FORBIDDEN,
    "bad_signature": HTTPStatus.BAD_REQUEST,
    "not_found": HTTPStatus.NOT_FOUND,
    "conflict": HTTPStatus.CONFLICT,
    "transition_not_possible": HTTPStatus.CONFLICT,
    "preview_outdated": HTTPStatus.CONFLICT,
    "already_cancelled": HTTPStatus.CONFLICT,
    "nothing_to_withdraw": HTTPStatus.CONFLICT,
    "not_waiting": HTTPStatus.CONFLICT,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}


class FieldProblem(BaseModel):
    """One field and why it was refused; `field` is its path, with dots."""

    field: str
    reason: str


class Problem(BaseModel):
    """RFC 9457, with a stable `code`, the fields, and what to do."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    remedy: str = ""
    errors: list[FieldProblem] = []


def problem(refusal: Refused, status: int | None = None) -> JSONResponse:
    code = status or _STATUS.get(refusal.code, HTTPStatus.UNPROCESSABLE_ENTITY)
    body = Problem(
        title=HTTPStatus(code).phrase,
        status=code,
        detail=refusal.reason,
        code=refusal.code,
        remedy=refusal.remedy,
        errors=[FieldProblem(field=f.field, reason=f.reason) for f in refusal.faults],
    )
    headers = {"WWW-Authenticate": "Bearer"} if code == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(body.model_dump(), code, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Answer every error as a problem document."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return problem(error, HTTPStatus.NOT_FOUND if isinstance(error, NotFound) else None)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [
            Fault(".".join(str(part) for part in e["loc"] if part not in ("body", "query", "path")), e["msg"])
            for e in error.errors()
        ]
        return problem(
            Refused("The request does not fit.", code="invalid_request", faults=faults, remedy="Correct these fields.")
        )

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).name.lower()
        return problem(Refused(str(error.detail), code=code), error.status_code)

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, error: Unavailable) -> JSONResponse:
        return _later(error.reason, int(error.after.total_seconds()) if error.after else 5)

    @app.exception_handler(OperationalError)
    async def database(request: Request, error: OperationalError) -> JSONResponse:
        log.error("database unavailable", error=str(error.orig))
        return _later("The database cannot be reached.", 5)

    @app.exception_handler(DBAPIError)
    async def data(request: Request, error: DBAPIError) -> JSONResponse:
        return _from_database(error)

    @app.exception_handler(RPCError)
    async def temporal(request: Request, error: RPCError) -> JSONResponse:
        if error.status in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED):
            return _later("The workflow server cannot be reached; what was asked for is stored.", 5)
        log.error("workflow server refused", error=str(error))
        return problem(Refused("Something is broken on our side.", code="internal"), 500)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        log.error("request failed", path=request.url.path, exc_info=error)
        return problem(
            Refused("Something is broken on our side.", code="internal", remedy="Report it with the time and path."),
            500,
        )


def _from_database(error: DBAPIError) -> JSONResponse:
    """What the database refuses is either data that it cannot hold or a conflict with what stands."""
    state = getattr(error.orig, "sqlstate", "") or ""
    log.warning("database refused", sqlstate=state, error=str(error.orig))
    if state.startswith("22"):
        return problem(
            Refused("A value cannot be stored.", code="invalid_value", remedy=str(error.orig).splitlines()[0])
        )
    if state.startswith("23"):
        return problem(Refused("It conflicts with what is stored.", code="conflict", remedy="Read it again and retry."))
    return problem(Refused("Something is broken on our side.", code="internal"), 500)


def _later(reason: str, seconds: int) -> JSONResponse:
    response = problem(Refused(reason, code="unavailable", remedy="Repeat the request with the same ids."), 503)
    response.headers["Retry-After"] = str(max(1, seconds))
    return response
