"""Which objects and fields the local organisation has, what values they take, and how the API says no.

Messages and codes follow the REST API Developer Guide, "Status Codes and Error Responses".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

Kind = Literal["id", "reference", "string", "double", "date", "dateTime"]
Value = str | float | int | None


class ApiError(Exception):
    """An answer that is an error: a JSON list with one entry."""

    def __init__(self, status: int, code: str, message: str, fields: Sequence[str] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields

    @property
    def body(self) -> list[dict[str, object]]:
        entry: dict[str, object] = {"message": self.message, "errorCode": self.code}
        return [entry if self.fields is None else entry | {"fields": list(self.fields)}]


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `parent` is the object a reference points to, and `relationship` its name in a field path."""

    name: str
    kind: Kind = "string"
    required: bool = False
    external_id: bool = False
    read_only: bool = False
    parent: str | None = None
    relationship: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectType:
    """One kind of record. `prefix` is how the ids of its records begin."""

    name: str
    prefix: str
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field | None:
        """The field of that name; Salesforce does not mind the case."""
        return next((field for field in self.fields if field.name.lower() == name.lower()), None)

    def parent(self, relationship: str) -> Field | None:
        """The reference that a field path such as `Account.Name` follows."""
        return next((f for f in self.fields if (f.relationship or "").lower() == relationship.lower()), None)


_SYSTEM = (
    Field("Id", "id", read_only=True),
    Field("CreatedDate", "dateTime", read_only=True),
    Field("LastModifiedDate", "dateTime", read_only=True),
    Field("SystemModstamp", "dateTime", read_only=True),
)

ACCOUNT = ObjectType(
    "Account",
    "001",
    (
        *_SYSTEM,
        Field("Name", required=True),
        Field("BillingCountryCode"),
        Field("BillingStreet"),
        Field("BillingPostalCode"),
        Field("BillingCity"),
        Field("Email__c"),
        Field("Time_Zone__c"),
        Field("VAT_Id__c", external_id=True),
    ),
)

OPPORTUNITY = ObjectType(
    "Opportunity",
    "006",
    (
        *_SYSTEM,
        Field("Name", required=True),
        Field("AccountId", "reference", parent="Account", relationship="Account"),
        Field("StageName", required=True),
        Field("CloseDate", "date", required=True),
        Field("CurrencyIsoCode"),
        Field("Plan__c"),
        Field("Seats__c", "double"),
        Field("Start_Date__c", "date"),
        Field("Discount_Percent__c", "double"),
        Field("Prepaid_Credit__c", "double"),
        Field("PO_Number__c"),
        Field("Legal_Entity__c"),
        Field("Perennial_Subscription__c", external_id=True),
        Field("Perennial_Status__c"),
    ),
)

OBJECTS: Mapping[str, ObjectType] = {kind.name.lower(): kind for kind in (ACCOUNT, OPPORTUNITY)}


def checked(kind: ObjectType, values: Mapping[str, object], *, creating: bool) -> dict[str, Value]:
    """The values as they are stored, by the fields' own names; ApiError if the API would not take them."""
    stored: dict[str, Value] = {}
    for name, value in values.items():
        if name == "attributes":
            continue
        field = kind.field(name)
        if field is None:
            raise ApiError(400, "INVALID_FIELD", f"No such column '{name}' on sobject of type {kind.name}")
        if field.read_only:
            raise ApiError(
                400,
                "INVALID_FIELD_FOR_INSERT_UPDATE",
                f"Unable to create/update fields: {field.name}. Please check the security settings of this field "
                "and verify that it is read/write for your profile or permission set.",
                [field.name],
            )
        stored[field.name] = _stored(field, value)
    missing = [
        field.name
        for field in kind.fields
        if field.required and stored.get(field.name) is None and (creating or field.name in stored)
    ]
    if missing:
        raise ApiError(400, "REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", missing)
    return stored


def _stored(field: Field, value: object) -> Value:
    """Text is trimmed and an empty one is null, as in Salesforce; numbers are doubles."""
    match field.kind, value:
        case _, None:
            return None
        case "double", int() | float() if not isinstance(value, bool):
            return float(value)
        case "double", str() if re.fullmatch(r"\s*[+-]?\d+(\.\d+)?\s*", value):
            return float(value)
        case "date", str() if _is_date(value):
            return value
        case (("string" | "reference"), str()):
            return value.strip() or None
    raise ApiError(
        400, "JSON_PARSER_ERROR", f"Cannot deserialize instance of {field.kind} from value {value} or request may be "
        "missing a required field",
    )  # fmt: skip


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
