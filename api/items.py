"""Bodies with items of plans in them: what is said of an item and would not hold is refused where it stands."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from models.misfits import usage_in_advance
from models.reasons import IN_ARREARS


class WithItems(BaseModel):
    """A body whose metered items may not ask to be billed in advance."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def bills_usage_in_arrears(cls, sent: object) -> object:
        """An item as it is read cannot tell any more whether somebody asked for it."""
        misfit = PydanticCustomError("value_error", IN_ARREARS)
        places = list(usage_in_advance(sent))
        if places:
            found = [{"type": misfit, "loc": place, "input": True} for place in places]
            raise ValidationError.from_exception_data(cls.__name__, found)  # type: ignore[arg-type]
        return sent
