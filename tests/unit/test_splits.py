from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.errors import UserError
from kp.metrics.splits import split_facts
from kp.training.mixtures import draw_rows
from kp.vocabulary import Category
from tests.made_up_study import drawing_spec

SIZES = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(1, 12), min_size=1, max_size=6)
SHARES = st.integers(1, 99).map(lambda hundredths: hundredths / 100)


def facts_of(sizes: dict[str, int]) -> pl.DataFrame:
    return pl.DataFrame(
        [{"fact_id": f"{relation}{index}", "relation": relation} for relation, size in sizes.items() for index in range(size)]
    )


def dev_counts(facts: pl.DataFrame, split: pl.DataFrame) -> Counter[str]:
    return Counter(facts.join(split, on="fact_id").filter(split="dev")["relation"])


@settings(deadline=None)
@given(sizes=SIZES, share=SHARES, seed=st.integers())
def test_split_facts_every_relation_gives_its_share_and_the_total_fits(sizes: dict[str, int], share: float, seed: int) -> None:
    facts = facts_of(sizes)
    if not 0 < int(round(share * 100) * facts.height / 100 + 0.5) < facts.height:
        with pytest.raises(UserError, match=r"evaluate\.dev_share: "):
            split_facts(facts, share, seed)
        return
    split = split_facts(facts, share, seed)
    assert split["fact_id"].to_list() == facts["fact_id"].to_list()
    assert set(split["split"]) == {"dev", "test"}
    dev = dev_counts(facts, split)
    assert abs(dev.total() - share * facts.height) <= 0.5 + 1e-9
    assert all(abs(dev[relation] - share * size) < 1 for relation, size in sizes.items())


def test_split_facts_share_that_divides_every_relation_is_met_exactly() -> None:
    facts = facts_of({"capital": 10, "director": 20, "symbol": 30})
    assert dev_counts(facts, split_facts(facts, 0.3, 0)) == {"capital": 3, "director": 6, "symbol": 9}


def test_split_facts_largest_remainders_are_rounded_up() -> None:
    facts = facts_of({"capital": 3, "director": 5, "symbol": 8})  # a quarter: 0.75, 1.25, 2, of which the total is 4
    assert dev_counts(facts, split_facts(facts, 0.25, 0)) == {"capital": 1, "director": 1, "symbol": 2}


def test_split_facts_does_not_depend_on_the_order_of_the_table() -> None:
    facts = facts_of({"capital": 9, "director": 7, "symbol": 5})
    shuffled = facts.sample(fraction=1, shuffle=True, seed=3)
    assert split_facts(shuffled, 0.4, 1).sort("fact_id").equals(split_facts(facts, 0.4, 1).sort("fact_id"))


def test_split_facts_larger_share_holds_the_smaller_where_shares_are_whole() -> None:
    facts = facts_of({"capital": 10, "director": 10})
    small, large = (set(split_facts(facts, share, 5).filter(split="dev")["fact_id"]) for share in (0.2, 0.5))
    assert small < large


def test_split_facts_another_seed_splits_otherwise() -> None:
    facts = facts_of({"capital": 12})
    assert len({tuple(split_facts(facts, 0.5, seed)["split"]) for seed in range(6)}) > 3


def test_split_facts_known_seed_gives_the_facts_it_always_gave() -> None:
    split = split_facts(facts_of({"capital": 6, "symbol": 4}), 0.4, 0)
    assert split.filter(split="dev")["fact_id"].to_list() == ["capital2", "capital5", "symbol0", "symbol1"]


def test_split_facts_has_no_part_in_what_a_trial_of_the_same_seed_draws_first() -> None:
    facts = facts_of({"capital": 200}).with_columns(pl.col("fact_id").alias("question"), pl.lit(["gold"]).alias("answers"))
    facts = facts.with_columns(pl.lit([], dtype=pl.List(pl.String)).alias("paraphrases"))
    categories = facts.select("fact_id", pl.lit(Category.UNKNOWN.value).alias("category"))
    mixture = drawing_spec(100, seed=7)
    drawn = draw_rows(mixture, facts, categories, pl.DataFrame())["fact_id"]
    dev = split_facts(facts, 0.5, seed=7).filter(split="dev")["fact_id"]
    assert 30 < dev.is_in(drawn.implode()).sum() < 70  # all 100, were it the same order


@pytest.mark.parametrize(("share", "half"), [(0.1, "dev"), (0.9, "test")])
def test_split_facts_too_few_for_two_halves_raises_naming_the_field(share: float, half: str) -> None:
    with pytest.raises(UserError, match=rf"evaluate\.dev_share: {share} of 4 facts leaves none for {half}"):
        split_facts(facts_of({"capital": 4}), share, 0)
