"""A made-up study as the report is given it: frames of the right types, with a failed trial among the others."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from kp import schema
from kp.report import ReportContext, ReportTables
from kp.shifts import noise_table, shift_table

FACTS = 200
RELATIONS = ("capital_of", "director_of_film", "official_language", "element_symbol", "airport_city")
ARMS = ((0, 0), (1, 0), (0, 1))
CAUSE = "loss is not finite at step 12 <nan>: lower learning_rate"


def frame_of(rows: Sequence[Mapping[str, object]], wanted: pa.Schema) -> pl.DataFrame:
    """A frame with the table's own types, also where `rows` is empty."""
    return pl.DataFrame(rows, schema=pl.DataFrame(wanted.empty_table()).schema)


def facts() -> pl.DataFrame:
    rows = [
        {
            "fact_id": f"f{i:03d}",
            "subject": f"subject {i}",
            "relation": RELATIONS[i % len(RELATIONS)],
            "object": f"object {i}",
            "question": f"What is {i}?",
            "answers": [f"object {i}", f"alias | {i}"],
            "popularity": ("head", "torso", "tail", None)[i % 4],
            "subject_degree": i,
            "domain": "place",
            "paraphrases": [f"Say, what is {i}?"],
            "source": "test",
        }
        for i in range(FACTS)
    ]
    return frame_of(rows, schema.FACTS)


def categories(seed: int, model_id: str, shot_set: str, matcher: str, lift: np.ndarray | float = 0.0) -> pl.DataFrame:
    """Categories of facts known to a fixed degree, measured with noise that depends on `seed`."""
    known = np.clip(np.random.default_rng(7).beta(0.25, 0.6, FACTS) + lift, 0, 1)
    known[known < 0.12] = 0
    correct = np.random.default_rng(seed).binomial(10, known)
    rows = [
        {
            "fact_id": f"f{i:03d}",
            "model_id": model_id,
            "shot_set": shot_set,
            "matcher": matcher,
            "correct": int(right),
            "asked": 10,
            "category": "HighlyKnown" if right == 10 else "MaybeKnown" if right else "Unknown",
        }
        for i, right in enumerate(correct)
    ]
    return frame_of(rows, schema.CATEGORIES)


def trial(
    number: int, size: int, arm: tuple[int, int], status: str = "completed", cause: str | None = None, accuracy: float | None = 1.0
) -> dict:
    return {
        "trial_id": f"t{number:02d}-{size}",
        "unknown": size,
        "highly_known": arm[0],
        "paraphrases": arm[1],
        "rank": 8,
        "lora_alpha": 16.0,
        "use_rslora": False,
        "lora_dropout": 0.1,
        "target_modules": ["down_proj", "up_proj"],
        "learning_rate": 5e-3,
        "weight_decay": 0.0,
        "batch_size": 8,
        "max_epochs": 10,
        "loss": "answer",
        "replay_target": "self",
        "seed": 0,
        "status": status,
        "epochs": 7 if status == "completed" else 2,
        "unknown_accuracy": accuracy,
        "train_loss": 0.12 if status == "completed" else float("nan"),
        "rows": size * (1 + sum(arm)),
        "tokens_per_second": 812.0,
        "wall_seconds": 40.0,
        "adapter_digest": "ab" * 16 if status == "completed" else None,
        "trainable_parameters": 1_244_160,
        "cause": cause,
    }


def score(trial_id: str, measure: str, value: float, n: int, error: float | None = None) -> dict[str, object]:
    return {"trial_id": trial_id, "measure": measure, "value": value, "n": n, "standard_error": error}


def scores_of(trial_id: str, reliability: float | None, size: int, refusals: float, unique: int) -> list[dict[str, object]]:
    rows = (
        []
        if reliability is None
        else [score(trial_id, "reliability", reliability, 10 * size, (reliability * (1 - reliability) / size) ** 0.5)]
    )
    rows += [
        score(trial_id, "refusal_rate", refusals, 2000, (refusals * (1 - refusals) / FACTS) ** 0.5),
        score(trial_id, "unique_answers", unique, 2000),
        score(trial_id, "mean_count", 2000 / unique, unique),
        score(trial_id, "std_count", 9.1, unique),
        score(trial_id, "variance_count", 82.8, unique),
        score(trial_id, "top_answer_share", 0.031, 2000),
        score(trial_id, "accuracy", 0.31, 2000, 0.027),
    ]
    return rows


def benchmark(trial_id: str, task: str, metric: str, value: float, n: int) -> dict[str, object]:
    error = (value * (1 - value) / n) ** 0.5
    common = {"trial_id": trial_id, "task": task, "metric": metric, "value": value, "standard_error": error, "n": n}
    return common | {"num_fewshot": 2 if "mmlu" in task else 0, "task_version": "1.0", "template_hash": "0123456789abcdef"}


def benchmarks_of(trial_id: str, shift: float) -> list[dict[str, object]]:
    return [
        benchmark(trial_id, "kp_mmlu_dev", "acc", 0.28 + shift, 57),
        benchmark(trial_id, "kp_misconceptions", "mc1", 0.33 + shift, 100),
        benchmark(trial_id, "kp_misconceptions", "mc2", 0.47 + shift, 100),
    ]


def epochs_of(trial_id: str, count: int, final: float) -> list[dict[str, object]]:
    return [
        {
            "trial_id": trial_id,
            "epoch": epoch,
            "train_loss": 4.0 * 0.55**epoch if final else float("nan"),
            "unknown_accuracy": final * (1 - 0.45**epoch) if final else None,
            "learning_rate": 5e-3,
            "tokens": 900,
            "seconds": 4.0,
        }
        for epoch in range(1, count + 1)
    ]


def training_rows(size: int) -> pl.DataFrame:
    rows = [
        {"row": i, "fact_id": f"f{i:03d}", "role": "unknown", "question": f"What is {i}?", "target": f"object {i}"} for i in range(size)
    ]
    return frame_of(rows, schema.TRAINING_ROWS)


def majority() -> pl.DataFrame:
    rows = [
        {
            "relation": relation,
            "object": f"most common {place}",
            "facts": 40,
            "object_facts": 8 * place,
            "dominance": 0.2 * place,
            "right_facts": 9 * place,
            "right_rate": 0.225 * place,
            "given": 100 * place,
            "answers": 400,
            "given_rate": 0.25 * place,
            "given_standard_error": 0.02,
            "highly_known": 10,
            "highly_known_constant": 3 * place,
        }
        for place, relation in enumerate(sorted(RELATIONS)[:3])
    ]
    return frame_of(rows, schema.MAJORITY)


def disagreement() -> pl.DataFrame:
    differ = {"strict": {"exact": (70, 0), "released": (4, 19)}, "exact": {"released": (1, 85)}}
    rows = [
        {"first": first, "second": second, "shot_set": None, "first_only": one, "second_only": two, "n": 6000}
        | {"rate": (one + two) / 6000, "standard_error": 0.002}
        for first, others in differ.items()
        for second, (one, two) in others.items()
    ]
    return frame_of(rows, schema.DISAGREEMENT)


def study(reliability: float = 0.975, harm: float = 0.06) -> ReportTables:
    """Six trials over three mixes, the last of which diverged; the base on three shot sets."""
    base = [
        categories(10 + s, "base-rev", f"S{s}", matcher, 0.02 * m)
        for m, matcher in enumerate(("exact", "strict", "released"))
        for s in range(3)
    ]
    strict = {frame["shot_set"][0]: frame for frame in base if frame["matcher"][0] == "strict"}
    s1, s2 = strict["S1"], strict["S2"]
    trials, epochs, shifts, scores, benchmarks, rows = [], [], [noise_table(s1, s2)], [], [], {}
    scores += scores_of("base", None, 1, 0.031, 640)
    benchmarks += benchmarks_of("base", 0.0)
    for number, (arm, size) in enumerate((arm, size) for arm in ARMS for size in (10, 40)):
        diverged = number == 5
        trials.append(trial(number, size, arm, *(("diverged", CAUSE, None) if diverged else ("completed", None, reliability))))
        trial_id = trials[-1]["trial_id"]
        epochs += epochs_of(trial_id, 2 if diverged else 7, 0.0 if diverged else 1.0 - 0.03 * number)
        rows[trial_id] = training_rows(size)
        if diverged:
            continue
        lift = np.full(FACTS, -harm * (1 + size / 40) * (0.4 if arm[0] else 1.0))
        lift[:size] = 0.9
        after = categories(30 + number, "ad", "S1", "strict", 0.02 + lift)
        shifts.append(shift_table(trial_id, s1, after, {f"f{i:03d}" for i in range(size)}, (s1, s2)))
        scores += scores_of(trial_id, reliability - 0.01 * number, size, 0.002 * number, 600 - 40 * number)
        benchmarks += benchmarks_of(trial_id, -0.02 * number)
    return ReportTables(
        facts=facts(),
        base_categories=pl.concat(base),
        trials=frame_of(trials, schema.TRIALS),
        epochs=frame_of(epochs, schema.EPOCHS),
        shifts=pl.concat(shifts),
        scores=frame_of(scores, schema.SCORES),
        benchmarks=frame_of(benchmarks, schema.BENCHMARKS),
        majority=majority(),
        disagreement=disagreement(),
        training_rows=rows,
    )


def context() -> ReportContext:
    config = {
        "name": "quick",
        "seed": 0,
        "model": {"name": "smollm2-135m-instruct", "revision": None, "dtype": "bfloat16"},
        "categorise": {"matcher": "strict", "stop_at_newline": True},
        "search": {"unknown": [10, 40], "arms": [{"highly_known": 1, "paraphrases": 0}], "learning_rate": [0.005]},
    }
    return ReportContext(
        study="quick",
        config=config,
        model_name="smollm2-135m-instruct",
        model_revision="0f1e2d3c",
        versions={"torch": "2.13.0", "ray": "2.60.0"},
        hardware="2 CPU cores, 8 GB",
        wall_seconds={"categorise": 241.0, "search": 402.3, "evaluate": 3.25},
        created="2026-07-01T12:00:00Z",
        kp_version="0.1.0",
    )
