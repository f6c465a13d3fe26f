"""If the study requests it, answers are sampled for facts that the base never gets right greedily: which of them are WeaklyKnown?"""

import time

import pyarrow as pa

from kp import schema
from kp.config.identity import Reads
from kp.inference.answering import FactIndex
from kp.inference.base_answers import BaseAnswers, base_answers
from kp.inference.sampling import Sampling
from kp.metrics.slick import never_right, slick_table
from kp.schema import frame
from kp.store.bucket_folder import WorkFolder
from kp.store.filenames import CATEGORIES_FILE, SAMPLES_FILE, SLICK_FILE
from kp.store.steps import Step
from kp.study.pricing import Prompts
from kp.study.session import Session
from kp.study.stage import Command, Making, Planning, Stage, Work, model_literals, number
from kp.vocabulary import Category, ShotSet


class Samples(Stage):
    """Its step is absent if `categorise.samples` is 0; otherwise every trial depends on it."""

    name = "samples"
    command = Command.CATEGORISE
    version = 3
    # The matcher decides which facts are sampled, and the study's seed draws the samples.
    reads = Reads(("model.dtype", "categorise", "seed"), but=("categorise.shots", "categorise.repeat_measurements"))
    tables = {SAMPLES_FILE: schema.SAMPLES, SLICK_FILE: schema.SLICK}

    def step(self, making: Making) -> Step | None:
        """Depends on the greedy answers."""
        if not making.config.categorise.samples:
            return None
        return Step(self.name, self.literals(making) | model_literals(making), (making.steps["categorise"],))

    def plan(self, planning: Planning) -> Work | None:
        """Priced as if no fact were answered right, because what the base knows is unknown yet."""
        steps, settings = self.steps(planning.graph), planning.config.categorise
        if not steps:
            return None
        drawn = f"{settings.samples} at temperature {settings.sample_temperature:g} to each prompt of {ShotSet.S0}"
        asked = number(planning.asked, settings.samples)
        return Work(f"at most {asked} sampled answers: {drawn}, for facts that no greedy answer gets right", steps)

    def prompts(self, planning: Planning) -> Prompts | None:
        """For the base, one per sampled answer."""
        samples = planning.config.categorise.samples
        return Prompts() if not samples else None if planning.asked is None else Prompts(base=planning.asked * samples)

    def run(self, session: Session) -> None:
        """Sample, and report which facts are WeaklyKnown."""
        step, settings = session.graph.steps.get(self.name), session.config.categorise
        if step is None or session.is_done(step, self.name):
            return
        began = time.monotonic()
        categories = frame(session.store.read(session.graph.steps["categorise"], CATEGORIES_FILE, schema.CATEGORIES))
        asked = FactIndex(session.facts).take(never_right(categories, settings.matcher))
        with session.store.working(step) as work:
            if session.is_done(step, self.name):  # by another driver, which had it until now
                return
            samples = _samples(session, asked, work)
            session.generated(samples.times)
            slick = slick_table(categories, frame(samples.table), settings.matcher)
            details = {"model": session.model.name, "revision": session.model.revision, "engine": settings.engine.value}
            made = {SAMPLES_FILE: samples.table, SLICK_FILE: slick.to_arrow()}
            session.commit(step, made, self.tables, began, details, samples.hardware)
        weakly = slick.filter(category=Category.WEAKLY_KNOWN.value).height
        session.display.line(
            f"samples: {weakly:,} {Category.WEAKLY_KNOWN}, {len(asked) - weakly:,} {Category.UNKNOWN} of {len(asked):,} facts that no "
            f"greedy answer got right ({settings.samples} samples a prompt at temperature {settings.sample_temperature:g}; "
            f"{time.monotonic() - began:.0f} s)"
        )


def _samples(session: Session, asked: pa.Table, work: WorkFolder) -> BaseAnswers:
    if not len(asked):  # and no cluster is needed
        return BaseAnswers(schema.SAMPLES.empty_table(), None)
    settings = session.config.categorise
    job = Sampling(
        asked, session.facts, session.shot_sets, session.engine, settings.samples, settings.sample_temperature, session.config.seed
    )
    return base_answers(job, work, session.cluster, session.display)
