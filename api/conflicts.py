"""What came under the name of another event, and does not count: for whoever asks what was sent."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from api.access import Database, Reader
from api.bodies import ExactRoute
from api.pages import behind, place
from models import event
from models.customer import customer as known_customer
from models.event import Conflicting

router = APIRouter(prefix="/v1/usage", tags=["Usage"], route_class=ExactRoute)


class ConflictOut(BaseModel):
    """Another content under the name of an event that counts or waits. Each content is kept once."""

    source: str
    id: str
    customer_id: str | None
    received_at: datetime
    event: dict[str, Any]


class ConflictPageOut(BaseModel):
    """Conflicts in order of source and id; `next` is what to send as `after` for the page behind, null at the end."""

    conflicts: list[ConflictOut]
    next: str | None


@router.get("/conflicts", response_model=ConflictPageOut)
def list_conflicts(
    session: Database,
    key: Reader,
    customer: str | None = None,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """A page of events that came under a name that was taken by another content, as they were sent."""
    if customer is not None:
        known_customer(session, customer)
    rows = event.conflicts(session, customer, place(after, _KEYS), limit + 1)
    last = rows[limit - 1] if len(rows) > limit else None
    following = behind(last.source, last.id, last.content) if last else None
    page = {"conflicts": [_written(row) for row in rows[:limit]], "next": following}
    return Response(msgspec.json.encode(page), media_type="application/json")


def _written(row: Conflicting) -> dict[str, object]:
    """The event goes out as it came, digit by digit."""
    return {
        "source": row.source,
        "id": row.id,
        "customer_id": row.customer_id,
        "received_at": row.received_at,
        "event": msgspec.Raw(row.event.encode()),
    }


_KEYS = msgspec.json.Decoder(tuple[str, str, int])
