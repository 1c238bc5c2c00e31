"""A load generator: prepared requests over some connections, one after another on each, at little cost of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import uvloop


@dataclass(frozen=True, slots=True)
class Run:
    """How long it took, and how the requests were answered."""

    seconds: float
    statuses: dict[int, int]


def run(url: str, key: str, bodies: Sequence[bytes], connections: int) -> Run:
    """POST all bodies as JSON, as fast as they are answered."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(url, key, bodies, connections))


async def _run(url: str, key: str, bodies: Sequence[bytes], connections: int) -> Run:
    where = urlsplit(url)
    head = (
        f"POST {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    waiting = iter(bodies)
    statuses: dict[int, int] = {}

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        for body in waiting:
            writer.write(head + str(len(body)).encode() + b"\r\n\r\n" + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            status = int(answer[9:12])
            statuses[status] = statuses.get(status, 0) + 1
            length = answer.index(b"content-length:") + len(b"content-length:")
            await reader.readexactly(int(answer[length : answer.index(b"\r\n", length)]))
        writer.close()

    begun = time.monotonic()
    await asyncio.gather(*(connection() for _ in range(connections)))
    return Run(time.monotonic() - begun, statuses)
