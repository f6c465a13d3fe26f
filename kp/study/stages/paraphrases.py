"""If the study names a model for it, that model writes paraphrases for the facts that have too few."""

import time

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.identity import Reads
from kp.facts.paraphrases import facts_needing_paraphrases, paraphrase_table, verdict_counts
from kp.inference.base_answers import BaseAnswers, base_answers
from kp.inference.paraphrasing import Paraphrasing
from kp.schema import frame
from kp.store.bucket_folder import WorkFolder
from kp.store.filenames import PARAPHRASES_FILE, REPLIES_FILE
from kp.store.steps import Step
from kp.study.session import Session
from kp.study.stage import Command, Making, Planning, Stage, Work, number
from kp.vocabulary import ParaphraseVerdict


class Paraphrases(Stage):
    """Its step is absent if the study names no model; trials that train on paraphrases depend on it, and so does generality."""

    name = "paraphrases"
    command = Command.FACTS
    version = 2
    # The study's seed draws the samples for facts whose greedy reply is not enough.
    reads = Reads(
        ("facts.paraphrase", "model.dtype", "categorise.engine", "seed"), but=("facts.paraphrase.model", "facts.paraphrase.revision")
    )
    tables = {REPLIES_FILE: schema.PARAPHRASE_REPLIES, PARAPHRASES_FILE: schema.PARAPHRASES}

    def step(self, making: Making) -> Step | None:
        """Identified by the content of the paraphrasing model."""
        if not making.config.facts.paraphrase.model:
            return None
        assert making.identities.paraphraser is not None, "the identities of a graph include the model that its study names"
        return Step(self.name, self.literals(making) | {"model": making.identities.paraphraser}, (making.steps["facts"],))

    def plan(self, planning: Planning) -> Work | None:
        """Priced as if every fact had too few."""
        steps, settings = self.steps(planning.graph), planning.config.facts.paraphrase
        if not steps:
            return None
        return Work(f"at most {number(planning.facts)} facts put in up to {settings.count} other ways by {settings.model}", steps)

    def run(self, session: Session) -> None:
        """Ask the model, keep the usable paraphrases, and report the others."""
        step, settings = session.graph.steps.get(self.name), session.config.facts.paraphrase
        if step is None or session.is_done(step, self.name):
            return
        assert session.paraphraser is not None, "the step stands for it"
        began = time.monotonic()
        short = facts_needing_paraphrases(frame(session.facts), settings.count)
        with session.store.working(step) as work:
            if session.is_done(step, self.name):  # by another driver, which had it until now
                return
            replies = _replies(session, short.asked.to_arrow().cast(schema.FACTS), work)
            session.generated(replies.times)
            written = paraphrase_table(frame(session.facts), frame(replies.table), settings.count)
            verdicts = verdict_counts(written)
            details = {"model": session.paraphraser.name, "revision": session.paraphraser.revision, "verdicts": verdicts}
            made = {REPLIES_FILE: replies.table, PARAPHRASES_FILE: written.to_arrow()}
            session.commit(step, made, self.tables, began, details, replies.hardware)
        dropped = ", ".join(f"{count:,} {verdict}" for verdict, count in verdicts.items() if verdict != ParaphraseVerdict.KEPT)
        kept = f"{verdicts.get(ParaphraseVerdict.KEPT, 0):,} kept for {short.asked.height:,} facts, dropped: {dropped or 'none'}"
        session.display.line(f"paraphrases: {kept} ({time.monotonic() - began:.0f} s)")
        if short.unnamed.height:
            session.display.line(f"paraphrases: none asked for {short.unnamed.height:,} facts, in whose question no subject is named")
        left = frame(session.training_facts).filter(pl.col("paraphrases").list.len() < settings.count).height
        if left:
            session.display.line(f"paraphrases: {left:,} facts still have fewer than {settings.count}")


def _replies(session: Session, asked: pa.Table, work: WorkFolder) -> BaseAnswers:
    if not len(asked):  # and no cluster is needed
        return BaseAnswers(schema.PARAPHRASE_REPLIES.empty_table(), None)
    job = Paraphrasing(asked, session.paraphrase_engine, session.config.facts.paraphrase, session.config.seed)
    return base_answers(job, work, session.cluster, session.display)
