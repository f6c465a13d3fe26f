from collections.abc import Collection

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.errors import UserError
from kp.metrics.result_schema import SHIFTS
from kp.metrics.shifts import noise_table, outcome_shifts, shift_table, transitions
from tests.made_up_outcomes import outcomes

FEW = settings(max_examples=25, deadline=None)

NAMES = {"U": "Unknown", "M": "MaybeKnown", "H": "HighlyKnown"}
SINGLE = ["UK->HK", "UK->MK", "MK->HK", "HK->UK", "HK->MK", "MK->UK"]
LETTERS = st.sampled_from("UMH")


def measured(letters: str) -> pl.DataFrame:
    """CATEGORIES of facts f0, f1, ... in these categories."""
    return pl.DataFrame({"fact_id": [f"f{index}" for index in range(len(letters))], "category": [NAMES[letter] for letter in letters]})


def shifted(before: pl.DataFrame, after: pl.DataFrame, trained: Collection[str]) -> pl.DataFrame:
    """The shifts of a trial that trained on these facts and left the others untouched."""
    roles = ["trained" if fact_id in trained else "untouched" for fact_id in after["fact_id"]]
    return shift_table("t1", before, after.with_columns(pl.Series("role", roles, dtype=pl.String)))


def cell(table: pl.DataFrame, view: str, shift: str) -> dict[str, float | None]:
    return (
        table.filter((pl.col("view") == view) & (pl.col("shift") == shift))
        .select("count", "n", "rate", "standard_error")
        .row(0, named=True)
    )


@st.composite
def two_measurements(draw: st.DrawFn) -> tuple[str, str]:
    facts = draw(st.lists(st.tuples(LETTERS, LETTERS), min_size=1, max_size=30))
    return tuple("".join(letters) for letters in zip(*facts, strict=True))  # type: ignore[return-value]


def test_transitions_four_facts_count_every_cell() -> None:
    counts = transitions(measured("UUMH"), measured("HUMU"))
    assert counts.columns == ["before", "after", "count"]
    assert counts.height == 9
    assert counts.filter(pl.col("count") > 0).rows() == [
        ("Unknown", "Unknown", 1),
        ("Unknown", "HighlyKnown", 1),
        ("MaybeKnown", "MaybeKnown", 1),
        ("HighlyKnown", "Unknown", 1),
    ]


def test_shift_table_all_and_at_risk_share_counts_but_not_denominators() -> None:
    table = shifted(measured("UUUMMHHHHH"), measured("HUUUMMHHHH"), trained=[])
    assert cell(table, "all", "UK->HK") == pytest.approx({"count": 1, "n": 10, "rate": 0.1, "standard_error": 0.09486833})
    assert cell(table, "at_risk", "UK->HK") == pytest.approx({"count": 1, "n": 3, "rate": 1 / 3, "standard_error": (2 / 27) ** 0.5})
    assert cell(table, "at_risk", "HK->MK")["n"] == 5
    assert cell(table, "at_risk", "MK->UK")["n"] == 2
    assert cell(table, "at_risk", "positive")["n"] == 5
    assert cell(table, "at_risk", "negative") == pytest.approx({"count": 2, "n": 7, "rate": 2 / 7, "standard_error": (10 / 343) ** 0.5})
    assert set(table["view"]) == {"all", "at_risk", "untrained"}
    assert set(table["trial_id"]) == {"t1"}


def test_shift_table_untrained_leaves_trained_facts_out_of_both_sides() -> None:
    table = shifted(measured("UUMH"), measured("HHMU"), trained={"f0", "f3"})
    assert cell(table, "untrained", "UK->HK") == pytest.approx({"count": 1, "n": 2, "rate": 0.5, "standard_error": 0.125**0.5})
    assert cell(table, "untrained", "HK->UK") == pytest.approx({"count": 0, "n": 2, "rate": 0, "standard_error": 0})


def test_shift_table_nothing_at_risk_has_no_rate() -> None:
    table = shifted(measured("UU"), measured("UU"), trained=["f0", "f1"])
    for view, shift in [("at_risk", "HK->UK"), ("at_risk", "negative"), ("untrained", "UK->HK")]:
        assert cell(table, view, shift) == {"count": 0, "n": 0, "rate": None, "standard_error": None}


def test_shift_table_without_any_fact_has_no_rates() -> None:
    empty = measured("U").head(0)
    table = shifted(empty, empty, trained=[])
    assert table.height == 24
    assert table["rate"].null_count() == 24


def test_shift_table_fits_its_schema_with_eight_rows_a_view() -> None:
    before = measured("UMH")
    table = shifted(before, before, trained=[])
    assert table.to_arrow().cast(SHIFTS).schema == SHIFTS
    assert table.group_by("view").len().sort("view").rows() == [("all", 8), ("at_risk", 8), ("untrained", 8)]


@FEW
@given(two_measurements(), st.integers(0, 5))
def test_shift_table_any_facts_are_conserved(letters: tuple[str, str], trained: int) -> None:
    before, after = (measured(word) for word in letters)
    counts = transitions(before, after)
    table = shifted(before, after, [f"f{index}" for index in range(trained)])
    unchanged = counts.filter(pl.col("before") == pl.col("after"))["count"].sum()
    assert counts["count"].sum() == before.height
    assert cell(table, "all", "positive")["count"] + cell(table, "all", "negative")["count"] + unchanged == before.height  # type: ignore[operator]
    for view in ("all", "at_risk", "untrained"):
        for total, singles in (("positive", SINGLE[:3]), ("negative", SINGLE[3:])):
            assert cell(table, view, total)["count"] == sum(cell(table, view, shift)["count"] for shift in singles)  # type: ignore[misc]


def test_shift_table_order_of_facts_does_not_matter() -> None:
    before, after = measured("UMHUH"), measured("HUMUU")
    mixed = shifted(before.reverse(), after, ["f1"])
    assert mixed.equals(shifted(before, after, ["f1"]))


def test_noise_table_is_marked_and_has_two_views() -> None:
    table = noise_table(measured("HHU"), measured("HMU"))
    assert set(table["trial_id"]) == {"noise"}
    assert set(table["view"]) == {"all", "at_risk"}
    assert cell(table, "at_risk", "negative")["rate"] == 0.5


def test_shift_table_other_facts_after_raise() -> None:
    with pytest.raises(UserError, match="fact 'f2' is in only one of the tables compared"):
        shifted(measured("UU"), measured("UUU"), [])


def test_transitions_two_matchers_in_one_table_raise() -> None:
    with pytest.raises(UserError, match="fact 'f0' has more than one row"):
        transitions(pl.concat([measured("U"), measured("H")]), measured("U"))


def test_transitions_of_a_sampled_class_raise_and_drop_nothing() -> None:
    sampled = measured("UH").with_columns(pl.Series("category", ["WeaklyKnown", "HighlyKnown"]))
    for before, after in ((sampled, measured("UH")), (measured("UH"), sampled)):
        with pytest.raises(UserError, match="fact 'f0' is 'WeaklyKnown', expected one of HighlyKnown, MaybeKnown, Unknown"):
            transitions(before, after)


def test_outcome_shifts_are_of_the_base_with_itself_and_of_every_adapter_on_s1() -> None:
    base = {"S0": [10, 10, 0, 5], "S1": [10, 10, 0, 5], "S2": [10, 5, 0, 5]}
    trials = {"b": {"S1": [0, 10, 10, 5], "S2": [0, 0, 0, 0]}, "a": {"S1": [10, 0, 0, 5]}}
    table = outcome_shifts(outcomes(base, trials, ["trained", "control_dev", "control_test", "untouched"]))
    assert table["trial_id"].unique(maintain_order=True).to_list() == ["noise", "b", "a"]
    fell = {(row["trial_id"], row["view"]): (row["count"], row["n"]) for row in table.filter(shift="negative").iter_rows(named=True)}
    assert fell["noise", "all"] == (1, 4)
    assert [fell["b", view] for view in ("all", "at_risk", "untrained", "control")] == [(1, 4), (1, 3), (0, 3), (0, 2)]
    assert [fell["a", view] for view in ("all", "at_risk", "untrained", "control")] == [(1, 4), (1, 3), (1, 3), (1, 2)]
