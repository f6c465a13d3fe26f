"""The stages that come before anything is asked: a dump becomes a graph, and a graph, a table or a vocabulary becomes the study's facts.

Facts that are only replayed, out of a source of their own, are chosen in the same way and after the studied ones, which are none of them.
"""

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.derived import REPLAY_SHOT_SET, base_shot_sets, replay_settings
from kp.config.study import FactsConfig
from kp.errors import UserError
from kp.facts import synthetic
from kp.facts.dominance import without_dominance
from kp.facts.dump.facts import GraphFacts, facts_of_graph
from kp.facts.dump.files import FIELD, find_files, is_dump
from kp.facts.dump.reading import GraphCounts, read_graph
from kp.facts.dump.schema import DROPPED_CANDIDATES, GRAPH_REPORT
from kp.facts.popularity import BUCKETS
from kp.facts.replay import replay_at_fault, without_studied
from kp.facts.selection import select_facts
from kp.facts.shots import Replacement, replaced_table, shot_sets
from kp.facts.synthetic import synthetic_facts
from kp.facts.tables import read_source
from kp.facts.validation import check_facts, reason_kind, set_aside_rows
from kp.schema import frame
from kp.store.filenames import DROPPED_FILE, FACTS_FILE, GRAPH_REPORT_FILE, QUARANTINED_FILE, REPLACED_SHOTS_FILE
from kp.store.steps import Step
from kp.study.dump_reading import read_graph_on_cluster
from kp.study.session import Session
from kp.vocabulary import ShotSet

MOST_LISTED = 5  # reasons, relations and the like in one message


def dump(session: Session) -> None:
    """Where the facts come out of a dump, reduce it to its graph; what is then drawn from that never reads the dump again."""
    step = session.graph.dump
    if step is None or session.is_done(step, "dump"):
        return
    began = time.monotonic()
    with session.store.working(step) as work:
        made = work / "graph"
        shutil.rmtree(made, ignore_errors=True)  # of a run that was killed
        counts = _read(session, made)
        seconds = time.monotonic() - began

        def fill(folder: Path) -> None:
            for path in sorted(made.iterdir()):
                path.rename(folder / path.name)

        session.store.commit(step, fill, seconds=seconds, details=asdict(counts))
    session.display.line(
        f"dump: {counts.distinct_triples:,} triples of {counts.entities:,} entities, {counts.pairs:,} single-valued pairs, "
        f"{counts.set_aside:,} lines set aside ({seconds:.0f} s)"
    )


def _read(session: Session, folder: Path) -> GraphCounts:
    """One file is read here, many on the cluster; the graph is the same."""
    source = session.config.facts.source
    files = len(find_files(source))
    return read_graph(source, folder) if files == 1 else read_graph_on_cluster(source, folder, max(1, session.cluster.cpus // files))


@dataclass(frozen=True)
class _Choice:
    """Facts to be chosen out of a source: what they are called in messages, the step, its settings, and the shot sets they are asked on."""

    name: str
    step: Step
    settings: FactsConfig
    asked: Sequence[ShotSet]
    studied: pl.DataFrame | None = None  # FACTS, where these are replayed beside them


def facts(session: Session) -> None:
    """Read the source, check every row, choose the facts to be measured."""
    step = session.graph.facts
    if session.is_done(step, "facts"):
        return
    dump(session)
    _choose(session, _Choice("facts", step, session.config.facts, base_shot_sets(session.config)))
    for fault, rows in session.shots.passed_over.items():
        session.display.line(f"facts: {rows:,} rows of {session.config.categorise.shots} are not used as shots: {fault}")


def replay_facts(session: Session) -> None:
    """Where replayed facts have a source of their own, choose them out of it in the same way; only once the studied ones are chosen."""
    step, settings = session.graph.replay_facts, replay_settings(session.config)
    if step is None or settings is None or session.is_done(step, "replay facts"):
        return
    with replay_at_fault():
        _choose(session, _Choice("replay facts", step, settings, (REPLAY_SHOT_SET,), frame(session.facts)))


def _choose(session: Session, choice: _Choice) -> None:
    began = time.monotonic()
    settings, seed = choice.settings, session.config.seed + choice.settings.seed
    table, beside = _gathered(session, settings, seed)
    fit, unfit = check_facts(table, settings.source, settings.max_rejected_fraction)
    if settings.most_of_one_object is not None:
        fit, unfit = without_dominance(fit, unfit, settings.most_of_one_object, seed)
    pool = frame(fit) if choice.studied is None else without_studied(frame(fit), choice.studied)
    chosen = select_facts(pool, settings.relations, settings.count, seed)
    guarded = chosen if choice.studied is None else pl.concat([choice.studied, chosen])
    _, replaced = shot_sets(session.shots.shots, guarded, choice.asked)
    tables = {
        FACTS_FILE: (chosen.to_arrow(), schema.FACTS),
        QUARANTINED_FILE: (unfit, schema.QUARANTINED),
        REPLACED_SHOTS_FILE: (replaced_table(replaced), schema.REPLACED_SHOTS),
    }
    session.commit(choice.step, tables | beside, began)
    _say_what_shots_are_replaced(session, choice, replaced)
    _say_what_is_set_aside(session, choice, unfit)
    if len(pool) < len(fit):
        session.display.line(f"{choice.name}: {len(fit) - len(pool):,} facts of {settings.source} are studied and left out")
    relations = chosen["relation"].n_unique()
    session.display.line(f"{choice.name}: chose {len(chosen):,} of {len(table):,} from {settings.source}, over {relations} relations")


def _gathered(session: Session, settings: FactsConfig, seed: int) -> tuple[pa.Table, dict[str, tuple[pa.Table, pa.Schema]]]:
    """All facts of the source (FACTS), and the tables that tell how they came about."""
    if is_dump(settings.source):
        assert session.graph.dump is not None, "a source that is a dump has its step"
        drawn = facts_of_graph(session.store.folder(session.graph.dump), settings.graph, seed, settings.source)
        _say_what_is_drawn(session, drawn)
        if not drawn.facts.num_rows:
            raise UserError(
                f"{FIELD}: {settings.source}: no relation has a candidate in each of the buckets {', '.join(BUCKETS)}, so none gives facts"
            )
        return drawn.facts, {
            GRAPH_REPORT_FILE: (drawn.relations, GRAPH_REPORT),
            DROPPED_FILE: (drawn.dropped, DROPPED_CANDIDATES),
        }
    if settings.source == synthetic.SOURCE:
        assert settings.count is not None, "the study's config sees to that"
        return synthetic_facts(settings.synthetic, settings.count, seed), {}
    return read_source(settings.source), {}


def _say_what_shots_are_replaced(session: Session, choice: _Choice, replaced: Sequence[Replacement]) -> None:
    """Of those that give a studied fact away the facts stage has spoken by the time that others are chosen."""
    said = set() if choice.studied is None else set(choice.studied["fact_id"])
    kind = "studied" if choice.studied is None else "replayed"
    for gone in replaced:
        if gone.fact_id not in said:
            session.display.line(f"{choice.name}: the shot '{gone.shot.question}' gives a {kind} fact away and is replaced")


def _say_what_is_drawn(session: Session, drawn: GraphFacts) -> None:
    report = frame(drawn.relations)
    kept = report.filter(report["has_template"])
    session.display.line(f"facts: {kept.height:,} of {report.height:,} relations have a template, {kept['candidates'].sum():,} candidates")
    if largest := drawn.untemplated(MOST_LISTED):
        named = ", ".join(f"{name} ({triples:,} triples)" for name, triples in largest)
        session.display.line(f"facts: without a template and left out, the largest: {named}; facts.graph.templates can add them")


def _say_what_is_set_aside(session: Session, choice: _Choice, unfit: pa.Table) -> None:
    if not len(unfit):
        return
    reasons = Counter(map(reason_kind, unfit["reason"].to_pylist()))
    rows = len(set_aside_rows(unfit))
    session.display.line(f"{choice.name}: {rows:,} rows cannot be measured and are set aside; {QUARANTINED_FILE} lists these faults:")
    for reason, found in reasons.most_common(MOST_LISTED):
        session.display.line(f"  {found:,} {reason}")
