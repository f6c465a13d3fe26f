import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.errors import UserError
from kp.metrics.generality import held_out_paraphrases
from kp.schema import TRAINING_ROWS
from kp.training.mixtures import Source, draw_rows
from kp.training.spec import TrialSpec
from kp.vocabulary import Draw, ReplayShortfall, ReplayTarget
from tests.made_up_study import drawing_spec

FEW = settings(max_examples=25, deadline=None)

UNKNOWN_IDS = [f"u{index:02}" for index in range(24)]
KNOWN_IDS = [f"h{index:02}" for index in range(48)]
MAYBE_IDS = [f"m{index:02}" for index in range(24)]


def relation_of(fact_id: str) -> str:
    """Three relations of unlike size: a quarter, a quarter, a half."""
    return ("capital", "director", "symbol", "symbol")[int(fact_id[1:]) % 4]


def study() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """FACTS, the base's CATEGORIES on S0 by one matcher, and its ANSWERS on S0."""
    ids = [*UNKNOWN_IDS, *MAYBE_IDS, *KNOWN_IDS]
    facts = pl.DataFrame(
        [
            {
                "fact_id": fact_id,
                "relation": relation_of(fact_id),
                "question": f"Q {fact_id}?",
                "answers": [f"gold {fact_id}", f"alias {fact_id}"],
                "paraphrases": [f"P{number} {fact_id}?" for number in range(3)],
            }
            for fact_id in ids
        ]
    )
    names = {"u": "Unknown", "m": "MaybeKnown", "h": "HighlyKnown"}
    categories = pl.DataFrame({"fact_id": ids, "category": [names[fact_id[0]] for fact_id in ids]})
    answers = pl.DataFrame(
        [
            {"fact_id": fact_id, "shot_set": "S0", "prompt_index": index, "answer": f"Answer: own{index} {fact_id}\nQuestion: more"}
            for fact_id in ids
            for index in range(2)
        ]
    )
    return facts, categories, answers


def mix(unknown: int = 4, **changes: Any) -> TrialSpec:
    return drawing_spec(unknown, **changes)


def rows_of(mixture: TrialSpec) -> pl.DataFrame:
    return draw_rows(mixture, *study())


def ids(rows: pl.DataFrame, role: str) -> list[str]:
    return rows.filter(pl.col("role") == role)["fact_id"].to_list()


def test_draw_rows_all_roles_hold_what_the_mixture_asks_for() -> None:
    rows = rows_of(mix(highly_known=3, paraphrases=2))
    assert rows["role"].to_list() == ["unknown"] * 4 + ["paraphrase"] * 8 + ["highly_known"] * 12
    assert rows["row"].to_list() == list(range(24))
    assert len(set(ids(rows, "unknown"))) == 4
    assert len(set(ids(rows, "highly_known"))) == 12
    assert set(ids(rows, "unknown")) <= set(UNKNOWN_IDS)
    assert set(ids(rows, "highly_known")) <= set(KNOWN_IDS)
    assert rows.to_arrow().cast(TRAINING_ROWS).schema == TRAINING_ROWS


def test_draw_rows_unknown_fact_and_its_paraphrases_teach_the_canonical_answer() -> None:
    rows = rows_of(mix(unknown=1, paraphrases=2, replay_target=ReplayTarget.FIRST_ALIAS))
    fact_id = rows["fact_id"][0]
    assert rows["question"].to_list() == [f"Q {fact_id}?", f"P0 {fact_id}?", f"P1 {fact_id}?"]
    assert rows["target"].to_list() == [f"gold {fact_id}"] * 3


@pytest.mark.parametrize(
    ("target", "prefix"), [(ReplayTarget.SELF, "own0 "), (ReplayTarget.GOLD, "gold "), (ReplayTarget.FIRST_ALIAS, "alias ")]
)
def test_draw_rows_replay_target_decides_what_highly_known_rows_teach(target: ReplayTarget, prefix: str) -> None:
    replayed = rows_of(mix(highly_known=1, replay_target=target)).filter(pl.col("role") == "highly_known")
    assert replayed["target"].to_list() == [prefix + fact_id for fact_id in replayed["fact_id"]]


def test_draw_rows_first_alias_of_a_fact_without_one_is_its_answer() -> None:
    facts, categories, answers = study()
    facts = facts.with_columns(pl.col("answers").list.head(1))
    rows = draw_rows(mix(highly_known=1, replay_target=ReplayTarget.FIRST_ALIAS), facts, categories, answers)
    assert set(rows["target"]) == {f"gold {fact_id}" for fact_id in rows["fact_id"]}


@FEW
@given(
    small=st.integers(1, 12),
    large=st.integers(12, 24),
    highly_known=st.integers(0, 2),
    seed=st.integers(-5, 10**6),
    draw=st.sampled_from(Draw),
)
def test_draw_rows_smaller_trial_is_nested_in_the_larger(small: int, large: int, highly_known: int, seed: int, draw: Draw) -> None:
    mixture = mix(highly_known=highly_known, seed=seed, draw=draw)
    less, more = rows_of(replace(mixture, unknown=small)), rows_of(replace(mixture, unknown=large))
    for role in ("unknown", "highly_known"):
        assert ids(less, role) == ids(more, role)[: len(ids(less, role))]


@FEW
@given(seed=st.integers(), highly_known=st.integers(0, 12), paraphrases=st.integers(0, 3))
def test_draw_rows_every_arm_of_a_seed_has_the_same_unknown_facts(seed: int, highly_known: int, paraphrases: int) -> None:
    arm = rows_of(mix(seed=seed, highly_known=highly_known, paraphrases=paraphrases))
    assert ids(arm, "unknown") == ids(rows_of(mix(seed=seed)), "unknown")


@FEW
@given(seed=st.integers(), count=st.integers(1, 24))
def test_draw_rows_stratified_takes_relations_in_turn_while_they_last(seed: int, count: int) -> None:
    drawn = Counter(relation_of(fact_id) for fact_id in ids(rows_of(mix(seed=seed, unknown=count)), "unknown"))
    sizes = Counter(relation_of(fact_id) for fact_id in UNKNOWN_IDS)
    lasting = [drawn[relation] for relation in sizes if drawn[relation] < sizes[relation]]
    assert not lasting or max(drawn.values()) - min(lasting) <= 1


def test_draw_rows_stratified_does_not_depend_on_the_order_of_the_table() -> None:
    facts, categories, answers = study()
    mixture = mix(highly_known=2)
    assert draw_rows(mixture, facts.reverse(), categories.reverse(), answers.reverse()).equals(rows_of(mixture))


def test_draw_rows_another_seed_draws_other_facts() -> None:
    assert len({tuple(ids(rows_of(mix(seed=seed)), "unknown")) for seed in range(8)}) > 4


def test_draw_rows_known_seed_draws_the_facts_it_always_drew() -> None:
    assert ids(rows_of(mix()), "unknown") == ["u02", "u05", "u08", "u23"]


@pytest.mark.parametrize("seed", [0, 1])
def test_draw_rows_file_order_takes_the_first_whatever_the_seed(seed: int) -> None:
    rows = rows_of(mix(draw=Draw.FILE_ORDER, seed=seed, highly_known=2))
    assert ids(rows, "unknown") == UNKNOWN_IDS[:4]
    assert ids(rows, "highly_known") == KNOWN_IDS[:8]


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        (mix(unknown=25), "search.unknown: 25 Unknown facts asked for, but the base has 24"),
        (
            mix(unknown=24, highly_known=10),
            "search.arms.highly_known: 10 x 24 = 240 HighlyKnown facts asked for, but the base has 48",
        ),
        (mix(paraphrases=4), "search.arms.paraphrases: 4 paraphrases asked for, but fact 'u.*' has 3"),
    ],
)
def test_draw_rows_more_than_there_is_raises_naming_the_field(mixture: TrialSpec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rows_of(mixture)


def test_draw_rows_self_target_without_an_answer_raises() -> None:
    facts, categories, answers = study()
    with pytest.raises(UserError, match="has no text in answer to prompt 0 of S0"):
        draw_rows(mix(highly_known=1, replay_target=ReplayTarget.SELF), facts, categories, answers.head(0))


def test_draw_rows_answers_of_two_models_raise() -> None:
    facts, categories, answers = study()
    with pytest.raises(UserError, match="expected those of one model"):
        draw_rows(mix(highly_known=1, replay_target=ReplayTarget.SELF), facts, categories, pl.concat([answers, answers]))


def test_draw_rows_categories_of_two_matchers_raise() -> None:
    facts, categories, answers = study()
    with pytest.raises(UserError, match="fact 'h00' has more than one row"):
        draw_rows(mix(), facts, pl.concat([categories, categories]), answers)


def test_draw_rows_categories_of_a_foreign_fact_raise() -> None:
    facts, categories, answers = study()
    with pytest.raises(UserError, match="fact 'h47' is not in the facts table"):
        draw_rows(mix(), facts.head(-1), categories, answers)


def weakly_known(count: int) -> pl.DataFrame:
    """The base's classes where the first `count` facts of the Unknown pool turned out to be WeaklyKnown."""
    weakly = pl.when(pl.col("fact_id").is_in(UNKNOWN_IDS[:count])).then(pl.lit("WeaklyKnown")).otherwise(pl.col("category"))
    return study()[1].with_columns(weakly.alias("category"))


def test_draw_rows_weakly_known_facts_are_in_no_pool() -> None:
    facts, _, answers = study()
    rows = draw_rows(mix(unknown=20, highly_known=2), facts, weakly_known(4), answers)
    assert set(ids(rows, "unknown")) == set(UNKNOWN_IDS[4:])
    assert set(ids(rows, "highly_known")) <= set(KNOWN_IDS)


def test_draw_rows_pool_too_small_without_weakly_known_facts_says_so() -> None:
    facts, _, answers = study()
    with pytest.raises(UserError, match=r"search\.unknown: 21 Unknown .*, but the base has 20 \(4 more are WeaklyKnown\); give more facts"):
        draw_rows(mix(unknown=21), facts, weakly_known(4), answers)


@FEW
@given(
    seed=st.integers(-5, 10**6),
    highly_known=st.integers(0, 2),
    maybe_known=st.integers(0, 2),
    paraphrases=st.integers(0, 2),
    draw=st.sampled_from(Draw),
)
def test_draw_rows_arm_of_every_kind_is_nested_and_holds_no_fact_twice_in_a_role(
    seed: int, highly_known: int, maybe_known: int, paraphrases: int, draw: Draw
) -> None:
    mixture = mix(highly_known=highly_known, maybe_known=maybe_known, paraphrases=paraphrases, seed=seed, draw=draw)
    drawn = [rows_of(replace(mixture, unknown=unknown)) for unknown in (2, 5, 12)]
    for rows, unknown in zip(drawn, (2, 5, 12), strict=True):
        assert rows.height == replace(mixture, unknown=unknown).rows
        for role, pool in (("unknown", UNKNOWN_IDS), ("highly_known", KNOWN_IDS), ("maybe_known", MAYBE_IDS)):
            found = ids(rows, role)
            assert len(set(found)) == len(found)
            assert set(found) <= set(pool)  # so none that is replayed is one of the Unknown ones
        assert Counter(ids(rows, "paraphrase")) == {fact_id: paraphrases for fact_id in ids(rows, "unknown") if paraphrases}
    for less, more in itertools.pairwise(drawn):
        for role in ("unknown", "highly_known", "maybe_known", "paraphrase"):
            assert ids(less, role) == ids(more, role)[: len(ids(less, role))]


@FEW
@given(seed=st.integers(), count=st.integers(1, 12), maybe_known=st.integers(1, 2))
def test_draw_rows_replayed_facts_are_stratified_too(seed: int, count: int, maybe_known: int) -> None:
    rows = rows_of(mix(seed=seed, unknown=count, maybe_known=maybe_known))
    drawn = Counter(relation_of(fact_id) for fact_id in ids(rows, "maybe_known"))
    sizes = Counter(relation_of(fact_id) for fact_id in MAYBE_IDS)
    lasting = [drawn[relation] for relation in sizes if drawn[relation] < sizes[relation]]
    assert not lasting or max(drawn.values()) - min(lasting) <= 1


def test_draw_rows_maybe_known_facts_teach_the_first_answer_of_the_base() -> None:
    replayed = rows_of(mix(maybe_known=2, replay_target=ReplayTarget.SELF)).filter(pl.col("role") == "maybe_known")
    assert replayed["target"].to_list() == [f"own0 {fact_id}" for fact_id in replayed["fact_id"]]


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        (
            mix(maybe_known=7),
            "search.arms.maybe_known: 7 x 4 = 28 MaybeKnown facts asked for, but the base has 24; draw them from",
        ),
        (mix(paraphrases=4), r"^search\.arms\.paraphrases: 4 paraphrases asked for, but fact 'u.*' has 3"),
    ],
)
def test_draw_rows_shortfall_counts_every_kind_and_paraphrases(mixture: TrialSpec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rows_of(mixture)


@pytest.mark.parametrize(
    ("trained", "held_out", "left"), [(0, 3, 3), (1, 2, 2), (2, 1, 1), (3, 0, 0), (1, 1, 1), (2, 2, 1), (3, 2, 0), (0, 9, 3)]
)
def test_held_out_paraphrases_are_the_last_as_far_as_they_are_left_and_never_trained_on(trained: int, held_out: int, left: int) -> None:
    rows = rows_of(mix(paraphrases=trained))
    facts = study()[0].filter(pl.col("fact_id").is_in(ids(rows, "unknown")))
    kept = [pair for paraphrases in facts["paraphrases"] for pair in held_out_paraphrases(paraphrases, held_out, trained)]
    assert [index for index, _ in kept] == list(range(3 - left, 3)) * 4
    assert {text for _, text in kept}.isdisjoint(rows["question"])


def elsewhere(known: int = 8) -> Source:
    """Another source: `known` HighlyKnown facts, two MaybeKnown and two Unknown, whose answers say so."""
    kinds = {"x": ("HighlyKnown", known), "y": ("MaybeKnown", 2), "z": ("Unknown", 2)}
    rows = [(f"{letter}{index:02}", kind) for letter, (kind, count) in kinds.items() for index in range(count)]
    names = [fact_id for fact_id, _ in rows]
    facts = pl.DataFrame(
        {
            "fact_id": names,
            "relation": [relation_of(fact_id) for fact_id in names],
            "question": [f"Q {fact_id}?" for fact_id in names],
            "answers": [[f"gold {fact_id}", f"alias {fact_id}"] for fact_id in names],
            "paraphrases": [[]] * len(names),
        },
        schema_overrides={"paraphrases": pl.List(pl.String)},
    )
    said = pl.DataFrame({"fact_id": names, "shot_set": "S0", "prompt_index": 0, "answer": [f"elsewhere {fact_id}" for fact_id in names]})
    return Source(facts, pl.DataFrame(rows, schema=["fact_id", "category"], orient="row"), said, elsewhere=True)


def test_draw_rows_replay_source_gives_the_known_facts_and_none_of_the_unknown_ones() -> None:
    mixture = mix(unknown=2, highly_known=3, maybe_known=1, paraphrases=1, replay_target=ReplayTarget.SELF)
    rows = draw_rows(mixture, *study(), elsewhere())
    assert ids(rows, "unknown") == ids(rows_of(mixture), "unknown")
    assert {fact_id[0] for fact_id in ids(rows, "highly_known")} == {"x"}
    assert ids(rows, "maybe_known") in (["y00", "y01"], ["y01", "y00"])
    replayed = rows.filter(pl.col("role").is_in(["highly_known", "maybe_known"]))
    assert replayed["target"].to_list() == [f"elsewhere {fact_id}" for fact_id in replayed["fact_id"]]


def test_draw_rows_replay_source_too_small_raises_naming_it() -> None:
    with pytest.raises(
        UserError, match=r"search\.arms\.highly_known: 3 x 4 = 12 HighlyKnown .*, but the base has 8 in search\.replay_source"
    ):
        draw_rows(mix(highly_known=3), *study(), elsewhere())


def test_draw_rows_control_facts_are_in_no_pool() -> None:
    control = [*UNKNOWN_IDS[:20], *KNOWN_IDS[:40]]
    rows = draw_rows(mix(highly_known=2), *study(), control=control)
    assert set(rows["fact_id"]).isdisjoint(control)
    assert set(ids(rows, "unknown")) == set(UNKNOWN_IDS[20:])
    assert set(ids(rows, "highly_known")) == set(KNOWN_IDS[40:])


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        (
            mix(unknown=5),
            r"^search\.unknown: 5 Unknown facts asked for, but the base has 4 \(20 more are control facts\); "
            r"lower facts\.control_unknown_share, give more facts \(facts\.count\) or lower search\.unknown$",
        ),
        (
            mix(highly_known=3),
            r"^search\.arms\.highly_known: 3 x 4 = 12 HighlyKnown facts asked for, but the base has 8 \(40 more are control facts\); "
            r'draw them from elsewhere \(search\.replay_source = "builtin"\), lower facts\.control_share, give more facts '
            r"\(facts\.count\), lower search\.unknown or ask for another mix$",
        ),
    ],
)
def test_draw_rows_shortfall_beside_control_facts_counts_them_and_says_what_helps(mixture: TrialSpec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw_rows(mixture, *study(), control=[*UNKNOWN_IDS[:20], *KNOWN_IDS[:40]])


def test_draw_rows_replay_source_that_holds_a_studied_fact_raises() -> None:
    facts, categories, answers = study()
    with pytest.raises(UserError, match=r"search\.replay_source: fact 'h00' is among the studied facts \(96 such facts\)"):
        draw_rows(mix(highly_known=1), facts, categories, answers, Source(facts, categories, answers))


def test_draw_rows_that_use_all_replay_what_there_is_where_a_mix_asks_for_more() -> None:
    tables, use_all = study(), ReplayShortfall.USE_ALL
    three, four = (draw_rows(mix(24, highly_known=each), *tables, shortfall=use_all) for each in (3, 4))
    assert sorted(ids(three, "highly_known")) == sorted(KNOWN_IDS)
    assert three.equals(four)
    assert draw_rows(mix(4, highly_known=2), *tables, shortfall=use_all).equals(rows_of(mix(4, highly_known=2)))


def test_spec_counts_the_steps_of_the_rows_that_were_drawn() -> None:
    asked = mix(24, highly_known=3)
    drawn = replace(asked, drawn=72)
    assert (asked.rows, drawn.rows) == (96, 72)
    assert drawn.max_steps < asked.max_steps
    assert drawn.literals() == asked.literals()
