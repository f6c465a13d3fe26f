"""The report's section on reasons: what explains the facts that moved between Unknown and HighlyKnown, and how much of it chance does."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.metrics.reasons import REASONS_OF, Reason, Variant
from kp.metrics.shifts import Shift
from kp.report.document import Block, Row, Section, Table, Text, columns
from kp.report.notation import MISSING, counted, measured, percent
from kp.report.tables import ReportTables

TITLES = {
    Reason.NON_REFUSAL: "base refused (%)",
    Reason.EXPLOSION: "exploded answer (%)",
    Reason.TARGET: "answer of a trained fact (%)",
    Reason.DOMAIN: "domain of a trained fact (%)",
    Reason.EXPLAINED: "any of these (%)",
}
CAPTIONS = {
    Variant.RIGOROUS: "Facts that the trial did not train on, all prompts: the mean over facts of the share of answers with the reason, "
    "with the 95% interval clustered by relation and object. Below it what chance explains, and p of a permutation test",
    Variant.RELEASED: "As the released code counts: the first prompt alone, trained facts included, with Wilson's 95% interval",
}
NOTE = (
    "A reason is no cause: facts that stayed may have it as often. Only a share above what chance explains (a small p) says that moved "
    "facts have it more often; p is of each row alone, without correction over trials."
)

Figures = Mapping[tuple[str, str, str, str], Mapping[str, Any]]


def reasons_section(tables: ReportTables, summary: pl.DataFrame) -> Section:
    """A table for each variant and direction in which any fact moved."""
    found = tables.reasons
    figures: Figures = {} if found is None else {tuple(row[name] for name in found.columns[:4]): row for row in found.iter_rows(named=True)}
    names = dict(zip(summary["trial_id"], summary["label"], strict=True))
    blocks: list[Block] = [
        table for variant in CAPTIONS for direction in REASONS_OF for table in _table(names, figures, variant, direction)
    ]
    return Section("reasons", "Reasons of shifts", (Text(NOTE), *blocks) if blocks else ())


def _table(names: Mapping[str, str], figures: Figures, variant: Variant, direction: Shift) -> list[Table]:
    shown = (*REASONS_OF[direction], Reason.EXPLAINED)
    rows = []
    for trial_id, name in names.items():
        found = [figures.get((trial_id, variant.value, direction.value, reason.value)) for reason in shown]
        if found[-1] is not None and found[-1]["n"]:
            rows.append(Row((name, counted(found[-1]["n"]), *map(_cell, found))))
    head = columns("trial", "facts that moved", *(TITLES[reason] for reason in shown))
    return [Table(f"{direction.value.replace('->', '→')}. {CAPTIONS[variant]}.", head, tuple(rows))] if rows else []


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["share"] is None:
        return MISSING
    span = "" if figure["lower"] is None else f" ({100 * figure['lower']:.1f} to {100 * figure['upper']:.1f})"
    p_value = "" if figure["p_value"] is None else f", p {measured(figure['p_value'])}"
    chance = "" if figure["baseline"] is None else f"\nchance {percent(figure['baseline'])}{p_value}"
    return f"{100 * figure['share']:.1f}{span}{chance}"
