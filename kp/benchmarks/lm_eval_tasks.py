"""Benchmarks through lm-eval that need no hub: MMLU's development questions and a set of misconceptions.

Knowledge lost to an adapter shows first in what the model knew besides the trained facts, so base and adapters answer the same questions
under lm-eval's own scoring. The tasks are lm-eval tasks like any other (YAML under kp/data/tasks); this module says which questions are
asked, and turns lm-eval's per-question results into rows of the benchmarks table. Scores of `kp_mmlu_dev` compare with one another, not
with published MMLU (see its YAML).

lm-eval is imported inside the functions: plans use this module without paying for it.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import math
import statistics
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from kp.config.derived import BenchmarkPlan
from kp.data.tasks import misconceptions, mmlu_dev
from kp.errors import UserError
from kp.schema import BENCHMARKS

MMLU_DEV = "kp_mmlu_dev"
MISCONCEPTIONS = "kp_misconceptions"
METRICS = {MMLU_DEV: ("acc",), MISCONCEPTIONS: ("mc1", "mc2")}

_DATA = Path(mmlu_dev.__file__).parent.parent
_TASKS = _DATA / "tasks"
_SHARES = frozenset({"acc", "mc1"})  # metrics that are 0 or 1 a question


def task_names(plan: BenchmarkPlan) -> list[str]:
    """The lm-eval tasks of the plan, as named in the benchmarks table."""
    return list(_asked(plan))


def benchmark_questions(plan: BenchmarkPlan) -> int:
    """Questions asked of one model; raises UserError where the plan wants more than there are."""
    askable = mmlu_dev.askable(plan.mmlu_fewshot) if plan.mmlu_dev else 0
    if plan.mmlu_dev > askable:
        raise UserError(
            f"evaluate.mmlu_dev: {plan.mmlu_dev} asked, {askable} have mmlu_fewshot = {plan.mmlu_fewshot} others of their subject"
        )
    held = len(misconceptions.load_questions())
    if plan.misconceptions > held:
        raise UserError(f"evaluate.misconceptions: {plan.misconceptions} asked, there are {held}")
    return plan.mmlu_dev + plan.misconceptions


def plan_digest(plan: BenchmarkPlan) -> str:
    """SHA-256 over all that decides the numbers besides the model: the plan, the tasks and their data, lm-eval's version."""
    identity = {
        "plan": asdict(plan),
        "lm_eval": importlib.metadata.version("lm-eval"),
        "tasks": {name: _template_hash(name) for name in METRICS},
        "misconceptions": hashlib.sha256((_DATA / "misconceptions.jsonl").read_bytes()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def run_benchmarks(model: Any, tokenizer: Any, plan: BenchmarkPlan, trial_id: str, batch_size: int, work: Path) -> pa.Table:
    """Score a loaded transformers or PEFT model; returns BENCHMARKS, one row a task and metric.

    `batch_size` is the most rows of a batch. `work` receives `lm_eval.log` and, for each task, TASK.jsonl with the log-likelihoods and
    scores of every question. Raises UserError where the plan asks more questions than there are.
    """
    benchmark_questions(plan)
    rows: list[dict[str, Any]] = []
    work.mkdir(parents=True, exist_ok=True)
    with _quiet(work / "lm_eval.log"):
        for task, asked in _asked(plan).items():
            results = _evaluate(model, tokenizer, task, asked, plan, batch_size)
            samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
            _write_samples(samples, task, work)
            common = {
                "trial_id": trial_id,
                "task": task,
                "num_fewshot": results["n-shot"][task],
                "task_version": str(results["versions"][task]),
                "template_hash": _template_hash(task),
            }
            rows += [common | _score(metric, [float(sample[metric]) for sample in samples]) for metric in METRICS[task]]
    return pa.Table.from_pylist(rows, schema=BENCHMARKS)


def _asked(plan: BenchmarkPlan) -> dict[str, list[int]]:
    asked: dict[str, list[int]] = {}
    if plan.mmlu_dev:
        asked[MMLU_DEV] = mmlu_dev.draw(plan.mmlu_dev, plan.mmlu_fewshot, plan.seed)
    if plan.misconceptions:
        asked[MISCONCEPTIONS] = list(range(plan.misconceptions))
    return asked


def _evaluate(model: Any, tokenizer: Any, task: str, asked: list[int], plan: BenchmarkPlan, batch_size: int) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from kp.benchmarks.shared_context import SharedContextLM

    results = simple_evaluate(
        model=SharedContextLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
        tasks=[task],
        num_fewshot=plan.mmlu_fewshot if task == MMLU_DEV else None,
        samples={task: asked},
        bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(_TASKS), include_defaults=False),
    )
    return dict(results)


def _score(metric: str, values: list[float]) -> dict[str, Any]:
    n = len(values)
    mean = statistics.fmean(values)
    if metric in _SHARES:
        error: float | None = math.sqrt(mean * (1 - mean) / n)
    else:
        error = statistics.stdev(values) / math.sqrt(n) if n > 1 else None
    return {"metric": metric, "value": mean, "standard_error": error, "n": n}


def _write_samples(samples: list[dict[str, Any]], task: str, work: Path) -> None:
    with (work / f"{task}.jsonl").open("w", encoding="utf-8") as file:
        for sample in samples:
            likelihoods = [likelihood for likelihood, _ in sample["filtered_resps"]]
            scores = {metric: sample[metric] for metric in METRICS[task]}
            file.write(json.dumps({"question": sample["doc_id"], "log_likelihoods": likelihoods, **scores}) + "\n")


def _template_hash(task: str) -> str:
    digest = hashlib.sha256()
    for file in [_TASKS / f"{task}.yaml", *sorted(_TASKS.glob("*.py"))]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Send what lm-eval prints (bars, hints, warnings about a loaded model) to `log`."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with log.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            yield
    finally:
        logger.setLevel(level)
