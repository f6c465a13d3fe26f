"""The report's sections, composed from the tables."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from kp.benchmarks.registry import BENCHMARKS
from kp.metrics.paired_tests import bowker_p
from kp.metrics.shifts import MOVES
from kp.report import provenance
from kp.report.answer import answer_sentences
from kp.report.arms_section import arms_section
from kp.report.base_model import base_model_section
from kp.report.curves import style_sentence
from kp.report.document import Block, Document, Figure, Row, Section, Table, Text, columns
from kp.report.effects_section import effects_section, untrained_right, verdict_cell
from kp.report.labels import dagger_note
from kp.report.notation import MISSING, counted, measured, percent, points_interval, share_with_interval
from kp.report.paper_section import paper_section
from kp.report.search_section import search_section
from kp.report.stories_section import stories_section
from kp.report.tables import ReportContext, ReportTables
from kp.report.trials_section import score_value, trials_section
from kp.report.where_section import where_section
from kp.report.winners import STOPPED, Evidence
from kp.vocabulary import BASE, GREEDY_CATEGORIES, NOISE, ShiftView

NOTED = "see the note above"
COUNTED = (
    "% with Wilson's 95% interval, and the number of facts; p is that of rises and falls that are equally many (each fact for itself). On "
    "the same prompts: any adapter that changes answers has some."
)
VIEWS = {
    ShiftView.ALL: f"As the paper counts, over all measured facts, including trained ones: {COUNTED}",
    ShiftView.AT_RISK: "Over the facts at risk: only those whose category before could have moved that way are in the denominator.",
    ShiftView.UNTRAINED: "Without the facts the trial trained on. The noise row is over all facts.",
    ShiftView.CONTROL: "Over control facts, which no trial trained on. The noise row is over all facts.",
}
SHIFTS = ("UK->HK", "UK->MK", "MK->HK", "positive", "HK->UK", "HK->MK", "MK->UK", "negative")


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
        base_model_section(tables, context.matcher, pictures),
        _learning(summary, pictures),
        _shifts(tables, summary, pictures),
        _answers(tables, summary, pictures),
        _benchmarks(tables, summary, pictures, context.margin),
        paper_section(tables, context, summary),
        stories_section(tables, summary),
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


def _shifts(tables: ReportTables, summary: pl.DataFrame, pictures: set[str]) -> Section:
    blocks: list[Block] = []
    if "shifts" in pictures:
        caption = (
            "Facts that changed category between the base and the adapter, over all measured facts; a bar's number is their count. "
            "The top row is the base model asked twice: anything within its length is noise."
        )
        blocks.append(Figure("shifts", caption + dagger_note(summary)))
    figures = {(row["trial_id"], row["view"], row["shift"]): row for row in tables.shifts.iter_rows(named=True)}
    names = dict(zip(summary["trial_id"], summary["label"], strict=True))
    for view, caption in VIEWS.items():
        rows = [_shift_row(name, trial_id, view, figures) for trial_id, name in names.items()]
        found = [row for row in rows if row is not None]
        if not found:
            continue
        noise = _noise_row(view, figures)
        head = columns("trial", *(shift.replace("->", "→") for shift in SHIFTS), "p (Bowker)")
        blocks.append(Table(caption, head, tuple(([] if noise is None else [noise]) + found)))
    return Section("shifts", "Shifts", tuple(blocks))


def _noise_row(view: ShiftView, figures: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> Row | None:
    name = "noise (base twice)"
    row = _shift_row(name, NOISE, ShiftView.ALL if view in (ShiftView.UNTRAINED, ShiftView.CONTROL) else view, figures)
    return None if row is None else Row(row.cells, reference=True)


def _shift_row(name: str, trial_id: str, view: ShiftView, figures: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> Row | None:
    cells = []
    for shift in SHIFTS:
        figure = figures.get((trial_id, view, shift))
        if figure is None:
            cells.append(MISSING)
        else:
            cells.append(f"{share_with_interval(figure['count'], figure['n'])}\n{counted(figure['count'])} of {figure['n']:,}")
    return None if set(cells) == {MISSING} else Row((name, *cells, _symmetry(trial_id, view, figures)))


def _symmetry(trial_id: str, view: ShiftView, figures: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> str:
    """Bowker's test of the moves between the three categories: small if as many facts do not move one way as the other."""
    moved = np.zeros((len(GREEDY_CATEGORIES), len(GREEDY_CATEGORIES)), dtype=np.int64)
    for shift, pairs in MOVES.items():
        if len(pairs) == 1:
            ((before, after),) = pairs
            moved[GREEDY_CATEGORIES.index(before), GREEDY_CATEGORIES.index(after)] = figures[trial_id, view, shift]["count"]
    return measured(bowker_p(moved))


def _answers(tables: ReportTables, summary: pl.DataFrame, pictures: set[str]) -> Section:
    by_model: dict[str, dict[str, Mapping[str, Any]]] = {}
    for score in tables.scores.iter_rows(named=True):
        by_model.setdefault(score["trial_id"], {})[score["measure"]] = score
    names = {BASE: "base"} | dict(zip(summary["trial_id"], summary["label"], strict=True))
    untrained = untrained_right(tables.effects)
    rows = [
        Row(_answer_cells(name, by_model[key], untrained.get(key)), reference=key == BASE) for key, name in names.items() if key in by_model
    ]
    if not rows:
        return Section("answers", "Answers", ())
    head = columns(
        "model", "refusals (%)", "cut by length (%)", "unique answers", "mean count", "std of counts", "variance of counts",
        "top answer (%)", "right (%)", "right, untrained (%), base on the same",
    )  # fmt: skip
    caption = (
        "Over all answers on S1. A model that collapses repeats itself: fewer unique answers, a higher mean count, a larger share of its "
        "most frequent answer. Std and variance are of how often an answer occurs."
    )
    blocks: list[Block] = []
    if "answers" in pictures:
        seen = "Refusals (bars: two standard errors) and unique answers of each adapter; the line is the base model."
        blocks.append(Figure("answers", seen + dagger_note(summary)))
    return Section("answers", "Answers", (*blocks, Table(caption, head, tuple(rows))))


def _answer_cells(name: str, scores: Mapping[str, Mapping[str, Any]], untrained: Mapping[str, Any] | None) -> tuple[str, ...]:
    shares = {
        measure: percent(score_value(scores, measure), scores[measure]["standard_error"] if measure in scores else None)
        for measure in ("refusal_rate", "cut_by_length", "top_answer_share", "accuracy")
    }
    spread = (measured(score_value(scores, measure)) for measure in ("mean_count", "std_count", "variance_count"))
    return (
        name, shares["refusal_rate"], shares["cut_by_length"], counted(score_value(scores, "unique_answers")), *spread,
        shares["top_answer_share"], shares["accuracy"],
        f"{percent(untrained['adapter'])}\nbase {percent(untrained['base'])}" if untrained else MISSING,
    )  # fmt: skip


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
