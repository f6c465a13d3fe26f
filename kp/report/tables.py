"""The input of a report: the study's tables, and the circumstances in which they were made.

The frames have every number; no conclusion rests on the context. Keeping the two apart allows the same tables to be reported again
elsewhere, and shows which part of a report changes if only the machine does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.errors import UserError
from kp.metrics.categories import validate_greedy_classes
from kp.training.spec import TRIALS
from kp.vocabulary import Matcher, Split

SPLIT = pa.field("split", pa.string(), nullable=False)  # dev, test
SPLIT_SCHEMAS: dict[str, pa.Schema] = {
    "splits": pa.schema([pa.field("fact_id", pa.string(), nullable=False), SPLIT]),
    "split_shifts": pa.schema([*schema.SHIFTS, SPLIT]),
    "split_scores": pa.schema([*schema.SCORES, SPLIT]),
}
SCHEMAS: dict[str, pa.Schema] = {
    "facts": schema.FACTS,
    "base_categories": schema.CATEGORIES,
    "trials": TRIALS,
    "epochs": schema.EPOCHS,
    "outcomes": schema.OUTCOMES,
    "effects": schema.EFFECTS,
    "shifts": schema.SHIFTS,
    "scores": schema.SCORES,
    "benchmarks": schema.BENCHMARKS,
    "benchmark_items": schema.BENCHMARK_ITEMS,
    "benchmark_effects": schema.BENCHMARK_EFFECTS,
    "majority": schema.MAJORITY,
    "disagreement": schema.DISAGREEMENT,
}


@dataclass(frozen=True)
class ReportTables:
    """The frames of one study, with the columns of kp.schema; raises UserError that names the first missing table and column."""

    facts: pl.DataFrame
    base_categories: pl.DataFrame  # CATEGORIES of the base on all its shot sets, all three matchers
    trials: pl.DataFrame
    epochs: pl.DataFrame
    outcomes: pl.DataFrame  # with trial_id "base"
    effects: pl.DataFrame
    shifts: pl.DataFrame  # with trial_id "noise"
    scores: pl.DataFrame  # with trial_id "base"
    benchmarks: pl.DataFrame  # with trial_id "base"
    benchmark_items: pl.DataFrame  # with trial_id "base"
    benchmark_effects: pl.DataFrame
    majority: pl.DataFrame  # of the base on S0
    disagreement: pl.DataFrame  # of the base
    training_rows: Mapping[str, pl.DataFrame]  # by trial_id
    slick: pl.DataFrame | None = None  # if the study samples answers of the base
    splits: pl.DataFrame | None = None  # the split of each measured fact, if the study has splits; the next two come with it
    split_shifts: pl.DataFrame | None = None  # SHIFTS over one split's facts, with trial_id "noise"
    split_scores: pl.DataFrame | None = None  # SCORES of the measure "reliability" over one split's facts

    def __post_init__(self) -> None:
        for name, wanted in SCHEMAS.items():
            _check(name, getattr(self, name), wanted)
        validate_greedy_classes(self.base_categories)
        if self.slick is not None:
            _check("slick", self.slick, schema.SLICK)
        self._check_splits()
        for trial_id, frame in self.training_rows.items():
            if not trial_id or "/" in trial_id or trial_id.startswith("."):
                raise UserError(f"training_rows: trial_id '{trial_id}' cannot name a file")
            _check(f"training_rows of trial {trial_id}", frame, schema.TRAINING_ROWS)

    def _check_splits(self) -> None:
        given = {name: frame for name in SPLIT_SCHEMAS if (frame := getattr(self, name)) is not None}
        missing = [name for name in SPLIT_SCHEMAS if name not in given]
        if given and missing:
            raise UserError(f"{missing[0]}: is missing, while {next(iter(given))} is here")
        for name, frame in given.items():
            _check(name, frame, SPLIT_SCHEMAS[name])
            odd = sorted(set(frame["split"]) - set(Split))
            if odd:
                raise UserError(f"{name}: column 'split': '{odd[0]}' is none of {', '.join(Split)}")


@dataclass(frozen=True)
class ReportContext:
    """How the tables were made; `config` is the resolved study as nested plain values."""

    study: str
    config: Mapping[str, Any]
    model_name: str
    model_revision: str
    versions: Mapping[str, str]  # package -> version
    hardware: str
    wall_seconds: Mapping[str, float]  # stage -> seconds
    created: str  # ISO 8601
    kp_version: str

    @property
    def matcher(self) -> Matcher:
        """The matcher that decides the study's categories; raises UserError if the config lacks it."""
        value = self.config.get("categorise", {}).get("matcher")
        if value is None:
            raise UserError("is missing in the config", field="categorise.matcher")
        return Matcher(value)

    @property
    def margin(self) -> float:
        """The harm that counts as small, a share; raises UserError if the config lacks it."""
        value = self.config.get("report", {}).get("margin")
        if value is None:
            raise UserError("is missing in the config", field="report.margin")
        return float(value)


def _check(name: str, frame: pl.DataFrame, wanted: pa.Schema) -> None:
    for column in wanted.names:
        if column not in frame.columns:
            raise UserError(f"{name}: column '{column}' is missing")
