"""Differences of benchmark scores over the same questions, and what they show where nothing happened."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.errors import UserError
from kp.metrics import result_schema
from kp.metrics.benchmark_effects import benchmark_effects
from kp.metrics.intervals import estimate_difference
from kp.metrics.paired_tests import holm, mcnemar_p
from kp.vocabulary import BASE

SIMULATIONS, SUBJECTS, PER_SUBJECT = 1200, 40, 4


def items_of(
    scores: Mapping[str, Sequence[float]], groups: Sequence[str] | None = None, task: str = "quiz", metric: str = "acc"
) -> pl.DataFrame:
    """BENCHMARK_ITEMS of models by trial_id, items numbered from 0."""
    return pl.concat(
        pl.DataFrame(
            {
                "trial_id": trial_id,
                "task": task,
                "metric": metric,
                "item": range(len(of_model)),
                "group": groups or [str(item) for item in range(len(of_model))],
                "score": np.asarray(of_model, dtype=np.float64),
            }
        )
        for trial_id, of_model in scores.items()
    )


def only(effects: pl.DataFrame) -> dict[str, object]:
    (row,) = effects.iter_rows(named=True)
    return row


def test_benchmark_effects_difference_is_paired_and_clustered_by_group() -> None:
    base, adapter = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0] * 10, [1.0, 0.0, 0.0, 1.0, 0.0, 1.0] * 10
    groups = [str(item // 2) for item in range(60)]
    effects = benchmark_effects(items_of({BASE: base, "t": adapter}, groups))
    assert effects.to_arrow().cast(result_schema.BENCHMARK_EFFECTS).schema == result_schema.BENCHMARK_EFFECTS
    row = only(effects)
    expected = estimate_difference(adapter, base, groups)
    assert (row["value"], row["base"], row["adapter"]) == pytest.approx((-1 / 6, 2 / 3, 1 / 2))
    assert (row["n"], row["clusters"], row["standard_error"]) == (60, 30, pytest.approx(expected.standard_error))
    assert (row["lower"], row["upper"]) == expected.limits()
    assert row["resolvable"] == pytest.approx(expected.negated().resolvable())
    assert (row["p_value"], row["verdict"]) == (mcnemar_p(20, 10), "not_resolved")


def test_benchmark_effects_standard_error_is_far_below_that_of_independent_samples() -> None:
    base = [1.0] * 100 + [0.0] * 100
    row = only(benchmark_effects(items_of({BASE: base, "t": [0.0] * 12 + base[12:]})))
    independent = (0.5 * 0.5 / 200 + 0.44 * 0.56 / 200) ** 0.5
    assert row["standard_error"] == pytest.approx((0.06 * 0.94 / 199) ** 0.5)
    assert isinstance(row["standard_error"], float)
    assert row["standard_error"] < 0.4 * independent
    assert row["verdict"] == "harm_shown"  # two independent samples would not show it


def test_benchmark_effects_holm_is_over_the_trials_of_one_score() -> None:
    base = [1.0] * 50 + [0.0] * 50
    losses = {f"t{lost}": [0.0] * lost + base[lost:] for lost in (0, 6, 12)}
    models = {BASE: base, **losses}
    effects = benchmark_effects(pl.concat([items_of(models, task="test"), items_of(models, task="quiz")]))
    keys = [(task, trial_id) for task in ("quiz", "test") for trial_id in ("t0", "t12", "t6")]
    assert effects.select("task", "trial_id").rows() == keys
    for task in ("quiz", "test"):
        of_task = effects.filter(task=task)
        assert of_task["p_holm"].to_list() == holm(of_task["p_value"].to_list()) != of_task["p_value"].to_list()


def test_benchmark_effects_among_more_trials_a_harm_must_be_larger_to_be_resolved() -> None:
    base = [1.0] * 50 + [0.0] * 50
    lost = [0.0] * 7 + base[7:]
    alone = only(benchmark_effects(items_of({BASE: base, "t": lost})))
    among = only(
        benchmark_effects(items_of({BASE: base, "t": lost} | {f"other {number}": base for number in range(9)})).filter(trial_id="t")
    )
    assert (alone["value"], alone["lower"], alone["upper"]) == (among["value"], among["lower"], among["upper"])
    assert (alone["verdict"], among["verdict"]) == ("harm_shown", "not_resolved")
    assert isinstance(alone["resolvable"], float)
    assert isinstance(among["resolvable"], float)
    assert among["resolvable"] > alone["resolvable"]


def test_benchmark_effects_of_a_score_between_0_and_1_has_no_p_value() -> None:
    row = only(benchmark_effects(items_of({BASE: [0.25, 0.5, 1.0], "t": [0.0, 0.5, 1.0]}, metric="mc2")))
    assert (row["value"], row["p_value"], row["p_holm"]) == (pytest.approx(-0.25 / 3), None, None)


def test_benchmark_effects_margin_decides_between_no_harm_beyond_it_and_not_resolved() -> None:
    items = items_of({BASE: [1.0, 0.0] * 100, "t": [1.0, 0.0] * 100})
    assert only(benchmark_effects(items, 0.02))["verdict"] == "within_margin"
    assert only(benchmark_effects(items, 0.01))["verdict"] == "not_resolved"


def test_benchmark_effects_of_the_base_alone_and_of_nothing_are_empty() -> None:
    assert benchmark_effects(items_of({BASE: [1.0, 0.0]})).is_empty()
    assert benchmark_effects(items_of({BASE: [1.0]}).clear()).columns == result_schema.BENCHMARK_EFFECTS.names


BOTH = items_of({BASE: [1.0, 0.0, 1.0], "t": [1.0, 1.0, 0.0]})
OF_T = pl.col("trial_id") == "t"


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        (BOTH.filter(~(OF_T & (pl.col("item") == 2))), "item 2 of quiz acc, trial 't', has none, and the base has one"),
        (BOTH.filter(OF_T | (pl.col("item") != 1)), "item 1 of quiz acc, trial 't', has no score of the base"),
        (BOTH.filter(OF_T), "item 0 of quiz acc, trial 't', has no score of the base"),
        (pl.concat([BOTH, BOTH.tail(1)]), "item 2 of quiz acc, trial 't', has more than one score"),
        (BOTH.with_columns(score=pl.lit(float("nan"))), "item 0 of quiz acc, trial 'base', has a score that is not from 0 to 1"),
        (
            pl.concat([BOTH, items_of({BASE: [1.0]}, task="test")]),
            "item 0 of test acc, trial 't', has none, and the base has one",
        ),
    ],
)
def test_benchmark_effects_of_other_items_than_the_bases_are_refused_by_name(items: pl.DataFrame, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        benchmark_effects(items)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcd")), min_size=1, max_size=40), st.integers(1, 4))
def test_benchmark_effects_of_the_bases_own_scores_are_exactly_0_and_no_harm(items: list[tuple[float, str]], trials: int) -> None:
    scores, groups = zip(*items, strict=True)
    effects = benchmark_effects(items_of({BASE: scores} | {f"t{number}": scores for number in range(trials)}, groups))
    assert set(effects["value"]) == {0.0}
    assert set(effects["verdict"]) <= {"within_margin", "not_resolved"}


def test_benchmark_effects_of_an_adapter_that_answers_as_well_as_the_base_exceed_two_errors_in_one_of_twenty() -> None:
    random = np.random.default_rng(0)
    easy = random.beta(2, 2, (SIMULATIONS, SUBJECTS, 1)).repeat(PER_SUBJECT, axis=2)
    # A subject that got easier for one of the two, by chance, did so for all its questions.
    chances = [np.clip(easy + 0.15 * random.standard_normal((SIMULATIONS, SUBJECTS, 1)), 0, 1) for _ in range(2)]
    base, adapter = ((random.random(easy.shape) < chance).astype(float).reshape(SIMULATIONS, -1) for chance in chances)
    groups = [str(subject) for subject in np.repeat(np.arange(SUBJECTS), PER_SUBJECT)]
    tables = (items_of({BASE: base[one], "t": adapter[one]}, groups, task=f"quiz {one:04d}") for one in range(SIMULATIONS))
    effects = benchmark_effects(pl.concat(tables))
    beyond = ((effects["value"] / effects["standard_error"]).abs() > 2).mean()
    shown = (effects["verdict"] == "harm_shown").mean()
    assert isinstance(beyond, float)
    assert isinstance(shown, float)
    print(f"\n|z| > 2 in {beyond:.2%}, harm shown in {shown:.2%}")
    assert len(effects) == SIMULATIONS
    assert 0.02 <= beyond <= 0.08
    assert shown <= 0.04
