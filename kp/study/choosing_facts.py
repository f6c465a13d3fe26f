"""How facts are chosen from a source: read, checked and drawn; and shots that leak them are replaced.

Facts of a separate source that are only replayed are chosen in the same way, after the studied ones and without them.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.derived import replay_settings
from kp.config.study import FactsConfig, StudyConfig
from kp.errors import UserError
from kp.facts import synthetic
from kp.facts.dominance import without_dominance
from kp.facts.dump.cleaning import Rule
from kp.facts.dump.facts import GraphFacts, facts_of_graph
from kp.facts.dump.files import FIELD, is_dump
from kp.facts.dump.readable import graph_counts, unreadable_lines, validate_readable
from kp.facts.dump.schema import DROPPED_CANDIDATES, GRAPH_REPORT
from kp.facts.popularity import BUCKETS
from kp.facts.published import published_table
from kp.facts.replay import SOURCE_FIELD, without_studied
from kp.facts.selection import COUNT_FIELD, select_facts
from kp.facts.shots import Replacement, replaced_table, shot_sets
from kp.facts.synthetic import synthetic_facts
from kp.facts.tables import SourceFacts, read_source
from kp.facts.validation import check_facts, listed_rows, reason_kind, rejected_rows
from kp.schema import frame
from kp.store.filenames import DROPPED_FILE, FACTS_FILE, GRAPH_REPORT_FILE, PUBLISHED_FILE, QUARANTINED_FILE, REPLACED_SHOTS_FILE
from kp.store.steps import Step
from kp.study.session import Session
from kp.vocabulary import ShotSet

TABLES = {
    FACTS_FILE: schema.FACTS,
    QUARANTINED_FILE: schema.QUARANTINED,
    REPLACED_SHOTS_FILE: schema.REPLACED_SHOTS,
    GRAPH_REPORT_FILE: GRAPH_REPORT,  # these two if the source is a dump
    DROPPED_FILE: DROPPED_CANDIDATES,
    PUBLISHED_FILE: schema.PUBLISHED_CATEGORIES,  # if the source has the column
}
MOST_LISTED = 5  # reasons, relations and the like in one message


@dataclass(frozen=True)
class FactChoice:
    """Facts to choose from a source: their name in messages, the step, its settings, and the shot sets on which they are asked.

    Messages name the config fields of the source and of the count.
    """

    name: str
    step: Step
    settings: FactsConfig
    asked: Sequence[ShotSet]
    studied: pl.DataFrame | None = None  # FACTS, if the chosen facts are for replay
    source_field: str = FIELD
    count_field: str = COUNT_FIELD


def validate_facts(config: StudyConfig) -> None:
    """Read and check the tables from which a study's facts are chosen, before anything else is fetched; a dump is read by its own step.

    Raises UserError as `choose_facts` does for rows that cannot be measured.
    """
    replay = replay_settings(config)
    for settings, field in ((config.facts, FIELD), *([(replay, SOURCE_FIELD)] if replay else [])):
        if not is_dump(settings.source) and settings.source != synthetic.SOURCE:
            source = read_source(settings.source, field)
            check_facts(source.facts, settings.source, settings.max_rejected_fraction, source.rows, source.unread)


def choose_facts(session: Session, choice: FactChoice) -> None:
    """Read the source, check every row, choose the facts, and commit them."""
    began = time.monotonic()
    settings, seed = choice.settings, session.config.seed + choice.settings.seed
    source, of_graph = _gathered(session, settings, seed, choice.source_field)
    for note in source.notes:
        session.display.line(f"{choice.name}: {note}")
    fit, unfit = check_facts(source.facts, settings.source, settings.max_rejected_fraction, source.rows, source.unread)
    if settings.most_of_one_object is not None:
        fit, unfit = without_dominance(fit, unfit, settings.most_of_one_object, seed, source.rows)
    pool = frame(fit) if choice.studied is None else without_studied(frame(fit), choice.studied)
    chosen = select_facts(pool, settings.relations, settings.count, seed, choice.count_field)
    guarded = chosen if choice.studied is None else pl.concat([choice.studied, chosen])
    _, replaced = shot_sets(session.shots.shots, guarded, choice.asked)
    made = {FACTS_FILE: chosen.to_arrow(), QUARANTINED_FILE: unfit, REPLACED_SHOTS_FILE: replaced_table(replaced)}
    if source.published:
        made[PUBLISHED_FILE] = published_table(source.published, chosen["fact_id"].to_list())
    session.commit(choice.step, made | of_graph, TABLES, began)
    _log_replaced_shots(session, choice, replaced)
    _log_rejected_rows(session, choice, unfit)
    if len(pool) < len(fit):
        session.display.line(f"{choice.name}: {len(fit) - len(pool):,} facts of {settings.source} are studied and left out")
    relations = chosen["relation"].n_unique()
    found = len(source.facts) + len({problem.row for problem in source.unread})
    session.display.line(f"{choice.name}: chose {len(chosen):,} of {found:,} from {settings.source}, over {relations} relations")


def _gathered(session: Session, settings: FactsConfig, seed: int, field: str) -> tuple[SourceFacts, dict[str, pa.Table]]:
    """All facts of the source, and the tables that report how they were made."""
    if is_dump(settings.source):
        assert "dump" in session.graph.steps, "a source that is a dump has its step"
        graph = session.store.fetch(session.graph.steps["dump"])
        validate_readable(graph, settings.source, settings.max_rejected_fraction)
        _log_unreadable_lines(session, graph)
        drawn = facts_of_graph(graph, settings.graph, seed, settings.source)
        _log_drawn_facts(session, drawn)
        if not drawn.facts.num_rows:
            unnamed = drawn.dropped_by(Rule.NO_LABEL)
            why = (
                f"; {unnamed:,} were dropped, because the dump has no label in the language '{settings.graph.language}'" if unnamed else ""
            )
            raise UserError(
                f"{settings.source}: no relation has a candidate in each of the buckets {', '.join(BUCKETS)}, so none gives facts{why}",
                field=field,
            )
        return SourceFacts(drawn.facts), {
            GRAPH_REPORT_FILE: drawn.relations,
            DROPPED_FILE: drawn.dropped,
        }
    if settings.source == synthetic.SOURCE:
        assert settings.count is not None, "ensured by the study's config"
        return SourceFacts(synthetic_facts(settings.synthetic, settings.count, seed)), {}
    return read_source(settings.source, field), {}


def _log_replaced_shots(session: Session, choice: FactChoice, replaced: Sequence[Replacement]) -> None:
    """Report the replaced shots; when replayed facts are chosen, the facts stage has already reported those that leak studied facts."""
    said = set() if choice.studied is None else set(choice.studied["fact_id"])
    kind = "studied" if choice.studied is None else "replayed"
    for gone in replaced:
        if gone.fact_id not in said:
            session.display.line(f"{choice.name}: the shot '{gone.shot.question}' gives a {kind} fact away and is replaced")


def _log_unreadable_lines(session: Session, graph: Path) -> None:
    counts = graph_counts(graph)
    if counts.unreadable:
        session.display.line(f"facts: {counts.unreadable:,} of {counts.statements:,} lines of the dump are unreadable and left out:")
        for line in unreadable_lines(graph):
            session.display.line(line)


def _log_drawn_facts(session: Session, drawn: GraphFacts) -> None:
    report = frame(drawn.relations)
    kept = report.filter(report["has_template"])
    session.display.line(f"facts: {kept.height:,} of {report.height:,} relations have a template, {kept['candidates'].sum():,} candidates")
    if largest := drawn.untemplated(MOST_LISTED):
        named = ", ".join(f"{name} ({triples:,} triples)" for name, triples in largest)
        session.display.line(f"facts: without a template and left out, the largest: {named}; facts.graph.templates can add them")


def _log_rejected_rows(session: Session, choice: FactChoice, unfit: pa.Table) -> None:
    if not len(unfit):
        return
    rows_of: dict[str, list[int]] = defaultdict(list)  # one for each fault
    for row, reason in zip(unfit["row"].to_pylist(), unfit["reason"].to_pylist(), strict=True):
        rows_of[reason_kind(reason)].append(row)
    rows = len(rejected_rows(unfit))
    session.display.line(f"{choice.name}: {rows:,} rows cannot be measured and are rejected; {QUARANTINED_FILE} lists these faults:")
    for reason, having in sorted(rows_of.items(), key=lambda item: -len(item[1]))[:MOST_LISTED]:
        session.display.line(f"  {len(having):,} {reason} (row {listed_rows(having)})")
