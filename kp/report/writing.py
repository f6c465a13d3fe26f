"""Write a report to disk: the page, the same as Markdown, the pictures and every table it rests on."""

import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from kp import schema
from kp.errors import UserError
from kp.metrics import result_schema
from kp.metrics.capacity import adapter_sizes
from kp.report.arms_section import arm_table
from kp.report.contents import compose
from kp.report.figures_print import save_picture
from kp.report.harness_results import harness_results
from kp.report.html import render_html
from kp.report.markdown import render_markdown
from kp.report.model_card import card_base, model_card
from kp.report.pictures import pictures
from kp.report.summary import summary_table
from kp.report.tables import OPTIONAL, SCHEMAS, ReportContext, ReportTables
from kp.report.winners import evidence

MADE = {"arms": result_schema.ARMS}  # the columns of the summary follow from the knobs
CONTEXT_FILE = "context.json"
SPREADSHEETS = ("effects", "shifts", "scores", "benchmarks", "benchmark_effects", "epochs")


def write_report(tables: ReportTables, context: ReportContext, folder: Path) -> Path:
    """Write report.html, report.md, context.json, cards/, figures/, lm_eval/ and tables/ into `folder`; returns the page's path.

    The same tables and context give the same files. Raises UserError if the folder is missing or not empty.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: the report's folder does not exist")
    if any(folder.iterdir()):
        raise UserError(f"{folder}: the report's folder is not empty")
    summary = summary_table(tables)
    found = evidence(tables, summary)
    drawn = pictures(tables, found, context.matcher, context.margin)
    arms = arm_table(tables, found)
    document = compose(tables, context, found, arms, drawn)
    _write_tables(tables, {"summary": summary, "arms": arms}, folder / "tables")
    (folder / "figures").mkdir()
    for name, picture in drawn.items():
        save_picture(picture, folder / "figures", name)
    context.save(folder / CONTEXT_FILE)
    (folder / "report.md").write_text(render_markdown(document), encoding="utf-8")
    _write_cards(tables, context, summary, folder / "cards")
    _write_harness_results(tables, context, folder / "lm_eval")
    page = folder / "report.html"
    page.write_text(render_html(document, drawn), encoding="utf-8")
    return page


def _write_harness_results(tables: ReportTables, context: ReportContext, folder: Path) -> None:
    """What each model scored on benchmarks, as MODEL.json in lm-eval's form."""
    for trial_id in tables.benchmarks["trial_id"].unique().sort():
        folder.mkdir(exist_ok=True)
        found = harness_results(tables, context, trial_id)
        (folder / f"{trial_id}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _write_cards(tables: ReportTables, context: ReportContext, summary: pl.DataFrame, folder: Path) -> None:
    """The model card of every adapter, as TRIAL.md."""
    folder.mkdir()
    for trial_id in adapter_sizes(tables.trials):
        card = model_card(tables, context, trial_id, card_base(context), f"adapters/{trial_id}", summary)
        (folder / f"{trial_id}.md").write_text(card, encoding="utf-8")


def _write_tables(tables: ReportTables, made: Mapping[str, pl.DataFrame], folder: Path) -> None:
    """The study's tables, and those that the report makes of them."""
    folder.mkdir()
    for name, wanted in SCHEMAS.items():
        schema.write_table(getattr(tables, name).to_arrow(), wanted, folder / f"{name}.parquet")
    for name, wanted in OPTIONAL.items():
        frame = getattr(tables, name)
        if frame is not None:
            schema.write_table(frame.to_arrow(), wanted, folder / f"{name}.parquet")
    (folder / "training_rows").mkdir()
    for trial_id, rows in tables.training_rows.items():
        schema.write_table(rows.to_arrow(), schema.TRAINING_ROWS, folder / "training_rows" / f"{trial_id}.parquet")
    for name, table in made.items():
        arrow = table.to_arrow()
        schema.write_table(arrow, MADE.get(name, arrow.schema), folder / f"{name}.parquet")
    made["summary"].write_csv(folder / "summary.csv")
    for name in SPREADSHEETS:
        getattr(tables, name).write_csv(folder / f"{name}.csv")
