"""Benchmarks of base and adapters, and which of them say anything of this base."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.benchmarks.registry import BENCHMARKS, SCORES
from kp.metrics.benchmark_chance import at_chance
from kp.report.document import Block, Figure, Row, Section, Table, Text, columns
from kp.report.effects_section import verdict_cell
from kp.report.figure_data import Dot, DotPanel, DotPanels, arm_styles
from kp.report.labels import dagger_note
from kp.report.notation import MISSING, percent, points_interval
from kp.report.tables import ReportTables
from kp.vocabulary import BASE

NOTED = "see the note above"
AT_CHANCE = "base at chance"
ABOVE_CHANCE = "a score counts in no verdict and no sentence if the base is not shown to be above guessing"

_TITLES = {(benchmark.task, score.metric): score.title for benchmark, score in SCORES}


def score_title(task: str, metric: str) -> str:
    """What a score is called over a column or a picture."""
    return _TITLES.get((task, metric), task if metric == "acc" else f"{task} {metric}")


def measured_scores(benchmarks: pl.DataFrame) -> list[tuple[str, str]]:
    """The task and metric of every score that was measured: those of the registry in its order, then the others by name."""
    found = sorted(benchmarks.select("task", "metric").unique().rows())
    known = list(_TITLES)
    return sorted(found, key=lambda score: known.index(score) if score in _TITLES else len(known))


def benchmarks_section(tables: ReportTables, summary: pl.DataFrame, pictures: set[str], margin: float) -> Section:
    """One row a model and score; empty without benchmarks."""
    if tables.benchmarks.is_empty():
        return Section("benchmarks", "Benchmarks", ())
    asked, guessed = set(tables.benchmarks["task"]), at_chance(tables.benchmarks)
    notes = [f"{benchmark.task} {benchmark.note}." for benchmark in BENCHMARKS if benchmark.note and benchmark.task in asked]
    blocks: list[Block] = [Text(note) for note in [*notes, _guessed(guessed)] if note]
    if "benchmarks" in pictures:
        seen = "Difference to the base model over the same questions; bars are 95% intervals, each of one trial alone."
        blocks.append(Figure("benchmarks", seen + dagger_note(summary)))
    if "scores_by_size" in pictures:
        of_seeds = " A line is the mean over seeds, its band their range." if summary["seed"].n_unique() > 1 else ""
        blocks.append(Figure("scores_by_size", f"Scores against the number of facts packed; the broken line is the base.{of_seeds}"))
    names = {BASE: "base"} | dict(zip(summary["trial_id"], summary["label"], strict=True))
    head = columns(
        "model", "task", "metric", "value (%)", "difference to base (points)", "verdict", "n", "chance (%)", "shots", "task version",
        "template", words=3,
    )  # fmt: skip
    effects = {(row["trial_id"], row["task"], row["metric"]): row for row in tables.benchmark_effects.iter_rows(named=True)}
    rows = []
    for task, metric in measured_scores(tables.benchmarks):
        found = {row["trial_id"]: row for row in tables.benchmarks.filter(task=task, metric=metric).iter_rows(named=True)}
        asked_of = [(key, name) for key, name in names.items() if key in found]
        rows += [_row(name, found[key], effects.get((key, task, metric)), (task, metric) in guessed) for key, name in asked_of]
    return Section("benchmarks", "Benchmarks", (*blocks, Table(_caption(tables.benchmark_items, margin), head, tuple(rows))))


def _guessed(guessed: frozenset[tuple[str, str]]) -> str:
    if not guessed:
        return ""
    named = ", ".join(score_title(task, metric) for task, metric in sorted(guessed))
    return f"The base is at chance on {named}: {ABOVE_CHANCE}."


def _caption(items: pl.DataFrame, margin: float) -> str:
    grouped = items.group_by("task").agg(pl.col("group").n_unique() < pl.col("item").n_unique())
    together = {benchmark.task: benchmark.group for benchmark in BENCHMARKS}
    groups = "".join(
        f"; questions of {task} are clustered by {together.get(task) or 'single task'}"
        for task in sorted(grouped.filter(pl.col("group"))["task"])
    )
    return (
        "Share right ± one standard error. A difference is the mean of adapter − base over the same questions, with the 95% interval of "
        f"one trial alone{groups}. Verdicts are corrected (Holm) over the trials of each metric, and so is what the study could resolve, "
        f"the smallest true harm that it finds with 80% power. The harm is a lower score; the margin is {100 * margin:g} points."
    )


def _row(name: str, row: Mapping[str, Any], effect: Mapping[str, Any] | None, guessed: bool) -> Row:
    difference, verdict = MISSING, MISSING
    if effect is not None:
        difference = points_interval(effect["value"], effect["lower"], effect["upper"])
        verdict = AT_CHANCE if guessed else verdict_cell(effect)
    noted = {benchmark.task for benchmark in BENCHMARKS if benchmark.note}
    task = f"{row['task']}\n{NOTED}" if row["task"] in noted else row["task"]
    cells = (name, task, row["metric"], percent(row["value"], row["standard_error"]), difference, verdict)
    made = (f"{row['n']:,}", percent(row["chance"]), str(row["num_fewshot"]), row["task_version"], row["template_hash"][:12])
    return Row((*cells, *made), reference=row["trial_id"] == BASE)


def benchmark_dots(tables: ReportTables, summary: pl.DataFrame) -> DotPanels | None:
    """Each score's difference to the base with its 95% interval, in percentage points."""
    guessed, rows = at_chance(tables.benchmarks), {row["trial_id"]: row for row in summary.iter_rows(named=True)}
    styles = arm_styles(summary["arm"].to_list())
    panels = []
    for task, metric in measured_scores(tables.benchmarks):
        effects = {row["trial_id"]: row for row in tables.benchmark_effects.filter(task=task, metric=metric).iter_rows(named=True)}
        dots = tuple(_dot(rows[key]["label"], effects[key], styles[rows[key]["arm"]]) for key in rows if key in effects)
        title = f"{score_title(task, metric)}, difference (points)" + (f", {AT_CHANCE}" if (task, metric) in guessed else "")
        panels += [DotPanel(title, 0.0, "base", dots)] if dots else []
    named = {dot.row for panel in panels for dot in panel.dots}
    return DotPanels(tuple(label for label in summary["label"] if label in named), tuple(panels)) if panels else None


def _dot(label: str, effect: Mapping[str, Any], style: tuple[str, str]) -> Dot:
    value = 100 * effect["value"]
    lower, upper = (value if effect[end] is None else 100 * effect[end] for end in ("lower", "upper"))
    return Dot(label, value, (lower, upper), *style)
