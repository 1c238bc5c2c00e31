"""A client of Perennial that others install: usage in batches, and thin calls of the API. Nothing of the server."""

from perennial_client.buffer import BufferFull, EventBuffer
from perennial_client.client import Perennial
from perennial_client.encoding import Json
from perennial_client.events import Event, Events, Receipt, RefusedEvent
from perennial_client.problem import FieldError, ProblemError, UnreadableAnswer
from perennial_client.retries import Retries

__all__ = [
    "BufferFull",
    "Event",
    "EventBuffer",
    "Events",
    "FieldError",
    "Json",
    "Perennial",
    "ProblemError",
    "Receipt",
    "RefusedEvent",
    "Retries",
    "UnreadableAnswer",
]
