"""The door for usage events: one, a batch, or a stream of lines; the answer says of each what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar, get_args

import msgspec
import prometheus_client
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api.access import held, ingester
from api.bodies import MEBIBYTE
from api.event_formats import CloudEventIn, EventIn, EventsIn, Read, invalid, read_batch, read_lines
from api.event_media import is_stream
from api.intake import Intake, Room, TooBusy, too_many
from api.parameters import only_declared
from api.unpacking import unpacked
from billing.errors import Fault, Refused, Unavailable
from models.event import Event
from models.intake import Outcome, OutcomeKind

PATH = "/v1/events"
router = APIRouter(tags=["Usage"])

T = TypeVar("T")

MOST_BYTES_OF_BATCH = 16 * MEBIBYTE
MUCH = MEBIBYTE
MOST_BYTES_OF_LINE = MEBIBYTE
MOST_BYTES_OF_CHUNK = 4 * MEBIBYTE
LINES_AT_ONCE = 5_000
MOST_LISTED = 10_000
"""Of each outcome."""
SECONDS_OF_SILENCE = 30
"""Of a sender in the middle of a batch, for which memory is held."""

EVENTS = prometheus_client.Counter("perennial_usage_events", "Usage events by what became of them.", ["outcome"])
_KINDS: tuple[OutcomeKind, ...] = get_args(OutcomeKind)
_EVENTS = {kind: EVENTS.labels(kind) for kind in _KINDS}


class Answered(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event that was not simply accepted: which one, by its place from 0, what became of it, and why."""

    index: int
    outcome: str
    reason: str = ""
    field: str = ""


class Receipt(msgspec.Struct, frozen=True):
    """What became of the events, in numbers that add up to how many were sent. Those not in `events` were accepted.

    accepted: stored, and in the totals. duplicate: known already. conflict: another content came under this source and
    id before, and counts. quarantined: kept until its customer is known, or its time is said to be
    meant. invalid: not kept. Of a stream, `events` lists the first 10,000 of each outcome.
    """

    accepted: int
    duplicate: int
    conflict: int
    quarantined: int
    invalid: int
    events: list[Answered]


_BODY, _PARTS = msgspec.json.schema_components(
    [EventsIn, EventIn, CloudEventIn, Receipt], ref_template="#/components/schemas/{name}"
)
OPENAPI_PARTS = _PARTS
_BATCH_BODY, _ONE_BODY, _CLOUD_BODY, _RECEIPT = _BODY
_RECEIPTS = {"description": "What became of the events.", "content": {"application/json": {"schema": _RECEIPT}}}
BODY_OF_EVENTS: dict[str, Any] = {
    "security": [{"HTTPBearer": ["ingest"]}],
    "parameters": [{"name": "whatever_time", "in": "query", "schema": {"type": "boolean", "default": False}}],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"anyOf": [_BATCH_BODY, _ONE_BODY, {"type": "array", "items": _ONE_BODY}]}},
            "application/cloudevents+json": {"schema": _CLOUD_BODY},
            "application/cloudevents-batch+json": {"schema": {"type": "array", "items": _CLOUD_BODY}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    },
    "responses": {"200": _RECEIPTS, "207": {**_RECEIPTS, "description": "The same; some were not taken in."}},
}


@router.post(PATH, openapi_extra=BODY_OF_EVENTS, response_class=Response)
async def send_events(request: Request) -> Response:
    """Take in usage events. The answer comes after they are stored, attributed and in the totals.

    As JSON (`{"events": [...]}`, a list, or one event), as CloudEvents 1.0 (one or a batch), up to 10,000 events and
    16 MiB; or as a stream of lines (`application/x-ndjson`), which has no end and is taken in as it comes. Packed with
    gzip or zstd if you like. Each event is answered by itself, and one that is wrong does not hold back the others:
    with status 422 all were invalid and nothing is kept; with 207 some were, or some or all are in conflict. A
    duplicate is the same (source, id). With 429 come back after a while.

    An event whose time lies far back or ahead is quarantined; with `whatever_time=true` it counts like the others: for
    usage that is brought in from before.
    """
    await ingester(request)
    await only_declared(request)
    taken = _Taken(whatever_time(request))
    intake = held(request).intake
    if is_stream(request):
        await _take_stream(_unpacked(request, request.stream()), intake, taken)
    else:
        with intake.room.holding() as hold:
            await taken.take(await batch_of(request, hold), intake)
    return taken.answer()


def _unpacked(request: Request, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    return unpacked(pieces, encoding) if encoding else pieces


def whatever_time(request: Request) -> bool:
    """Whether the sender says that the times are meant, whatever they are."""
    said = request.query_params.get("whatever_time", "false") if request.scope["query_string"] else "false"
    if said not in ("true", "false"):
        raise Refused(
            "The request does not fit.",
            code="invalid_request",
            faults=[Fault("whatever_time", "must be true or false")],
            remedy="Correct it, or leave it out.",
        )
    return said == "true"


async def batch_of(request: Request, hold: Callable[[int], None]) -> list[Read]:
    """The events of a request that is no stream. `hold` is called for the bytes that are kept in memory."""
    body = bytearray()
    try:
        async for piece in _unpacked(request, _as_they_come(request)):
            hold(len(piece))
            body += piece
            if len(body) > MOST_BYTES_OF_BATCH:
                raise Refused(
                    f"The body is larger than {MOST_BYTES_OF_BATCH // MEBIBYTE} MiB.",
                    code="too_large",
                    remedy="Send less at once, or a stream of lines.",
                )
    except TimeoutError as error:
        raise Refused(
            f"Nothing came for {SECONDS_OF_SILENCE} seconds, and the body is not whole.",
            code="too_slow",
            remedy="Send it again, with the same ids.",
        ) from error
    return await _read(read_batch, bytes(body), len(body))


async def _as_they_come(request: Request) -> AsyncIterator[bytes]:
    """The body from the network, whose sender may not be silent for long: something may be held of it.

    Most come whole, as their length tells: to ask for a next piece, with a timer, takes longer than to read an event.
    """
    announced = None if "transfer-encoding" in request.headers else request.headers.get("content-length")
    came, more = 0, True
    while more:
        async with asyncio.timeout(SECONDS_OF_SILENCE):
            message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece = message.get("body", b"")
        came += len(piece)
        yield piece
        more = message.get("more_body", False) and str(came) != announced


async def _take_stream(pieces: AsyncIterator[bytes], intake: Intake, taken: _Taken) -> None:
    """Chunk by chunk; the next is read from the network when the last is committed.

    A chunk that waits for room is not read as events yet, and does not grow. What is wrong further on does not take
    back what was stored, so the refusal says how much that is.
    """
    try:
        async for lines in _chunks(pieces, intake.room):
            size = sum(map(len, lines))
            async with intake.room.waited_for(size):
                await taken.take(await _read(read_lines, lines, size), intake, patient=True)
    except Unavailable as error:
        raise Unavailable(f"{error.reason}{taken.so_far}", after=error.after) from error
    except Refused as error:
        if not taken.total:
            raise
        raise Refused(
            f"{error.reason}{taken.so_far}", code=error.code, faults=error.faults, remedy=error.remedy
        ) from error
    if not taken.total:
        raise invalid([Fault("body", "holds no events")])


async def _read(read: Callable[[T], list[Read]], what: T, size: int) -> list[Read]:
    """Much is read beside the loop, so that other requests go on."""
    return read(what) if size < MUCH else await run_in_threadpool(read, what)


async def _chunks(pieces: AsyncIterator[bytes], room: Room) -> AsyncIterator[list[bytes]]:
    """Whole lines, some thousands or some MiB at a time, or what came before room ran out; empty ones are left out."""
    lines: list[bytes] = []
    rest, held, ended = b"", 0, 0
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        ended += len(whole)
        lines += [line for line in whole if line.strip()]
        held += len(piece)
        if len(rest) > MOST_BYTES_OF_LINE:
            raise Refused(
                f"Line {ended + 1} is larger than {MOST_BYTES_OF_LINE // MEBIBYTE} MiB.",
                code="too_large",
                remedy="A line is one event: give it less data. If it is a whole file, its ends of lines got lost, as"
                " by curl -d; --data-binary keeps them.",
            )
        if len(lines) >= LINES_AT_ONCE or held >= MOST_BYTES_OF_CHUNK or (lines and not room.has(held)):
            yield lines
            lines, held = [], 0
    if rest.strip():
        lines.append(rest)
    if lines:
        yield lines


class _Taken:
    """What became of a request's events so far."""

    def __init__(self, whatever_time: bool) -> None:
        self.whatever_time = whatever_time
        self.counts: dict[OutcomeKind, int] = dict.fromkeys(_KINDS, 0)
        self.listed: list[Answered] = []
        self._to_list: dict[OutcomeKind, int] = dict.fromkeys(_KINDS, MOST_LISTED)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def so_far(self) -> str:
        """What a refusal adds to its reason."""
        what = ", ".join(f"{many} {outcome}" for outcome, many in sorted(self.counts.items()) if many)
        return f" {self.total} events were answered for before: {what or 'none'}."

    async def take(self, found: Sequence[Read], intake: Intake, *, patient: bool = False) -> None:
        """Those that can be read, stored; then all of them, counted. A stream waits where others are sent away."""
        events = [one for one in found if isinstance(one, Event)]
        stored = iter(await self._stored(events, intake, patient) if events else ())
        outcomes = [one if isinstance(one, Outcome) else next(stored) for one in found]
        for index, outcome in enumerate(outcomes, self.total):
            if outcome.kind != "accepted" and self._to_list[outcome.kind]:
                self._to_list[outcome.kind] -= 1
                self.listed.append(Answered(index, outcome.kind, outcome.reason, outcome.field))
        kinds = [outcome.kind for outcome in outcomes]
        for kind in set(kinds):
            many = kinds.count(kind)
            self.counts[kind] += many
            _EVENTS[kind].inc(many)

    async def _stored(self, events: Sequence[Event], intake: Intake, patient: bool) -> list[Outcome]:
        while True:
            try:
                return await intake.take(events, whatever_time=self.whatever_time)
            except TooBusy as error:
                if not patient:
                    raise too_many(error.reason) from error
                await asyncio.sleep(0.05)

    def answer(self) -> Response:
        counts = self.counts
        if counts["invalid"] == self.total:
            raise invalid([as_fault(one) for one in self.listed])
        receipt = Receipt(**counts, events=self.listed)
        status = 207 if counts["invalid"] or counts["conflict"] else 200
        return Response(msgspec.json.encode(receipt), status, media_type="application/json")


def as_fault(one: Answered) -> Fault:
    return Fault(f"events.{one.index}" + (f".{one.field}" if one.field else ""), one.reason)
