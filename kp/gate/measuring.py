"""Measure the base and the candidates in this process; each measurement is a step of the results root, identified by its content.

So the base is measured once for all candidates and all later calls, and a gate that was ended continues from what it has measured. A gate
runs where a change is checked, on one machine with one model: it needs no Ray.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.benchmarks.neutral_text import first_passages, passages_digest
from kp.config.study import ModelConfig
from kp.errors import UserError
from kp.gate.candidates import CANDIDATE_FIELD, MODEL_FIELD, Candidate
from kp.gate.questions import Questions
from kp.inference.answering import EngineSpec, answer_chunk, sorted_answers
from kp.metrics.categories import categorise
from kp.metrics.outcomes import outcome_table
from kp.models.names import ResolvedModel
from kp.schema import frame
from kp.store.filenames import ANSWERS_FILE, BENCHMARK_ITEMS_FILE, DRIFT_FILE
from kp.store.steps import Step, Store
from kp.vocabulary import BASE, FactRole, Matcher, ShotSet

if TYPE_CHECKING:
    from kp.benchmarks.registry import BenchmarkPlan
    from kp.generation.hf import HFGenerator

VERSION = 1
"""Rises when the code changes what is measured."""
MAX_NEW_TOKENS = 32
MATCHER = Matcher.STRICT
CANDIDATE = "candidate"  # trial_id of the candidate's rows


@dataclass
class Bench:
    """The base of a gate with its store; loads a model only if something is left to be measured with it."""

    model: ModelConfig
    resolved: ResolvedModel
    chat: str  # the digest of a chat as the model reads it
    store: Store
    note: Callable[[str], None]
    _merged: tuple[Path, "HFGenerator"] | None = field(default=None, init=False)

    @property
    def identity(self) -> dict[str, Any]:
        """What identifies the base and how it answers."""
        made = {"model": f"{self.resolved.revision}-{self.chat}", "dtype": self.model.dtype, "max_new_tokens": MAX_NEW_TOKENS}
        return {"version": VERSION, **made}

    def outcomes(self, questions: Questions, asked: Sequence[ShotSet], candidate: Candidate | None = None) -> pl.DataFrame:
        """The OUTCOMES of the base, or of a candidate, on some questions."""
        step = Step("gate_answers", {**self._of(candidate), **questions.identity(asked)})

        def measure() -> pa.Table:
            with self._generator(candidate) as generator:
                chunks = [{"shot_set": one.value, "fact_ids": questions.facts["fact_id"].to_pylist()} for one in asked]
                made = [answer_chunk(generator, questions.facts, questions.sets, chunk, "", questions.keys) for chunk in chunks]
            return sorted_answers(pa.concat_tables(made))

        prompts = sum(len(questions.sets[one]) for one in asked) * len(questions.facts)
        answers = frame(self._made(step, ANSWERS_FILE, schema.ANSWERS, measure, f"{prompts:,} prompts", candidate))
        roles = dict.fromkeys(questions.texts, FactRole.CONTROL_TEST)
        return outcome_table(CANDIDATE if candidate else BASE, answers, categorise(answers), roles, MATCHER)

    def drift(self, candidate: Candidate, words: int) -> pl.DataFrame:
        """The TEXT_DRIFT of a candidate from the base on neutral text."""
        from kp.generation.drift import model_drifts, text_drifts

        passages = first_passages(words)
        step = Step("gate_drift", {**self._of(candidate), "texts": passages_digest(passages)})

        def measure() -> pa.Table:
            texts = [passage.text for passage in passages]
            with self._generator(candidate) as generator:
                found = model_drifts(self._base, generator.model, texts) if candidate.is_merged else text_drifts(generator, texts)
            rows = [
                {"trial_id": CANDIDATE, "text": passage.name, "register": passage.register, **asdict(one)}
                for passage, one in zip(passages, found, strict=True)
            ]
            return pa.Table.from_pylist(rows, schema=schema.TEXT_DRIFT)

        return frame(self._made(step, DRIFT_FILE, schema.TEXT_DRIFT, measure, f"{len(passages)} texts", candidate))

    def benchmarks(self, plan: "BenchmarkPlan", candidate: Candidate | None = None) -> pl.DataFrame:
        """The scores of single questions of the base, or of a candidate (SHARD_ITEMS)."""
        from kp.benchmarks.lm_eval_tasks import SHARD_ITEMS, harness_digest, run_shard

        settings = plan.settings.model_dump(include={"completions", "mmlu_dev", "mmlu_fewshot", "misconceptions"})
        step = Step("gate_benchmarks", {**self._of(candidate), "harness": harness_digest(plan), "settings": settings, "seed": plan.seed})

        def measure() -> pa.Table:
            who = BASE if candidate is None else CANDIDATE
            with self._generator(candidate) as generator, self.store.scratch("gate-lm-eval") as work:
                of = (generator.model, generator.tokenizer, plan.settings)
                return pa.concat_tables([run_shard(*of, shard, who, generator.batch_size, work) for shard in plan.shards()])

        return frame(self._made(step, BENCHMARK_ITEMS_FILE, SHARD_ITEMS, measure, f"{plan.questions()} benchmark questions", candidate))

    def _of(self, candidate: Candidate | None) -> dict[str, Any]:
        return self.identity | ({} if candidate is None else {"candidate": candidate.identity})

    def _made(
        self, step: Step, file: str, table_schema: pa.Schema, measure: Callable[[], pa.Table], what: str, candidate: Candidate | None
    ) -> pa.Table:
        """The table of a step, made if it is not there."""
        who = BASE if candidate is None else candidate.name
        if not self.store.is_done(step):
            with self.store.working(step):
                if not self.store.is_done(step):  # by another gate, which had it until now
                    began = time.monotonic()
                    made = measure()
                    seconds = time.monotonic() - began
                    self.store.commit(step, lambda folder: schema.write_table(made, table_schema, folder / file), seconds=seconds)
                    self.note(f"{who}: {what} in {seconds:.0f} s")
        return self.store.read(step, file, table_schema)

    @contextmanager
    def _generator(self, candidate: Candidate | None) -> Iterator["HFGenerator"]:
        """The generator with a candidate's weights."""
        if candidate is not None and candidate.is_merged:
            yield self._of_merged(candidate)
            return
        self._base.load_adapter(None if candidate is None else str(candidate.folder))
        try:
            yield self._base
        finally:
            self._base.load_adapter(None)

    @property
    def _engine(self) -> EngineSpec:
        import torch

        threads, gpu = os.cpu_count() or 1, torch.cuda.is_available()
        return EngineSpec(self.model, MAX_NEW_TOKENS, False, None, threads, gpu, model_field=MODEL_FIELD)

    @cached_property
    def _base(self) -> "HFGenerator":
        from transformers.utils import logging

        from kp.generation.hf import HFGenerator

        logging.disable_progress_bar()  # stderr has one line a measurement
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        _, generator = self._engine.load()
        assert isinstance(generator, HFGenerator), "the engine is hf"
        return generator

    def _of_merged(self, candidate: Candidate) -> "HFGenerator":
        """A generator of the merged weights with the base's tokenizer, so that the prompts are the same; one at a time stays loaded."""
        import torch

        from kp.models.loading import load_model

        if self._merged is None or self._merged[0] != candidate.folder:
            self._merged = None
            device = "cuda" if torch.cuda.is_available() else "cpu"
            loaded = load_model(ResolvedModel(candidate.name, str(candidate.folder), candidate.identity), self.model.dtype, device)
            for name, weight in loaded.named_parameters():
                if not bool(torch.isfinite(weight).all()):
                    raise UserError(f"'{candidate.name}': {name} holds NaN or infinity: merge it again", field=CANDIDATE_FIELD)
            self._merged = candidate.folder, self._engine.generator(loaded, self._base.tokenizer)
        return self._merged[1]
