"""What goes back over the wire: an answer, and the errors in the shapes that Stripe gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | bool | None"
Body: TypeAlias = "Mapping[str, Json]"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. A `lost` one has had its effect, but the connection is cut instead of sending it."""

    status: int
    body: Body
    headers: Mapping[str, str] = field(default_factory=dict)
    lost: bool = False


class ApiError(Exception):
    """An error answer on its way out; `facts` are the members of Stripe's error object."""

    def __init__(self, status: int, headers: Mapping[str, str] | None = None, /, **facts: Json) -> None:
        super().__init__(str(facts.get("message")))
        self.answer = Answer(status, {"error": {k: v for k, v in facts.items() if v is not None}}, headers or {})


def invalid(message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> ApiError:
    return ApiError(status, type="invalid_request_error", message=message, param=param, code=code)


def missing(kind: str, name: str, *, param: str, in_path: bool = False) -> ApiError:
    """What was named does not exist: 404 when the path names it, 400 when a parameter does."""
    return invalid(f"No such {kind}: '{name}'", param=param, code="resource_missing", status=404 if in_path else 400)


def unauthorised(key: str) -> ApiError:
    if not key:
        return ApiError(401, type="invalid_request_error", message="You did not provide an API key.")
    shown = key[:8] + "*" * max(0, len(key) - 12) + key[-4:]
    return ApiError(401, type="invalid_request_error", message=f"Invalid API Key provided: {shown}")


def key_reused(key: str) -> ApiError:
    return ApiError(
        400,
        type="idempotency_error",
        message="Keys for idempotent requests can only be used with the same endpoint and parameters they were "
        f"first used with. Try using a key other than '{key}' if you meant to execute a different request.",
    )


def key_in_use(key: str) -> ApiError:
    return ApiError(
        409,
        type="idempotency_error",
        code="idempotency_key_in_use",
        message="There is currently another in-progress request using this Idempotent Key "
        f"(that probably means you submitted twice, and the other request is still going through): {key}.",
    )


def server_error() -> ApiError:
    return ApiError(500, type="api_error", message="An unknown error occurred.")


def rate_limited(retry_after: int | None) -> ApiError:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return ApiError(
        429,
        headers,
        type="invalid_request_error",
        code="rate_limit",
        message="Request rate limit exceeded. Learn more about rate limits in the documentation.",
    )
