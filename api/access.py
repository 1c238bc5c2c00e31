"""Who may do what, and what an endpoint works with: keys with scopes, a transaction, the way to the workflows."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy import Engine
from sqlmodel import Session
from temporalio.client import Client, RPCTimeoutOrCancelledError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from api.backlog import Backlog
from api.intake import Intake
from billing.errors import Refused, Unavailable
from billing.time_bounds import TimeBounds
from models.api_key import Scope, key_behind
from models.database import transaction

_bearer = HTTPBearer(auto_error=False, description="An API key, as `perennial keys create` shows it once.")


PATIENCE_SECONDS = 20
SECONDS_KEY_TRUSTED, MOST_RECENT = 5.0, 1_000


@dataclass(frozen=True, slots=True)
class Doors:
    """What the process holds open."""

    engine: Engine
    client: Client
    bounds: TimeBounds
    """Of the times of events."""
    intake: Intake
    backlog: Backlog
    recent: dict[str, float] = field(default_factory=dict)
    """Keys with which events were sent lately, and until when they are trusted (monotonic seconds)."""

    @classmethod
    def open(cls, engine: Engine, client: Client, bounds: TimeBounds) -> Doors:
        return cls(engine, client, bounds, Intake(engine, bounds), Backlog(engine))

    def close(self) -> None:
        """What waits is stored first. The engine and the client are whose they were."""
        self.intake.close()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with transaction(self.engine) as session:
            yield session


async def doors(request: Request) -> Doors:
    return held(request)


def held(request: Request) -> Doors:
    found: Doors = request.app.state.doors
    return found


@asynccontextmanager
async def patiently(otherwise: str) -> AsyncIterator[None]:
    """Ask the workflows, and wait for a while; `otherwise` is what the caller is told if nobody answers.

    What they refuse is refused here in the same words.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield
    except WorkflowUpdateFailedError as error:
        if isinstance(error.cause, ApplicationError) and error.cause.type == "Refused":
            remedy, code = [str(said) for said in (*error.cause.details, "", "")[:2]]
            raise Refused(error.cause.message, code=code or "refused", remedy=remedy) from error
        raise
    except (TimeoutError, RPCTimeoutOrCancelledError) as error:
        raise Unavailable(f"The workflows do not answer in time. {otherwise}") from error
    except RPCError as error:
        if error.status not in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
            raise
        raise Unavailable(f"The workflow server cannot be reached. {otherwise}") from error


def database(request: Request) -> Iterator[Session]:
    """One transaction for the whole request, committed before the answer goes out."""
    with transaction(held(request).engine) as session:
        yield session


Database = Annotated[Session, Depends(database, scope="function")]
Open = Annotated[Doors, Depends(doors)]


def may(scope: Scope) -> Any:
    """A dependency that lets only keys with `scope` (or `admin`) pass, and gives the key's id."""

    def check(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None) -> str:
        text = given.credentials if given else ""
        return allowed(held(request), text, scope)

    return Security(check, scopes=[scope])


def allowed(open_: Doors, text: str, scope: Scope) -> str:
    """The id of the key `text`; refused if there is none or its scopes do not suffice."""
    key = None
    if text.isascii() and text.isprintable():
        with open_.transaction() as session:
            key = key_behind(session, text)
    if key is None:
        raise Refused(
            "This needs a key." if not text else "This key is not known.",
            code="unauthenticated",
            remedy="Send `Authorization: Bearer <key>`; `perennial keys create` makes one.",
        )
    if scope not in key.scopes and "admin" not in key.scopes:
        raise Refused(
            f"This needs a key with the scope {scope!r}; yours has {', '.join(key.scopes)}.",
            code="missing_scope",
            remedy="Use another key, or have one made with that scope.",
        )
    return key.id


def gateway_names(request: Request) -> Sequence[str]:
    return sorted(request.app.state.gateways)


Gateways = Annotated[Sequence[str], Depends(gateway_names)]
"""The payment gateways of this installation, by name."""

Reader = Annotated[str, may("read")]
Writer = Annotated[str, may("write")]
Administrator = Annotated[str, may("admin")]


async def ingester(request: Request) -> str:
    """The id of a key that may send events; refused as any other. Events come often and with the same key, so one that
    was good a moment ago is not looked up again.
    """
    open_ = held(request)
    scheme, text = get_authorization_scheme_param(request.headers.get("authorization"))
    text = text if scheme.lower() == "bearer" else ""
    if open_.recent.get(text, 0.0) < monotonic():
        await run_in_threadpool(allowed, open_, text, "ingest")
        if len(open_.recent) >= MOST_RECENT:
            open_.recent.clear()
        open_.recent[text] = monotonic() + SECONDS_KEY_TRUSTED
    return text.partition(".")[0]


def mint(prefix: str) -> str:
    """A new id for a new intent, where the caller did not bring one."""
    return f"{prefix}_{secrets.token_hex(10)}"
