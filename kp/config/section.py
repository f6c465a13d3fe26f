"""The base class of the sections of a study file: no unknown keys, immutable, and a docstring under each field."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One table of the TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
