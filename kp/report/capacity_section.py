"""How many bits of the packed facts each adapter holds, a fact and a parameter."""

from typing import Any

import polars as pl

from kp.report.capacity_curves import CAPTIONS, fit_sentences, loaded_trials, range_sentences
from kp.report.document import Block, Figure, Row, Section, Table, Text, columns
from kp.report.figure_data import Dot, DotPanel, DotPanels, arm_styles
from kp.report.labels import dagger_note
from kp.report.notation import MINUS, counted, measured, percent
from kp.report.tables import ReportTables

EXPLAINED = (
    "A fact's gain is the surprisal of its canonical answer under the base minus that under the adapter, in bits. What an adapter gains on "
    "Unknown facts of the same relation that it was not trained on is no fact (it has learned which answers a relation has), and is taken "
    "off. The rest are the bits that it memorised: 0 for an adapter that changes nothing, and 0 on average for one that learned relations "
    "alone."
)
PUBLISHED = (
    "For comparison, and of other things: models in training hold about 2 bits of knowledge a parameter (arXiv 2404.05405), and about 3.6 "
    "bits of random text (arXiv 2505.24832). An adapter that is far below its load was not filled by this study, so its bits a parameter "
    "are no capacity."
)


def capacity_section(tables: ReportTables, summary: pl.DataFrame, pictures: set[str]) -> Section:
    """One row a trial; empty if surprisal was not measured."""
    if tables.capacity is None or tables.capacity.is_empty():
        return Section("capacity", "Bits", ())
    blocks: list[Block] = [Text(EXPLAINED), Text(PUBLISHED)]
    if "capacity" in pictures:
        seen = "Memorised bits a packed fact, and a parameter of the adapter, with 95% intervals; the line is what facts held on average."
        blocks.append(Figure("capacity", seen + dagger_note(summary)))
    blocks += [Figure(name, caption) for name, caption in CAPTIONS.items() if name in pictures]
    trials = loaded_trials(tables, summary)
    blocks.append(Text(f"{range_sentences(trials)} {fit_sentences(trials)}"))
    head = columns(
        "trial", "facts packed", "exposures a fact", "recalled (%)", "parameters", "bits they held", "bits memorised",
        "bits a fact", "bits a parameter", "load (bits a parameter)", "gain of untaught facts (bits)",
    )  # fmt: skip
    caption = (
        "Memorised bits with 95% intervals (packed and untaught facts, clustered by relation and object; one training each). Held: the "
        "surprisal of the packed answers under the base. The load is that, a parameter of the adapter. Recalled: "
        "without shots, token by token the greedy choice."
    )
    blocks.append(Table(caption, head, tuple(Row(_cells(row)) for row in trials.iter_rows(named=True))))
    return Section("capacity", "Bits that adapters hold", tuple(blocks))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    n = row["facts"]
    return (
        row["label"], counted(n), measured(row["exposures"]), _recall(row), counted(row["parameters"]), measured(row["held_bits"]),
        _spread(row, 1), _spread(row, n), _spread(row, row["parameters"]), measured(row["held_bits"] / row["parameters"]),
        f"{_signed(row['untaught_gain'])}\nn = {row['untaught_facts']:,}",
    )  # fmt: skip


def _recall(row: dict[str, Any]) -> str:
    value, *ends = (row[name] for name in ("recall", "recall_lower", "recall_upper"))
    return percent(value) + ("" if None in ends else f"\n({percent(ends[0])} to {percent(ends[1])})")


def _spread(row: dict[str, Any], divisor: float) -> str:
    """Memorised bits with their interval, divided."""
    if row["lower"] is None:
        return _signed(row["memorised_bits"] / divisor)
    value, lower, upper = (_signed(row[name] / divisor) for name in ("memorised_bits", "lower", "upper"))
    return f"{value}\n({lower} to {upper})"


def _signed(value: float) -> str:
    return f"{value:.3g}".replace("-", MINUS)


def capacity_dots(tables: ReportTables, summary: pl.DataFrame) -> DotPanels | None:
    """Bits a fact and bits a parameter of each trial; None if surprisal was not measured."""
    if tables.capacity is None or tables.capacity.is_empty():
        return None
    styles = arm_styles(summary["arm"].to_list())
    joined = summary.select("trial_id", "label", "arm").join(tables.capacity, on="trial_id", maintain_order="left")
    held = float(joined["held_bits"].to_numpy().sum() / joined["facts"].to_numpy().sum())
    panels = tuple(
        DotPanel(title, reference, name, tuple(_dot(row, styles[row["arm"]], divisor) for row in joined.iter_rows(named=True)))
        for title, divisor, reference, name in (
            ("memorised bits a fact", "facts", held, "held"),
            ("memorised bits a parameter", "parameters", 0.0, "none"),
        )
    )
    return DotPanels(tuple(joined["label"]), panels)


def _dot(row: dict[str, Any], style: tuple[str, str], divisor: str) -> Dot:
    value = row["memorised_bits"]
    lower, upper = (value if row[end] is None else row[end] for end in ("lower", "upper"))
    return Dot(row["label"], value / row[divisor], (lower / row[divisor], upper / row[divisor]), *style)
