"""Discarding what waits in quarantine and shall never count."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic import Field as Described

from api.access import Database, Writer
from api.bodies import ExactRoute
from billing.errors import Fault, Refused
from models.discard import discard_named, discard_subject
from models.quarantine import HeldBy, count_waiting

router = APIRouter(prefix="/v1", tags=["Usage"], route_class=ExactRoute)

Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class NameIn(BaseModel):
    """What an event is known by."""

    model_config = ConfigDict(extra="forbid")
    source: Word
    id: Word


class DiscardIn(BaseModel):
    """Which events shall never count, and why: those of these names, or those of a subject."""

    model_config = ConfigDict(extra="forbid")
    events: Annotated[list[NameIn], Described(min_length=1, max_length=1000)] | None = None
    subject: Word | None = None
    field: HeldBy | None = None
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]


class Discarded(BaseModel):
    """How many events this request discarded, and how many wait still."""

    discarded: int
    waiting: int


@router.post("/quarantine/discard")
def discard_quarantine(body: DiscardIn, session: Database, key: Writer) -> Discarded:
    """Discard events that wait in quarantine and shall never count: test traffic, a subject that is nobody's.

    They are kept whole, with the reason, the key and the time, and their names stay taken: what comes again is a
    duplicate or in conflict. There is no way back. Of named events all are discarded, or none; of a subject up to
    10,000. The same again changes nothing.
    """
    _refuse_unclear(body)
    if body.events:
        names = [(one.source, one.id) for one in body.events]
        return Discarded(
            discarded=discard_named(session, names, body.reason, key), waiting=count_waiting(session, None)
        )
    subject = body.subject or ""
    done = discard_subject(session, subject, body.field, body.reason, key)
    return Discarded(discarded=done, waiting=count_waiting(session, subject, body.field))


def _refuse_unclear(body: DiscardIn) -> None:
    faults: list[Fault] = []
    if (body.events is None) == (body.subject is None):
        faults.append(Fault("subject", "either this or `events` is needed, and not both"))
    if body.field and body.events:
        faults.append(Fault("field", "is only said of a subject"))
    if faults:
        raise Refused(
            "It is not clear what to discard.",
            code="invalid_request",
            faults=faults,
            remedy="Name the events, or a subject.",
        )
