"""How bodies are read: up to a size, and as exact JSON, in which no number is rounded and no key stands twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem
from billing.errors import Refused

MEBIBYTE = 1024 * 1024
MOST_BYTES = MEBIBYTE
MOST_DIGITS = 1_000

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def holds_nul(body: bytes) -> bool:
    """Whether JSON text has the character U+0000 in it, which PostgreSQL cannot store."""
    return b"\\u0000" in body and _NUL.search(body) is not None


class SizeLimit:
    """Refuses larger bodies, by what they announce and by what comes, before anyone keeps them in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = MOST_BYTES
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and (len(announced) > 15 or int(announced) > most):
            refusal = Refused(_words(most), code="too_large", remedy="Send less at once.")
            await problem(refusal)(scope, receive, send)
            return
        came = 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > most:
                raise HTTPException(413, _words(most))
            return message

        await self.app(scope, counted, send)


def _words(most: int) -> str:
    return f"The body is larger than {most // MEBIBYTE} MiB."


class ExactRequest(Request):
    """A request whose JSON numbers are Decimals. What cannot be read without a doubt is no JSON to us."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = read_exactly(await self.body())
        return self._json


class ExactRoute(APIRoute):
    """A route that reads its body as exact JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def exact(request: Request) -> Response:
            return await handle(ExactRequest(request.scope, request.receive))

        return exact


def read_exactly(body: bytes) -> Any:
    """The body's value. JSONDecodeError for anything else, which the framework reports as a fault of the body."""
    if not body.strip():
        raise json.JSONDecodeError("there is nothing but blanks in it", "", 0)
    if holds_nul(body):
        raise json.JSONDecodeError("it holds the character U+0000, which cannot be stored", "", 0)
    try:
        value = json.loads(body, parse_float=_number, parse_constant=_no_number, object_pairs_hook=_each_key_once)
        if b"\\ud" in body.lower():  # Half a surrogate pair is no text: nothing can store or send it.
            json.dumps(value, ensure_ascii=False, default=str).encode()
        return value
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise json.JSONDecodeError(str(error) or "a number has no sane size", "", 0) from error


def _number(text: str) -> Decimal:
    """A few letters such as 1e999999999 would, written out as a whole number, take all memory and hours."""
    value = Decimal(text)
    if value and not -MOST_DIGITS < value.adjusted() < MOST_DIGITS:
        raise ValueError(f"a number has more than {MOST_DIGITS:,} digits")
    return value


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for n, key in enumerate(keys) if key in keys[:n])
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found
