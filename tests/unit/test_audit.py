from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.errors import UserError
from kp.metrics import inspection_schema, result_schema
from kp.metrics.audit import disagreement_table, false_positive_table, matcher_transitions, refusal_table

FEW = settings(max_examples=25, deadline=None)

# fact, shot set, prompt, answer, right by strict, exact and released (1 or 0), refused
Said = tuple[str, str, int, str, str, bool]


def answers_of(*rows: Said) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"fact_id": fact, "model_id": "m", "shot_set": name, "prompt_index": prompt, "answer": text, "refused": refused}
            | {f"match_{matcher}": verdict == "1" for matcher, verdict in zip(("strict", "exact", "released"), verdicts, strict=True)}
            for fact, name, prompt, text, verdicts, refused in rows
        ],
        schema_overrides={"prompt_index": pl.Int32},
    )


def judged(matcher: str, letters: str, shot_set: str = "S0") -> pl.DataFrame:
    names = {"U": "Unknown", "M": "MaybeKnown", "H": "HighlyKnown"}
    rows = [
        {"fact_id": f"f{place}", "shot_set": shot_set, "matcher": matcher, "category": names[letter]}
        for place, letter in enumerate(letters)
    ]
    return pl.DataFrame(rows)


def facts_of(*rows: tuple[str, str, Sequence[str]]) -> pl.DataFrame:
    """FACTS by id, relation and answers."""
    return pl.DataFrame([{"fact_id": key, "relation": relation, "answers": list(answers)} for key, relation, answers in rows])


def said_of(**texts: Sequence[str]) -> pl.DataFrame:
    return answers_of(*((fact, "S0", place, text, "000", False) for fact, said in texts.items() for place, text in enumerate(said)))


def rates(table: pl.DataFrame, relation: str | None = None) -> dict[str, tuple[int, int]]:
    """False positives of n by matcher."""
    chosen = table.filter(pl.col("relation").eq_missing(pl.lit(relation)))
    return {row["matcher"]: (row["false_positives"], row["n"]) for row in chosen.iter_rows(named=True)}


def test_disagreement_table_four_answers_count_each_direction() -> None:
    answers = answers_of(
        ("a", "S0", 0, "", "101", False),
        ("a", "S1", 0, "", "111", False),
        ("b", "S0", 0, "", "001", False),
        ("b", "S1", 0, "", "100", False),
    )
    table = disagreement_table(answers)
    assert table.to_arrow().cast(result_schema.DISAGREEMENT).schema == result_schema.DISAGREEMENT
    counts = table.select("first", "second", "shot_set", "first_only", "second_only", "n", "rate").rows()
    assert counts[:3] == [
        ("strict", "exact", None, 2, 0, 4, 0.5),
        ("strict", "released", None, 1, 1, 4, 0.5),
        ("exact", "released", None, 0, 2, 4, 0.5),
    ]
    assert counts[3:6] == [
        ("strict", "exact", "S0", 1, 0, 2, 0.5),
        ("strict", "released", "S0", 0, 1, 2, 0.5),
        ("exact", "released", "S0", 0, 2, 2, 1.0),
    ]
    # strict against released: fact a never, fact b always; from 1/2 by 1 of 2 answers each: sqrt(2/1 * 2) / 4
    assert table["standard_error"][1] == pytest.approx(0.5)


def test_matcher_transitions_count_facts_that_change_category_with_the_matcher() -> None:
    categories = pl.concat([judged("strict", "HHMU"), judged("exact", "HMUU"), judged("released", "HHHU"), *_same("S1", "UUUU")])
    table = matcher_transitions(categories)
    assert table.to_arrow().cast(inspection_schema.MATCHER_TRANSITIONS).schema == inspection_schema.MATCHER_TRANSITIONS
    assert table.height == 2 * 3 * 9
    moved = table.filter((pl.col("facts") > 0) & (pl.col("first_category") != pl.col("second_category")))
    assert moved.rows() == [
        ("strict", "exact", "S0", "MaybeKnown", "Unknown", 1),
        ("strict", "exact", "S0", "HighlyKnown", "MaybeKnown", 1),
        ("strict", "released", "S0", "MaybeKnown", "HighlyKnown", 1),
        ("exact", "released", "S0", "Unknown", "HighlyKnown", 1),
        ("exact", "released", "S0", "MaybeKnown", "HighlyKnown", 1),
    ]


def _same(shot_set: str, letters: str) -> list[pl.DataFrame]:
    return [judged(matcher, letters, shot_set) for matcher in ("strict", "exact", "released")]


def test_matcher_transitions_matchers_of_other_facts_raise() -> None:
    with pytest.raises(UserError, match="fact 'f1' is in only one"):
        matcher_transitions(pl.concat([judged("strict", "HH"), judged("exact", "H"), judged("released", "HH")]))


def test_refusal_table_has_each_shot_set_and_each_of_its_prompts() -> None:
    answers = answers_of(
        ("a", "S0", 0, "", "000", True),
        ("b", "S0", 0, "", "000", False),
        ("a", "S0", 1, "", "000", True),
        ("b", "S0", 1, "", "000", True),
        ("a", "S1", 0, "", "000", False),
    )
    table = refusal_table(answers)
    assert table.to_arrow().cast(inspection_schema.REFUSALS).schema == inspection_schema.REFUSALS
    assert table.drop("standard_error").rows() == [
        ("S0", None, 3, 4, 0.75),
        ("S0", 0, 1, 2, 0.5),
        ("S0", 1, 2, 2, 1.0),
        ("S1", None, 0, 1, 0.0),
        ("S1", 0, 0, 1, 0.0),
    ]
    # a 2 of 2, b 1 of 2, from 3/4 by 1/2 answer each: sqrt(2 * 1/2) / 4
    assert table["standard_error"].to_list() == [pytest.approx(0.25), pytest.approx(0.5), 0.0, None, None]


def test_false_positive_table_matchers_differ_in_what_they_take_for_another_fact() -> None:
    facts = facts_of(("a", "r", ["Rome"]), ("b", "r", ["Oman"]), ("c", "r", ["Peru"]))
    # Each answer meets the two other facts: "Oman" is b's, "Rome" the asked one's own, "Rome, near Oman" is a's and names b's in passing.
    table = false_positive_table(facts, said_of(a=["Oman", "Rome"], b=["The Roman Empire"], c=["Rome, near Oman"]), seed=0)
    assert table.to_arrow().cast(inspection_schema.FALSE_POSITIVES).schema == inspection_schema.FALSE_POSITIVES
    assert rates(table) == {"strict": (2, 8), "exact": (1, 8), "released": (3, 8)}
    assert table.filter(matcher="strict", relation="r")["answers"].to_list() == [4]
    # Per fact 1 of 4, 0 of 2, 1 of 2; the share is 1/4, so they are 0, -1/2 and 1/2 from it: sqrt(3/2 * 1/2) / 8
    assert table.filter(matcher="strict")["standard_error"].to_list() == [pytest.approx((3 / 2 / 2) ** 0.5 / 8)] * 2


def test_false_positive_table_released_finds_parts_of_words() -> None:
    facts = facts_of(("a", "r", ["Rome"]), ("b", "r", ["oman"]))
    assert rates(false_positive_table(facts, said_of(a=["Woman", "Romania"], b=["None"]), seed=0)) == {
        "strict": (0, 3),
        "exact": (0, 3),
        "released": (2, 3),
    }


def test_false_positive_table_facts_that_share_an_alias_are_not_held_against_each_other() -> None:
    facts = facts_of(("a", "r", ["English", "French"]), ("b", "r", ["french"]), ("c", "r", ["Malay"]))
    table = false_positive_table(facts, said_of(a=["French"], b=["French"], c=["French"]), seed=0)
    assert rates(table)["exact"] == (2, 4)  # only c's answer, against a and against b


def test_false_positive_table_relations_are_apart_and_summed() -> None:
    facts = facts_of(("a", "r", ["Rome"]), ("b", "r", ["Oman"]), ("c", "s", ["Rome"]), ("d", "s", ["Peru"]), ("e", "t", ["Rome"]))
    table = false_positive_table(facts, said_of(a=["Oman"], b=["Peru"], c=["Peru"], d=["Rome"], e=["Peru"]), seed=0)
    assert table["relation"].unique(maintain_order=True).to_list() == [None, "r", "s", "t"]
    assert rates(table, "r")["exact"] == (1, 2)
    assert rates(table, "s")["exact"] == (2, 2)
    assert rates(table)["exact"] == (3, 4)
    alone = table.filter(relation="t", matcher="exact").row(0, named=True)
    assert (alone["answers"], alone["n"], alone["rate"], alone["standard_error"]) == (1, 0, None, None)


def test_false_positive_table_large_relation_is_a_seeded_sample_whatever_the_order() -> None:
    facts = facts_of(*((f"f{place:02d}", "r", [f"thing {place}"]) for place in range(60)))
    answers = said_of(**{f"f{place:02d}": [f"thing {(place * 7 + 1) % 60}"] for place in range(60)})
    table = false_positive_table(facts, answers, seed=3)
    assert rates(table)["exact"][1] == 60 * 20
    assert false_positive_table(facts.reverse(), answers.reverse(), seed=3).equals(table)
    assert 0 < rates(table)["exact"][0] < 60
    assert not false_positive_table(facts, answers, seed=4).equals(table)


@FEW
@given(st.integers(2, 12), st.integers(0, 5), st.integers(1, 4))
def test_false_positive_table_every_answer_meets_as_many_others_as_there_are(count: int, alike: int, others: int) -> None:
    """`alike` facts share the first one's alias, and yet nobody has fewer others than the relation can give."""
    shared = min(alike, count - 1)
    facts = facts_of(*((f"f{n:02d}", "r", [f"thing {n}", *(["same"] if n <= shared else [])]) for n in range(count)))
    table = false_positive_table(facts, said_of(**{f"f{n:02d}": ["nothing"] for n in range(count)}), seed=1, others=others)
    expected = sum(min(others, count - (shared + 1 if n <= shared else 1)) for n in range(count))
    assert rates(table)["strict"] == (0, expected)
