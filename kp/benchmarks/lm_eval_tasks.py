"""Benchmarks that run in lm-eval and need no hub: MMLU's development questions and a set of misconceptions.

When an adapter costs knowledge, this shows first in what the model knew apart from the trained facts. So base and adapters answer the same
questions under lm-eval's own scoring. The tasks are ordinary lm-eval tasks (YAML under kp/data/tasks). kp.benchmarks.registry decides which
questions are asked, and this module turns lm-eval's per-question results into tables. The scores of single questions are kept, because base
and adapter are compared question by question.

lm-eval is imported inside the functions, so that plans can use this module without paying for it.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from kp.benchmarks.mean_scores import share_error
from kp.benchmarks.registry import Benchmark, BenchmarkPlan, Score, Shard
from kp.config.study import EvaluateConfig
from kp.data import tasks
from kp.schema import BENCHMARK_ITEMS, BENCHMARKS

_DATA = Path(tasks.__file__).parent.parent
_TASKS = _DATA / "tasks"


SHARD_ITEMS = pa.schema(
    [
        *BENCHMARK_ITEMS,
        pa.field("num_fewshot", pa.int32(), nullable=False),
        pa.field("task_version", pa.string(), nullable=False),
        pa.field("chance", pa.float64(), nullable=False),  # the score of guessing
    ]
)
"""What lm-eval found for some questions: BENCHMARK_ITEMS, and how it asked."""


@dataclass(frozen=True)
class ScoredBenchmarks:
    """What lm-eval found for one model."""

    means: pa.Table  # BENCHMARKS, one row per task and metric
    items: pa.Table  # BENCHMARK_ITEMS, one row per task, metric and question


def harness_digest(plan: BenchmarkPlan) -> str:
    """SHA-256 over what determines the numbers besides the model and the study's settings: tasks, their data, lm-eval's version."""
    return _digest(plan.benchmarks())


@cache  # of every trial's step, and it reads files
def _digest(asked: tuple[Benchmark, ...]) -> str:
    identity = {
        "lm_eval": importlib.metadata.version("lm-eval"),
        "tasks": {benchmark.task: _template_hash(benchmark.task) for benchmark in asked},
        "data": {name: hashlib.sha256((_DATA / name).read_bytes()).hexdigest() for benchmark in asked for name in benchmark.data_files},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def run_shard(model: Any, tokenizer: Any, settings: EvaluateConfig, shard: Shard, trial_id: str, batch_size: int, work: Path) -> pa.Table:
    """Score a loaded transformers or PEFT model on some questions of a task (SHARD_ITEMS).

    `batch_size` is the most rows of a batch. `work` receives `lm_eval.log`, and TASK.jsonl with the log-likelihoods and scores of every
    question.
    """
    benchmark, task = shard.benchmark, shard.benchmark.task
    work.mkdir(parents=True, exist_ok=True)
    with quiet(work / "lm_eval.log"):
        results = _evaluate(model, tokenizer, shard, settings, batch_size)
    samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    _write_samples(samples, benchmark, work)
    common = {"trial_id": trial_id, "task": task, "num_fewshot": results["n-shot"][task], "task_version": str(results["versions"][task])}
    rows = [
        common
        | {
            "metric": score.metric,
            "item": sample["doc_id"],
            "group": benchmark.group_of(sample["doc_id"]),
            "score": float(sample[score.metric]),
            "chance": _chance(score.metric, sample),
        }
        for score in benchmark.scores
        for sample in samples
    ]
    return pa.Table.from_pylist(rows, schema=SHARD_ITEMS)


def scored(plan: BenchmarkPlan, shards: Sequence[pa.Table]) -> ScoredBenchmarks:
    """Put the results of all shards of a plan (SHARD_ITEMS) together; how the questions were divided makes no difference."""
    by_score: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for item in pa.concat_tables(shards).sort_by("item").to_pylist():
        by_score.setdefault((item["task"], item["metric"]), []).append(item)
    scores = [(score, by_score[benchmark.task, score.metric]) for benchmark in plan.benchmarks() for score in benchmark.scores]
    means = [_mean(score, items) for score, items in scores]
    listed = [{name: item[name] for name in BENCHMARK_ITEMS.names} for _, items in scores for item in items]
    return ScoredBenchmarks(pa.Table.from_pylist(means, schema=BENCHMARKS), pa.Table.from_pylist(listed, schema=BENCHMARK_ITEMS))


def _evaluate(model: Any, tokenizer: Any, shard: Shard, settings: EvaluateConfig, batch_size: int) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from kp.benchmarks.shared_context import SharedContextLM

    results = simple_evaluate(
        model=SharedContextLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
        tasks=[shard.benchmark.task],
        num_fewshot=shard.benchmark.shots(settings),
        samples={shard.benchmark.task: list(shard.questions)},
        bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(_TASKS), include_defaults=False),
    )
    return dict(results)


def _mean(score: Score, items: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of BENCHMARKS from all SHARD_ITEMS of a task and a metric."""
    first, n = items[0], len(items)
    values = [item["score"] for item in items]
    same = {name: first[name] for name in ("trial_id", "task", "metric", "num_fewshot", "task_version")}
    chance = statistics.fmean(item["chance"] for item in items)
    made = {"value": statistics.fmean(values), "standard_error": share_error(values), "n": n, "chance": chance}
    return {**same, **made, "template_hash": _template_hash(first["task"])}


def _chance(metric: str, sample: Mapping[str, Any]) -> float:
    """The score of a question for one who finds all of its choices equally likely."""
    match metric:
        case "mc1":
            return 1 / len(sample["doc"]["mc1_targets"]["choices"])
        case "mc2":
            return statistics.fmean(sample["doc"]["mc2_targets"]["labels"])
        case _:
            return 1 / len(sample["filtered_resps"])


def _write_samples(samples: list[dict[str, Any]], benchmark: Benchmark, work: Path) -> None:
    with (work / f"{benchmark.task}.jsonl").open("w", encoding="utf-8") as file:
        for sample in samples:
            likelihoods = [likelihood for likelihood, _ in sample["filtered_resps"]]
            scores = {score.metric: sample[score.metric] for score in benchmark.scores}
            file.write(json.dumps({"question": sample["doc_id"], "log_likelihoods": likelihoods, **scores}) + "\n")


def load_task(task: str, changes: dict[str, Any]) -> Any:
    """One of kp's tasks as an lm-eval task, with some of its settings changed."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager

    loaded = TaskManager(include_path=str(_TASKS), include_defaults=False).load([task])["tasks"][task]
    return ConfigurableTask(config=loaded.config.to_dict(keep_callable=True) | changes)


def _template_hash(task: str) -> str:
    digest = hashlib.sha256()
    for file in [_TASKS / f"{task}.yaml", *sorted(_TASKS.glob("*.py"))]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Redirect what lm-eval prints (bars, hints, warnings about a loaded model) to `log`."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with log.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            yield
    finally:
        logger.setLevel(level)
