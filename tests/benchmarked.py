"""The benchmarks of a model in this process, each task whole."""

from pathlib import Path
from typing import Any

from kp.benchmarks.lm_eval_tasks import ScoredBenchmarks, run_shard, scored
from kp.benchmarks.registry import BenchmarkPlan, Shard


def run_benchmarks(model: Any, tokenizer: Any, asked: BenchmarkPlan, trial_id: str, batch_size: int, work: Path) -> ScoredBenchmarks:
    """All questions of a plan, each task whole."""
    whole = [Shard(benchmark, tuple(benchmark.draw(asked.settings, asked.seed))) for benchmark in asked.benchmarks()]
    return scored(asked, [run_shard(model, tokenizer, asked.settings, shard, trial_id, batch_size, work) for shard in whole])
