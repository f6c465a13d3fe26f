"""What every section of a study file has in common: no unknown key, no change once read, and a docstring under each field."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One table of the TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
