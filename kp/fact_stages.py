"""The stages that come before anything is asked: a dump becomes a graph, and a graph, a table or a vocabulary becomes the study's facts."""

import shutil
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from kp import schema
from kp.dump_reading import read_graph_on_cluster
from kp.errors import UserError
from kp.facts import synthetic
from kp.facts.dominance import without_dominance
from kp.facts.dump.facts import GraphFacts, facts_of_graph
from kp.facts.dump.files import FIELD, find_files
from kp.facts.dump.reading import GraphCounts, read_graph
from kp.facts.dump.schema import DROPPED_CANDIDATES, GRAPH_REPORT
from kp.facts.popularity import BUCKETS
from kp.facts.selection import select_facts
from kp.facts.synthetic import synthetic_facts
from kp.facts.tables import read_source
from kp.facts.validation import check_facts, reason_kind, set_aside_rows
from kp.graph import base_shot_sets
from kp.layout import DROPPED_FILE, FACTS_FILE, GRAPH_REPORT_FILE, QUARANTINED_FILE, REPLACED_SHOTS_FILE
from kp.session import Session, frame
from kp.shots import replaced_table, shot_sets

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


def facts(session: Session) -> None:
    """Read the source, check every row, choose the facts to be measured."""
    step, settings, seed = session.graph.facts, session.config.facts, session.config.seed + session.config.facts.seed
    if session.is_done(step, "facts"):
        return
    dump(session)
    began = time.monotonic()
    table, beside = _gathered(session, seed)
    fit, unfit = check_facts(table, settings.source, settings.most_set_aside)
    if settings.most_of_one_object is not None:
        fit, unfit = without_dominance(fit, unfit, settings.most_of_one_object, seed)
    chosen = select_facts(frame(fit), settings.relations, settings.count, seed)
    _, replaced = shot_sets(session.shots.shots, chosen, base_shot_sets(session.config))
    tables = {
        FACTS_FILE: (chosen.to_arrow(), schema.FACTS),
        QUARANTINED_FILE: (unfit, schema.QUARANTINED),
        REPLACED_SHOTS_FILE: (replaced_table(replaced), schema.REPLACED_SHOTS),
    }
    session.commit(step, tables | beside, began)
    for fault, rows in session.shots.passed_over.items():
        session.display.line(f"facts: {rows:,} rows of {session.config.categorise.shots} are not used as shots: {fault}")
    for gone in replaced:
        session.display.line(f"facts: the shot '{gone.shot.question}' gives a studied fact away and is replaced")
    _say_what_is_set_aside(session, unfit)
    relations = chosen["relation"].n_unique()
    session.display.line(f"facts: chose {len(chosen):,} of {len(table):,} from {settings.source}, over {relations} relations")


def _gathered(session: Session, seed: int) -> tuple[pa.Table, dict[str, tuple[pa.Table, pa.Schema]]]:
    """All facts of the source (FACTS), and the tables that tell how they came about."""
    settings = session.config.facts
    if session.graph.dump is not None:
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


def _say_what_is_drawn(session: Session, drawn: GraphFacts) -> None:
    report = frame(drawn.relations)
    kept = report.filter(report["has_template"])
    session.display.line(f"facts: {kept.height:,} of {report.height:,} relations have a template, {kept['candidates'].sum():,} candidates")
    if largest := drawn.untemplated(MOST_LISTED):
        named = ", ".join(f"{name} ({triples:,} triples)" for name, triples in largest)
        session.display.line(f"facts: without a template and left out, the largest: {named}; facts.graph.templates can add them")


def _say_what_is_set_aside(session: Session, unfit: pa.Table) -> None:
    if not len(unfit):
        return
    reasons = Counter(map(reason_kind, unfit["reason"].to_pylist()))
    rows = len(set_aside_rows(unfit))
    session.display.line(f"facts: {rows:,} rows cannot be measured and are set aside; {QUARANTINED_FILE} lists these faults:")
    for reason, found in reasons.most_common(MOST_LISTED):
        session.display.line(f"  {found:,} {reason}")
