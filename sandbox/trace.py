"""Usage of a language model's customers: real traces from files, or a generated one of the same shape."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

BATCH = 1000
COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
"""Of a trace in a file; others in it are not looked at."""


@dataclass(frozen=True, slots=True)
class Request:
    """One inference request: when, and how many tokens went in and came out."""

    at: datetime
    context: int
    generated: int


@dataclass(frozen=True, slots=True)
class Source:
    """A customer's requests in order of time, under the name that its events carry."""

    name: str
    subject: str
    requests: Sequence[Request]


def generated(month: date, requests: int, seed: int = 7) -> list[Request]:
    """Requests spread over a month of 28 days and more, with the skew of real ones: most short, some very long."""
    dice = random.Random(seed)
    start = datetime(month.year, month.month, 1, tzinfo=UTC)
    length = 28 * 86400
    moments = sorted(dice.randrange(length) for _ in range(requests))
    return [
        Request(
            start + timedelta(seconds=moment),
            int(min(14_000, dice.lognormvariate(6.6, 1.0))) + 3,
            int(min(1_000, dice.lognormvariate(4.9, 0.9))) + 1,
        )
        for moment in moments
    ]


def read(path: Path) -> list[Request]:
    """A CSV file with the columns TIMESTAMP (UTC), ContextTokens and GeneratedTokens.

    Raises ValueError if there is no such file, if it has other columns, or, naming the line, if a row cannot be read.
    """
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    found: list[Request] = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        there = list(reader.fieldnames or ())
        if not set(COLUMNS) <= set(there):
            raise ValueError(f"{path} must have the columns {', '.join(COLUMNS)}; it has {', '.join(there) or 'none'}")
        for row in reader:
            at, context, made = (row[name] or "" for name in COLUMNS)
            try:
                moment = datetime.fromisoformat(at[:26].strip()).replace(tzinfo=UTC)
                found.append(Request(moment, int(context), int(made)))
            except ValueError as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    if not found:
        raise ValueError(f"{path} has no rows")
    return sorted(found, key=lambda request: request.at)


def sent_before(source: Source, part: str) -> slice:
    """Which requests belong to a part of the story."""
    half = len(source.requests) // 2
    return slice(0, half) if part == "first half" else slice(half, None)


def events(source: Source, part: slice) -> Iterator[list[dict[str, object]]]:
    """The events of a part in batches. Their ids follow from their place in the trace."""
    first = part.start or 0
    chosen = list(source.requests[part])
    for at in range(0, len(chosen), BATCH):
        yield [
            {
                "source": source.name,
                "id": f"request-{first + at + i}",
                "subject": source.subject,
                "type": "llm.request",
                "time": request.at.isoformat(),
                "data": {"input_tokens": request.context, "output_tokens": request.generated},
            }
            for i, request in enumerate(chosen[at : at + BATCH])
        ]
