"""How events are written: CloudEvents 1.0 or plain JSON, one, a batch, or one a line; and what is wrong with each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from api.bodies import holds_nul
from billing.errors import Fault, Refused
from billing.event_check import DIGITS
from models.event import Event
from models.intake import Outcome
from models.reasons import OUT_OF_YEARS, YEARS, of_msgspec

MOST_EVENTS = 10_000
MOST_DEPTH = 100
"""So deep may data be nested. Whoever reads or writes it later must be able to, from however deep a function."""
MOST_HINTS = 20
"""Of the first events of a batch (or of a stream's lines that are read at once) it is looked for which name may have
been meant by one that there is not."""
MOST_CHARACTERS = 200
"""Of a reason, and of the place it is about: a name may be as long as the body."""

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class EventIn(Event, forbid_unknown_fields=True, frozen=True, gc=False, rename={"occurred_at": "time"}):
    """One usage event; (`source`, `id`) makes it one, whatever its time says. `time` carries a zone.

    `subject` is the customer, by its id or one of its aliases. `data` carries what meters count.
    """

    # It is read as the event that is stored, not copied into one: events are many. So it has all of its fields.
    source: Word
    id: Word
    subject: Word
    type: Word
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)]
    data: dict[str, Any] = {}


class CloudEventIn(msgspec.Struct, frozen=True):
    """An event of CloudEvents 1.0, whose data is JSON. Its extension attributes count as if they were in `data`."""

    specversion: Literal["1.0"]
    source: Word
    id: Word
    subject: Word
    type: Word
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    data: dict[str, Any] | None = None
    datacontenttype: Annotated[str, msgspec.Meta(pattern=r"^application/([\w.-]+\+)?json\b")] | None = None
    dataschema: str | None = None
    data_base64: None = None


class EventsIn(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A batch. Each event is answered by itself."""

    events: Annotated[list[EventIn], msgspec.Meta(min_length=1, max_length=MOST_EVENTS)]


class _RawEvents(msgspec.Struct, forbid_unknown_fields=True):
    events: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MOST_EVENTS)]


def _number(text: str) -> Decimal:
    """A number with a point or an exponent, exactly; one of absurd size would take up as many digits as it names."""
    try:
        number = Decimal(text)
    except ArithmeticError as error:
        raise ValueError(_ABSURD) from error
    if number.adjusted() >= DIGITS or int(number.as_tuple().exponent) < -DIGITS:
        raise ValueError(_ABSURD)
    return number


_ABSURD = f"Numbers must be below 10^{DIGITS} and have at most {DIGITS} decimal places"
_PLAIN = msgspec.json.Decoder(EventIn, float_hook=_number)
_PLAIN_ALL = msgspec.json.Decoder(EventsIn, float_hook=_number)
_CLOUD = msgspec.json.Decoder(CloudEventIn, float_hook=_number)
_ATTRIBUTES = msgspec.json.Decoder(dict[str, Any], float_hook=_number)
_NAMES = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAW_ALL = msgspec.json.Decoder(_RawEvents)
_RAW_LIST = msgspec.json.Decoder(Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MOST_EVENTS)])
_EXTENSION = re.compile(r"[a-z0-9]{1,20}")

Read = Event | Outcome
"""An event, or what is wrong with it."""


def read_batch(body: bytes) -> list[Read]:
    """The events of a JSON document: `{"events": [...]}`, a list, or a single event. Refused if it is none of these."""
    try:
        if not holds_nul(body):
            found = _PLAIN_ALL.decode(body).events
            check = _checked if _may_be_deep(body, len(found) + sum(1 for e in found if e.data)) else _in_years
            return [check(e) for e in found]
    except _TROUBLE:
        pass  # One event or another is wrong, or it is another kind of document; which, is found one by one.
    return _read_each(_raws(body))


def _raws(body: bytes) -> Sequence[bytes | msgspec.Raw]:
    """Each event as it is written. An object is one event if it has an id or a source, else a batch."""
    start = body.lstrip(b" \t\r\n")[:1]
    if not start:
        raise invalid([Fault("body", "is empty")])
    try:
        if start == b"[":
            listed: list[msgspec.Raw] = _RAW_LIST.decode(body)
            return listed
        if start == b"{" and _NAMES.decode(body).keys() & {"id", "source"}:
            return [body]
        return _RAW_ALL.decode(body).events
    except msgspec.ValidationError as error:
        fault = _fault(error, "events", _FIELDS)
        raise invalid([fault], _IN_PARTS if fault.reason == _TOO_MANY else _AGAIN) from error
    except RecursionError as error:
        raise invalid([Fault("body", _TOO_DEEP.reason)], _AS_LINES_ALONE) from error
    except _TROUBLE as error:
        several = start == b"{" and _MORE in str(error)
        raise invalid([Fault("body", f"{_UNREADABLE}: {error}")], _AS_LINES if several else _AGAIN) from error


_UNREADABLE = "is not JSON that can be read"
_MORE = "trailing characters"
"""What msgspec says of a JSON document with something behind it."""
_TOO_MANY = of_msgspec(f"Expected `array` of length <= {MOST_EVENTS}")
_AGAIN = "Correct them and send them again."
_IN_PARTS = (
    f"Send them in parts of at most {MOST_EVENTS:,}, or to POST /v1/events as a stream without end: one event a line,"
    " as application/x-ndjson."
)
_AS_LINES_ALONE = (
    "As a stream, one event a line (application/x-ndjson), only the event that is nested too deeply is refused."
)
_AS_LINES = (
    "Several events are a list, [..., ...], or lines: with Content-Type: application/x-ndjson, and of a file with curl"
    " --data-binary, since -d takes away the ends of lines."
)


def read_lines(lines: Sequence[bytes]) -> list[Read]:
    """One event a line; empty lines must be left out before. What is no JSON is an invalid event."""
    return _read_each(lines)


def _read_each(raws: Sequence[bytes | msgspec.Raw]) -> list[Read]:
    return [_read_one(bytes(raw), _FIELDS if n < MOST_HINTS else ()) for n, raw in enumerate(raws)]


def _read_one(raw: bytes, known: Sequence[str]) -> Read:
    """An event in either form: what says at its top which version of CloudEvents it follows is one of these. `known`
    are the names that may have been meant by one that there is not.
    """
    check = _checked if _may_be_deep(raw, 0) else _in_years
    try:
        if holds_nul(raw):
            return Outcome("invalid", "holds the character U+0000, which cannot be stored")
        if b'"specversion"' not in raw or "specversion" not in _NAMES.decode(raw):
            return check(_PLAIN.decode(raw))
        cloud = _CLOUD.decode(raw)
        data = (cloud.data or {}) | _extensions(_ATTRIBUTES.decode(raw), cloud.data or {})
        return check(Event(cloud.source, cloud.id, cloud.subject, cloud.type, cloud.time, data))
    except msgspec.ValidationError as error:
        fault = _fault(error, "", known)
        return Outcome("invalid", fault.reason, fault.field)
    except RecursionError:
        return _TOO_DEEP
    except _TROUBLE as error:
        several = "; a line holds one event, and curl keeps the ends of lines with --data-binary"
        return Outcome("invalid", f"{_UNREADABLE}: {error}{several if _MORE in str(error) else ''}")


_TROUBLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError, msgspec.ValidationError)


def _extensions(attributes: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in attributes.items() if name not in CloudEventIn.__struct_fields__}
    for name in found:
        if not _EXTENSION.fullmatch(name):
            raise msgspec.ValidationError(f"is no name of an attribute: 1 to 20 of a-z and 0-9 - at `$.{name}`")
        if name in data:
            raise msgspec.ValidationError(f"stands in `data` too - at `$.{name}`")
    return found


def _in_years(e: Event) -> Read:
    return e if e.occurred_at.year in YEARS else Outcome("invalid", OUT_OF_YEARS, "time")


def _may_be_deep(body: bytes, others: int) -> bool:
    """Whether it has brackets enough for data that is nested too deeply, besides so many others."""
    return body.count(b"{") + body.count(b"[") > others + MOST_DEPTH


_TOO_DEEP = Outcome("invalid", f"must not be nested deeper than {MOST_DEPTH} levels", "data")


def _checked(e: Event) -> Read:
    return _TOO_DEEP if _is_deep(e.data) else _in_years(e)


def _is_deep(data: Mapping[str, object]) -> bool:
    level: list[Any] = [data]
    for _ in range(MOST_DEPTH):
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
        level = [inner for inner in level if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def time_as_read(written: object) -> object:
    """A time as the events of this module have it, to the same microsecond; what is none stays as it is."""
    try:
        return msgspec.convert(written, datetime)
    except msgspec.ValidationError:
        return written


def data_as_read(data: dict[str, Any]) -> dict[str, Any]:
    """Data that was read elsewhere as the events of this module have it. Raises ValueError for numbers none has."""
    try:
        found: dict[str, Any] = _ATTRIBUTES.decode(_EXACT.encode(data))
    except _TROUBLE as error:
        raise ValueError(of_msgspec(str(error).partition(" - at `")[0])) from error
    if _is_deep(found):
        raise ValueError(_TOO_DEEP.reason)
    return found


_EXACT = msgspec.json.Encoder(decimal_format="number")


def _fault(error: msgspec.ValidationError, otherwise: str, known: Sequence[str] = ()) -> Fault:
    """msgspec says `reason - at `$.path``."""
    reason, _, path = str(error).partition(" - at `")
    field = path.rstrip("`").removeprefix("$").replace("[...]", "").replace("[", ".").replace("]", "").strip(".")
    field = field[:MOST_CHARACTERS] or otherwise
    return Fault(field, _OF_CLOUD_EVENTS.get(field) or of_msgspec(reason, field, known)[:MOST_CHARACTERS])


_FIELDS = ("events", *EventIn.__struct_encode_fields__)
_OF_CLOUD_EVENTS = {
    "specversion": "must be 1.0",
    "data_base64": "is not supported: `data` must be JSON",
    "datacontenttype": "must be JSON, such as application/json: no other data is supported",
}
"""What CloudEvents may have and events here may not, by field."""


def invalid(faults: Sequence[Fault], remedy: str = _AGAIN) -> Refused:
    """No event was taken in."""
    return Refused(
        "None of the events was taken in.",
        code="invalid_events",
        faults=faults,
        remedy=remedy,
    )
