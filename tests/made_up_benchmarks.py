"""BENCHMARK_ITEMS and BENCHMARKS of made-up models, whose difference to the base is known."""

from collections.abc import Sequence

import polars as pl

from kp import schema


def benchmark_items(trial_id: str, shift: float) -> pl.DataFrame:
    """BENCHMARK_ITEMS of a model that answers 28% of MMLU's questions, two a subject, and 33% of the misconceptions, plus `shift`."""
    tables = [
        _items(trial_id, "kp_mmlu_dev", "acc", [float(item < round(50 * (0.28 + shift))) for item in range(50)], 2),
        _items(trial_id, "kp_misconceptions", "mc1", [float(item < round(100 * (0.33 + shift))) for item in range(100)], 1),
        _items(trial_id, "kp_misconceptions", "mc2", [0.3 + 0.004 * item + 2 * shift * (item % 2) for item in range(100)], 1),
    ]
    return pl.concat(tables)


def _items(trial_id: str, task: str, metric: str, scores: Sequence[float], together: int) -> pl.DataFrame:
    key = {"trial_id": trial_id, "task": task, "metric": metric}
    rows = [key | {"item": item, "group": str(item // together), "score": score} for item, score in enumerate(scores)]
    return pl.DataFrame(rows, schema=pl.DataFrame(schema.BENCHMARK_ITEMS.empty_table()).schema)


def benchmarks_of(items: pl.DataFrame) -> pl.DataFrame:
    """BENCHMARKS of BENCHMARK_ITEMS."""
    means = items.group_by("trial_id", "task", "metric", maintain_order=True).agg(pl.col("score").mean().alias("value"), n=pl.len())
    error = (pl.col("value") * (1 - pl.col("value")) / pl.col("n")).sqrt()
    shots = pl.when(task="kp_mmlu_dev").then(2).otherwise(0)
    made = means.with_columns(
        standard_error=error, num_fewshot=shots, task_version=pl.lit("1.0"), template_hash=pl.lit("0123456789abcdef"), chance=pl.lit(0.01)
    )
    return made.select(schema.BENCHMARKS.names).cast(dict(pl.DataFrame(schema.BENCHMARKS.empty_table()).schema))
