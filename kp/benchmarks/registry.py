"""Which benchmarks there are: the registry that the harness, the plan and the report loop over.

A benchmark is an lm-eval task (a YAML under kp/data/tasks) and an entry here that says which field of `[evaluate]` asks for it, which of
its questions are asked, and what its scores are called. Nothing here imports lm-eval: plans and reports use it without paying for that.
"""

from collections.abc import Callable
from dataclasses import dataclass

from kp.config.study import EvaluateConfig, StudyConfig
from kp.data.tasks import misconceptions, mmlu_dev
from kp.errors import UserError


@dataclass(frozen=True)
class Score:
    """A metric of a task as lm-eval calls it, and what a report calls it."""

    metric: str
    column: str  # prefix of the columns of the report's summary
    title: str  # over a column or a picture
    words: str  # in a sentence
    is_share: bool = False  # 0 or 1 a question, so that its error is a share's


@dataclass(frozen=True)
class Benchmark:
    """One task; `askable` counts the questions it has under these settings, `draw` names those asked by their place, ascending."""

    task: str
    field: str  # of `[evaluate]`: how many questions are asked, 0 for none
    scores: tuple[Score, ...]
    askable: Callable[[EvaluateConfig], int]
    draw: Callable[[EvaluateConfig, int], list[int]]  # given the study's seed
    shots: Callable[[EvaluateConfig], int | None]  # None leaves it to the task's YAML
    limits: str  # why there are no more questions, for a message
    note: str = ""  # what a reader has to know before comparing
    data_files: tuple[str, ...] = ()  # under kp/data, beside the tasks' own

    def asked(self, settings: EvaluateConfig) -> int:
        """Questions that the study wants."""
        count: int = getattr(settings, self.field)
        return count


BENCHMARKS = (
    Benchmark(
        task="kp_mmlu_dev",
        field="mmlu_dev",
        scores=(Score("acc", "mmlu_dev", "MMLU-dev", "MMLU-dev", is_share=True),),
        askable=lambda settings: mmlu_dev.askable(settings.mmlu_fewshot),
        draw=lambda settings, seed: mmlu_dev.draw(settings.mmlu_dev, settings.mmlu_fewshot, seed),
        shots=lambda settings: settings.mmlu_fewshot,
        limits="have evaluate.mmlu_fewshot others of their subject",
        note="asks MMLU's development questions, with others of the same subject as shots: not comparable with published MMLU",
    ),
    Benchmark(
        task="kp_misconceptions",
        field="misconceptions",
        scores=(Score("mc1", "mc1", "MC1", "misconceptions MC1", is_share=True), Score("mc2", "mc2", "MC2", "misconceptions MC2")),
        askable=lambda _: len(misconceptions.load_questions()),
        draw=lambda settings, _: list(range(settings.misconceptions)),
        shots=lambda _: None,
        limits="are there",
        data_files=("misconceptions.jsonl",),
    ),
)


@dataclass(frozen=True)
class BenchmarkPlan:
    """What is asked of every model: the settings, and the study's seed, by which questions are drawn."""

    settings: EvaluateConfig
    seed: int

    def benchmarks(self) -> tuple[Benchmark, ...]:
        """Those that have a question asked."""
        return tuple(benchmark for benchmark in BENCHMARKS if benchmark.asked(self.settings))

    def questions(self) -> int:
        """Questions asked of one model; raises UserError where more are wanted than there are."""
        for benchmark in self.benchmarks():
            asked, askable = benchmark.asked(self.settings), benchmark.askable(self.settings)
            if asked > askable:
                raise UserError(f"{asked} asked, {askable} {benchmark.limits}", field=f"evaluate.{benchmark.field}")
        return sum(benchmark.asked(self.settings) for benchmark in self.benchmarks())


def benchmark_plan(config: StudyConfig) -> BenchmarkPlan | None:
    """What lm-eval is to run, or None where the study asks for no questions."""
    plan = BenchmarkPlan(config.evaluate, config.seed)
    return plan if plan.benchmarks() else None
