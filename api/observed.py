"""Every request timed, counted and logged by its route."""

from __future__ import annotations

from functools import lru_cache
from time import perf_counter

import structlog
from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger()

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"}
REQUESTS = Histogram("perennial_http_seconds", "Time of requests.", ["method", "route", "status"])


class Observed:
    """Time and log each request by its route, with the business ids of its path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        # A request is a task of its own, so what is bound ends with it. To take it back takes longer.
        structlog.contextvars.bind_contextvars(method=scope["method"], path=scope["path"])
        try:
            await self.app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            seconds = perf_counter() - started
            _requests(scope["method"], route, status).observe(seconds)
            # Events come by the thousand; those that are taken in are told by the figures alone.
            say = log.debug if route == "/v1/events" and status < 300 else log.info
            say("request", status=status, seconds=round(seconds, 4), **scope.get("path_params", {}))


@lru_cache(maxsize=1024)
def _requests(method: str, route: str, status: int) -> Histogram:
    """A caller may name any method; only the standard ones (RFC 9110 and 5789) have figures of their own."""
    return REQUESTS.labels(method if method in METHODS else "other", route, status)
