"""Benchmarks with lm-eval, of the base and of every adapter in the same harness."""

from dataclasses import dataclass

import pyarrow as pa

from kp import schema
from kp.benchmarks.lm_eval_tasks import harness_digest, run_benchmarks
from kp.benchmarks.registry import BenchmarkPlan, benchmark_plan
from kp.config.identity import Reads
from kp.inference.evaluation import LoadedModel
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
    """What lm-eval runs; it needs a transformers model."""

    asked: BenchmarkPlan
    needs_transformers: bool = True
    prompts: int = 0  # the generator does not answer its questions

    def measure(self, model: LoadedModel) -> dict[str, pa.Table]:
        """BENCHMARKS and BENCHMARK_ITEMS."""
        from kp.generation.hf import HFGenerator

        generator = model.generator
        assert isinstance(generator, HFGenerator), "lm-eval asks a model of transformers"
        made = run_benchmarks(generator.model, generator.tokenizer, self.asked, model.trial_id, model.batch_size, model.work)
        return {BENCHMARKS_FILE: made.means, BENCHMARK_ITEMS_FILE: made.items}


class Benchmarks(Measurement):
    """Benchmarks; absent if the study asks for no questions."""

    name = NAME
    version = 3
    reads = Reads(("model.dtype", "evaluate", "seed"), but=("evaluate.shot_sets", "evaluate.stopped", "evaluate.placebo"))
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
        questions = (asked.questions() if asked else 0) * (planning.trials.count + 1)
        return f"{questions:,} benchmark questions"
