"""JSON Schemas of what is written into the catalog, by which editors complete and check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from api.catalog import CatalogBody, MeterBody
from api.document import describe, read_words
from api.entries import CouponIn, FeatureIn, OverrideIn, ProductIn
from api.plans import PlanIn
from billing.errors import NotFound

router = APIRouter(prefix="/v1/schemas", tags=["Catalog"])

SHAPES: Mapping[str, type[BaseModel]] = {
    "plan": PlanIn,
    "product": ProductIn,
    "feature": FeatureIn,
    "meter": MeterBody,
    "coupon": CouponIn,
    "override": OverrideIn,
    "catalog": CatalogBody,
}


class SchemaResponse(JSONResponse):
    """JSON that is a schema itself."""

    media_type = "application/schema+json"


@router.get("/{name}.json", response_class=SchemaResponse)
def read_schema(name: str) -> SchemaResponse:
    """The JSON Schema of a plan, product, feature, meter, coupon, override or catalog. No key is needed."""
    if name not in SHAPES:
        raise NotFound("schema", name, remedy=f"There are {', '.join(SHAPES)}.")
    return SchemaResponse(schema_of(name))


def schema_of(name: str) -> dict[str, Any]:
    """With the words of the API for every field."""
    words = read_words()
    schema = SHAPES[name].model_json_schema()
    for shape, inner in {SHAPES[name].__name__: schema, **schema.get("$defs", {})}.items():
        describe(inner, words["fields"] | words["of"].get(shape, {}))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
