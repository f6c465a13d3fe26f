"""The registry of benchmarks, over which the harness, the plan and the report loop.

A benchmark is an lm-eval task (a YAML under kp/data/tasks) and an entry here with the field of `[evaluate]` that requests it, the questions
to ask, and the names of its scores. Nothing here imports lm-eval, so that plans and reports do not pay for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kp.config.study import EvaluateConfig, StudyConfig
from kp.data.tasks import completions, misconceptions, mmlu_dev
from kp.errors import UserError


@dataclass(frozen=True)
class Score:
    """A metric of a task: its name in lm-eval, and its names in a report."""

    metric: str
    column: str  # prefix of its columns in the report's summary
    title: str  # over a column or a picture
    words: str  # in a sentence


@dataclass(frozen=True)
class Benchmark:
    """One task; `askable` is the number of questions under these settings, `draw` returns the ascending indices of those asked."""

    task: str
    field: str  # of `[evaluate]`: the number of questions, 0 for none
    scores: tuple[Score, ...]
    askable: Callable[[EvaluateConfig], int]
    draw: Callable[[EvaluateConfig, int], list[int]]  # given the study's seed
    shots: Callable[[EvaluateConfig], int | None]  # None leaves it to the task's YAML
    limits: str  # why there are no more questions, for a message
    group: str = ""  # what questions share that may depend on each other, in a word; "" if none do
    group_of: Callable[[int], str] = str  # the name of a question's group, its own if it has none
    note: str = ""  # what a reader must know before comparing
    data_files: tuple[str, ...] = ()  # under kp/data, in addition to the task's own files

    def asked(self, settings: EvaluateConfig) -> int:
        """The number of questions that the study asks for."""
        count: int = getattr(settings, self.field)
        return count


BENCHMARKS = (
    Benchmark(
        task="kp_completions",
        field="completions",
        scores=(Score("acc", "completions", "completions", "completions"),),
        askable=lambda _: len(completions.load_sentences()),
        draw=lambda settings, seed: completions.draw(settings.completions, seed),
        shots=lambda _: None,
        limits="are there",
        data_files=("completions.jsonl",),
    ),
    Benchmark(
        task="kp_mmlu_dev",
        field="mmlu_dev",
        scores=(Score("acc", "mmlu_dev", "MMLU-dev", "MMLU-dev"),),
        askable=lambda settings: mmlu_dev.askable(settings.mmlu_fewshot),
        draw=lambda settings, seed: mmlu_dev.draw(settings.mmlu_dev, settings.mmlu_fewshot, seed),
        shots=lambda settings: settings.mmlu_fewshot,
        limits="have evaluate.mmlu_fewshot others of their subject",
        group="subject",
        group_of=lambda index: mmlu_dev.load_questions()[index].subject,
        note="asks MMLU's development questions, with others of the same subject as shots: not comparable with published MMLU",
    ),
    Benchmark(
        task="kp_misconceptions",
        field="misconceptions",
        scores=(Score("mc1", "mc1", "MC1", "misconceptions MC1"), Score("mc2", "mc2", "MC2", "misconceptions MC2")),
        askable=lambda _: len(misconceptions.load_questions()),
        draw=lambda settings, _: list(range(settings.misconceptions)),
        shots=lambda _: None,
        limits="are there",
        data_files=("misconceptions.jsonl",),
    ),
)

SHARD_QUESTIONS = 128  # on a CPU some minutes, and long enough to make loading a task a small part


@dataclass(frozen=True)
class Shard:
    """Some questions of one task, by their ascending indices."""

    benchmark: Benchmark
    questions: tuple[int, ...]


SCORES = tuple((benchmark, score) for benchmark in BENCHMARKS for score in benchmark.scores)
"""Every score of every benchmark."""


@dataclass(frozen=True)
class BenchmarkPlan:
    """What every model is asked: the settings, and the study's seed, with which questions are drawn."""

    settings: EvaluateConfig
    seed: int

    def benchmarks(self) -> tuple[Benchmark, ...]:
        """The benchmarks with at least one question."""
        return tuple(benchmark for benchmark in BENCHMARKS if benchmark.asked(self.settings))

    def questions(self) -> int:
        """Questions per model; raises UserError if a benchmark has fewer than requested."""
        for benchmark in self.benchmarks():
            asked, askable = benchmark.asked(self.settings), benchmark.askable(self.settings)
            if asked > askable:
                raise UserError(f"{asked} asked, {askable} {benchmark.limits}", field=f"evaluate.{benchmark.field}")
        return sum(benchmark.asked(self.settings) for benchmark in self.benchmarks())

    def shards(self) -> list[Shard]:
        """All questions in shards of at most SHARD_QUESTIONS; groups stay together unless they are larger, so each is read in one place.

        Raises UserError if a benchmark has fewer questions than requested.
        """
        self.questions()
        return [
            Shard(benchmark, questions)
            for benchmark in self.benchmarks()
            for questions in divided(benchmark.draw(self.settings, self.seed), benchmark.group_of, SHARD_QUESTIONS)
        ]


def benchmark_of(task: str) -> Benchmark:
    """The benchmark that is this task."""
    (found,) = (benchmark for benchmark in BENCHMARKS if benchmark.task == task)
    return found


def divided(questions: Sequence[int], group_of: Callable[[int], str], most: int) -> list[tuple[int, ...]]:
    """Divide questions into ascending shards of at most `most`, with whole groups where they fit, in the order of the groups."""
    groups: dict[str, list[int]] = {}
    for question in questions:
        groups.setdefault(group_of(question), []).append(question)
    shards: list[list[int]] = []
    for group in groups.values():
        pieces = [group[start : start + most] for start in range(0, len(group), most)]
        for piece in pieces:
            if shards and len(shards[-1]) + len(piece) <= most:
                shards[-1] += piece
            else:
                shards.append(piece)
    return [tuple(sorted(shard)) for shard in shards]


def benchmark_plan(config: StudyConfig) -> BenchmarkPlan | None:
    """What lm-eval has to run, or None if the study asks for no questions."""
    plan = BenchmarkPlan(config.evaluate, config.seed)
    return plan if plan.benchmarks() else None
