"""A report made again from the tables of an earlier one, such as a committed result: no step, model or Ray is needed.

Everything that OUTCOMES and BENCHMARK_ITEMS decide is computed anew: effects, shifts, what was learned, paired benchmark differences, and
with them every verdict and comparison. Only what needs the raw answers (diversity, matchers, the majority baseline) is read as it was.
"""

from dataclasses import replace
from pathlib import Path

from kp import schema
from kp.config.study import ReportConfig
from kp.errors import UserError
from kp.metrics.drift import drift_summary
from kp.metrics.scale_curve import scale_curve
from kp.report.derived import derived_tables
from kp.report.tables import OPTIONAL, SCHEMAS, ReportContext, ReportTables
from kp.report.writing import CONTEXT_FILE
from kp.schema import frame


def find_report(folder: Path) -> Path:
    """The report in this folder, or in its folder `report`; raises UserError if neither has one."""
    found = next((one for one in (folder, folder / "report") if (one / CONTEXT_FILE).is_file()), None)
    if found is None:
        raise UserError(f"{folder}: no report there; give the folder of a finished study, such as runs/quickstart, or of committed results")
    return found


def reopen_report(folder: Path) -> tuple[ReportTables, ReportContext]:
    """`read_report` of what `find_report` finds, with the settings that it was made with."""
    found = find_report(folder)
    return read_report(found, ReportConfig(margin=ReportContext.load(found / CONTEXT_FILE).margin))


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
    anew = derived_tables(found["outcomes"], found["facts"], found["benchmark_items"], found["scores"], settings.margin)
    if "scaled_outcomes" in optional:
        optional["scale_curve"] = scale_curve(found["outcomes"], optional["scaled_outcomes"], found["facts"], settings.margin)
    if "drift" in optional:
        optional["drift_summary"] = drift_summary(optional["drift"])
    return ReportTables(**(found | anew), **optional, training_rows=rows), context
