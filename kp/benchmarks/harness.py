"""Asking tasks of lm-eval's collection: which of their questions, in which parts, and what comes of them.

Base and adapters are asked the same questions with the same shots. A question's scores are those that lm-eval gives it; means, errors and
the log-likelihoods of choices are put together here from all parts, so how a task was divided makes no difference. What lm-eval draws at
random (shots, where a task does not take the first ones) depends on which questions are asked together, so such a task is one part.

No cache of lm-eval is used: its key does not contain the model.
"""

import hashlib
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from kp.benchmarks.harness_tasks import FIELD, HarnessTask, make_task, template_hash
from kp.benchmarks.lm_eval_tasks import quiet
from kp.benchmarks.mean_scores import share_error
from kp.benchmarks.registry import SHARD_QUESTIONS, divided
from kp.errors import UserError
from kp.schema import BENCHMARK_CHOICES, BENCHMARK_ITEMS, BENCHMARKS

GROUP_STEP = 1_000_000
"""What is added to the number of a question for each task of its group before its own."""
HUNDREDS = ("bleu", "rouge")  # scores from 0 to 100

ASKED = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),  # the single one
        pa.field("question", pa.int64(), nullable=False),  # lm-eval's doc_id
        pa.field("metrics", pa.list_(pa.string()), nullable=False),
        pa.field("scores", pa.list_(pa.float64()), nullable=False),  # one a metric, from 0 to 1
        pa.field("log_likelihoods", pa.list_(pa.float64()), nullable=False),  # one a choice, in nats; empty if answers are generated
        pa.field("greedy", pa.list_(pa.bool_()), nullable=False),  # likewise
        pa.field("chance", pa.float64()),  # the score of guessing; null if answers are generated
        pa.field("num_fewshot", pa.int32(), nullable=False),
        pa.field("task_version", pa.string(), nullable=False),
    ]
)
"""What lm-eval found for some questions of a task."""


@dataclass(frozen=True)
class TaskPart:
    """Some questions of a single task, by their ascending numbers."""

    task: HarnessTask
    questions: tuple[int, ...]


def task_parts(tasks: Sequence[HarnessTask], folder: Path, limit: int | None, fewshot: int | None, seed: int) -> list[TaskPart]:
    """The questions that are asked of these tasks, whose data are in `folder`, in parts."""
    drawn = drawn_questions({task: _facts_of(task, folder).questions for task in tasks}, limit, seed)
    return [
        TaskPart(task, part)
        for task, questions in drawn.items()
        for part in divided(questions, str, SHARD_QUESTIONS if _facts_of(task, folder).same_shots(fewshot) else len(questions))
    ]


def drawn_questions(counts: Mapping[HarnessTask, int], limit: int | None, seed: int) -> dict[HarnessTask, tuple[int, ...]]:
    """The ascending numbers of the questions to ask of each task; with a limit, tasks take turns, in a shuffled order, with shuffled ones.

    The draw of a smaller limit is part of that of a larger one.
    """
    if limit is None or limit >= sum(counts.values()):
        return {task: tuple(range(count)) for task, count in counts.items()}
    generator = random.Random(seed)
    tasks = list(counts)
    generator.shuffle(tasks)
    shuffled = {task: generator.sample(range(counts[task]), counts[task]) for task in tasks}
    turns = sorted((turn, place) for place, task in enumerate(tasks) for turn in range(counts[task]))
    chosen: dict[HarnessTask, list[int]] = {task: [] for task in counts}
    for turn, place in turns[:limit]:
        chosen[tasks[place]].append(shuffled[tasks[place]][turn])
    return {task: tuple(sorted(questions)) for task, questions in chosen.items() if questions}


@dataclass(frozen=True)
class _TaskFacts:
    """What a task's data and settings say before anything is asked."""

    questions: int
    shots: int  # its own number of them
    first_shots: bool  # whether shots are the first ones of their split

    def same_shots(self, fewshot: int | None) -> bool:
        """Whether a question's shots are the same whatever else is asked."""
        return self.first_shots or not (self.shots if fewshot is None else fewshot)


@cache  # of every model that is measured
def _facts_of(task: HarnessTask, folder: Path) -> _TaskFacts:
    made = make_task(task, folder)
    config = made.config.to_dict()
    sampler = (config.get("fewshot_config") or {}).get("sampler")
    return _TaskFacts(len(made.eval_docs), config.get("num_fewshot") or 0, sampler == "first_n")


def ask_part(model: Any, tokenizer: Any, part: TaskPart, fewshot: int | None, folder: Path, batch_size: int, work: Path) -> pa.Table:
    """Ask a loaded transformers or PEFT model some questions (ASKED); `work` receives what lm-eval prints."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from kp.benchmarks.shared_context import SharedContextLM

    name = part.task.name
    work.mkdir(parents=True, exist_ok=True)
    with quiet(work / "lm_eval.log"):
        results = simple_evaluate(
            model=SharedContextLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
            tasks=[make_task(part.task, folder)],
            num_fewshot=fewshot,
            samples={name: list(part.questions)},
            bootstrap_iters=0,
            task_manager=TaskManager(include_path=str(work), include_defaults=False),  # the default one reads every task file
        )
    common = {"task": name, "num_fewshot": results["n-shot"][name], "task_version": str(results["versions"][name])}
    samples = sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
    return pa.Table.from_pylist([common | question_row(name, sample) for sample in samples], schema=ASKED)


def question_row(task: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ASKED from one of lm-eval's samples; raises UserError if a metric is no share."""
    scores = {name: float(sample[name]) for name in sample["metrics"] if isinstance(sample.get(name), (int, float)) and _is_score(name)}
    choices = [response for response in sample["filtered_resps"] if not isinstance(response, str)]
    shares = {name: score / 100 if name.startswith(HUNDREDS) and name.endswith("_max") else score for name, score in scores.items()}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise UserError(f"'{task}': its metric {name} is {share:g}, and kp compares scores from 0 to 1 alone", field=FIELD)
    return {
        "question": sample["doc_id"],
        "metrics": list(scores),
        "scores": list(shares.values()),
        "log_likelihoods": [float(likelihood) for likelihood, _ in choices],
        "greedy": [bool(greedy) for _, greedy in choices],
        "chance": _chance(sample["doc"], len(choices)),
    }


def _chance(doc: Mapping[str, Any], choices: int) -> float | None:
    """The score of guessing: of MC2 the share of right choices, of others one among the choices."""
    labels = (doc.get("mc2_targets") or {}).get("labels", [])
    if len(labels) == choices and sum(labels) > 1:
        return statistics.fmean(labels)
    return 1 / choices if choices > 1 else None  # a single text to score is no choice


def _is_score(name: str) -> bool:
    """Differences of two scores can be below 0, and perplexities have no upper end."""
    return not name.endswith("_diff") and "perplexity" not in name and name not in ("bits_per_byte", "brier_score")


@dataclass(frozen=True)
class HarnessTables:
    """What lm-eval found for one model and one requested task."""

    means: pa.Table  # BENCHMARKS
    items: pa.Table  # BENCHMARK_ITEMS
    choices: pa.Table  # BENCHMARK_CHOICES


def put_together(name: str, tasks: Sequence[HarnessTask], trial_id: str, parts: Sequence[pa.Table]) -> HarnessTables:
    """The tables of a requested task from the ASKED of all of its parts."""
    places = {task.name: place for place, task in enumerate(tasks)}
    rows = sorted(pa.concat_tables(parts).to_pylist(), key=lambda row: (places[row["task"]], row["question"]))
    items, choices = [], []
    for row in rows:
        number = GROUP_STEP * places[row["task"]] + row["question"]
        common = {"trial_id": trial_id, "task": name, "item": number}
        group = row["task"] if len(tasks) > 1 else str(number)
        items += [
            common | {"metric": metric, "group": group, "score": score} for metric, score in zip(row["metrics"], row["scores"], strict=True)
        ]
        choices += [
            common | {"choice": choice, "log_likelihood": likelihood, "is_greedy": greedy}
            for choice, (likelihood, greedy) in enumerate(zip(row["log_likelihoods"], row["greedy"], strict=True))
        ]
    return HarnessTables(
        pa.Table.from_pylist(_means(name, tasks, trial_id, rows), schema=BENCHMARKS),
        pa.Table.from_pylist(items, schema=BENCHMARK_ITEMS),
        pa.Table.from_pylist(choices, schema=BENCHMARK_CHOICES),
    )


def _means(name: str, tasks: Sequence[HarnessTask], trial_id: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Over all questions of all tasks, as lm-eval weighs those of MMLU; the error is that of as many questions one by one."""
    by_metric: dict[str, list[float]] = {}
    for row in rows:
        for metric, score in zip(row["metrics"], row["scores"], strict=True):
            by_metric.setdefault(metric, []).append(score)
    (shots,) = {row["num_fewshot"] for row in rows}  # see `validate_tasks`
    versions = ", ".join(sorted({row["task_version"] for row in rows}))
    same = {"trial_id": trial_id, "task": name, "num_fewshot": shots, "task_version": versions}
    same["template_hash"] = _hash_of_all(tuple(tasks))
    guessed = [row["chance"] for row in rows if row["chance"] is not None]
    same["chance"] = statistics.fmean(guessed) if guessed else None
    return [
        same | {"metric": metric, "value": statistics.fmean(scores), "standard_error": share_error(scores), "n": len(scores)}
        for metric, scores in by_metric.items()
    ]


@cache
def _hash_of_all(tasks: tuple[HarnessTask, ...]) -> str:
    return hashlib.sha256("".join(template_hash(task) for task in tasks).encode()).hexdigest()
