"""The input of a report: the study's tables, and the circumstances in which they were made.

The frames have every number; no conclusion rests on the context. Keeping the two apart allows the same tables to be reported again
elsewhere, and shows which part of a report changes if only the machine does.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.errors import UserError
from kp.metrics import result_schema
from kp.metrics.categories import validate_greedy_classes
from kp.training.spec import TRIALS
from kp.vocabulary import Matcher

SCHEMAS: dict[str, pa.Schema] = {
    "facts": schema.FACTS,
    "base_categories": schema.CATEGORIES,
    "trials": TRIALS,
    "epochs": schema.EPOCHS,
    "outcomes": schema.OUTCOMES,
    "effects": result_schema.EFFECTS,
    "shifts": result_schema.SHIFTS,
    "scores": result_schema.SCORES,
    "benchmarks": schema.BENCHMARKS,
    "benchmark_items": schema.BENCHMARK_ITEMS,
    "benchmark_effects": result_schema.BENCHMARK_EFFECTS,
    "majority": result_schema.MAJORITY,
    "disagreement": result_schema.DISAGREEMENT,
}
OPTIONAL = {
    "parts": schema.PARTS,
    "slick": schema.SLICK,
    "placebo": schema.OUTCOMES,
    "fact_stories": result_schema.FACT_STORIES,
    "fact_epochs": schema.FACT_EPOCHS,
    "published_agreement": result_schema.PUBLISHED_AGREEMENT,
    "reasons": result_schema.REASONS,
    "locality": result_schema.LOCALITY,
    "reversal": result_schema.REVERSAL,
    "answer_changes": result_schema.ANSWER_CHANGES,
    "scaled_outcomes": schema.SCALED_OUTCOMES,
    "scale_curve": result_schema.SCALE_CURVE,
    "surprisal": schema.TRIAL_SURPRISAL,
    "capacity": result_schema.CAPACITY,
    "drift": schema.DRIFT,
    "drift_summary": result_schema.DRIFT_SUMMARY,
}
"""Tables that only some studies have."""


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
    parts: pl.DataFrame | None = None  # if the study keeps facts out of training
    slick: pl.DataFrame | None = None  # if the study samples answers of the base
    fact_stories: pl.DataFrame | None = None  # with trial_id "base"; results made before there were any lack them
    fact_epochs: pl.DataFrame | None = None  # of trials trained since it is kept
    placebo: pl.DataFrame | None = None  # if the base was asked once more, with trial_id "placebo"
    published_agreement: pl.DataFrame | None = None  # if the source of the facts has categories of its own
    reasons: pl.DataFrame | None = None  # these three need the raw answers
    locality: pl.DataFrame | None = None
    reversal: pl.DataFrame | None = None  # if adapters are asked reversed questions; empty if no packed fact can be reversed
    answer_changes: pl.DataFrame | None = None
    scaled_outcomes: pl.DataFrame | None = None  # if adapters are measured at other scales
    scale_curve: pl.DataFrame | None = None  # likewise
    surprisal: pl.DataFrame | None = None  # if it is measured, with trial_id "base"
    capacity: pl.DataFrame | None = None  # likewise, without the base
    drift: pl.DataFrame | None = None  # if adapters are compared with the base on texts
    drift_summary: pl.DataFrame | None = None  # likewise

    def __post_init__(self) -> None:
        for name, wanted in SCHEMAS.items():
            _check(name, getattr(self, name), wanted)
        validate_greedy_classes(self.base_categories)
        for name, wanted in OPTIONAL.items():
            if (found := getattr(self, name)) is not None:
                _check(name, found, wanted)
        for trial_id, frame in self.training_rows.items():
            if not trial_id or "/" in trial_id or trial_id.startswith("."):
                raise UserError(f"training_rows: trial_id '{trial_id}' cannot name a file")
            _check(f"training_rows of trial {trial_id}", frame, schema.TRAINING_ROWS)


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

    def save(self, file: Path) -> None:
        """As JSON, from which `load` makes it again."""
        file.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> "ReportContext":
        """Raises UserError naming the file if it is missing or not such JSON."""
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{file}: not the circumstances of a report: {error}") from error

    @property
    def matcher(self) -> Matcher:
        """The matcher that decides the study's categories; raises UserError if the config lacks it."""
        return Matcher(self._required("categorise", "matcher"))

    @property
    def margin(self) -> float:
        """The harm that counts as small, a share; raises UserError if the config lacks it."""
        return float(self._required("report", "margin"))

    def _required(self, section: str, name: str) -> Any:
        value = self.config.get(section, {}).get(name)
        if value is None:
            raise UserError("is missing in the config", field=f"{section}.{name}")
        return value


def _check(name: str, frame: pl.DataFrame, wanted: pa.Schema) -> None:
    for column in wanted.names:
        if column not in frame.columns:
            raise UserError(f"{name}: column '{column}' is missing")
