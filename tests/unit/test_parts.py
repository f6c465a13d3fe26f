"""Which facts are kept out of training, and what that can resolve."""

from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.errors import UserError
from kp.metrics.intervals import estimate_mean
from kp.metrics.parts import ControlShares, control_counts, draw_parts, resolvable_change
from kp.schema import PARTS
from kp.training.mixtures import draw_rows
from kp.vocabulary import Category, Matcher, Part
from tests.made_up_study import drawing_spec

SIZES = st.dictionaries(
    st.tuples(st.text("abcdef", min_size=1, max_size=3), st.sampled_from(Category)), st.integers(1, 12), min_size=1, max_size=8
)
SHARES = st.integers(0, 99).map(lambda hundredths: hundredths / 100)
Sizes = dict[tuple[str, Category], int]


def facts_of(sizes: Sizes) -> tuple[pl.DataFrame, pl.DataFrame]:
    """FACTS and categories on S0, as far as a draw needs them."""
    rows = [(f"{relation} {kind} {index}", relation, kind.value) for (relation, kind), size in sizes.items() for index in range(size)]
    table = pl.DataFrame(rows, schema=["fact_id", "relation", "category"], orient="row")
    return table.select("fact_id", "relation"), table.select("fact_id", "category")


def control(sizes: Sizes, shares: ControlShares, seed: int = 0) -> Counter[tuple[str, str]]:
    """Control facts by relation and category."""
    facts, categories = facts_of(sizes)
    kept = draw_parts(facts, categories, shares, seed).filter(pl.col("part") != "pool")
    return Counter(kept.join(facts, on="fact_id").join(categories, on="fact_id").select("relation", "category").iter_rows())


@settings(deadline=None)
@given(sizes=SIZES, known=SHARES, unknown=SHARES, seed=st.integers())
def test_draw_parts_every_relation_and_category_gives_its_share(sizes: Sizes, known: float, unknown: float, seed: int) -> None:
    facts, categories = facts_of(sizes)
    shares = ControlShares(known, unknown)
    parts = draw_parts(facts, categories, shares, seed)
    assert parts.to_arrow().cast(PARTS).schema == PARTS
    assert parts["fact_id"].to_list() == facts["fact_id"].to_list()
    found = control(sizes, shares, seed)
    for kind in Category:
        of_kind = {relation: size for (relation, category), size in sizes.items() if category is kind}
        total = sum(found[relation, kind.value] for relation in of_kind)
        assert abs(total - shares.of(kind) * sum(of_kind.values())) <= 0.5 + 1e-9
        assert all(abs(found[relation, kind.value] - shares.of(kind) * size) < 1 for relation, size in of_kind.items())


@settings(deadline=None)
@given(sizes=SIZES, share=SHARES, seed=st.integers())
def test_draw_parts_halves_are_alike_in_every_relation_and_category(sizes: Sizes, share: float, seed: int) -> None:
    facts, categories = facts_of(sizes)
    parts = draw_parts(facts, categories, ControlShares(share, share), seed).join(facts, on="fact_id").join(categories, on="fact_id")
    for _, group in parts.group_by("relation", "category"):
        halves = Counter(group["part"])
        assert abs(halves[Part.CONTROL_DEV] - halves[Part.CONTROL_TEST]) <= 1


def test_draw_parts_shares_differ_between_known_and_unknown_facts() -> None:
    sizes = {("capital", kind): 20 for kind in Category}
    assert control(sizes, ControlShares(0.5, 0.1)) == {
        ("capital", "HighlyKnown"): 10,
        ("capital", "MaybeKnown"): 10,
        ("capital", "WeaklyKnown"): 10,
        ("capital", "Unknown"): 2,
    }


def test_draw_parts_does_not_depend_on_the_order_of_the_table() -> None:
    facts, categories = facts_of({("capital", Category.UNKNOWN): 9, ("director", Category.HIGHLY_KNOWN): 7})
    shuffled = facts.sample(fraction=1, shuffle=True, seed=3)
    one, other = (draw_parts(table, categories, ControlShares(0.4, 0.4), 1).sort("fact_id") for table in (facts, shuffled))
    assert one.equals(other)


def test_draw_parts_larger_share_holds_the_smaller_where_shares_are_whole() -> None:
    facts, categories = facts_of({("capital", Category.HIGHLY_KNOWN): 10, ("director", Category.HIGHLY_KNOWN): 10})
    small, large = (
        set(draw_parts(facts, categories, ControlShares(share, 0), 5).filter(pl.col("part") != "pool")["fact_id"]) for share in (0.2, 0.5)
    )
    assert small < large


def test_draw_parts_another_seed_draws_others() -> None:
    facts, categories = facts_of({("capital", Category.HIGHLY_KNOWN): 12})
    assert len({tuple(draw_parts(facts, categories, ControlShares(0.5, 0), seed)["part"]) for seed in range(6)}) > 3


def test_draw_parts_known_seed_gives_the_facts_it_always_gave() -> None:
    facts, categories = facts_of({("capital", Category.HIGHLY_KNOWN): 6})
    parts = draw_parts(facts, categories, ControlShares(0.5, 0), 0).filter(pl.col("part") != "pool")
    assert parts.rows() == KNOWN_DRAW


KNOWN_DRAW = [
    ("capital HighlyKnown 1", "control_test"),
    ("capital HighlyKnown 3", "control_dev"),
    ("capital HighlyKnown 4", "control_test"),
]


def test_draw_parts_has_no_part_in_what_a_trial_of_the_same_seed_draws_first() -> None:
    facts, categories = facts_of({("capital", Category.UNKNOWN): 200})
    facts = facts.with_columns(
        pl.col("fact_id").alias("question"), pl.lit(["gold"]).alias("answers"), pl.lit([], dtype=pl.List(pl.String)).alias("paraphrases")
    )
    drawn = draw_rows(drawing_spec(100, seed=7), facts, categories, pl.DataFrame())["fact_id"]
    kept = draw_parts(facts, categories, ControlShares(0.5, 0.5), seed=7).filter(pl.col("part") != "pool")["fact_id"]
    assert 30 < kept.is_in(drawn.implode()).sum() < 70  # all 100, were it the same order


def test_draw_parts_of_categories_with_a_fact_twice_raise() -> None:
    facts, categories = facts_of({("capital", Category.UNKNOWN): 2})
    with pytest.raises(UserError, match="has more than one row"):
        draw_parts(facts, pl.concat([categories, categories]), ControlShares(0.5, 0.5), 0)


def test_control_counts_name_every_category() -> None:
    facts, categories = facts_of({("capital", Category.HIGHLY_KNOWN): 10, ("capital", Category.UNKNOWN): 10})
    parts = draw_parts(facts, categories, ControlShares(0.5, 0.1), 0)
    assert control_counts(parts, categories) == {"HighlyKnown": 5, "MaybeKnown": 0, "WeaklyKnown": 0, "Unknown": 1}


def test_resolvable_change_is_that_of_the_base_between_two_shot_sets_on_known_facts() -> None:
    facts = pl.DataFrame({"fact_id": [f"f{i}" for i in range(24)], "relation": "capital", "object": [f"o{i}" for i in range(24)]})
    on = {"S0": [10] * 20 + [0] * 4, "S1": [10] * 24, "S2": [10, 7] * 12}
    rows = [
        {"fact_id": f"f{i}", "model_id": "b", "shot_set": name, "matcher": "strict", "correct": right, "asked": 10}
        for name, counts in on.items()
        for i, right in enumerate(counts)
    ]
    categories = pl.DataFrame([row | {"category": Category.of(row["correct"], 10).value} for row in rows])
    parts = facts.select("fact_id", pl.Series("part", ["control_test"] * 12 + ["control_dev"] * 2 + ["pool"] * 10))
    found = resolvable_change(parts, facts, categories, Matcher.STRICT)
    expected = estimate_mean([0.0, -0.3] * 6, range(12)).resolvable()
    assert found[Part.CONTROL_TEST] == pytest.approx(expected)
    none = parts.with_columns(part=pl.lit("pool"))
    assert set(resolvable_change(none, facts, categories, Matcher.STRICT).values()) == {None}
