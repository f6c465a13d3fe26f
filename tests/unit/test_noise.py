import polars as pl
import pytest

from kp.errors import UserError
from kp.metrics import inspection_schema
from kp.metrics.noise import noise_shifts, noise_spread, noise_transitions
from kp.vocabulary import Matcher

NAMES = {"U": "Unknown", "M": "MaybeKnown", "H": "HighlyKnown"}


def measured(**letters: str) -> pl.DataFrame:
    """CATEGORIES by `strict` of facts f0, f1, ... on each shot set."""
    rows = [
        {
            "fact_id": f"f{place}",
            "model_id": "m",
            "shot_set": name,
            "matcher": "strict",
            "correct": 0,
            "asked": 10,
            "category": NAMES[letter],
        }
        for name, word in letters.items()
        for place, letter in enumerate(word)
    ]
    return pl.DataFrame(rows)


def spread_of(table: pl.DataFrame, view: str, shift: str) -> dict[str, float | None]:
    return table.filter(view=view, shift=shift).drop("matcher", "view", "shift").row(0, named=True)


def test_noise_shifts_one_draw_has_counts_rates_and_errors() -> None:
    shifts = noise_shifts(measured(S0="HHHHH", S1="HHHMU", S2="HMUHU"), Matcher.STRICT)
    assert shifts.to_arrow().cast(inspection_schema.NOISE_SHIFTS).schema == inspection_schema.NOISE_SHIFTS
    assert shifts.select("matcher", "first", "second").unique().rows() == [("strict", "S1", "S2")]
    negative = shifts.filter(shift="negative").select("view", "count", "n", "rate", "standard_error").rows()
    assert negative == [
        ("all", 2, 5, 0.4, pytest.approx((0.4 * 0.6 / 5) ** 0.5)),
        ("at_risk", 2, 4, 0.5, pytest.approx((0.25 / 4) ** 0.5)),
    ]


def test_noise_shifts_every_later_shot_set_is_held_against_the_second_in_order() -> None:
    shifts = noise_shifts(measured(S10="H", S0="H", S2="H", S3="H", S1="H"), Matcher.STRICT)
    assert shifts.select("first", "second").unique(maintain_order=True).rows() == [("S1", "S2"), ("S1", "S3"), ("S1", "S10")]
    assert shifts.height == 3 * 2 * 8


def test_noise_spread_three_draws_have_mean_deviation_and_ends() -> None:
    # Of the four facts at risk 1, 2 and 3 fall.
    shifts = noise_shifts(measured(S1="HHHHU", S2="HHHMU", S3="HHMUU", S4="HMMMU"), Matcher.STRICT)
    spread = noise_spread(shifts)
    assert spread.to_arrow().cast(inspection_schema.NOISE_SPREAD).schema == inspection_schema.NOISE_SPREAD
    assert spread_of(spread, "at_risk", "negative") == pytest.approx(
        {"draws": 3, "n": 4, "mean_count": 2, "mean": 0.5, "standard_deviation": 0.25, "minimum": 0.25, "maximum": 0.75}
    )
    assert spread_of(spread, "all", "negative") == pytest.approx(
        {"draws": 3, "n": 5, "mean_count": 2, "mean": 0.4, "standard_deviation": 0.2, "minimum": 0.2, "maximum": 0.6}
    )
    assert spread_of(spread, "all", "HK->UK")["mean_count"] == pytest.approx(1 / 3)


def test_noise_spread_one_draw_has_no_deviation() -> None:
    row = spread_of(noise_spread(noise_shifts(measured(S1="HH", S2="HM"), Matcher.STRICT)), "all", "negative")
    assert (row["draws"], row["mean"], row["standard_deviation"], row["minimum"], row["maximum"]) == (1, 0.5, None, 0.5, 0.5)


def test_noise_spread_nothing_at_risk_has_no_rates() -> None:
    row = spread_of(noise_spread(noise_shifts(measured(S1="UU", S2="UU", S3="UU"), Matcher.STRICT)), "at_risk", "negative")
    assert (row["n"], row["mean_count"], row["mean"], row["standard_deviation"], row["minimum"]) == (0, 0, None, None, None)


def test_noise_transitions_two_draws_count_nine_cells_each() -> None:
    table = noise_transitions(measured(S1="HHM", S2="HMM", S3="UHM"), Matcher.STRICT)
    assert table.to_arrow().cast(inspection_schema.NOISE_TRANSITIONS).schema == inspection_schema.NOISE_TRANSITIONS
    assert table["second"].to_list() == ["S2"] * 9 + ["S3"] * 9
    assert table.filter(pl.col("facts") > 0).select("second", "before", "after", "facts").rows() == [
        ("S2", "MaybeKnown", "MaybeKnown", 1),
        ("S2", "HighlyKnown", "MaybeKnown", 1),
        ("S2", "HighlyKnown", "HighlyKnown", 1),
        ("S3", "MaybeKnown", "MaybeKnown", 1),
        ("S3", "HighlyKnown", "Unknown", 1),
        ("S3", "HighlyKnown", "HighlyKnown", 1),
    ]


@pytest.mark.parametrize("letters", [{"S0": "H", "S1": "H"}, {"S0": "H", "S2": "H"}])
def test_noise_shifts_without_two_measurements_raise(letters: dict[str, str]) -> None:
    with pytest.raises(UserError, match="column 'shot_set': S1 and at least one later shot set are needed"):
        noise_shifts(measured(**letters), Matcher.STRICT)


def test_noise_shifts_other_facts_in_a_draw_raise() -> None:
    with pytest.raises(UserError, match="fact 'f1' is in only one of the tables compared"):
        noise_shifts(measured(S1="HH", S2="HH", S3="H"), Matcher.STRICT)


def test_noise_shifts_of_another_matcher_raise() -> None:
    with pytest.raises(UserError, match="no row of matcher 'exact'"):
        noise_shifts(measured(S1="H", S2="H"), Matcher.EXACT)
