"""Why facts moved: the published arithmetic, hand-made reasons, and what an adapter without any shows."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from kp.errors import UserError
from kp.metrics.exploded import exploded_answers, rank_sum_p
from kp.metrics.reason_chance import Domains, Targets
from kp.metrics.reasons import reasons
from kp.metrics.result_schema import REASONS
from tests.made_up_answers import Said, compared_of, facts_of, published


def figures(table: pl.DataFrame, variant: str, direction: str) -> dict[str, tuple[float, int]]:
    found = table.filter(variant=variant, direction=direction)
    return {reason: (count, n) for reason, count, n in found.select("reason", "count", "n").iter_rows()}


def test_reasons_as_released_give_the_published_counts() -> None:
    table = reasons(published())
    assert table.to_arrow().cast(REASONS).schema == REASONS
    assert figures(table, "released", "UK->HK") == {
        "non_refusal": (9, 45),
        "explosion": (0, 45),
        "target": (3, 45),
        "domain": (4, 45),
        "explained": (13, 45),
    }
    assert figures(table, "released", "HK->UK") == {"explosion": (1, 153), "target": (0, 153), "domain": (3, 153), "explained": (4, 153)}
    shares = dict(table.filter(variant="released", reason="explained").select("direction", "share").iter_rows())
    assert {name: round(share, 2) for name, share in shares.items()} == {"UK->HK": 0.29, "HK->UK": 0.03}
    lower, upper = table.filter(variant="released", reason="explained", direction="UK->HK").select("lower", "upper").row(0)
    assert (lower, upper) == (pytest.approx(0.177, abs=1e-3), pytest.approx(0.434, abs=1e-3))


def test_reasons_of_an_adapter_that_changes_no_answer_are_none() -> None:
    same = published()
    base = dict(same.base.filter(shot_set="S1").select("fact_id", pl.col("answer").str.strip_prefix("Answer: ")).iter_rows())
    table = reasons(compared_of(same.facts, base, base, trained=["u0000"], prompts=1))
    assert table.height == 2 * (5 + 4)
    assert set(table["n"]) == {0}
    assert set(table["count"]) == {0.0}
    assert table["share"].null_count() == table["p_value"].null_count() == table.height


def small(adapter: Said, domains: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Eight facts of one relation; the base refuses the first two and knows the last two; the first is trained."""
    objects = {f"a{number}": f"object {number}" for number in range(8)} | {"a5": "object 0"}
    base = {
        **dict.fromkeys(("a0", "a1"), "no information"),
        **dict.fromkeys(("a2", "a3", "a4", "a5"), "x"),
        "a6": "object 6",
        "a7": "object 7",
    }
    return reasons(compared_of(facts_of(objects, domains), base, {**base, **adapter}, trained=["a0"]))


def test_rigorous_reasons_leave_trained_facts_out_and_count_all_prompts() -> None:
    table = small({"a0": "object 0", "a1": "object 1", "a5": "object 0", "a6": "Object 0."})
    assert figures(table, "released", "UK->HK")["non_refusal"] == (2, 3)
    rises, falls = (figures(table, "rigorous", direction) for direction in ("UK->HK", "HK->UK"))
    assert rises == {"non_refusal": (1, 2), "explosion": (0, 2), "target": (1, 2), "domain": (0, 2), "explained": (2, 2)}
    assert falls == {"explosion": (0, 1), "target": (1, 1), "domain": (0, 1), "explained": (1, 1)}


def test_rigorous_baselines_are_what_facts_that_could_have_moved_show() -> None:
    domains = {"a0": "place", "a1": "place", "a2": "place", "a3": "work", "a4": "work", "a5": "place", "a6": "work", "a7": "place"}
    table = small({"a1": "object 1", "a3": "object 3"}, domains).filter(variant="rigorous", direction="UK->HK")
    shown = {reason: (share, baseline) for reason, share, baseline in table.select("reason", "share", "baseline").iter_rows()}
    assert shown["domain"] == (0.5, pytest.approx(3 / 5))  # a1, a2 and a5 of the five Unknown ones that were not trained on
    assert shown["non_refusal"] == (0.5, pytest.approx(1 / 5))


def test_reasons_of_prompts_that_the_base_was_not_asked_raise() -> None:
    whole = published()
    broken = replace(whole, base=whole.base.filter(pl.col("fact_id") != "u0001"))
    with pytest.raises(UserError, match="the base was not asked prompt 0 of S1 of fact 'u0001'"):
        reasons(broken)


def test_rank_sum_p_is_the_share_of_all_choices_with_as_large_a_rank_sum() -> None:
    assert rank_sum_p([5, 6, 7], [1, 2, 3]) == pytest.approx(1 / 20)
    assert rank_sum_p([1, 2, 3], [5, 6, 7]) == pytest.approx(1.0)
    assert rank_sum_p([2, 2], [2, 2]) == pytest.approx(1.0)
    assert rank_sum_p([3, 1], [1, 0]) == pytest.approx(2 / 6)  # ranks 4 and 2.5; only 4 with either 2.5 is as large


def spoken(random: np.random.Generator, facts: int, lift: Mapping[str, float], moody: float) -> pl.DataFrame:
    """Answers under ten prompts: every fact has its usual answer among 12, which prompts follow more or less."""
    usual = np.random.default_rng(1).integers(0, 12, size=facts)
    tables = []
    for prompt in range(10):
        mood = random.dirichlet(np.ones(12) / moody)
        said = np.where(random.random(facts) < 0.6, usual, random.choice(12, size=facts, p=mood)).astype(str)
        for text, share in lift.items():
            said = np.where(random.random(facts) < share, text, said)
        tables.append(pl.DataFrame({"fact_id": range(facts), "shot_set": "S", "prompt_index": prompt, "text": said.astype(str)}))
    return pl.concat(tables)


def test_exploded_answers_of_prompts_that_are_more_draws_of_the_bases_are_rarely_any() -> None:
    random = np.random.default_rng(5)
    found = [bool(exploded_answers(spoken(random, 60, {}, 2.0), spoken(random, 60, {}, 2.0))) for _ in range(200)]
    assert np.mean(found) <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5


def test_exploded_answers_of_facts_that_are_answered_anew_are_rarely_any() -> None:
    random = np.random.default_rng(8)

    def consistent() -> pl.DataFrame:
        """Every fact has one answer, drawn anew, under all prompts."""
        said = random.integers(0, 6, size=60).astype(str)
        return pl.concat(
            [pl.DataFrame({"fact_id": range(60), "shot_set": "S", "prompt_index": prompt, "text": said}) for prompt in range(10)]
        )

    found = [bool(exploded_answers(consistent(), consistent())) for _ in range(200)]
    assert np.mean(found) <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5


def test_exploded_answers_are_those_that_the_adapter_gives_far_more_often() -> None:
    random = np.random.default_rng(6)
    found = exploded_answers(spoken(random, 200, {"boom": 0.3}, 0.5), spoken(random, 200, {}, 0.5))
    assert found == {"boom"}
    assert exploded_answers(spoken(random, 200, {}, 0.5), spoken(random, 200, {"boom": 0.3}, 0.5)) == frozenset()


def test_domain_p_values_of_domains_that_were_trained_at_random_are_uniform() -> None:
    random = np.random.default_rng(2)
    names = [f"d{number}" for number in range(14)]
    at_risk = [name for name in names for _ in range(int(random.integers(5, 30)))]
    p_values = []
    for _ in range(200):
        rates = dict(zip(names, random.beta(0.5, 2, size=14), strict=True))  # facts of a domain move together
        moved = [name for name in at_risk if random.random() < rates[name]]
        trained = frozenset(random.choice(names, size=5, replace=False).tolist())
        p_value = Domains(trained, at_risk, moved).p_value(draws=99, seed=int(random.integers(1 << 30)))
        assert p_value is not None
        p_values.append(p_value)
    below = [np.mean(np.array(p_values) <= level) for level in (0.1, 0.25, 0.5, 0.75)]
    assert below == pytest.approx([0.1, 0.25, 0.5, 0.75], abs=0.11)


def test_domain_p_value_is_none_where_every_domain_is_trained_or_none() -> None:
    assert Domains(frozenset({"a", "b"}), ["a", "b"], ["a"]).p_value() is None
    assert Domains(frozenset(), ["a", None], ["a"]).p_value() is None
    assert Domains(frozenset({"a"}), ["a"] * 5 + ["b"] * 5 + ["c"] * 10, ["a"] * 5).p_value() == pytest.approx(1 / 3, abs=0.05)


def test_target_p_values_of_facts_that_were_trained_at_random_are_uniform() -> None:
    random = np.random.default_rng(3)
    ids = [f"f{number:03d}" for number in range(60)]
    relations = [f"r{number % 3}" for number in range(60)]
    texts = [frozenset({f"object {number % 20}"}) for number in range(60)]
    p_values = []
    for _ in range(60):
        taught = random.choice(ids, size=6, replace=False).tolist()
        moved = [fact_id for fact_id in random.choice(ids, size=25, replace=False).tolist() if fact_id not in taught]
        said = [f"object {number}" for number in random.integers(0, 20, size=len(moved))]
        baseline, p_value = Targets(ids, relations, texts, taught).chance(moved, said)
        assert baseline is not None
        assert p_value is not None
        p_values.append(p_value)
    below = [np.mean(np.array(p_values) <= level) for level in (0.1, 0.25, 0.5, 0.75)]
    assert all(share <= level + 0.17 for share, level in zip(below, (0.1, 0.25, 0.5, 0.75), strict=True))
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.15)


def test_target_spillover_is_told_from_chance() -> None:
    ids, relations = [f"f{number:03d}" for number in range(40)], ["r"] * 40
    targets = Targets(ids, relations, [frozenset({f"object {number}"}) for number in range(40)], ids[:4])
    baseline, p_value = targets.chance(ids[10:20], [f"object {number % 4}" for number in range(10)])
    assert baseline is not None
    assert baseline < 0.2
    assert p_value == pytest.approx(0.001, abs=0.01)
    assert Targets(ids[:4], relations[:4], targets.texts[:4], ids[:4]).chance(ids[10:11], ["object 0"]) == (None, None)
