"""What a request may contain, taken from the parameter types that the installed SDK was generated with.

Stripe writes those types from its own API description, so the contract is always that of the pinned version.
The SDK leaves its enumerations open for later values; here they are closed, as they are at Stripe.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, TypeAlias, TypeVar, Union, cast, get_args, get_origin

import stripe
import typing_extensions
from pydantic import ConfigDict, TypeAdapter, ValidationError

from sandbox.stripe.answers import ApiError, invalid

P = TypeVar("P")
Form: TypeAlias = "dict[str, Form] | list[Form] | str"


def accept(kind: type[P], pairs: Iterable[tuple[str, str]]) -> P:
    """The request's parameters as the SDK's type `kind`; an `ApiError` in Stripe's words if they are not."""
    form, shape = nested(pairs), cast(Any, kind)
    try:
        return cast(P, _checker(shape).validate_python(form))
    except ValidationError as refusal:
        raise _as_stripe_says(refusal, form) from None


def nested(pairs: Iterable[tuple[str, str]]) -> Form:
    """`a[b][0]=c` as `{"a": {"b": ["c"]}}`."""
    root: dict[str, Form] = {}
    for name, value in pairs:
        *parents, last = [part.rstrip("]") for part in name.split("[")]
        place = root
        for parent in parents:
            inner = place.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise invalid("Invalid request: a parameter is both a value and a hash.", param=name)
            place = inner
        place[last] = value
    return _with_lists(root)


def _with_lists(form: Form) -> Form:
    if not isinstance(form, dict):
        return form
    if form and all(key.isdigit() for key in form):
        return [_with_lists(form[key]) for key in sorted(form, key=int)]
    return {key: _with_lists(value) for key, value in form.items()}


def _as_stripe_says(refusal: ValidationError, form: Form) -> ApiError:
    first = refusal.errors()[0]
    path = [str(part) for part in first["loc"]]
    param = path[0] + "".join(f"[{part}]" for part in path[1:]) if path else ""
    match first["type"]:
        case "missing":
            return invalid(f"Missing required param: {param}.", param=param, code="parameter_missing")
        case "extra_forbidden":
            return invalid(f"Received unknown parameter: {param}", param=param, code="parameter_unknown")
        case "int_parsing" | "int_from_float":
            given = form.get(param) if isinstance(form, dict) else None
            return invalid(f"Invalid integer: {given}", param=param, code="parameter_invalid_integer")
        case _:
            return invalid(f"Invalid {param}: {first['msg']}", param=path[0] if path else None)


class _Hash:
    """Stands in for the SDK's `UntypedStripeObject[T]`, which exists for type checkers only."""

    def __class_getitem__(cls, value: Any) -> Any:
        return dict[str, value]


@cache
def _checker(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(_closed(kind))


@cache
def _closed(kind: Any) -> Any:
    """The SDK's TypedDict without its request options, refusing unknown keys."""
    names = dict(vars(sys.modules[kind.__module__])) | {"UntypedStripeObject": _Hash}
    own = {key: hint for key, hint in kind.__annotations__.items() if key not in stripe.RequestOptions.__annotations__}
    bearer = type(kind.__name__, (), {"__annotations__": own})
    hints = typing_extensions.get_type_hints(bearer, globalns=names, localns=names, include_extras=True)
    fields = {key: _converted(hint) for key, hint in hints.items()}
    make: Any = typing_extensions.TypedDict
    closed = make(kind.__name__, fields)
    closed.__pydantic_config__ = ConfigDict(extra="forbid")
    return closed


def _converted(hint: Any) -> Any:
    """The hint with every TypedDict in it closed, and every enumeration too."""
    if typing_extensions.is_typeddict(hint):
        return _closed(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if not arguments or origin is Literal:
        return hint
    if origin is Union or origin is types.UnionType:
        return Union[tuple(_converted(choice) for choice in _choices(arguments))]  # noqa: UP007
    converted = tuple(_converted(argument) for argument in arguments)
    return origin[converted if len(converted) > 1 else converted[0]]


def _choices(arguments: tuple[Any, ...]) -> list[Any]:
    """The arms of a union: `Literal['a', 'b'] | str` loses the `str`, `Literal[''] | str` keeps it."""
    closed = any(get_origin(arm) is Literal and get_args(arm) != ("",) for arm in arguments)
    return [arm for arm in arguments if not (closed and arm is str)]
