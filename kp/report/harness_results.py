"""The scores of benchmarks in the form of lm-eval's own result files, for tools that read those.

Each model has a file with `results`, `n-shot`, `versions`, `n-samples` and `task_hashes` by task; a group has an entry and so has each of
its tasks. What lm-eval knows besides (its settings, the time) is not of this study's tables and stands in none.
"""

from typing import Any

import polars as pl

from kp.benchmarks.mean_scores import share_error
from kp.benchmarks.registry import BENCHMARKS
from kp.report.tables import ReportContext, ReportTables
from kp.vocabulary import BASE

FILTER = "none"  # lm-eval's name of the answers as they are, which stands behind each metric


def harness_results(tables: ReportTables, context: ReportContext, trial_id: str) -> dict[str, Any]:
    """The result file of the base ("base") or of a trial's adapter; without entries if no benchmark was measured."""
    adapter = "" if trial_id == BASE else f",peft=adapters/{trial_id}"
    made: dict[str, Any] = {"results": {}, "group_subtasks": {}, "n-shot": {}, "versions": {}, "n-samples": {}, "task_hashes": {}}
    for row in tables.benchmarks.filter(trial_id=trial_id).iter_rows(named=True):
        _add(made, row["task"], row["metric"], row["value"], row["standard_error"], row["n"])
        made["n-shot"][row["task"]], made["versions"][row["task"]] = row["num_fewshot"], row["task_version"]
        made["task_hashes"][row["task"]] = row["template_hash"]
    for task, subtasks in _groups(tables.benchmark_items.filter(trial_id=trial_id)).items():
        made["group_subtasks"][task] = subtasks["group"].unique(maintain_order=True).to_list()
        for (name, metric), items in subtasks.group_by("group", "metric", maintain_order=True):
            scores = items["score"].to_list()
            _add(made, str(name), str(metric), sum(scores) / len(scores), share_error(scores), len(scores))
            made["n-shot"][name], made["versions"][name] = made["n-shot"][task], made["versions"][task]
    made["config"] = {"model": "hf", "model_args": f"pretrained={context.model_name},revision={context.model_revision}{adapter}"}
    return made | {"model_name": context.model_name, "lm_eval_version": context.versions.get("lm_eval")}


def _add(made: dict[str, Any], task: str, metric: str, value: float, error: float | None, n: int) -> None:
    entry = made["results"].setdefault(task, {"alias": task})
    entry[f"{metric},{FILTER}"] = value
    entry[f"{metric}_stderr,{FILTER}"] = "N/A" if error is None else error
    made["n-samples"][task] = {"original": None, "effective": n}


def _groups(items: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The items of each task that is a group: whose questions are grouped by the tasks that they are of. kp's own tasks are none."""
    own = [benchmark.task for benchmark in BENCHMARKS]
    grouped = items.filter(pl.col("group") != pl.col("item").cast(pl.String), ~pl.col("task").is_in(own))
    return {str(task): rows for (task,), rows in grouped.group_by("task", maintain_order=True)}
