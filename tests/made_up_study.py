"""Made-up studies as the report is given them: frames of the right types, with failed and stopped trials among the others.

`study` is a small one over N and the mix, `search` one of 24 trials over rank, learning rate and mix, half of them stopped early.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pyarrow as pa

from kp import schema
from kp.config import search as config_search
from kp.config.layers import ALL_LAYERS
from kp.metrics import result_schema
from kp.metrics.benchmark_effects import benchmark_effects
from kp.metrics.effect_summary import reported_effects
from kp.metrics.shifts import outcome_shifts
from kp.report.answer import answer_text
from kp.report.summary import summary_table
from kp.report.tables import ReportContext, ReportTables
from kp.report.winners import Evidence, evidence
from kp.training.spec import TRIALS, TrialSpec
from kp.vocabulary import Draw, FactRole, Part, ReplayTarget
from tests.made_up_benchmarks import benchmark_items, benchmarks_of

FACTS = 200
ANSWERS = 10 * FACTS
REFUSED = 62  # answers of the base; an adapter refuses fewer
RELATIONS = ("capital_of", "director_of_film", "official_language", "element_symbol", "airport_city")
Arm = tuple[int, int, int]  # HighlyKnown, MaybeKnown, paraphrases per Unknown fact
ARMS: tuple[Arm, ...] = ((0, 0, 0), (1, 0, 0), (0, 0, 1))
SEARCH_ARMS: tuple[Arm, ...] = ((0, 0, 0), (0, 1, 0), (1, 0, 2))
RANKS = (1, 4, 16, 64)
LEARNING_RATES = (0.001, 0.003)
FIRST_CONTROL = 120  # from this fact on, all are control facts, dev and test in turn
STOPPED_BELOW = 0.76  # what a trial of `search` would learn, below which it is stopped
SEARCH_SIZE = 100  # Unknown facts of each trial of `search`
CAUSE = "loss is not finite at step 12 <nan>: lower learning_rate"


def drawing_spec(
    unknown: int,
    highly_known: int = 0,
    maybe_known: int = 0,
    paraphrases: int = 0,
    draw: Draw = Draw.STRATIFIED,
    replay_target: ReplayTarget = ReplayTarget.GOLD,
    seed: int = 0,
) -> TrialSpec:
    """A trial as far as it decides which facts it trains on."""
    arm = config_search.SearchArm(highly_known=highly_known, maybe_known=maybe_known, paraphrases=paraphrases)
    settings = config_search.TrialSettings(draw=draw, replay_target=replay_target)
    return TrialSpec(unknown, arm, 8, 1e-3, seed, ALL_LAYERS, settings, config_search.TrainingConfig(lora_alpha=16))


def apart(tables: Mapping[str, tuple[pa.Table, pa.Schema]]) -> tuple[dict[str, pa.Table], dict[str, pa.Schema]]:
    """Tables by their files, and schemas by their files, as Session.commit is given them."""
    return {name: table for name, (table, _) in tables.items()}, {name: table_schema for name, (_, table_schema) in tables.items()}


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


def trial(trial_id: str, size: int, arm: Arm, status: str = "completed", **columns: object) -> dict[str, object]:
    """A row of TRIALS; `columns` replace its own."""
    completed = status == "completed"
    training = config_search.TrainingConfig(lora_alpha=16, target_modules=("down_proj", "up_proj"))
    spec = replace(drawing_spec(size, *arm, replay_target=ReplayTarget.SELF), learning_rate=5e-3, training=training)
    row = {
        "trial_id": trial_id,
        **spec.columns(),
        "status": status,
        "epochs": 7 if completed else 2,
        "unknown_accuracy": 1.0 if completed else None,
        "train_loss": 0.12 if completed else float("nan"),
        "final_learning_rate": 1e-4,
        "exposures": (7 if completed else 2) * (1.0 + arm[2]),
        "tokens_per_second": 812.0,
        "wall_seconds": 40.0,
        "setup_seconds": 2.0,
        "training_seconds": 30.0,
        "eval_seconds": 6.0,
        "adapter_digest": "ab" * 16 if completed else None,
        "trainable_parameters": 1_244_160,
        "cause": "unknown_accuracy at 0.95 for 1 epoch" if completed else CAUSE,
        **columns,
    }
    return {**row, "steps": int(str(row["epochs"])) * spec.steps_per_epoch}


def score(trial_id: str, measure: str, value: float, n: int, error: float | None = None) -> dict[str, object]:
    return {"trial_id": trial_id, "measure": measure, "value": value, "n": n, "standard_error": error}


def scores_of(trial_id: str, reliability: float | None, size: int, refusals: float, unique: int) -> list[dict[str, object]]:
    rows = (
        []
        if reliability is None
        else [
            score(trial_id, measure, value, 10 * size, (value * (1 - value) / size) ** 0.5)
            for measure, value in (("reliability", reliability), ("reliability_s2", max(reliability - 0.02, 0.0)))
        ]
    )
    rows += [
        score(trial_id, "refusal_rate", refusals, 2000, (refusals * (1 - refusals) / FACTS) ** 0.5),
        score(trial_id, "cut_by_length", 0.004, 2000, 0.001),
        score(trial_id, "unique_answers", unique, 2000),
        score(trial_id, "mean_count", 2000 / unique, unique),
        score(trial_id, "std_count", 9.1, unique),
        score(trial_id, "variance_count", 82.8, unique),
        score(trial_id, "top_answer_share", 0.031, 2000),
        score(trial_id, "accuracy", 0.31, 2000, 0.027),
    ]
    return rows


def epochs_of(trial_id: str, count: int, final: float) -> list[dict[str, object]]:
    return [
        {
            "trial_id": trial_id,
            "epoch": epoch,
            "train_loss": 4.0 * 0.55**epoch if final else float("nan"),
            "unknown_accuracy": final * (1 - 0.45**epoch) if final else None,
            "replay_kl": None,
            "learning_rate": 5e-3,
            "final_learning_rate": 4e-3,
            "steps": 5,
            "rows": 40,
            "exposures": 1.0,
            "tokens": 900,
            "seconds": 4.0,
            "eval_seconds": 0.8,
        }
        for epoch in range(1, count + 1)
    ]


def training_rows(size: int) -> pl.DataFrame:
    rows = [
        {"row": i, "fact_id": f"f{i:03d}", "role": "unknown", "question": f"What is {i}?", "target": f"object {i}"} for i in range(size)
    ]
    return frame_of(rows, schema.TRAINING_ROWS)


def outcomes_of(trial_id: str, known: pl.DataFrame, trained: int, refused: int) -> pl.DataFrame:
    """OUTCOMES of CATEGORIES of one shot set: the first `trained` facts are trained on, the last `refused` are refused once."""
    control = [part["part"] for part in parts().tail(FACTS - FIRST_CONTROL).iter_rows(named=True)]
    roles = [FactRole.TRAINED.value] * trained + [FactRole.UNTOUCHED.value] * (FIRST_CONTROL - trained) + control
    counts = pl.Series([0] * (FACTS - refused) + [1] * refused, dtype=pl.Int32)
    named = known.with_columns(trial_id=pl.lit(trial_id), role=pl.Series(roles), refused=counts)
    return named.select(schema.OUTCOMES.names)


def parts() -> pl.DataFrame:
    """PARTS: the last facts are control facts."""
    halves = (Part.CONTROL_DEV.value, Part.CONTROL_TEST.value)
    rows = [{"fact_id": f"f{i:03d}", "part": halves[i % 2] if i >= FIRST_CONTROL else Part.POOL.value} for i in range(FACTS)]
    return frame_of(rows, schema.PARTS)


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
    return frame_of(rows, result_schema.MAJORITY)


def disagreement() -> pl.DataFrame:
    differ = {"strict": {"exact": (70, 0), "released": (4, 19)}, "exact": {"released": (1, 85)}}
    rows = [
        {"first": first, "second": second, "shot_set": None, "first_only": one, "second_only": two, "n": 6000}
        | {"rate": (one + two) / 6000, "standard_error": 0.002}
        for first, others in differ.items()
        for second, (one, two) in others.items()
    ]
    return frame_of(rows, result_schema.DISAGREEMENT)


@dataclass
class Outcome:
    """What a made-up study has measured so far."""

    base: list[pl.DataFrame] = field(default_factory=list)
    trials: list[dict[str, object]] = field(default_factory=list)
    epochs: list[dict[str, object]] = field(default_factory=list)
    scores: list[dict[str, object]] = field(default_factory=list)
    items: list[pl.DataFrame] = field(default_factory=list)
    rows: dict[str, pl.DataFrame] = field(default_factory=dict)
    outcomes: list[pl.DataFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.base = [
            categories(10 + s, "base-rev", f"S{s}", matcher, 0.02 * m)
            for m, matcher in enumerate(("exact", "strict", "released"))
            for s in range(3)
        ]
        strict = {frame["shot_set"][0]: frame for frame in self.base if frame["matcher"][0] == "strict"}
        self.outcomes += [outcomes_of("base", frame, 0, REFUSED) for frame in strict.values()]
        self.scores += scores_of("base", None, 1, REFUSED / ANSWERS, 640)
        self.items.append(benchmark_items("base", 0.0))

    def add(self, row: dict[str, object], final_accuracy: float) -> None:
        """A trial with its epochs and rows; not measured yet."""
        trial_id, size, epochs = str(row["trial_id"]), int(str(row["unknown"])), int(str(row["epochs"]))
        self.trials.append(row)
        self.epochs += epochs_of(trial_id, epochs, final_accuracy)
        self.rows[trial_id] = training_rows(size)

    def measure(self, number: int, reliability: float, harm: float, slump: float) -> None:
        """Measure the last trial added: `harm` lowers what is known of facts it was not taught, `slump` counts down what else is asked."""
        trial_id, size = str(self.trials[-1]["trial_id"]), int(str(self.trials[-1]["unknown"]))
        lift = np.full(FACTS, -harm)
        lift[:size] = 0.9
        after = categories(30 + number, "ad", "S1", "strict", 0.02 + lift)
        again = categories(130 + number, "ad", "S2", "strict", 0.02 + lift)
        refused = round(4 * slump)
        self.outcomes += [outcomes_of(trial_id, frame, size, refused) for frame in (after, again)]
        self.scores += scores_of(trial_id, reliability, size, refused / ANSWERS, round(600 - 40 * slump))
        self.items.append(benchmark_items(trial_id, -0.02 * slump))

    def tables(self) -> ReportTables:
        return ReportTables(
            facts=facts(),
            base_categories=pl.concat(self.base),
            trials=frame_of(self.trials, TRIALS),
            epochs=frame_of(self.epochs, schema.EPOCHS),
            outcomes=pl.concat(self.outcomes),
            effects=reported_effects(pl.concat(self.outcomes), facts(), 0.02),
            shifts=outcome_shifts(pl.concat(self.outcomes)),
            scores=frame_of(self.scores, result_schema.SCORES),
            benchmarks=benchmarks_of(pl.concat(self.items)),
            benchmark_items=pl.concat(self.items),
            benchmark_effects=benchmark_effects(pl.concat(self.items), 0.02),
            majority=majority(),
            disagreement=disagreement(),
            training_rows=self.rows,
            parts=parts(),
        )


def study(reliability: float = 0.975, harm: float = 0.06) -> ReportTables:
    """Six trials over three mixes, the last of which diverged; the base on three shot sets."""
    outcome = Outcome()
    for number, (arm, size) in enumerate((arm, size) for arm in ARMS for size in (10, 40)):
        trial_id = f"t{number:02d}-{size}"
        if number == 5:
            outcome.add(trial(trial_id, size, arm, "diverged"), 0.0)
            continue
        outcome.add(trial(trial_id, size, arm, unknown_accuracy=reliability), 1.0 - 0.03 * number)
        outcome.measure(number, reliability - 0.01 * number, harm * (1 + size / 40) * (0.4 if arm[0] else 1.0), number)
    return outcome.tables()


def search() -> ReportTables:
    """24 trials at one N over rank, learning rate and mix: some stopped early, one diverged, one out of memory before its first epoch."""
    outcome = Outcome()
    for number, (arm, rank, rate) in enumerate(itertools.product(SEARCH_ARMS, RANKS, LEARNING_RATES)):
        trial_id, learned = f"s{number:02d}", 0.45 + 0.13 * RANKS.index(rank) + 0.15 * (rate == max(LEARNING_RATES)) + 0.06 * arm[2]
        knobs: dict[str, object] = {"rank": rank, "learning_rate": rate, "lora_alpha": 2.0 * rank, "lora_scale": 2.0}
        knobs["kl_coefficient"] = 0.1 if arm[0] or arm[1] else 0.0
        if number == 7:
            outcome.add(trial(trial_id, SEARCH_SIZE, arm, "diverged", **knobs), 0.0)
        elif number == 14:
            nothing: dict[str, object] = {
                "epochs": 0,
                "cause": "out of memory",
                "setup_seconds": None,
                "training_seconds": None,
                "eval_seconds": None,
            }
            outcome.add(trial(trial_id, SEARCH_SIZE, arm, "oom", **(knobs | nothing)), 0.0)
        elif learned < STOPPED_BELOW:
            ended: dict[str, object] = {
                "epochs": 3,
                "unknown_accuracy": learned * 0.7,
                "cause": "asha: below the best quarter",
                "adapter_digest": "cd" * 16,
            }
            outcome.add(trial(trial_id, SEARCH_SIZE, arm, "stopped", **(knobs | ended)), learned * 0.77)
            outcome.measure(number, learned * 0.65, 0.02, 0.5)
        else:
            final = min(learned, 0.99)
            ended = {"epochs": 10, "unknown_accuracy": final, "cause": "ran its 10 epochs, 130 steps"}
            outcome.add(trial(trial_id, SEARCH_SIZE, arm, "completed", **(knobs | ended)), final)
            outcome.measure(number, final - 0.01, 0.08 * (0.4 if arm[0] else 1.0) * (1 + rate * 100), 2 + number / 12)
    return outcome.tables()


def without_controls(tables: ReportTables) -> ReportTables:
    """The study as if no facts had been kept out of training."""
    control = pl.col("role").is_in([FactRole.CONTROL_DEV.value, FactRole.CONTROL_TEST.value])
    outcomes = tables.outcomes.with_columns(pl.when(control).then(pl.lit(FactRole.UNTOUCHED.value)).otherwise("role").alias("role"))
    effects = reported_effects(outcomes, tables.facts, 0.02)
    return replace(tables, outcomes=outcomes, effects=effects, shifts=outcome_shifts(outcomes), parts=None)


def told(tables: ReportTables) -> str:
    """The opening paragraph at the usual margin."""
    return answer_text(tables, 0.02)


def context() -> ReportContext:
    config = {
        "name": "quick",
        "seed": 0,
        "model": {"name": "smollm2-135m-instruct", "revision": None, "dtype": "bfloat16"},
        "categorise": {"matcher": "strict", "stop_at_newline": True},
        "report": {"margin": 0.02},
        "search": {"unknown": [10, 40], "arms": [{"highly_known": 1, "maybe_known": 0, "paraphrases": 0}], "learning_rate": [0.005]},
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


def found_in(tables: ReportTables) -> Evidence:
    """The evidence for winners in these tables."""
    return evidence(tables, summary_table(tables))
