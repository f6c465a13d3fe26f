"""The base class of the sections of a study file: no unknown keys, immutable, and a docstring under each field."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MOST_COUNT = 2**31 - 1  # of anything: the columns of the tables have 32 bits
PositiveInt = Annotated[int, Field(gt=0, le=MOST_COUNT)]


class Section(BaseModel):
    """One table of the TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
