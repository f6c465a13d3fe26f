"""`kp audit` and `kp noise`: what the categories of a study are worth, read off the answers that its categorise step holds.

Nothing is asked of a model here, so both take seconds once that step is done. What comes out is a step of its own, and its folder is made
to be committed as it stands: tables as parquet and csv, a page, the study that made them and the record of the answers they rest on.
"""

import shutil
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.study import StudyConfig
from kp.metrics.aliases import doubtful_aliases
from kp.metrics.audit import disagreement_table, false_positive_table, matcher_transitions, refusal_table
from kp.metrics.categories import category_counts
from kp.metrics.majority import constant_facts, majority_table
from kp.metrics.noise import noise_shifts, noise_spread, noise_transitions
from kp.report.audit_page import Subject, audit_page
from kp.report.document import Document, Table
from kp.report.markdown import render_markdown
from kp.report.noise_page import noise_page
from kp.report.provenance import toml_text
from kp.report.terminal import WIDTH, terminal_table
from kp.schema import frame
from kp.store import files
from kp.store.filenames import ANSWERS_FILE, CATEGORIES_FILE
from kp.store.steps import RECORD, Step
from kp.study import fact_stages, stages_between
from kp.study.graph import inspection_step
from kp.study.session import Session, shown
from kp.vocabulary import Matcher

STUDY_FILE = "study.toml"
CATEGORISE_RECORD = "categorise_record.json"  # the step's own record is beside it

Frames = dict[str, pl.DataFrame]  # by the name of their file


class Inspection(StrEnum):
    """What is looked into; also the name of the command, and of the folder in the study's."""

    AUDIT = "audit"
    NOISE = "noise"


_COUNTS = {"category_counts": schema.CATEGORY_COUNTS, "relation_counts": schema.RELATION_COUNTS}
_SCHEMAS: dict[Inspection, dict[str, pa.Schema]] = {
    Inspection.AUDIT: {
        "disagreement": schema.DISAGREEMENT,
        "matcher_transitions": schema.MATCHER_TRANSITIONS,
        "false_positives": schema.FALSE_POSITIVES,
        "doubtful_aliases": schema.DOUBTFUL_ALIASES,
        "refusals": schema.REFUSALS,
        "majority": schema.MAJORITY,
        "constant_facts": schema.CONSTANT_FACTS,
        **_COUNTS,
    },
    Inspection.NOISE: {
        "noise_shifts": schema.NOISE_SHIFTS,
        "noise_spread": schema.NOISE_SPREAD,
        "noise_transitions": schema.NOISE_TRANSITIONS,
        **_COUNTS,
    },
}


def inspect_study(config: StudyConfig, root: Path, what: Inspection) -> int:
    """Run a study as far as its categories, look into them, and print what was found; returns the exit code."""
    began = time.monotonic()
    with Session(config, files.results_root(root)) as session:
        fact_stages.facts(session)
        stages_between.categorise(session)
        study = portable(config)
        step = inspection_step(what.value, study, session.graph)
        subject = Subject(config.name, session.model.name, len(session.facts), config.categorise.matcher)
        if not session.is_done(step, what.value):
            started = time.monotonic()
            tables = _tables(session, what)
            session.store.commit(step, lambda folder: _write(session, what, tables, subject, folder), seconds=time.monotonic() - started)
        _show(session, what, step, subject)
        session.display.line(f"finished in {time.monotonic() - began:.0f} s")
    return 0


def portable(config: StudyConfig) -> dict[str, Any]:
    """The study as plain values, without what does not change a number: resources, trackers, and the folders that its files are in."""
    plain: dict[str, Any] = config.model_dump(mode="json", exclude={"resources", "trackers"})
    for section, field in (("model", "name"), ("facts", "source"), ("categorise", "shots"), ("search", "replay_source")):
        value = plain[section][field]
        if value is not None and (path := Path(value)).exists():
            plain[section][field] = path.name
    return plain


def _tables(session: Session, what: Inspection) -> Frames:
    step, matcher = session.graph.categorise, session.config.categorise.matcher
    facts = frame(session.facts)
    categories = frame(session.store.read(step, CATEGORIES_FILE, schema.CATEGORIES))
    counts = _counts(facts, categories)
    match what:
        case Inspection.AUDIT:
            answers = frame(session.store.read(step, ANSWERS_FILE, schema.ANSWERS))
            return _audit(facts, answers, categories, matcher, session.config.seed) | counts
        case Inspection.NOISE:
            return _noise(categories, matcher) | counts


def _audit(facts: pl.DataFrame, answers: pl.DataFrame, categories: pl.DataFrame, matcher: Matcher, seed: int) -> Frames:
    return {
        "disagreement": disagreement_table(answers),
        "matcher_transitions": matcher_transitions(categories),
        "false_positives": false_positive_table(facts, answers, seed),
        "doubtful_aliases": doubtful_aliases(facts),
        "refusals": refusal_table(answers),
        "majority": majority_table(facts, answers, categories, matcher),
        "constant_facts": constant_facts(facts, categories, matcher),
    }


def _noise(categories: pl.DataFrame, matcher: Matcher) -> Frames:
    shifts = noise_shifts(categories, matcher)
    return {
        "noise_shifts": shifts,
        "noise_spread": noise_spread(shifts),
        "noise_transitions": noise_transitions(categories, matcher),
    }


def _counts(facts: pl.DataFrame, categories: pl.DataFrame) -> Frames:
    with_relation = categories.join(facts.select("fact_id", "relation"), on="fact_id", how="left", validate="m:1")
    return {
        "category_counts": category_counts(categories, ["shot_set", "matcher"]),
        "relation_counts": category_counts(with_relation, ["relation", "shot_set", "matcher"]),
    }


def _write(session: Session, what: Inspection, tables: Frames, subject: Subject, folder: Path) -> None:
    for name, wanted in _SCHEMAS[what].items():
        schema.write_table(tables[name].to_arrow(), wanted, folder / f"{name}.parquet")
        _flat(tables[name]).write_csv(folder / f"{name}.csv")
    (folder / f"{what}.md").write_text(render_markdown(_page(what, subject, tables)), encoding="utf-8")
    (folder / STUDY_FILE).write_text(toml_text(portable(session.config)), encoding="utf-8")
    shutil.copyfile(session.store.folder(session.graph.categorise) / RECORD, folder / CATEGORISE_RECORD)


def _flat(table: pl.DataFrame) -> pl.DataFrame:
    """Lists as words, since csv has none."""
    return table.with_columns(pl.col(name).list.join(" ") for name, kind in table.schema.items() if isinstance(kind, pl.List))


def _page(what: Inspection, subject: Subject, tables: Mapping[str, pl.DataFrame]) -> Document:
    return {Inspection.AUDIT: audit_page, Inspection.NOISE: noise_page}[what](subject, tables)


def _show(session: Session, what: Inspection, step: Step, subject: Subject) -> None:
    """Link the step's folder into the study's, and print the page's opening: always out of the files, so a second run shows the same."""
    found = {name: frame(session.store.read(step, f"{name}.parquet", wanted)) for name, wanted in _SCHEMAS[what].items()}
    page = _page(what, subject, found)
    files.link(session.home / what.value, session.store.folder(step))
    print_opening(session, page)
    session.display.line(f"{what}: {shown(session.home / what.value / f'{what}.md')}")


def print_opening(session: Session, page: Document) -> None:
    """A page's first tables and what it says in short, for a terminal."""
    for block in page.sections[0].blocks:
        if isinstance(block, Table):
            session.display.console.print(terminal_table(block), width=WIDTH)
    for sentence in page.answer:
        session.display.line(sentence)
