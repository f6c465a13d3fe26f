"""`kp facts --describe`: tables and pictures of the facts that a study chose.

Like `kp audit` and `kp noise` it reads a finished step, and is a separate step with a folder that can be committed as it is. It needs only
the facts: no model and no Ray.
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.study import StudyConfig
from kp.facts.description import bucket_table, histogram_table, measure_table, rejected_table, relation_table
from kp.facts.schema import FACT_BUCKETS, FACT_FAULTS, FACT_HISTOGRAMS, FACT_MEASURES, FACT_RELATIONS
from kp.report.facts_page import Chosen, facts_page, facts_pictures
from kp.report.figures_print import save_picture
from kp.report.markdown import render_markdown
from kp.schema import frame
from kp.store import roots
from kp.store.filenames import QUARANTINED_FILE
from kp.store.steps import RECORD, Step
from kp.study.inspection import portable, print_opening
from kp.study.run import open_session, run_stage
from kp.study.session import Session
from kp.study.stage import Command

DESCRIPTION_VERSION = 1
FOLDER = "facts"  # in the study's
PAGE_FILE = "facts.md"
FACTS_RECORD = "facts_record.json"  # the step's own record is next to it

SCHEMAS: dict[str, pa.Schema] = {
    "relations": FACT_RELATIONS,
    "buckets": FACT_BUCKETS,
    "measures": FACT_MEASURES,
    "histograms": FACT_HISTOGRAMS,
    "rejected": FACT_FAULTS,
}


def describe_study_facts(config: StudyConfig, root: Path) -> int:
    """Choose a study's facts if that is not done, and describe them; returns the exit code."""
    with open_session(config, roots.results_root(root), Command.FACTS) as session:
        for stage in ("dump", "facts"):
            run_stage(session, stage)
        describe_facts(session)
    return 0


def describe_facts(session: Session) -> None:
    """Describe the facts of a finished facts step, link the result as FOLDER in the study's folder, and print the page's opening."""
    chosen = Chosen(session.config.name, str(portable(session.config)["facts"]["source"]), len(session.facts))
    literals = {"version": DESCRIPTION_VERSION, "study": chosen.study, "source": chosen.source}
    step = Step("description", literals, (session.graph.steps["facts"],))
    if not session.is_done(step, "describe"):
        began = time.monotonic()
        tables = _tables(session)
        session.store.commit(step, lambda folder: _write(session, tables, chosen, folder), seconds=time.monotonic() - began)
    _show(session, step, chosen)


def _tables(session: Session) -> dict[str, pl.DataFrame]:
    facts = frame(session.facts)
    return {
        "relations": relation_table(facts),
        "buckets": bucket_table(facts),
        "measures": measure_table(facts),
        "histograms": histogram_table(facts),
        "rejected": rejected_table(frame(session.store.read(session.graph.steps["facts"], QUARANTINED_FILE, schema.QUARANTINED))),
    }


def _write(session: Session, tables: Mapping[str, pl.DataFrame], chosen: Chosen, folder: Path) -> None:
    for name, wanted in SCHEMAS.items():
        schema.write_table(tables[name].to_arrow(), wanted, folder / f"{name}.parquet")
        tables[name].write_csv(folder / f"{name}.csv")
    (folder / "figures").mkdir()
    for name, picture in facts_pictures(tables).items():
        save_picture(picture, folder / "figures", name)
    (folder / PAGE_FILE).write_text(render_markdown(facts_page(chosen, tables)), encoding="utf-8")
    shutil.copyfile(session.store.file(session.graph.steps["facts"], RECORD), folder / FACTS_RECORD)


def _show(session: Session, step: Step, chosen: Chosen) -> None:
    """Read from the files, so that a second run shows the same."""
    folder = session.link(FOLDER, step)
    tables = {name: frame(session.store.read(step, f"{name}.parquet", wanted)) for name, wanted in SCHEMAS.items()}
    print_opening(session, facts_page(chosen, tables))
    session.display.line(f"facts: {folder}/{PAGE_FILE}")
