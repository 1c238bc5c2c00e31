"""Failures on order: what the next requests that match will meet instead of, or after, their work."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox.salesforce.objects import ApiError

CODES = ("UNABLE_TO_LOCK_ROW", "REQUEST_LIMIT_EXCEEDED", "lost_answer", "unavailable")


@dataclass(slots=True)
class Fault:
    """`count` more requests whose method is `method` (any if empty) and whose path has a match of `path` fail.

    Without a `path` the login is spared.
    """

    code: str
    method: str = ""
    path: str = "^/services/data/"
    count: int = 1

    def meets(self, method: str, path: str) -> bool:
        return self.count > 0 and self.method in ("", method) and re.search(self.path, path) is not None

    def error(self) -> ApiError | None:
        """What to answer; None for an answer that gets lost, as its work is done first."""
        match self.code:
            case "UNABLE_TO_LOCK_ROW":
                message = "unable to obtain exclusive access to this record or 1 records: 006"
                return ApiError(400, self.code, message, [])
            case "REQUEST_LIMIT_EXCEEDED":
                return ApiError(403, self.code, "TotalRequests Limit exceeded.")
            case "unavailable":
                return ApiError(503, "SERVER_UNAVAILABLE", "The server is temporarily unavailable.")
        return None


def ordered(wish: object) -> Fault:
    """From the body of `POST /_sandbox/faults`; ApiError if it makes no sense."""
    asked = {"method": "", "path": "^/services/data/", "count": 1} | wish if isinstance(wish, dict) else {}
    match asked:
        case {"code": str(code), "method": str(method), "path": str(path), "count": int(count)} if (
            code in CODES and _is_pattern(path)
        ):
            return Fault(code, method.upper(), path, count)
    raise ApiError(400, "JSON_PARSER_ERROR", f"Give a code ({', '.join(CODES)}), and method, path, count if wanted.")


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True
