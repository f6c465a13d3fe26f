"""The report's sections, composed from the tables."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from kp.benchmarks.registry import BENCHMARKS
from kp.report import provenance
from kp.report.answer import answer_sentences
from kp.report.answers_section import answers_section
from kp.report.arms_section import arms_section
from kp.report.base_model import base_model_section
from kp.report.capacity_section import capacity_section
from kp.report.curves import style_sentence
from kp.report.discrepancies_section import discrepancies_section
from kp.report.document import Block, Document, Figure, Row, Section, Table, Text, columns
from kp.report.drift_section import drift_section
from kp.report.effects_section import effects_section, verdict_cell
from kp.report.labels import dagger_note
from kp.report.locality_section import locality_section
from kp.report.notation import MISSING, percent, points_interval
from kp.report.paper_section import paper_section
from kp.report.published_section import published_section
from kp.report.reasons_section import reasons_section
from kp.report.scale_section import scale_section
from kp.report.search_section import search_section
from kp.report.shifts_section import shifts_section
from kp.report.stories_section import stories_section
from kp.report.tables import ReportContext, ReportTables
from kp.report.trials_section import trials_section
from kp.report.where_section import where_section
from kp.report.winners import STOPPED, Evidence
from kp.vocabulary import BASE

NOTED = "see the note above"


def compose(tables: ReportTables, context: ReportContext, found: Evidence, arms: pl.DataFrame, drawn: Iterable[str]) -> Document:
    """The whole report; `arms` are the mixes compared (ARMS), `drawn` has the names of the pictures that exist."""
    summary = found.summary
    pictures = set(drawn)
    sections = (
        trials_section(tables, found),
        effects_section(tables, summary, context.margin),
        arms_section(found, arms),
        where_section(tables, found),
        search_section(found),
        scale_section(tables, found, context.margin, pictures),
        capacity_section(tables, summary, pictures),
        drift_section(tables, found, pictures),
        base_model_section(tables, context.matcher, pictures),
        published_section(tables.published_agreement, context.matcher),
        _learning(summary, pictures),
        shifts_section(tables, summary, pictures),
        reasons_section(tables, summary),
        locality_section(tables, summary),
        answers_section(tables, summary, pictures),
        _benchmarks(tables, summary, pictures, context.margin),
        paper_section(tables, context, summary),
        stories_section(tables, summary),
        discrepancies_section(context.config),
        provenance.made_section(tables, context, found),
    )
    lead_caption = (
        "Facts packed against knowledge lost, one marker a trial, with one standard error each way. Right is more packed, down is less "
        f"harm. Harm is the loss of right answers to {found.known_facts}; the grey band is the margin of {100 * context.margin:g} points."
    )
    if len(summary.filter(STOPPED)):
        lead_caption += " Crosses were stopped early: they trained for fewer epochs."
    if found.controls:
        lead_caption += " Losses are over both halves of the control facts."
    return Document(
        title=f"How many new facts fit into {context.model_name}?",
        subtitle=f"Study {context.study} · {len(summary)} trials · {len(tables.facts):,} facts measured · {context.created}",
        answer=tuple(answer_sentences(tables, found, arms, context.margin)),
        lead=Figure("packed_against_lost", lead_caption) if "packed_against_lost" in pictures else None,
        sections=tuple(section for section in sections if section.blocks),
    )


def _learning(summary: pl.DataFrame, pictures: set[str]) -> Section:
    seeds = (
        " A curve is the mean over seeds, its band their range; a seed that finished early keeps its last value for later epochs."
        if summary["seed"].n_unique() > 1
        else ""
    )
    accuracy = (
        "Share of the trained Unknown facts answered right after each epoch (unknown_accuracy), a panel a mix. "
        f"{style_sentence(summary)}{seeds} A curve that ends in a cross was stopped, diverged or failed; one that just ends reached the "
        "accuracy it was asked for."
    )
    captions = {"learning_curves": accuracy, "loss_curves": "Training loss of each epoch, per trained token, in the same style."}
    return Section("learning", "Learning", tuple(Figure(name, caption) for name, caption in captions.items() if name in pictures))


def _benchmarks(tables: ReportTables, summary: pl.DataFrame, pictures: set[str], margin: float) -> Section:
    if tables.benchmarks.is_empty():
        return Section("benchmarks", "Benchmarks", ())
    asked = set(tables.benchmarks["task"])
    notes = [f"{benchmark.task} {benchmark.note}." for benchmark in BENCHMARKS if benchmark.note and benchmark.task in asked]
    blocks: list[Block] = [Text(note) for note in notes]
    if "benchmarks" in pictures:
        seen = "Difference to the base model over the same questions; bars are 95% intervals, each of one trial alone."
        blocks.append(Figure("benchmarks", seen + dagger_note(summary)))
    names = {BASE: "base"} | dict(zip(summary["trial_id"], summary["label"], strict=True))
    head = columns(
        "model", "task", "metric", "value (%)", "difference to base (points)", "verdict", "n", "shots", "task version", "template", words=3
    )  # fmt: skip
    effects = {(row["trial_id"], row["task"], row["metric"]): row for row in tables.benchmark_effects.iter_rows(named=True)}
    rows = []
    for task, metric in tables.benchmarks.select("task", "metric").unique().sort("task", "metric").iter_rows():
        found = {row["trial_id"]: row for row in tables.benchmarks.filter(task=task, metric=metric).iter_rows(named=True)}
        rows += [_benchmark_row(name, found[key], effects.get((key, task, metric))) for key, name in names.items() if key in found]
    return Section("benchmarks", "Benchmarks", (*blocks, Table(_benchmarks_caption(asked, margin), head, tuple(rows))))


def _benchmarks_caption(asked: set[str], margin: float) -> str:
    grouped = [benchmark for benchmark in BENCHMARKS if benchmark.group and benchmark.task in asked]
    groups = "".join(f"; questions of {benchmark.task} are clustered by {benchmark.group}" for benchmark in grouped)
    return (
        "Share right ± one standard error. A difference is the mean of adapter − base over the same questions, with the 95% interval of "
        f"one trial alone{groups}. Verdicts are corrected (Holm) over the trials of each metric, and so is what the study could resolve, "
        f"the smallest true harm that it finds with 80% power. The harm is a lower score; the margin is {100 * margin:g} points."
    )


def _benchmark_row(name: str, row: Mapping[str, Any], effect: Mapping[str, Any] | None) -> Row:
    difference, verdict = MISSING, MISSING
    if effect is not None:
        difference, verdict = points_interval(effect["value"], effect["lower"], effect["upper"]), verdict_cell(effect)
    noted = {benchmark.task for benchmark in BENCHMARKS if benchmark.note}
    task = f"{row['task']}\n{NOTED}" if row["task"] in noted else row["task"]
    cells = (name, task, row["metric"], percent(row["value"], row["standard_error"]), difference, verdict)
    made = (f"{row['n']:,}", str(row["num_fewshot"]), row["task_version"], row["template_hash"][:12])
    return Row((*cells, *made), reference=row["trial_id"] == BASE)
