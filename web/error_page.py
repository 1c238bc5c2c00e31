"""Errors below /console as a page, for browsers: the words and the status of the problem document, and its headers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response

from web.console import templates

Handler = Callable[[Request, Any], Response | Awaitable[Response]]


def for_browsers(handle: Handler) -> Handler:
    """What the handler answers; as a page, if that is what is wanted there."""

    async def shown(request: Request, error: Any) -> Response:
        said = handle(request, error)
        answer = said if isinstance(said, Response) else await said
        return _page(request, answer) if _wants_a_page(request) else answer

    return shown


def _wants_a_page(request: Request) -> bool:
    path = request.url.path
    return (path == "/console" or path.startswith("/console/")) and preferred(request.headers.get("accept", "")) in (
        "text/html",
        "application/xhtml+xml",
    )


def preferred(accept: str) -> str:
    """The media type that stands highest in the header; of equals the first one."""
    found: dict[str, float] = {}
    for part in accept.split(","):
        media, _, rest = part.partition(";")
        weight = rest.replace(" ", "").removeprefix("q=").partition(";")[0]
        try:
            found.setdefault(media.strip().lower(), float(weight or 1))
        except ValueError:
            continue
    return max(found, key=lambda media: found[media], default="")


def _page(request: Request, answer: Response) -> Response:
    problem = json.loads(bytes(answer.body))
    headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
    return templates.TemplateResponse(
        request, "error.html", {"problem": problem}, status_code=answer.status_code, headers=headers
    )
