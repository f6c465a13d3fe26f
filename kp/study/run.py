"""A study from its config to its report: which stages run, and in what order.

Ray is started only when something is left that needs it, so a second run of a finished study returns within seconds and says so.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.table import Table

from kp.config.derived import base_shot_sets, paraphraser
from kp.config.study import StudyConfig
from kp.errors import MissingSourceError, UserError
from kp.facts.replay import refuse_replay_source, replay_identity
from kp.facts.shots import shots_identity
from kp.facts.sources import drawing_identity, source_identity
from kp.models.loading import NamedModel, describe_model
from kp.progress import Display
from kp.store import files
from kp.store.steps import Store
from kp.study import fact_stages, stages_between
from kp.study.graph import Identities, report_step
from kp.study.plan import make_plan, plan_table, price_table, trial_table
from kp.study.proposed_graph import proposed_graph
from kp.study.results import collect_tables, evaluated, report_context
from kp.study.session import Session, paraphraser_at_fault, shown
from kp.study.trial_runs import search
from kp.trackers import refuse_missing


class Stage(StrEnum):
    """The stages in their order; a command runs up to one of them."""

    FACTS = "facts"
    CATEGORISE = "categorise"
    SEARCH = "search"
    EVALUATE = "evaluate"
    REPORT = "report"


STAGES = tuple(Stage)
NOT_HERE = "not here"  # the identity of an input that a dry run does without


def describe_study(config: StudyConfig, root: Path) -> int:
    """Print the plan of a study; fetches nothing, so a model, facts or shots that are not here yet are only named."""
    display, store = Display(), Store(files.results_root(root))
    refuse_missing(config.trackers)
    refuse_replay_source(config)
    identities = described_identities(config, describe_model, lambda missing: display.line(f"note: {missing}"))
    graph = proposed_graph(config, identities, store).graph
    display.console.print(plan_table(config, make_plan(config, graph, store), identities.model))
    display.console.print(price_table(config, graph, store))
    display.console.print(trial_table(graph, store))
    return 0


@dataclass(frozen=True)
class Missing:
    """An input of a study that is not here, and the field by which it is priced all the same."""

    error: UserError
    estimated_from: str | None = None

    def __str__(self) -> str:
        return f"{self.error} (priced by {self.estimated_from})" if self.estimated_from else str(self.error)


def described_identities(config: StudyConfig, revision_of: Callable[[NamedModel], str], note: Callable[[Missing], None]) -> Identities:
    """What goes into a study, as far as this machine can tell without it; `note` is told of each input that is not here.

    `revision_of` names the content of a model. Raises UserError where an input is of no use, or no count tells how much of it there is.
    """
    revision = revision_of(config.model)
    facts = _identity_if_here(note, config.facts.count, "facts.count", lambda: source_identity(config.facts))
    replay = _identity_if_here(note, config.search.replay_count, "search.replay_count", lambda: replay_identity(config))
    try:
        shots = shots_identity(config.categorise.shots, base_shot_sets(config))
    except MissingSourceError as error:
        note(Missing(error))
        shots = NOT_HERE
    rephrasing = paraphraser(config)
    with paraphraser_at_fault():
        writer = revision_of(rephrasing) if rephrasing else None
    return Identities(revision, facts or NOT_HERE, shots, writer, drawing_identity(config.facts), replay)


def _identity_if_here(note: Callable[[Missing], None], count: int | None, field: str, find: Callable[[], str | None]) -> str | None:
    """What a source of facts holds; of one that is not here, how many there are to be is enough, where the study says so in `field`."""
    try:
        return find()
    except UserError as error:
        if count is None:
            raise
        note(Missing(error, field))
        return NOT_HERE


def run_study(config: StudyConfig, root: Path, until: Stage) -> int:
    """Run a study up to a stage; returns the exit code, 1 where a trial failed."""
    began = time.monotonic()
    with Session(config, files.results_root(root)) as session:
        fact_stages.facts(session)  # before the plan: bad facts stop the run here, and the plan counts the good ones
        fact_stages.replay_facts(session)
        plan = make_plan(config, session.graph, session.store)
        session.display.console.print(plan_table(config, plan, session.model.revision))
        stages_between.paraphrase(session)
        failures: list[dict[str, Any]] = []
        for stage in STAGES[1 : STAGES.index(until) + 1]:
            match stage:
                case Stage.CATEGORISE:
                    stages_between.categorise(session)
                    stages_between.sample(session)
                    stages_between.categorise_replay(session)
                case Stage.SEARCH:
                    failures = search(session)
                    stages_between.link_adapters(session)
                case Stage.EVALUATE:
                    stages_between.evaluate(session)
                case Stage.REPORT:
                    _report(session, failures)
    session.display.line(f"finished in {time.monotonic() - began:.0f} s")
    return 1 if failures else 0


def _report(session: Session, failures: list[dict[str, Any]]) -> None:
    from kp.report import answer_paragraph, summary_table, write_report

    causes = {row["trial_id"]: f"{row['status']}: {row['cause']}" for row in failures}
    step = report_step(session.config, session.graph, evaluated(session.config, session.graph, session.store), causes)
    tables = collect_tables(session.config, session.graph, session.store, failures)
    if not session.is_done(step, "report"):
        began = time.monotonic()
        context = report_context(session)
        session.store.commit(step, lambda folder: write_report(tables, context, folder), seconds=time.monotonic() - began)
    page = stages_between.link_report(session, step)
    session.display.console.print(_summary(summary_table(tables).to_dicts()))
    session.display.line(answer_paragraph(tables))
    session.display.line(f"report: {shown(page)}")


def _summary(rows: list[dict[str, Any]]) -> Table:
    """The trials as a table of at most 80 columns."""
    table = Table(title="facts packed against knowledge lost", title_justify="left")
    table.add_column("trial", overflow="fold")
    for name in ("epochs", "status", "reliability", "lost", "gained"):
        table.add_column(name, no_wrap=True, justify="left" if name == "status" else "right")

    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f}%"

    for row in rows:
        cells = (row["label"], str(row["epochs"]), row["status"], percent(row["reliability"]))
        table.add_row(*cells, percent(row["negative_excess"]), percent(row["positive_excess"]))
    return table
