"""Every operation of the OpenAPI document asked with what its schemas allow and what they do not, by schemathesis.

Temporal and the workers run, so no operation is left out; only what has no end is asked for things that are not there.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.conftest import Front, problem
from tests.conftest import application

pytestmark = pytest.mark.anyio

EXAMPLES = 4
"""Of each operation, as many that fit its schemas and as many that do not."""
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def keyless() -> dict[str, Any]:
    """The document without its keys: the house's client always sends one, so a request must be wrong in another way."""
    found = json.loads(json.dumps(application().openapi()))
    del found["components"]["securitySchemes"]
    for operations in found["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return dict(found)


SCHEMA = schemathesis.openapi.from_dict(keyless())
OPERATIONS = {one.ok().label: one.ok() for one in SCHEMA.get_all_operations()}
STANDING = {
    "customer_id": "cus",
    "entity_id": "acme",
    "plan_id": "team",
    "month": "2026-01",
    "gateway": "pretend",
    "name": "catalog",
}
"""What is there, so that requests come further than to its absence. No clock is: it would walk for hours."""


def drawn(label: str, mode: GenerationMode) -> list[Case]:
    """The same cases at each run."""
    found: list[Case] = []

    @seed(4)
    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        derandomize=False,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(OPERATIONS[label].as_strategy(generation_mode=mode))
    def draw(case: Case) -> None:
        found.append(case)

    try:
        draw()
    except Unsatisfiable:  # Where any text will do, nothing is wrong.
        assert mode is GenerationMode.NEGATIVE
    return found


@pytest.mark.parametrize("label", OPERATIONS)
async def test_answers_are_those_of_the_document(front: Front, label: str) -> None:
    cases = drawn(label, GenerationMode.POSITIVE)
    assert cases
    for no, case in enumerate(cases + drawn(label, GenerationMode.NEGATIVE)):
        if no % 2:
            case.path_parameters = {**case.path_parameters, **known(case.path_parameters)}
        asked = requests.Request(**case.as_transport_kwargs(base_url="http://perennial.test")).prepare()
        headers = {name: value for name, value in asked.headers.items() if name.lower() != "authorization"}
        answer = await front.api.request(asked.method or "", asked.url or "", headers=headers, content=asked.body)
        faults = found(case, answer)
        assert not faults, (
            f"{asked.method} {asked.url} {asked.body!r}: {answer.status_code} {answer.text[:500]}\n{faults}"
        )
        if not answer.is_success:
            problem(answer, answer.status_code)


def found(case: Case, answer: httpx.Response) -> str:
    """What is wrong with the answer, in words: the groups of errors themselves are long in the making."""
    try:
        case.validate_response(answer, checks=CHECKS)
    except FailureGroup as failures:
        return "\n".join(f"{failure.title}: {failure.message[:500]}" for failure in failures.exceptions)
    return ""


def known(parameters: dict[str, Any]) -> dict[str, str]:
    return {name: STANDING[name] for name in parameters if name in STANDING}
