"""What the server answers when it refuses: a problem document (RFC 9457), as an exception; and what is no answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from perennial_client.encoding import loads


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field, by its path in what was sent, and why it was refused."""

    field: str
    reason: str


class ProblemError(Exception):
    """The server's refusal. `code` is a stable word for programs, `remedy` says what to do.

    An answer that is no problem document (a proxy's page) becomes one: its code is `http_` and the status.
    """

    def __init__(
        self,
        title: str,
        status: int,
        detail: str = "",
        *,
        type: str = "about:blank",
        code: str = "",
        remedy: str = "",
        errors: tuple[FieldError, ...] = (),
    ) -> None:
        self.title, self.status, self.detail = title, status, detail
        self.type, self.code, self.remedy = type, code or f"http_{status}", remedy
        self.errors = errors
        fields = "; ".join(f"{error.field}: {error.reason}" for error in errors)
        super().__init__(" ".join(filter(None, (f"{status} {title}.", detail, fields, remedy))))

    @classmethod
    def of(cls, answer: httpx.Response) -> ProblemError:
        """The problem that an answer with an error's status tells of."""
        told = _document(answer)

        def text(name: str) -> str:
            value = told.get(name)
            return value if isinstance(value, str) else ""

        return cls(
            text("title") or answer.reason_phrase,
            answer.status_code,
            text("detail"),
            type=text("type") or "about:blank",
            code=text("code"),
            remedy=text("remedy"),
            errors=_field_errors(told.get("errors")),
        )


class UnreadableAnswer(ValueError):
    """The status says that all went well, and what stands below it is not what the server answers then: not JSON, such
    as a proxy's page, or not one outcome for each event that was sent. Nobody knows what became of the request.
    """


def _document(answer: httpx.Response) -> Mapping[str, object]:
    if answer.headers.get("content-type", "").partition(";")[0].strip() != "application/problem+json":
        return {}
    try:
        told = loads(answer.content)
    except ValueError:
        return {}
    return told if isinstance(told, Mapping) else {}


def _field_errors(told: object) -> tuple[FieldError, ...]:
    listed = told if isinstance(told, list) else []
    return tuple(
        FieldError(str(one.get("field", "")), str(one.get("reason", ""))) for one in listed if isinstance(one, Mapping)
    )
