"""A baseline: what the base answered, as a small file to commit, so that a gate elsewhere does not measure the base again.

It holds counts per control fact and no texts. Whoever reads it must ask the same facts in the same way of the same model, so it also holds
what identifies these; a baseline made in another way is refused with the difference.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from kp.errors import UserError
from kp.gate.questions import PROMPTS, Questions
from kp.schema import OUTCOMES, frame
from kp.store import files
from kp.vocabulary import BASE, FactRole

FIELD = "--baseline"
_KIND = "kp gate baseline"


def write_baseline(path: Path, identity: Mapping[str, Any], outcomes: pl.DataFrame) -> None:
    """Write the OUTCOMES of the base with what identifies them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = outcomes.select("fact_id", "shot_set", "correct", "asked", "category", "refused").to_dict(as_series=False)
    files.write_json(path, {"kind": _KIND, "identity": dict(identity), "outcomes": columns})


def read_baseline(path: Path, identity: Mapping[str, Any]) -> pl.DataFrame:
    """The OUTCOMES of a baseline; raises UserError if it is none, or naming what was different when it was made."""
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise UserError(f"{path}: is no baseline of kp gate; --save-baseline writes one", field=FIELD)
    made = content.get("identity", {})
    for name, value in identity.items():
        if made.get(name) != value:
            raise UserError(
                f"{path}: was made with another {name} ({made.get(name)!r}, now {value!r}); make it again with --save-baseline",
                field=FIELD,
            )
    try:
        rows = pl.DataFrame(content["outcomes"]).with_columns(
            pl.lit(BASE).alias("trial_id"), pl.lit(FactRole.CONTROL_TEST.value).alias("role")
        )
        return rows.select(OUTCOMES.names).cast(frame(OUTCOMES.empty_table()).schema)
    except (KeyError, TypeError, ValueError, pl.exceptions.PolarsError):
        raise UserError(f"{path}: its outcomes cannot be read; make it again with --save-baseline", field=FIELD) from None


def baseline_identity(base: Mapping[str, Any], drawn: Questions, controls: int | None, source: str) -> dict[str, Any]:
    """What a baseline must share with this gate: the base, the facts among which control facts were looked for, and how many."""
    asked = drawn.identity(list(PROMPTS))
    return {**base, "control facts": source, "controls": controls, "facts": asked["facts"], "prompts": asked["prompts"]}
