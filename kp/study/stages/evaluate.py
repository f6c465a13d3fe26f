"""What every adapter learned and broke: all measurements of the registry, each committed as soon as its parts are in."""

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from kp.config.identity import Reads
from kp.generation.adapters import first_adapted_layer
from kp.inference.answering import EngineSpec
from kp.inference.evaluation import Evaluation, Measured, MeasuredModel, Measuring, evaluate_all
from kp.store.filenames import ADAPTER_FOLDER
from kp.store.steps import Step
from kp.study.graph import Graph, Trial
from kp.study.measurement import plain_name, scaled_name
from kp.study.measurements.registry import MEASUREMENTS, measurement_of
from kp.study.pricing import Prompts
from kp.study.results import evaluated
from kp.study.session import Session
from kp.study.stage import Command, Planning, Stage, Work
from kp.vocabulary import BASE, Activity, Engine


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
        measure(session, _wanted(session))


Steps = Mapping[str, Step]
"""Measurements of one model, by name."""


def measure(session: Session, wanted: Mapping[Trial | None, Steps]) -> None:
    """Make these measurements of the base (None) and of adapters, except those that are done; the study's facts must be there."""
    missing = {trial: steps for trial, steps in ((trial, _missing(session, steps)) for trial, steps in wanted.items()) if steps}
    count, left = (sum(map(len, steps.values())) for steps in (wanted, missing))
    if left < count:
        session.display.line(f"evaluate: {count - left} of {count} measurements already done, not redone")
    if missing:
        _measure(session, missing)


def _wanted(session: Session) -> dict[Trial | None, Steps]:
    """What the study measures: of the base (None), then of one adapter after the other."""
    base: dict[Trial | None, Steps] = {None: session.graph.base} if session.graph.base else {}
    return base | {trial: trial.measurements for trial in evaluated(session.config, session.graph, session.store)}


def _missing(session: Session, steps: Steps) -> Steps:
    return {name: step for name, step in steps.items() if not session.store.is_done(step)}


def _model(session: Session, trial: Trial | None) -> MeasuredModel:
    if trial is None:
        return MeasuredModel(BASE, session.model.revision, None)
    folder = session.store.file(trial.step, ADAPTER_FOLDER)
    digest = (session.store.record(trial.step) or {})["details"]["adapter_digest"]
    fetchable = session.store.fetchable(trial.step, ADAPTER_FOLDER)
    return MeasuredModel(trial.trial_id, digest, fetchable, first_adapted_layer(folder))


def _measuring(session: Session, trial: Trial | None, model: MeasuredModel, name: str, step: Step) -> Measuring:
    """The measurement that makes this step of a model, at the step's scale."""
    scale, plain = step.literals.get("scale", 1.0), plain_name(name)
    if scale != 1:
        model = replace(model, scale=scale, model_id=scaled_name(model.model_id, scale))
    return Measuring(step.fingerprint, model, plain, measurement_of(plain).task(session, plain, trial))


def _measure(session: Session, missing: Mapping[Trial | None, Steps]) -> None:
    began = time.monotonic()
    models = {trial: _model(session, trial) for trial in missing}
    steps = {step.fingerprint: step for of_model in missing.values() for step in of_model.values()}
    with ExitStack() as stack:
        for step in steps.values():
            stack.enter_context(session.store.working(step))
        asked = [
            (trial, name, step)
            for trial, of_model in missing.items()
            for name, step in of_model.items()
            if not session.store.is_done(step)  # by another driver, until now
        ]
        if not asked:
            return
        measurings = [_measuring(session, trial, models[trial], name, step) for trial, name, step in asked]
        report = _Report(session, measurings)
        work = stack.enter_context(session.store.working_on("evaluate", session.config.name))
        scratch = stack.enter_context(session.store.scratch("lm_eval"))
        common = session.facts, session.shot_sets, scratch
        evaluations = [Evaluation(engine, *common, part) for engine, part in _by_engine(session, measurings)]
        for measured in evaluate_all(evaluations, work, session.cluster, session.display):
            measuring, schemas = measured.measuring, measurement_of(measured.measuring.name).tables
            since = time.monotonic() - measured.seconds
            session.commit(steps[measuring.identity], measured.tables, schemas, since, hardware=measured.hardware)
            session.profile.add(measurement_of(measuring.name).activity, measured.times.working)
            session.profile.add(Activity.LOADING, measured.times.loading)
            report.committed(measured)
    session.display.line(f"evaluate: {report.models} models measured ({time.monotonic() - began:.0f} s)")


def _by_engine(session: Session, measurings: list[Measuring]) -> list[tuple[EngineSpec, list[Measuring]]]:
    """Measurements by engine: if another engine answers questions, those that need a transformers model have that."""
    if session.adapter_engine.engine is Engine.HF:
        return [(session.adapter_engine, measurings)]
    needing = {needs: [one for one in measurings if one.task.needs_transformers is needs] for needs in (False, True)}
    engines = (session.adapter_engine, needing[False]), (session.hf_engine, needing[True])
    return [(engine, part) for engine, part in engines if part]


class _Report:
    """Prints a line for each model once all of its measurements are committed."""

    def __init__(self, session: Session, measurings: list[Measuring]) -> None:
        self._session = session
        self._left = Counter(measuring.model.name for measuring in measurings)
        self._seconds: dict[str, dict[str, float]] = {name: {} for name in self._left}
        self.models = len(self._left)

    def committed(self, measured: Measured) -> None:
        """Take note of one measurement."""
        model = measured.measuring.model
        self._left[model.name] -= 1
        self._seconds[model.name][measured.measuring.name] = measured.seconds
        if not self._left[model.name]:
            spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self._seconds[model.name].items())
            self._session.display.line(f"evaluate: {scaled_name(model.trial_id[:8], model.scale)} measured ({spent})")
