"""How the three errors cross into Temporal: one interceptor around every activity, for all of them.

`Refused` and `Broken` end the retries and carry what a person needs to read; `Unavailable` is tried again when the
neighbour asked to be. Whatever else is raised is retried as it is.
"""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from billing.errors import Broken, Refused, Unavailable

log = structlog.get_logger()

# SQLSTATEs of our own rules (see the migrations), and what they mean.
_RULES = {"PB001": Broken, "PB002": Broken, "PB003": Refused}


class Outcomes(Interceptor):
    """Put around the worker's activities."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Translating(next)


class _Translating(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        with structlog.contextvars.bound_contextvars(
            activity=info.activity_type, workflow_id=info.workflow_id, attempt=info.attempt
        ):
            try:
                result = await super().execute_activity(input)
            except (Exception, asyncio.CancelledError) as error:
                crossed = crossing(error)
                if crossed is error:
                    raise
                raise crossed from error
            log.info("activity done", command=str(input.args[0]) if input.args else "", result=str(result)[:300])
            return result


def crossing(error: BaseException) -> BaseException:
    """The error as Temporal should see it."""
    known = _by_rule(error) if isinstance(error, DBAPIError | psycopg.Error) else error
    if isinstance(known, Refused):
        log.warning("refused", reason=known.reason, code=known.code)
        faults = [f"{fault.field}: {fault.reason}" for fault in known.faults]
        return ApplicationError(known.reason, known.remedy, known.code, faults, type="Refused", non_retryable=True)
    if isinstance(known, Unavailable):
        log.warning("unavailable", reason=known.reason)
        return ApplicationError(known.reason, type="Unavailable", next_retry_delay=known.after)
    if isinstance(known, Broken):
        log.error("broken", reason=str(known))
        return ApplicationError(str(known), type="Broken", non_retryable=True)
    log.warning("failed", error=repr(error))
    return error


def _by_rule(error: DBAPIError | psycopg.Error) -> BaseException:
    """What a rule of the database says, in the engine's words; other database errors stay what they are."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, psycopg.Error) and (kind := _RULES.get(cause.sqlstate or "")):
        hint = cause.diag.message_hint or ""
        text = cause.diag.message_primary or str(cause)
        return Refused(text, code="month_closed", remedy=hint) if kind is Refused else Broken(text)
    return error
