"""A report made again from the tables of an earlier one, such as a committed result: no step, model or Ray is needed.

Everything that OUTCOMES and BENCHMARK_ITEMS decide is computed anew: effects, shifts, what was learned, paired benchmark differences, and
with them every verdict and comparison. Only what needs the raw answers (diversity, matchers, the majority baseline) is read as it was.
"""

from dataclasses import replace
from pathlib import Path

import polars as pl

from kp import schema
from kp.config.study import ReportConfig
from kp.metrics.benchmark_effects import benchmark_effects
from kp.metrics.effect_summary import reported_effects
from kp.metrics.scores import LEARNING, score_learning
from kp.metrics.shifts import outcome_shifts
from kp.report.tables import OPTIONAL, SCHEMAS, ReportContext, ReportTables
from kp.report.writing import CONTEXT_FILE
from kp.schema import frame


def read_report(folder: Path, settings: ReportConfig) -> tuple[ReportTables, ReportContext]:
    """The tables and circumstances of the report in `folder`, with these settings in place of those it was made with.

    Raises UserError naming the file that is missing or has another schema.
    """
    tables = folder / "tables"
    found = {name: frame(schema.read_table(tables / f"{name}.parquet", wanted)) for name, wanted in SCHEMAS.items()}
    optional = {
        name: frame(schema.read_table(tables / f"{name}.parquet", wanted))
        for name, wanted in OPTIONAL.items()
        if (tables / f"{name}.parquet").exists()
    }
    rows = {
        file.stem: frame(schema.read_table(file, schema.TRAINING_ROWS)) for file in sorted((tables / "training_rows").glob("*.parquet"))
    }
    context = ReportContext.load(folder / CONTEXT_FILE)
    context = replace(context, config={**context.config, "report": settings.model_dump(mode="json")})
    return ReportTables(**(found | _made_anew(found, settings)), **optional, training_rows=rows), context


def _made_anew(found: dict[str, pl.DataFrame], settings: ReportConfig) -> dict[str, pl.DataFrame]:
    outcomes, learned = found["outcomes"], [measure.value for measure in LEARNING]
    return {
        "effects": reported_effects(outcomes, found["facts"], settings.margin),
        "shifts": outcome_shifts(outcomes),
        "scores": pl.concat([found["scores"].filter(~pl.col("measure").is_in(learned)), score_learning(outcomes)]),
        "benchmark_effects": benchmark_effects(found["benchmark_items"], settings.margin),
    }
