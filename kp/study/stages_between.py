"""The stages of a study between its facts and its report, but the search: each does what the store does not have, and commits it."""

import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.cluster import Tally
from kp.config.derived import ADAPTER_SHOT_SET, REPLAY_SHOT_SET, base_shot_sets, benchmark_plan
from kp.facts.paraphrases import paraphrase_table, verdict_counts, wanting
from kp.inference.answering import EngineSpec, FactIndex
from kp.inference.cross_check import agreement_with_hf
from kp.inference.evaluation import Evaluation, HeldOut, Measured, Measurement, evaluate_all
from kp.inference.paraphrasing import Paraphrasing
from kp.inference.pipeline import Categorisation, base_answers
from kp.inference.sampling import Sampling
from kp.metrics.categories import categorise as categories_of
from kp.metrics.generality import QUESTIONS, held_out_questions
from kp.metrics.slick import never_right, slick_table
from kp.prompts import PROMPTS_PER_SET
from kp.schema import frame
from kp.store import files
from kp.store.filenames import (
    ADAPTER_FOLDER,
    ANSWERS_FILE,
    BENCHMARKS_FILE,
    CATEGORIES_FILE,
    PARAPHRASES_FILE,
    REPLIES_FILE,
    ROWS_FILE,
    SAMPLES_FILE,
    SLICK_FILE,
)
from kp.store.steps import Step
from kp.study.graph import Trial
from kp.study.results import evaluated, with_adapter
from kp.study.session import Session
from kp.vocabulary import BASE, Category, Engine, ParaphraseVerdict, Role, ShotSet


def paraphrase(session: Session) -> None:
    """Where the study names a model for it, have that write paraphrases for the facts that have fewer than wanted."""
    step, settings = session.graph.paraphrases, session.config.facts.paraphrase
    if step is None or session.is_done(step, "paraphrases"):
        return
    assert session.paraphraser is not None, "the step stands for it"
    began = time.monotonic()
    short = wanting(frame(session.facts), settings.count)
    with session.store.working(step) as work:
        replies = _replies(session, short.asked.to_arrow().cast(schema.FACTS), work)
        written = paraphrase_table(frame(session.facts), frame(replies), settings.count)
        tables = {REPLIES_FILE: (replies, schema.PARAPHRASE_REPLIES), PARAPHRASES_FILE: (written.to_arrow(), schema.PARAPHRASES)}
        verdicts = verdict_counts(written)
        details = {"model": session.paraphraser.name, "revision": session.paraphraser.revision, "verdicts": verdicts}
        session.commit(step, tables, began, details)
    dropped = ", ".join(f"{count:,} {verdict}" for verdict, count in verdicts.items() if verdict != ParaphraseVerdict.KEPT)
    kept = f"{verdicts.get(ParaphraseVerdict.KEPT, 0):,} kept for {short.asked.height:,} facts, dropped: {dropped or 'none'}"
    session.display.line(f"paraphrases: {kept} ({time.monotonic() - began:.0f} s)")
    if short.unnamed.height:
        session.display.line(f"paraphrases: none asked for {short.unnamed.height:,} facts, in whose question no subject is named")
    left = frame(session.training_facts).filter(pl.col("paraphrases").list.len() < settings.count).height
    if left:
        session.display.line(f"paraphrases: {left:,} facts still have fewer than {settings.count}")


def _replies(session: Session, asked: pa.Table, work: Path) -> pa.Table:
    if not len(asked):  # and nothing to start a cluster for
        return schema.PARAPHRASE_REPLIES.empty_table()
    job = Paraphrasing(asked, session.paraphrase_engine, session.config.facts.paraphrase, session.config.seed)
    return base_answers(job, work, session.cluster, session.display)


def categorise(session: Session) -> None:
    """Ask the base model every fact on all its shot sets."""
    step = session.graph.categorise
    if not session.is_done(step, "categorise"):
        job = Categorisation(session.facts, session.shot_sets, base_shot_sets(session.config), session.engine)
        _categorise(session, "categorise", step, job)


def categorise_replay(session: Session) -> None:
    """Where replayed facts have a source of their own, ask the base those: on S0 alone, since they are not measured."""
    step = session.graph.replay_categorise
    if step is not None and not session.is_done(step, "replay categorise"):
        job = Categorisation(session.replay_facts, session.replay_shot_sets, (REPLAY_SHOT_SET,), session.engine)
        _categorise(session, "replay categorise", step, job)


def _categorise(session: Session, name: str, step: Step, job: Categorisation) -> None:
    """Make the answers and the categories of a step; `name` is the stage's in messages."""
    began = time.monotonic()
    with session.store.working(step) as work:
        answers = base_answers(job, work, session.cluster, session.display)
        categories = categories_of(frame(answers))
        tables = {
            ANSWERS_FILE: (answers, schema.ANSWERS),
            CATEGORIES_FILE: (categories.to_arrow(), schema.CATEGORIES),
        }
        details = {"model": session.model.name, "revision": session.model.revision}
        session.commit(step, tables, began, details | _engine_details(session, name, job, answers))
    matcher = session.config.categorise.matcher.value
    found = categories.filter(matcher=matcher, shot_set=ShotSet.S0.value)["category"].value_counts(sort=True)
    counts = ", ".join(f"{count:,} {category}" for category, count in found.iter_rows())
    session.display.line(f"{name}: {counts} ({time.monotonic() - began:.0f} s)")


def _engine_details(session: Session, name: str, job: Categorisation, answers: pa.Table) -> dict[str, Any]:
    """For the record: which engine answered and, of another than `hf`, how far the two agree."""
    engine = job.engine.engine
    if engine is Engine.HF:
        return {"engine": engine.value}
    found = agreement_with_hf(job, answers, session.config.categorise.matcher, session.cluster)
    session.display.line(f"{name}: {engine} and hf give {found.answers.equal} of {found.answers.n} questions the same answer")
    return {"engine": engine.value, "agreement_with_hf": found.details()}


def sample(session: Session) -> None:
    """Where the study asks for it, sample answers to the facts that the base never gets right greedily: which of them are WeaklyKnown?"""
    step, settings = session.graph.samples, session.config.categorise
    if step is None or session.is_done(step, "samples"):
        return
    began = time.monotonic()
    categories = frame(session.store.read(session.graph.categorise, CATEGORIES_FILE, schema.CATEGORIES))
    asked = FactIndex(session.facts).take(never_right(categories, settings.matcher))
    with session.store.working(step) as work:
        samples = _samples(session, asked, work)
        slick = slick_table(categories, frame(samples), settings.matcher)
        tables = {SAMPLES_FILE: (samples, schema.SAMPLES), SLICK_FILE: (slick.to_arrow(), schema.SLICK)}
        details = {"model": session.model.name, "revision": session.model.revision, "engine": settings.engine.value}
        session.commit(step, tables, began, details)
    weakly = slick.filter(category=Category.WEAKLY_KNOWN.value).height
    session.display.line(
        f"samples: {weakly:,} {Category.WEAKLY_KNOWN}, {len(asked) - weakly:,} {Category.UNKNOWN} of {len(asked):,} facts that no greedy "
        f"answer got right ({settings.samples} samples a prompt at temperature {settings.sample_temperature:g}; "
        f"{time.monotonic() - began:.0f} s)"
    )


def _samples(session: Session, asked: pa.Table, work: Path) -> pa.Table:
    if not len(asked):  # and nothing to start a cluster for
        return schema.SAMPLES.empty_table()
    settings = session.config.categorise
    job = Sampling(asked, session.shot_sets, session.engine, settings.samples, settings.sample_temperature, session.config.seed)
    return base_answers(job, work, session.cluster, session.display)


def evaluate(session: Session) -> None:
    """Measure the base model and every adapter; each measurement is committed when it comes back."""
    jobs = _measurements(session)
    done = _evaluation_steps(session)
    measured = sum(session.store.is_done(step) for pair in done.values() for step in pair.values())
    if measured:
        total = sum(len(pair) for pair in done.values())
        session.display.line(f"evaluate: {measured} of {total} measurements already done, not redone")
    if not jobs:
        return
    began = time.monotonic()
    questions = sum(len(session.facts) for job in jobs if job.shot_set) + sum(len(job.held_out.questions) for job in jobs if job.held_out)
    scratch = session.store.root / "work" / "lm_eval"
    parts = _by_engine(session, jobs)  # joins the cluster, in which the tally lives
    tally = Tally()
    with ExitStack() as stack:
        for job in jobs:
            for step in done[job.trial_id].values():
                if not session.store.is_done(step):
                    stack.enter_context(session.store.working(step))
        bar = stack.enter_context(session.display.bar("evaluate", questions * PROMPTS_PER_SET, "prompts"))
        stack.enter_context(tally.shown_on(bar))
        for engine, part in parts:
            for result in evaluate_all(part, Evaluation(engine, session.facts, session.shot_sets, scratch), session.cluster, tally):
                _commit_measured(session, result, done[result.measurement.trial_id])
    shutil.rmtree(scratch, ignore_errors=True)
    session.display.line(f"evaluate: {len(jobs)} models measured ({time.monotonic() - began:.0f} s)")


def _by_engine(session: Session, jobs: list[Measurement]) -> list[tuple[EngineSpec, list[Measurement]]]:
    """Which engine measures what: lm-eval asks a model of transformers, so where another engine answers questions, the two are apart."""
    if session.adapter_engine.engine is Engine.HF:
        return [(session.adapter_engine, jobs)]
    answers = [replace(job, benchmarks=None) for job in jobs if job.shot_set or job.held_out]
    tasks = [replace(job, shot_set=None, held_out=None) for job in jobs if job.benchmarks]
    return [(engine, part) for engine, part in ((session.adapter_engine, answers), (session.hf_engine, tasks)) if part]


def _evaluation_steps(session: Session) -> dict[str, dict[str, Step]]:
    """Per trial id (or "base"), the steps of its measurements by their kind."""
    graph = session.graph
    steps: dict[str, dict[str, Step]] = {}
    if graph.base_benchmarks:
        steps[BASE] = {graph.base_benchmarks.kind: graph.base_benchmarks}
    for trial in evaluated(session.config, graph, session.store):
        steps[trial.trial_id] = {step.kind: step for step in trial.measurements()}
    return steps


def _measurements(session: Session) -> list[Measurement]:
    """What is not yet measured, one job a model, so that an adapter is loaded once."""
    trials = {trial.trial_id: trial for trial in session.graph.trials}
    jobs = []
    for trial_id, steps in _evaluation_steps(session).items():
        missing = {kind for kind, step in steps.items() if not session.store.is_done(step)}
        if not missing:
            continue
        trial = trials.get(trial_id)
        record = (session.store.record(trial.step) if trial else None) or {}
        jobs.append(
            Measurement(
                trial_id=trial_id,
                model_id=record["details"]["adapter_digest"] if trial else session.model.revision,
                adapter=session.store.folder(trial.step) / ADAPTER_FOLDER if trial else None,
                shot_set=ADAPTER_SHOT_SET if "answers" in missing else None,
                benchmarks=benchmark_plan(session.config) if "benchmarks" in missing else None,
                held_out=_held_out(session, trial) if trial and "generality" in missing else None,
            )
        )
    return jobs


def _held_out(session: Session, trial: Trial) -> HeldOut:
    """The held-out paraphrases of what a trial has packed."""
    packed = frame(session.store.read(trial.step, ROWS_FILE, schema.TRAINING_ROWS)).filter(role=Role.UNKNOWN.value)["fact_id"]
    questions = held_out_questions(frame(session.training_facts), packed, trial.spec.mixture.held_out_paraphrases)
    return HeldOut(questions.to_arrow().cast(QUESTIONS), ADAPTER_SHOT_SET)


def _commit_measured(session: Session, result: Measured, steps: dict[str, Step]) -> None:
    now = time.monotonic()
    spent = []
    if result.answers is not None:
        categories = categories_of(frame(result.answers)).to_arrow()
        tables = {ANSWERS_FILE: (result.answers, schema.ANSWERS), CATEGORIES_FILE: (categories, schema.CATEGORIES)}
        session.commit(steps["answers"], tables, now - result.answer_seconds)
        spent.append(f"answers {result.answer_seconds:.0f} s")
    if result.held_out is not None:
        session.commit(steps["generality"], {ANSWERS_FILE: (result.held_out, schema.HELD_OUT_ANSWERS)}, now - result.held_out_seconds)
        spent.append(f"held-out paraphrases {result.held_out_seconds:.0f} s")
    if result.benchmarks is not None:
        session.commit(steps["benchmarks"], {BENCHMARKS_FILE: (result.benchmarks, schema.BENCHMARKS)}, now - result.benchmark_seconds)
        spent.append(f"benchmarks {result.benchmark_seconds:.0f} s")
    session.display.line(f"evaluate: {result.measurement.trial_id[:8]} measured ({', '.join(spent)})")


def link_adapters(session: Session) -> None:
    """Point `adapters/<trial>` in the study's folder at every adapter."""
    for trial in with_adapter(session.graph, session.store):
        files.link(session.home / "adapters" / trial.trial_id, session.store.folder(trial.step) / ADAPTER_FOLDER)


def link_report(session: Session, step: Step) -> Path:
    """Point `report` in the study's folder at the newest report; returns the path of its page."""
    files.link(session.home / "report", session.store.folder(step))
    return session.home / "report" / "report.html"
