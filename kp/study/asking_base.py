"""Ask the base model and turn its answers into categories: what the stages `categorise`, `repeat` and `replay_categorise` share."""

import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from kp import schema
from kp.config.identity import Reads
from kp.inference.base_answers import Categorisation, base_answers
from kp.inference.cross_check import agreement_with_hf
from kp.metrics.categories import categorise
from kp.schema import frame
from kp.store.filenames import ANSWERS_FILE, CATEGORIES_FILE
from kp.store.steps import Step
from kp.study.session import Session
from kp.vocabulary import Engine, ShotSet

GENERATION = Reads(
    ("categorise",),
    but=(
        "categorise.matcher",  # all matchers judge every answer
        "categorise.shots",  # identified by their content
        "categorise.repeat_measurements",  # a separate stage
        "categorise.samples",  # a separate stage, too
        "categorise.sample_temperature",
    ),
)
"""What determines greedy answers."""
ASKING = Reads(("model.dtype", *GENERATION.of), GENERATION.but)
"""What determines the base model's answers."""
TABLES = {ANSWERS_FILE: schema.ANSWERS, CATEGORIES_FILE: schema.CATEGORIES}


def shown_shots(shots: str, asked: Sequence[ShotSet]) -> dict[str, Any]:
    """The part of an identity that determines the prompts."""
    return {"shots": shots, "shot_sets": [shot_set.value for shot_set in asked]}


def ask_base(session: Session, name: str, step: Step, job: Categorisation) -> None:
    """Make and commit the answers and the categories of a step; `name` is the stage's in messages."""
    began = time.monotonic()
    with session.store.working(step) as work:
        if session.is_done(step, name):  # by another driver, which had it until now
            return
        answers = base_answers(job, work, session.cluster, session.display)
        session.generated(answers.times)
        categories = categorise(frame(answers.table))
        details = {"model": session.model.name, "revision": session.model.revision}
        details |= _engine_details(session, name, job, answers.table)
        made = {ANSWERS_FILE: answers.table, CATEGORIES_FILE: categories.to_arrow()}
        session.commit(step, made, TABLES, began, details, answers.hardware)
    matcher, first = session.config.categorise.matcher.value, job.asked[0].value
    found = categories.filter(matcher=matcher, shot_set=first)["category"].value_counts(sort=True)
    counts = ", ".join(f"{count:,} {category}" for category, count in found.iter_rows())
    session.display.line(f"{name}: {counts} ({time.monotonic() - began:.0f} s)")


def _engine_details(session: Session, name: str, job: Categorisation, answers: pa.Table) -> dict[str, Any]:
    """For the record: which engine answered and, if it is not `hf`, how well the two agree."""
    engine = job.engine.engine
    if engine is Engine.HF or ShotSet.S0 not in job.asked:  # engines are compared on S0
        return {"engine": engine.value}
    found = agreement_with_hf(job, answers, session.config.categorise.matcher, session.cluster)
    session.display.line(f"{name}: {engine} and hf give {found.answers.equal} of {found.answers.n} questions the same answer")
    return {"engine": engine.value, "agreement_with_hf": found.details()}
