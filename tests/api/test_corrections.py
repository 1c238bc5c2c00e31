"""An event that counts instead of another is read as one that is sent: the same content, or refused likewise."""

from __future__ import annotations

import pytest

from tests.api.conftest import Front
from tests.api.test_events import event, send

pytestmark = pytest.mark.anyio
NOON = "2026-01-05T12:00:00Z"


async def corrected(front: Front, number: str, at: str) -> tuple[int, str, str]:
    """The status, the answer, and the event that shall count, as JSON."""
    customer = await front.customer()
    wrong = event(subject=customer)
    await send(front, [wrong])
    name = f"{wrong['id']}-mended"
    instead = (
        f'{{"source":"s","id":"{name}","subject":"{customer}","type":"llm","time":"{at}","data":{{"n":{number}}}}}'
    )
    body = f'{{"corrections":[{{"source":"s","id":"{wrong["id"]}","reason":"wrong","instead":{instead}}}]}}'
    answer = await front.api.post("/v1/events/corrections", content=body, headers={"content-type": "application/json"})
    return answer.status_code, answer.text, instead


@pytest.mark.parametrize(
    ("number", "at"),
    [
        ("0.10", NOON),
        ("-0.0", NOON),
        ("1e3", "2026-01-05T13:00:00.1234567+01:00"),
        ("12345678901234567890123", "2026-01-05T12:00:00.999999999Z"),
    ],
)
async def test_what_counts_instead_is_a_duplicate_when_it_is_sent(front: Front, number: str, at: str) -> None:
    status, said, instead = await corrected(front, number, at)
    assert status == 200, said
    assert (await front.api.post("/v1/events", content=instead)).json()["duplicate"] == 1


@pytest.mark.parametrize(
    ("number", "at", "field"),
    [("1e400", NOON, "data"), ("1e-40", NOON, "data"), ("1", "1767607200", "time"), ("1", "2026-01-05", "time")],
)
async def test_what_cannot_be_sent_cannot_count_instead(front: Front, number: str, at: str, field: str) -> None:
    status, said, instead = await corrected(front, number, at)
    assert status == 422
    assert f'"corrections.0.instead.{field}"' in said and "$" not in said
    assert (await front.api.post("/v1/events", content=instead)).status_code == 422
