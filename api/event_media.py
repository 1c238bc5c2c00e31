"""The content types of events: which announce a JSON document, which a stream of lines, and what is neither."""

from __future__ import annotations

import re

from fastapi import Request

from billing.errors import Refused

LINES = "application/x-ndjson"
DOCUMENTED = ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json", LINES)

_LINES = (LINES, "application/ndjson", "application/jsonl")
_JSON = re.compile(r"(application|text)/json|[^/\s]+/[^/\s]+\+json")


def is_stream(request: Request) -> bool:
    """Whether lines come, and not a JSON document, which is meant also if nothing is said. Refused (415) if the body is
    said to be neither, or to be the data alone of an event that stands in the headers: CloudEvents in binary mode.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not media.startswith("application/cloudevents") and "ce-specversion" in request.headers:
        raise Refused(
            "CloudEvents in binary mode (`ce-*` headers) are not supported.",
            code="unsupported_media_type",
            remedy="Send them in structured mode: all of the event as a JSON object, as application/cloudevents+json.",
        )
    if media in _LINES:
        return True
    if media and media != DOCUMENTED[0] and not _JSON.fullmatch(media):
        raise no_media(f"Events are not read from {media[:100]!r}.")
    return False


def no_media(reason: str) -> Refused:
    *json, lines = DOCUMENTED
    return Refused(
        reason,
        code="unsupported_media_type",
        remedy=f"Say Content-Type: {', '.join(json)}, or {lines} for a stream, one event a line (of a file with"
        " curl --data-binary, since -d takes away the ends of lines).",
    )
