"""The same events from 32 connections at the same moment, to two processes of the API: each counts once.

Bare HTTP: all but the last byte of a request is sent, then all connections let go of theirs together.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.migrations import migrate
from sandbox.postgres import Postgres
from sandbox.temporal import Temporal
from tests.test_ingest_storm import Sent, judge, round_of

CONNECTIONS, ROUNDS, EVENTS = 32, 4, 60
SECONDS = 60


def test_each_event_counts_once_whoever_sends_it_at_the_same_moment(
    postgres: Postgres, temporal: Temporal, tmp_path: Path
) -> None:
    """Strangers among them: one of the senders is told that they wait, the others that they are known."""
    migrate(postgres.create_database("storm"))
    with round_of(postgres, temporal, tmp_path, "rivals") as storm:
        ports = [api.port for api in storm.apis]
        for turn in range(ROUNDS):
            events = [Sent(no) for no in range(turn * EVENTS, (turn + 1) * EVENTS)]
            told = asyncio.run(asyncio.wait_for(rivals(ports, storm.key, events), SECONDS))
            answers: dict[Sent, Counter[str]] = {one: Counter() for one in events}
            for order, receipt in told:
                storm._note(order, receipt)
                assert receipt["accepted"] + receipt["duplicate"] + receipt["quarantined"] == len(order)
                for one, outcome in zip(order, outcomes(receipt, len(order)), strict=True):
                    answers[one][outcome] += 1
            for one, answer in answers.items():
                first = "accepted" if one.customer else "quarantined"
                assert answer == {first: 1, "duplicate": CONNECTIONS - 1}, one
        assert {one.customer for one in events} > {None, "hot"}
        assert judge(storm) == sum(1 for no in range(ROUNDS * EVENTS) if Sent(no).customer)
    postgres.drop_database("rivals")
    postgres.drop_database("storm")


async def rivals(ports: Sequence[int], key: str, events: Sequence[Sent]) -> list[tuple[list[Sent], dict[str, Any]]]:
    """Each connection's events, in an order of its own, and what it was told."""
    together = asyncio.Barrier(CONNECTIONS)

    async def one(no: int) -> tuple[list[Sent], dict[str, Any]]:
        order = random.Random(no).sample(events, len(events))
        body = json.dumps({"events": [sent.written for sent in order]}).encode()
        head = (
            f"POST /v1/events HTTP/1.1\r\nHost: perennial.test\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[no % len(ports)])
        writer.write(head.encode() + body[:-1])
        await writer.drain()
        await together.wait()
        writer.write(body[-1:])
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert answer.startswith(b"http/1.1 200 "), answer
        length = answer.index(b"content-length:") + len(b"content-length:")
        receipt = json.loads(await reader.readexactly(int(answer[length : answer.index(b"\r\n", length)])))
        writer.close()
        return order, receipt

    return await asyncio.gather(*(one(no) for no in range(CONNECTIONS)))


def outcomes(receipt: dict[str, Any], many: int) -> list[str]:
    found = dict.fromkeys(range(many), "accepted") | {one["index"]: one["outcome"] for one in receipt["events"]}
    return [found[index] for index in range(many)]
