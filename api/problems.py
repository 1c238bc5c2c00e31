"""Errors as RFC 9457 problem documents: what is wrong, in which field, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

import psycopg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, TypeAdapter
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from temporalio.service import RPCError, RPCStatusCode

from billing.errors import Fault, NotFound, Refused, Unavailable
from models.misfits import misfits
from models.reasons import of_pydantic

log = structlog.get_logger()

_STATUS = {
    "unauthenticated": HTTPStatus.UNAUTHORIZED,
    "too_slow": HTTPStatus.REQUEST_TIMEOUT,
    "missing_scope": HTTPStatus.FORBIDDEN,
    "bad_signature": HTTPStatus.BAD_REQUEST,
    "not_found": HTTPStatus.NOT_FOUND,
    "conflict": HTTPStatus.CONFLICT,
    "transition_not_possible": HTTPStatus.CONFLICT,
    "preview_outdated": HTTPStatus.CONFLICT,
    "already_cancelled": HTTPStatus.CONFLICT,
    "nothing_to_withdraw": HTTPStatus.CONFLICT,
    "not_waiting": HTTPStatus.CONFLICT,
    "not_scheduled": HTTPStatus.CONFLICT,
    "never_billed": HTTPStatus.CONFLICT,
    "asked_before": HTTPStatus.CONFLICT,
    "answered_already": HTTPStatus.CONFLICT,
    "approved_already": HTTPStatus.CONFLICT,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "unsupported_encoding": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "too_many_requests": HTTPStatus.TOO_MANY_REQUESTS,
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


def problem(refusal: Refused, status: int | None = None, headers: Mapping[str, str] | None = None) -> JSONResponse:
    code = status or _STATUS.get(refusal.code, HTTPStatus.UNPROCESSABLE_ENTITY)
    body = Problem(
        title=HTTPStatus(code).phrase,
        status=code,
        detail=_sendable(refusal.reason),
        code=refusal.code,
        remedy=_sendable(refusal.remedy),
        errors=[FieldProblem(field=_sendable(f.field), reason=_sendable(f.reason)) for f in refusal.faults],
    )
    if headers is None and code == HTTPStatus.UNAUTHORIZED:
        headers = {"WWW-Authenticate": "Bearer"}
    if headers is None and code == HTTPStatus.TOO_MANY_REQUESTS:
        headers = {"Retry-After": "1"}
    return JSONResponse(body.model_dump(), code, headers, media_type="application/problem+json")


def _sendable(text: str) -> str:
    """What callers wrote may hold half a surrogate pair, which no answer can carry."""
    return text.encode(errors="replace").decode()


def install(app: FastAPI) -> None:
    """Answer every error as a problem document."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return problem(error, HTTPStatus.NOT_FOUND if isinstance(error, NotFound) else None)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(
            Refused(
                "The request does not fit.",
                code="invalid_request",
                faults=faults_of(error, _schema_of(request)),
                remedy="Correct these fields.",
            )
        )

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return _of_the_framework(request, error)

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, error: Unavailable) -> JSONResponse:
        return _later(error.reason, int(error.after.total_seconds()) if error.after else 5)

    @app.exception_handler(NoConnectionFree)
    async def busy(request: Request, error: NoConnectionFree) -> JSONResponse:
        log.error("no database connection free", error=str(error))
        return _later("All database connections are in use.", 5)

    @app.exception_handler(DBAPIError)
    async def behind_sqlalchemy(request: Request, error: DBAPIError) -> JSONResponse:
        return _from_database(error.orig or error)

    @app.exception_handler(psycopg.Error)
    async def data(request: Request, error: psycopg.Error) -> JSONResponse:
        return _from_database(error)

    @app.exception_handler(RPCError)
    async def temporal(request: Request, error: RPCError) -> JSONResponse:
        if error.status in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED):
            return _later("The workflow server cannot be reached.", 5)
        log.error("workflow server refused", error=str(error))
        return problem(_broken(), 500)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        """Nobody reads the answer; what was taken in before stays, and is known when it is sent again."""
        log.info("the caller went away", path=request.url.path)
        return problem(
            Refused("The request did not come to its end.", code="invalid_body", remedy="Send it again."), 400
        )

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        log.error("request failed", path=request.url.path, exc_info=error)
        return problem(_broken(), 500)


def _broken() -> Refused:
    return Refused("Something is broken on our side.", code="internal", remedy="Report it with the time and path.")


def _of_the_framework(request: Request, error: HTTPException) -> JSONResponse:
    """Paths and methods that there are not, and what the framework and its parts refuse besides."""
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(_no_such_path(request), error.status_code, error.headers)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = _methods(request)
        return problem(_no_such_method(request, methods), error.status_code, {"Allow": ", ".join(methods)})
    code = "too_large" if error.status_code == 413 else HTTPStatus(error.status_code).name.lower()
    remedy = _OF_THE_FRAMEWORK.get(error.status_code, "Look at /docs for what is answered.")
    return problem(Refused(str(error.detail), code=code, remedy=remedy), error.status_code, error.headers)


_OF_THE_FRAMEWORK: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "Sign in with any user name, and as the password an API key with the scope `read`, as"
    " `perennial keys create` makes one.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Send less at once.",
}


def _no_such_path(request: Request) -> Refused:
    remedy = "Look at /docs for the paths there are."
    return Refused(f"There is no path {request.url.path!r}.", code="not_found", remedy=remedy)


def _no_such_method(request: Request, methods: Sequence[str]) -> Refused:
    return Refused(
        f"{request.method} is not supported on this path.",
        code="method_not_allowed",
        remedy=f"Use {' or '.join(methods)}; /docs shows what each does.",
    )


def _methods(request: Request) -> list[str]:
    """All that the path of the request answers, by whichever routes."""
    return [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]


def _schema_of(request: Request) -> Mapping[str, Any] | None:
    """The JSON Schema of the body that the route takes."""
    body = getattr(request.scope.get("route"), "body_field", None)
    return None if body is None else _schema(body.field_info.annotation)


@cache
def _schema(kind: type) -> Mapping[str, Any]:
    return TypeAdapter(kind).json_schema()


def faults_of(error: RequestValidationError, schema: Mapping[str, Any] | None = None) -> list[Fault]:
    """Each field once: those of the body by their path in it, parameters by their names."""
    found: list[Fault] = []
    inside = []
    for e in error.errors():
        where, *rest = e["loc"]
        if where == "body" and e["type"] == "missing" and not rest:
            found.append(Fault("body", "is empty"))
        elif where == "body" and e["type"] != "json_invalid":
            inside.append({**e, "loc": tuple(rest)})
        elif where == "body":
            found.append(Fault("body", f"is not JSON that can be read: {e['ctx']['error']}"))
        else:
            found.append(Fault(".".join(str(part) for part in rest) or str(where), of_pydantic(e)))
    found += [Fault(fault.field or "body", fault.reason) for fault in misfits(inside, error.body, schema)]
    return list({fault.field: fault for fault in reversed(found)}.values())[::-1]


def _from_database(error: BaseException) -> JSONResponse:
    """What the database refuses is data that it cannot hold, a conflict with what stands, or a moment's trouble."""
    state = getattr(error, "sqlstate", "") or ""
    log.warning("database refused", sqlstate=state, error=str(error))
    if state.startswith("22") or (isinstance(error, psycopg.DataError) and not state):
        return problem(Refused("A value cannot be stored.", code="invalid_value", remedy=str(error).splitlines()[0]))
    if state.startswith("23"):
        return problem(Refused("It conflicts with what is stored.", code="conflict", remedy="Read it again and retry."))
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return _later("The database cannot be reached.", 5)
    return problem(_broken(), 500)


def _later(reason: str, seconds: int) -> JSONResponse:
    response = problem(Refused(reason, code="unavailable", remedy="Repeat the request with the same ids."), 503)
    response.headers["Retry-After"] = str(max(1, seconds))
    return response
