"""Corrections of usage that was sent: events made void, and events that count instead."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints
from pydantic import Field as Described

from api.access import Database, Writer
from api.bodies import ExactRoute
from api.event_formats import data_as_read, time_as_read
from api.fields import Moment
from models import correction
from models.correction import Correction
from models.event import Event

router = APIRouter(prefix="/v1", tags=["Usage"], route_class=ExactRoute)

Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class EventBody(BaseModel):
    """An event that counts instead of another one, under a name of its own; the same, if it is sent as one as well."""

    model_config = ConfigDict(extra="forbid")
    source: Word
    id: Word
    subject: Word
    type: Word
    time: Annotated[Moment, BeforeValidator(time_as_read)]
    data: Annotated[dict[str, Any], AfterValidator(data_as_read)] = {}


class CorrectionIn(BaseModel):
    """Which event was wrong, why, and what counts `instead`; without that, it is void."""

    model_config = ConfigDict(extra="forbid")
    source: Word
    id: Word
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
    instead: EventBody | None = None


class CorrectionsIn(BaseModel):
    """Corrections that are made together, or not at all."""

    model_config = ConfigDict(extra="forbid")
    corrections: Annotated[list[CorrectionIn], Described(min_length=1, max_length=1000)]


class Corrected(BaseModel):
    """How many events became void by this request; the others were so already."""

    void: int


@router.post("/events/corrections")
def correct_events(body: CorrectionsIn, session: Database, key: Writer) -> Corrected:
    """Make events void, or let others count instead; all of them, or none. The same again changes nothing.

    The wrong events are kept, and their names stay taken. Totals change at once; what was billed already becomes late
    usage.
    """
    made = correction.correct(session, [_read(one) for one in body.corrections], key)
    return Corrected(void=made)


def _read(one: CorrectionIn) -> Correction:
    e = one.instead
    instead = Event(e.source, e.id, e.subject, e.type, e.time, e.data) if e else None
    return Correction(one.source, one.id, one.reason, instead)
