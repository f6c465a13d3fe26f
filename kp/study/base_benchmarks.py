"""`kp benchmarks`: what the base model scores on a study's benchmarks, before or without any training.

The scores are those of the base in the study itself, so `kp evaluate` finds them done. Of the other stages only the facts are needed, which
every measurement is given.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
from rich.table import Table

from kp import schema
from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.metrics.benchmark_chance import at_chance
from kp.schema import frame
from kp.store import roots
from kp.store.filenames import BENCHMARKS_FILE
from kp.store.steps import Step
from kp.study.measurements.registry import measurement_of
from kp.study.run import open_session, run_stage
from kp.study.session import Session
from kp.study.stage import Command
from kp.study.stages.evaluate import measure


def score_base(config: StudyConfig, root: Path) -> int:
    """Measure the base on every benchmark of the study and print its scores; returns the exit code. UserError if there is none."""
    with open_session(config, roots.results_root(root), Command.CATEGORISE) as session:
        asked = {name: step for name, step in session.graph.base.items() if BENCHMARKS_FILE in measurement_of(name).tables}
        if not asked:
            raise UserError("the study asks for no benchmark: name a task, such as evaluate.tasks='[\"arc_easy\"]'", field="evaluate.tasks")
        for stage in ("dump", "facts"):
            run_stage(session, stage)
        measure(session, {None: asked})
        _show(session, asked)
    return 0


def _show(session: Session, asked: Mapping[str, Step]) -> None:
    scores = pl.concat([frame(session.store.read(step, BENCHMARKS_FILE, schema.BENCHMARKS)) for step in asked.values()])
    title = f"{session.config.name}: {session.model.name}, revision {session.model.revision[:12]}"
    table = Table(title=title, title_justify="left")
    table.add_column("task")
    table.add_column("metric")
    for name in ("score", "error", "n", "shots", "chance"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in scores.iter_rows(named=True):
        shares = (f"{row['value']:.2%}", _percent(row["standard_error"], 2), f"{row['n']:,}", str(row["num_fewshot"]))
        table.add_row(row["task"], row["metric"], *shares, _percent(row["chance"], 1))
    session.display.console.print(table)
    if guessed := at_chance(scores):
        session.display.line(f"no better than chance: {', '.join(f'{task} {metric}' for task, metric in sorted(guessed))}")
    for name, step in asked.items():
        session.display.line(f"{name} took {(session.store.record(step) or {})['wall_seconds']:,.0f} s")


def _percent(share: float | None, digits: int) -> str:
    return "" if share is None else f"{share:.{digits}%}"
