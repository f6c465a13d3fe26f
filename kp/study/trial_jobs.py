"""From a trial of the graph to a worker's job: its rows, drawn and checked, and the facts and prompts on which it is evaluated.

All jobs are made in the driver, before anything is trained: a pool that is too small or a row that is too long is bad input, not a trial
that fails in some worker.
"""

from dataclasses import replace

import polars as pl
import pyarrow as pa

from kp import schema
from kp.inference.answering import FactIndex
from kp.metrics.categories import of_matcher
from kp.metrics.parts import control_ids
from kp.models.chat import Chat
from kp.models.loading import load_tokenizer
from kp.schema import frame
from kp.store.filenames import ANSWERS_FILE, CATEGORIES_FILE, PARTS_FILE, SLICK_FILE
from kp.store.steps import Step
from kp.study.graph import Trial
from kp.study.session import Session
from kp.training.encoding import encode_row
from kp.training.job import TrialJob
from kp.training.mixtures import Source, draw_rows
from kp.vocabulary import LossTokens, Role, ShotSet


def make_jobs(session: Session, trials: list[Trial]) -> list[TrialJob]:
    """The workers' jobs for these trials, in their order; UserError if a pool is too small or a row too long."""
    config, graph = session.config, session.graph
    objects = session.facts.select(["relation", "answers"])
    facts = frame(session.training_facts)
    classes, control = base_classes(session), _control(session)
    answers = _first_answers(session, graph.steps["categorise"])
    replay = _replay(session)
    shortfall = config.search.replay_shortfall
    drawn = [draw_rows(trial.spec, facts, classes, answers, replay, control, shortfall) for trial in trials]
    _check_lengths(session, trials, drawn)
    return [
        TrialJob(
            trial_id=trial.trial_id,
            spec=replace(trial.spec, drawn=rows.height),
            engine=session.trial_engine,
            rows=rows.to_arrow(),
            eval_facts=eval_facts(session.training_facts, rows, trial.spec.settings.eval_facts),
            eval_shots=tuple(tuple(shots) for shots in session.shot_sets[ShotSet.S0][: trial.spec.settings.eval_prompts]),
            matcher=config.categorise.matcher,
            all_facts=objects,
        )
        for trial, rows in zip(trials, drawn, strict=True)
    ]


def eval_facts(facts: pa.Table, rows: pl.DataFrame, most: int | None) -> pa.Table:
    """The trained Unknown facts (FACTS) in the order drawn, at most the first `most`: the same after every epoch, and for every arm."""
    drawn = rows.filter(role=Role.UNKNOWN.value).sort("row")["fact_id"].to_list()
    return FactIndex(facts).take(drawn[:most])


def base_classes(session: Session) -> pl.DataFrame:
    """The base's categories on S0 by the study's matcher: SLICK if the study samples, otherwise CATEGORIES."""
    graph, store = session.graph, session.store
    if "samples" in graph.steps:
        return frame(store.read(graph.steps["samples"], SLICK_FILE, schema.SLICK))
    return _greedy_classes(session, graph.steps["categorise"])


def _control(session: Session) -> list[str]:
    """Ids of the facts that no trial may train on or replay."""
    step = session.graph.steps.get("parts")
    if step is None:
        return []
    return control_ids(frame(session.store.read(step, PARTS_FILE, schema.PARTS)))


def _replay(session: Session) -> Source | None:
    """The facts of the separate replay source, if the study names one."""
    step = session.graph.steps.get("replay_categorise")
    if step is None:
        return None
    categories, answers = _greedy_classes(session, step), _first_answers(session, step)
    return Source(frame(session.replay_facts), categories, answers, elsewhere=True)


def _greedy_classes(session: Session, step: Step) -> pl.DataFrame:
    categories = frame(session.store.read(step, CATEGORIES_FILE, schema.CATEGORIES)).filter(shot_set=ShotSet.S0.value)
    return of_matcher(categories, session.config.categorise.matcher)


def _first_answers(session: Session, step: Step) -> pl.DataFrame:
    return frame(session.store.read(step, ANSWERS_FILE, schema.ANSWERS)).filter(shot_set=ShotSet.S0.value)


def _check_lengths(session: Session, trials: list[Trial], drawn: list[pl.DataFrame]) -> None:
    """Encode every row once in the driver: a row that is too long is bad input, not a trial that fails in some worker.

    The trials of a grid share most of their rows, so a row that several of them have is encoded once.
    """
    chat = Chat(load_tokenizer(session.model))
    encoded: set[tuple[str, str, LossTokens, int]] = set()
    for trial, rows in zip(trials, drawn, strict=True):
        training = trial.spec.training
        for question, target in rows.select("question", "target").iter_rows():
            row = (question, target, training.loss, training.max_length)
            if row not in encoded:
                encode_row(chat, *row)
                encoded.add(row)
