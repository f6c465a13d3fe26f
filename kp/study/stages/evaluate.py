"""What every adapter learned and broke: all measurements of the registry, each committed as soon as it is returned."""

import time
from contextlib import ExitStack
from dataclasses import replace

from kp.cluster import Tally
from kp.config.identity import Reads
from kp.inference.answering import EngineSpec
from kp.inference.evaluation import Evaluation, Measured, MeasurementTask, ModelJob, evaluate_all
from kp.store.filenames import ADAPTER_FOLDER
from kp.store.steps import Step
from kp.study.graph import Graph, Trial
from kp.study.measurements.registry import MEASUREMENTS, measurement_of
from kp.study.pricing import Prompts
from kp.study.results import evaluated
from kp.study.session import Session
from kp.study.stage import Command, Planning, Stage, Work
from kp.vocabulary import BASE, Engine


class Evaluate(Stage):
    """Its steps are those of the measurements."""

    name = "evaluate"
    command = Command.EVALUATE
    version = 1
    reads = Reads(())  # the measurements declare what they read

    def steps(self, graph: Graph) -> tuple[Step, ...]:
        """Of the base and of all trials."""
        return tuple(graph.evaluation_steps())

    def plan(self, planning: Planning) -> Work:
        """Each measurement adds its part."""
        parts = [part for part in (one.plan(planning) for one in MEASUREMENTS) if part]
        to_come = planning.trials.to_come * len(planning.graph.trials[0].measurements)
        return Work("; ".join(parts), self.steps(planning.graph), to_come)

    def prompts(self, planning: Planning) -> Prompts | None:
        """For adapters."""
        counts = [one.prompts(planning) for one in MEASUREMENTS]
        return None if None in counts else Prompts(adapters=sum(count for count in counts if count is not None))

    def run(self, session: Session) -> None:
        """Measure the base model and every adapter."""
        steps = _wanted(session)
        jobs = _jobs(session, steps)
        wanted = [step for of_model in steps.values() for step in of_model.values()]
        measured = sum(map(session.store.is_done, wanted))
        if measured:
            session.display.line(f"evaluate: {measured} of {len(wanted)} measurements already done, not redone")
        if jobs:
            _measure(session, jobs, steps)


def _wanted(session: Session) -> dict[str, dict[str, Step]]:
    """For each trial id (or "base"), the steps of its measurements by name."""
    steps = {BASE: dict(session.graph.base)} if session.graph.base else {}
    trials = evaluated(session.config, session.graph, session.store)
    return steps | {trial.trial_id: dict(trial.measurements) for trial in trials}


def _jobs(session: Session, steps: dict[str, dict[str, Step]]) -> list[ModelJob]:
    """What is not yet measured, one job per model, so that an adapter is loaded once."""
    trials = {trial.trial_id: trial for trial in session.graph.trials}
    jobs = []
    for trial_id, of_model in steps.items():
        trial = trials.get(trial_id)
        tasks = {name: _task(session, name, trial) for name, step in of_model.items() if not session.store.is_done(step)}
        if not tasks:
            continue
        record = (session.store.record(trial.step) if trial else None) or {}
        model_id = record["details"]["adapter_digest"] if trial else session.model.revision
        adapter = session.store.file(trial.step, ADAPTER_FOLDER) if trial else None
        jobs.append(ModelJob(trial_id, model_id, adapter, tasks))
    return jobs


def _task(session: Session, name: str, trial: Trial | None) -> MeasurementTask:
    return measurement_of(name).task(session, name, trial)


def _measure(session: Session, jobs: list[ModelJob], steps: dict[str, dict[str, Step]]) -> None:
    began = time.monotonic()
    prompts = sum(task.prompts for job in jobs for task in job.tasks.values())
    parts = _by_engine(session, jobs)  # joins the cluster, in which the tally runs
    tally = Tally()
    with ExitStack() as stack:
        for job in jobs:
            for name in job.tasks:
                stack.enter_context(session.store.working(steps[job.trial_id][name]))
        bar = stack.enter_context(session.display.bar("evaluate", prompts, "prompts"))
        stack.enter_context(tally.shown_on(bar))
        scratch = stack.enter_context(session.store.scratch("lm_eval"))
        for engine, part in parts:
            for result in evaluate_all(part, Evaluation(engine, session.facts, session.shot_sets, scratch), session.cluster, tally):
                _commit(session, result, steps[result.job.trial_id])
    session.display.line(f"evaluate: {len(jobs)} models measured ({time.monotonic() - began:.0f} s)")


def _by_engine(session: Session, jobs: list[ModelJob]) -> list[tuple[EngineSpec, list[ModelJob]]]:
    """Jobs by engine: if another engine answers questions, measurements that need a transformers model are separate jobs."""
    if session.adapter_engine.engine is Engine.HF:
        return [(session.adapter_engine, jobs)]
    parts = []
    for engine, needs in ((session.adapter_engine, False), (session.hf_engine, True)):
        of_engine = [
            replace(job, tasks={name: task for name, task in job.tasks.items() if task.needs_transformers is needs}) for job in jobs
        ]
        if part := [job for job in of_engine if job.tasks]:
            parts.append((engine, part))
    return parts


def _commit(session: Session, result: Measured, steps: dict[str, Step]) -> None:
    now = time.monotonic()
    for name, tables in result.tables.items():
        session.commit(steps[name], tables, measurement_of(name).tables, now - result.seconds[name], hardware=[result.hardware])
    spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items())
    session.display.line(f"evaluate: {result.job.trial_id[:8]} measured ({spent})")
