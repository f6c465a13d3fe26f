"""The report's sections, composed from the tables."""

from collections.abc import Iterable

import polars as pl

from kp.report import provenance
from kp.report.answer import answer_sentences
from kp.report.answers_section import answers_section
from kp.report.arms_section import arms_section
from kp.report.base_model import base_model_section
from kp.report.benchmarks_section import benchmarks_section
from kp.report.capacity_section import capacity_section
from kp.report.curves import style_sentence
from kp.report.discrepancies_section import discrepancies_section
from kp.report.document import Document, Figure, Section
from kp.report.drift_section import drift_section
from kp.report.effects_section import effects_section
from kp.report.locality_section import locality_section
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


def compose(tables: ReportTables, context: ReportContext, found: Evidence, arms: pl.DataFrame, drawn: Iterable[str]) -> Document:
    """The whole report; `arms` are the mixes compared (ARMS), `drawn` has the names of the pictures that exist."""
    summary = found.summary
    pictures = set(drawn)
    sections = (
        trials_section(tables, found),
        effects_section(tables, summary, context.margin),
        arms_section(found, arms),
        where_section(tables, found, pictures),
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
        benchmarks_section(tables, summary, pictures, context.margin),
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
