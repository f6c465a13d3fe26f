"""`kp audit` and `kp noise`: how reliable the categories of a study are, from the answers of its categorise step.

No model is used here, so both take seconds once that step is done. The result is a separate step with a folder that can be committed as it
is: tables as parquet and csv, a page, the study that made them, and the record of the answers.
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
from kp.config.identity import Reads
from kp.config.study import StudyConfig
from kp.config.toml import toml_text
from kp.metrics import inspection_schema, result_schema
from kp.metrics.aliases import doubtful_aliases
from kp.metrics.audit import disagreement_table, false_positive_table, matcher_transitions, refusal_table
from kp.metrics.categories import category_counts
from kp.metrics.majority import constant_facts, majority_table
from kp.metrics.noise import noise_shifts, noise_spread, noise_transitions
from kp.report.audit_page import Subject, audit_page
from kp.report.document import Document, Table
from kp.report.markdown import render_markdown
from kp.report.noise_page import noise_page
from kp.report.terminal import WIDTH, terminal_table
from kp.schema import frame
from kp.store import roots
from kp.store.filenames import ANSWERS_FILE, CATEGORIES_FILE
from kp.store.steps import RECORD, Step
from kp.study.graph import Graph
from kp.study.run import open_session, run_stage
from kp.study.session import Session
from kp.study.stage import Command
from kp.vocabulary import Matcher

STUDY_FILE = "study.toml"
CATEGORISE_RECORD = "categorise_record.json"  # the step's own record is next to it

Frames = dict[str, pl.DataFrame]  # by the name of their file


class Inspection(StrEnum):
    """What is inspected; also the name of the command, and of the folder in the study's folder."""

    AUDIT = "audit"
    NOISE = "noise"


class Inspecting:
    """What identifies the step of an inspection."""

    name = "inspection"
    version = 5
    """Rises when the code changes the results, so that older results are not taken for newer ones."""
    reads = Reads(("",), but=("resources", "trackers"))


_COUNTS = {"category_counts": inspection_schema.CATEGORY_COUNTS, "relation_counts": inspection_schema.RELATION_COUNTS}
SCHEMAS: dict[Inspection, dict[str, pa.Schema]] = {
    Inspection.AUDIT: {
        "disagreement": result_schema.DISAGREEMENT,
        "matcher_transitions": inspection_schema.MATCHER_TRANSITIONS,
        "false_positives": inspection_schema.FALSE_POSITIVES,
        "doubtful_aliases": inspection_schema.DOUBTFUL_ALIASES,
        "refusals": inspection_schema.REFUSALS,
        "majority": result_schema.MAJORITY,
        "constant_facts": inspection_schema.CONSTANT_FACTS,
        **_COUNTS,
    },
    Inspection.NOISE: {
        "noise_shifts": inspection_schema.NOISE_SHIFTS,
        "noise_spread": inspection_schema.NOISE_SPREAD,
        "noise_transitions": inspection_schema.NOISE_TRANSITIONS,
        **_COUNTS,
    },
}


def inspect_study(config: StudyConfig, root: Path, what: Inspection) -> int:
    """Run a study up to its categories, inspect them, and print the findings; returns the exit code."""
    began = time.monotonic()
    with open_session(config, roots.results_root(root), Command.CATEGORISE) as session:
        for stage in ("dump", "facts", "categorise", "repeat"):
            run_stage(session, stage)
        step = inspection_step(what, config, session.graph)
        subject = Subject(config.name, session.model.name, len(session.facts), config.categorise.matcher)
        if not session.is_done(step, what.value):
            started = time.monotonic()
            tables = _tables(session, what)
            session.store.commit(step, lambda folder: _write(session, what, tables, subject, folder), seconds=time.monotonic() - started)
        _show(session, what, step, subject)
        session.display.line(f"finished in {time.monotonic() - began:.0f} s")
    return 0


def inspection_step(what: Inspection, config: StudyConfig, graph: Graph) -> Step:
    """The step of an inspection of the base model's categories; identified by the whole study, which it also shows."""
    literals = {"version": Inspecting.version, **Inspecting.reads.stated(_moved(config))}
    return Step(what.value, literals, (graph.steps["facts"], *_asked(graph)))


def _asked(graph: Graph) -> tuple[Step, ...]:
    """The steps with the base model's answers, in the order of their shot sets."""
    return graph.steps["categorise"], *graph.by_stage.get("repeat", ())


def portable(config: StudyConfig) -> dict[str, Any]:
    """The study as plain values, without what does not change a number: resources, trackers, and the folders of its files."""
    plain: dict[str, Any] = _moved(config).model_dump(mode="json", exclude={"resources", "trackers"})
    return plain


def _moved(config: StudyConfig) -> StudyConfig:
    """The study as if its files were in the working folder."""
    sections = {}
    for section, field in (("model", "name"), ("facts", "source"), ("categorise", "shots"), ("search", "replay_source")):
        settings = getattr(config, section)
        value = getattr(settings, field)
        if value is not None and (path := Path(value)).exists():
            sections[section] = settings.model_copy(update={field: path.name})
    return config.model_copy(update=sections)


def _tables(session: Session, what: Inspection) -> Frames:
    matcher, facts = session.config.categorise.matcher, frame(session.facts)
    categories = _read(session, CATEGORIES_FILE, schema.CATEGORIES)
    counts = _counts(facts, categories)
    match what:
        case Inspection.AUDIT:
            answers = _read(session, ANSWERS_FILE, schema.ANSWERS)
            return _audit(facts, answers, categories, matcher, session.config.seed) | counts
        case Inspection.NOISE:
            return _noise(categories, matcher) | counts


def _read(session: Session, file: str, table_schema: pa.Schema) -> pl.DataFrame:
    """A table of the base model's answers on all shot sets."""
    return frame(pa.concat_tables([session.store.read(step, file, table_schema) for step in _asked(session.graph)]))


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
    for name, wanted in SCHEMAS[what].items():
        schema.write_table(tables[name].to_arrow(), wanted, folder / f"{name}.parquet")
        _flat(tables[name]).write_csv(folder / f"{name}.csv")
    (folder / f"{what}.md").write_text(render_markdown(_page(what, subject, tables)), encoding="utf-8")
    (folder / STUDY_FILE).write_text(toml_text(portable(session.config)), encoding="utf-8")
    shutil.copyfile(session.store.file(session.graph.steps["categorise"], RECORD), folder / CATEGORISE_RECORD)


def _flat(table: pl.DataFrame) -> pl.DataFrame:
    """Lists as text, because csv has no lists."""
    return table.with_columns(pl.col(name).list.join(" ") for name, kind in table.schema.items() if isinstance(kind, pl.List))


def _page(what: Inspection, subject: Subject, tables: Mapping[str, pl.DataFrame]) -> Document:
    return {Inspection.AUDIT: audit_page, Inspection.NOISE: noise_page}[what](subject, tables)


def _show(session: Session, what: Inspection, step: Step, subject: Subject) -> None:
    """Link the step's folder into the study's, and print the page's opening; both from files, so that a second run shows the same."""
    found = {name: frame(session.store.read(step, f"{name}.parquet", wanted)) for name, wanted in SCHEMAS[what].items()}
    page = _page(what, subject, found)
    folder = session.link(what.value, step)
    print_opening(session, page)
    session.display.line(f"{what}: {folder}/{what}.md")


def print_opening(session: Session, page: Document) -> None:
    """Print a page's first tables and its summary on the terminal."""
    for block in page.sections[0].blocks:
        if isinstance(block, Table):
            session.display.console.print(terminal_table(block), width=WIDTH)
    for sentence in page.answer:
        session.display.line(sentence)
