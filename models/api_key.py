"""Keys of the API: shown once, kept as a hash, with scopes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import UTC, datetime
from typing import Literal, get_args

from sqlalchemy import ARRAY, Column, Text
from sqlmodel import Field, Session, SQLModel, col, select

from billing.errors import Fault, NotFound, Refused
from models.values import moment

Scope = Literal["ingest", "read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


class ApiKey(SQLModel, table=True):
    """One key. The secret part is high-entropy, so a plain SHA-256 of it is enough."""

    __tablename__ = "api_key"
    id: str = Field(primary_key=True)
    name: str
    secret_sha256: bytes
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    created_at: datetime = moment(default_factory=lambda: datetime.now(UTC))
    revoked_at: datetime | None = moment(default=None)


def create_key(session: Session, name: str, scopes: list[str]) -> str:
    """A new key's text; this is the only time it can be seen."""
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        reason = f"unknown: {', '.join(unknown)}" if unknown else "at least one is needed"
        raise Refused(
            "The key's scopes make no sense.",
            code="invalid_scopes",
            faults=[Fault("scopes", reason)],
            remedy=f"Choose from {', '.join(SCOPES)}.",
        )
    key_id, secret = f"key_{secrets.token_hex(6)}", secrets.token_urlsafe(32)
    session.add(ApiKey(id=key_id, name=name, secret_sha256=_digest(secret), scopes=scopes))
    return f"{key_id}.{secret}"


def key_behind(session: Session, text: str) -> ApiKey | None:
    """The live key with that text, compared in constant time; None if there is none."""
    key_id, _, secret = text.partition(".")
    key = session.get(ApiKey, key_id)
    if key is None or key.revoked_at is not None or not hmac.compare_digest(key.secret_sha256, _digest(secret)):
        return None
    return key


def keys(session: Session) -> list[ApiKey]:
    return list(session.exec(select(ApiKey).order_by(col(ApiKey.created_at))))


def revoke_key(session: Session, key_id: str) -> None:
    key = session.get(ApiKey, key_id)
    if key is None:
        raise NotFound("key", key_id)
    key.revoked_at = key.revoked_at or datetime.now(UTC)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
