"""`kp benchmarks`: what the base model scores on a study's benchmarks, before or without any training.

The scores are those of the base in the study itself, so `kp evaluate` finds them done. Of the other stages only the facts are needed, which
every measurement is given.
"""

from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from kp import schema
from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.metrics.benchmark_chance import at_chance
from kp.schema import frame
from kp.store import files
from kp.store.filenames import BENCHMARKS_FILE
from kp.store.steps import Step
from kp.study.measurements.registry import measurement_of
from kp.study.run import open_session, run_stage
from kp.study.session import Session
from kp.study.stage import Command
from kp.study.stages.evaluate import measure


def score_base(config: StudyConfig, root: Path) -> int:
    """Measure the base on every benchmark of the study and print its scores; returns the exit code. UserError if there is none."""
    with open_session(config, files.results_root(root), Command.CATEGORISE) as session:
        asked = {name: step for name, step in session.graph.base.items() if BENCHMARKS_FILE in measurement_of(name).tables}
        if not asked:
            raise UserError("the study asks for no benchmark: name a task, such as evaluate.tasks='[\"arc_easy\"]'", field="evaluate.tasks")
        for stage in ("dump", "facts"):
            run_stage(session, stage)
        measure(session, {None: asked})
        session.display.console.print(_scores(session, asked))
    return 0


def _scores(session: Session, asked: Mapping[str, Step]) -> Table:
    table = Table(title=f"{session.config.name}: {session.model.name}, revision {session.model.revision[:12]}", title_justify="left")
    for name in ("task", "metric", "score", "error", "questions", "shots", "guessing", "took"):
        table.add_column(name, justify="left" if name in ("task", "metric") else "right", no_wrap=True)
    for step in asked.values():
        scores, record = frame(session.store.read(step, BENCHMARKS_FILE, schema.BENCHMARKS)), session.store.record(step) or {}
        guessed = at_chance(scores)
        for row in scores.iter_rows(named=True):
            error = "" if row["standard_error"] is None else f"{row['standard_error']:.2%}"
            chance = (
                "" if row["chance"] is None else f"{row['chance']:.1%}{', as it is' if (row['task'], row['metric']) in guessed else ''}"
            )
            counts = f"{row['n']:,}", str(row["num_fewshot"])
            table.add_row(row["task"], row["metric"], f"{row['value']:.2%}", error, *counts, chance, f"{record['wall_seconds']:,.0f} s")
    return table
