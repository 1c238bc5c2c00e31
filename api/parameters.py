"""Parameters of the query: only those that a route declares, and none of them twice unless it is a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from api.problems import faults_of
from billing.errors import Fault, Refused
from models.reasons import or_rather

STRICT = "/v1/"
"""Routes below it are asked by callers of the API. Gateways, probes and browsers may add parameters of their own."""
MOST_NAMED = 20


async def only_declared(request: Request) -> None:
    """Refused (422) if a parameter is not one of the route, or is said more than once; what is wrong with the others is
    told with it.
    """
    if not request.scope["query_string"]:
        return
    route = request.scope["route"]
    if not route.path.startswith(STRICT):
        return
    faults = list(_faults(Counter(name for name, _ in request.query_params.multi_items()), declared(route)))
    if faults:
        raise Refused(
            "The request does not fit.",
            code="invalid_request",
            faults=[*faults[:MOST_NAMED], *_of_the_others(request, route, {fault.field for fault in faults})],
            remedy="Correct these parameters, or leave them out; /docs shows which there are.",
        )


def _of_the_others(request: Request, route: APIRoute, named: set[str]) -> list[Fault]:
    """Parameters that the route has, with values that do not fit, as the framework finds them."""
    errors = [
        error
        for part in _parts(route.dependant)
        for fields, given in ((part.path_params, request.path_params), (part.query_params, request.query_params))
        for error in request_params_to_args(fields, given)[1]
    ]
    return [fault for fault in faults_of(RequestValidationError(errors)) if fault.field not in named]


def declared(route: APIRoute) -> dict[str, bool]:
    """The names of a route's parameters of the query, and whether each is a list, which may have several values.

    Those that it reads itself are in the part of the OpenAPI document that it brings along.
    """
    found = {
        field.alias: get_origin(field.field_info.annotation) in (list, tuple)
        for part in _parts(route.dependant)
        for field in part.query_params
    }
    brought = (route.openapi_extra or {}).get("parameters", ())
    return found | {one["name"]: one["schema"].get("type") == "array" for one in brought if one["in"] == "query"}


def _parts(dependant: Dependant) -> Iterator[Dependant]:
    """A function's own parameters, and those of what it depends on."""
    yield dependant
    for part in dependant.dependencies:
        yield from _parts(part)


def _faults(given: Counter[str], known: dict[str, bool]) -> Iterator[Fault]:
    """Likeness takes long to find, so it is sought for a few names only."""
    for no, (name, times) in enumerate(given.items()):
        if name not in known:
            meant = or_rather(name, known) if no < MOST_NAMED else ""
            yield Fault(name or "''", f"there is no such parameter{meant}")
        elif times > 1 and not known[name]:
            yield Fault(name, "is given more than once")
