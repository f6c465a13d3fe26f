"""Benchmarks with lm-eval, of the base and of every adapter in the same harness."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from kp import schema
from kp.benchmarks.lm_eval_tasks import harness_digest, run_shard, scored
from kp.benchmarks.registry import BenchmarkPlan, Shard, benchmark_of, benchmark_plan
from kp.config.identity import Reads
from kp.inference.evaluation import LoadedModel, Part
from kp.store.filenames import BENCHMARK_ITEMS_FILE, BENCHMARKS_FILE
from kp.store.steps import Step
from kp.study.graph import Trial
from kp.study.measurement import Measurement, Trained
from kp.study.session import Session
from kp.study.stage import Making, Planning, model_literals
from kp.vocabulary import BASE

NAME = "benchmarks"


@dataclass(frozen=True)
class BenchmarkTask:
    """What lm-eval runs, divided into shards; it needs a transformers model."""

    asked: BenchmarkPlan
    needs_transformers: bool = True

    def parts(self, facts: pa.Table) -> list[Part]:
        """The shards of all tasks."""
        return [
            Part(
                f"{shard.benchmark.task}-{shard.questions[0]:08d}",
                {"task": shard.benchmark.task, "questions": list(shard.questions)},
                len(shard.questions),
            )
            for shard in self.asked.shards()
        ]

    def measure(self, model: LoadedModel, part: Part) -> pa.Table:
        """SHARD_ITEMS."""
        shard = Shard(benchmark_of(part.content["task"]), tuple(part.content["questions"]))
        with model.transformers() as generator:
            made = run_shard(
                generator.model, generator.tokenizer, self.asked.settings, shard, model.trial_id, generator.batch_size, model.work
            )
            generator.on_answered(part.prompts)  # lm-eval does not ask through the generator
        return made

    def tables(self, parts: Sequence[pa.Table]) -> dict[str, pa.Table]:
        """BENCHMARKS and BENCHMARK_ITEMS."""
        made = scored(self.asked, parts)
        return {BENCHMARKS_FILE: made.means, BENCHMARK_ITEMS_FILE: made.items}


class Benchmarks(Measurement):
    """Benchmarks; absent if the study asks for no questions."""

    name = NAME
    version = 4
    reads = Reads(("model.dtype", "evaluate.completions", "evaluate.mmlu_dev", "evaluate.mmlu_fewshot", "evaluate.misconceptions", "seed"))
    tables = {BENCHMARKS_FILE: schema.BENCHMARKS, BENCHMARK_ITEMS_FILE: schema.BENCHMARK_ITEMS}

    def of_adapter(self, making: Making, trained: Trained) -> dict[str, Step]:
        """One step for all tasks together."""
        return self._step(making, {}, (trained.step,))

    def of_base(self, making: Making) -> dict[str, Step]:
        """The same questions for the base, with which the adapters' scores are compared."""
        return self._step(making, {"of": BASE, **model_literals(making)}, ())

    def _step(self, making: Making, of: dict[str, str], inputs: tuple[Step, ...]) -> dict[str, Step]:
        asked = benchmark_plan(making.config)
        return {NAME: Step(NAME, self.literals(making) | {"harness": harness_digest(asked)} | of, inputs)} if asked else {}

    def task(self, session: Session, name: str, trial: Trial | None) -> BenchmarkTask:
        """The same for every model."""
        asked = benchmark_plan(session.config)
        assert asked is not None, "the step stands for it"
        return BenchmarkTask(asked)

    def plan(self, planning: Planning) -> str:
        """For all adapters and the base."""
        asked = benchmark_plan(planning.config)
        questions = (asked.questions() if asked else 0) * (planning.adapters + 1)
        return f"{questions:,} benchmark questions"
