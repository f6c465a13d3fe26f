"""The report over all trials that ended, and its summary on the terminal."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from kp.config.identity import Reads
from kp.config.study import StudyConfig
from kp.metrics.result_schema import ARMS
from kp.report.answer import answer_text
from kp.report.reading import read_report
from kp.report.summary import summary_table
from kp.report.writing import write_report
from kp.schema import frame
from kp.store.steps import Step
from kp.study.context import report_context
from kp.study.graph import Graph, Trial
from kp.study.results import collect_tables, evaluated
from kp.study.scaled_adapters import save_chosen_scales
from kp.study.session import Session
from kp.study.stage import Command, Stage

SHOWN = Reads(("",), but=("resources", "trackers"))
"""What a report shows of the study: everything except where and how fast it ran."""


class Report(Stage):
    """Its step depends on how the trials ended, so the graph does not have it."""

    name = "report"
    command = Command.REPORT
    version = 12
    reads = SHOWN

    def steps(self, graph: Graph) -> tuple[Step, ...]:
        """None, because its step is unknown before the trials have ended."""
        return ()

    def run(self, session: Session) -> None:
        """Write the report if it is not there yet; show its opening in any case."""
        failures = list(session.failures.values())
        causes = {row["trial_id"]: f"{row['status']}: {row['cause']}" for row in failures}
        finished = evaluated(session.config, session.graph, session.store)
        step = report_step(session.config, session.graph, finished, causes)
        if session.is_done(step, self.name):
            tables, _ = read_report(session.store.fetch(step), session.config.report)
        else:
            began = time.monotonic()
            tables = collect_tables(session.config, session.graph, session.store, failures)
            context = report_context(session)
            session.store.commit(step, lambda folder: write_report(tables, context, folder), seconds=time.monotonic() - began)
        save_chosen_scales(session, tables.scale_curve)
        page = f"{session.link('report', step)}/report.html"
        arms = frame(session.store.read(step, "tables/arms.parquet", ARMS))
        summary = summary_table(tables)
        session.display.console.print(_summary(summary.to_dicts()))
        session.display.line(answer_text(tables, session.config.report.margin, summary, arms))
        session.display.line(f"report: {page}")


def report_step(config: StudyConfig, graph: Graph, finished: Sequence[Trial], failures: Mapping[str, str]) -> Step:
    """The report over these trials, which ended with an adapter and are measured; it also depends on how the others ended."""
    inputs = [step for name, step in graph.steps.items() if name not in ("dump", "facts", "replay_facts", "replay_categorise")]
    inputs += [trial.step for trial in graph.trials if trial.trial_id not in failures]
    inputs += [step for trial in finished for step in trial.measurements.values()]
    inputs += graph.base.values()
    literals = {"version": Report.version, "config": Report.reads.stated(config), "failures": dict(failures)}
    return Step(Report.name, literals, tuple(inputs))


def _summary(rows: list[dict[str, Any]]) -> Table:
    """The trials as a table of at most 80 columns."""
    table = Table(title="facts packed against knowledge lost", title_justify="left")
    table.add_column("trial", overflow="fold")
    for name in ("epochs", "status", "reliability", "lost"):
        table.add_column(name, no_wrap=True, justify="left" if name == "status" else "right")

    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f}%"

    for row in rows:
        cells = (row["label"], str(row["epochs"]), row["status"], percent(row["reliability"]))
        table.add_row(*cells, percent(row["knowledge_loss"]))
    return table
