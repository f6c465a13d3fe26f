"""Advice from earlier trials: what is found where nothing is, what is found where something is, and how far a prediction reaches."""

import numpy as np
import polars as pl
import pytest

from kp.advice.experience import EXPERIENCE, shipped, together
from kp.advice.page import plan_page
from kp.advice.picture import packed_by_rank
from kp.advice.plain import plain_text
from kp.advice.prediction import Predictor, fit_predictor
from kp.advice.proposing import propose
from kp.advice.recommending import Advice, Question, advise
from kp.advice.targets import Setting, Target
from kp.errors import UserError

SIZE = 1.3e8
ASKED = Question(40, 0.02, SIZE)


def experience(seed: int, slope: float, studies: int = 5, trials: int = 6) -> pl.DataFrame:
    """Trials of random settings; harm falls by `slope` for a replayed fact, and nothing else depends on anything."""
    random = np.random.default_rng(seed)
    rows = []
    for study in range(studies):
        for trial in range(trials):
            replayed = int(random.integers(0, 2))
            rows.append(
                {
                    "source": "measured",
                    "study": f"study{study}",
                    "trial_id": f"{study}-{trial}",
                    "origin": "kp",
                    "model": "model",
                    "parameters": SIZE,
                    "facts": int(random.choice([10, 20, 40, 80])),
                    "rank": int(random.choice([1, 4, 16])),
                    "learning_rate": float(random.choice([1e-3, 3e-3])),
                    "exposures": float(random.choice([4, 8, 16])),
                    "replayed": replayed,
                    "steps": 10,
                    "reliability": float(np.clip(0.8 + 0.1 * random.standard_normal(), 0, 1)),
                    "harm": 0.2 - slope * replayed + 0.03 * float(random.standard_normal()),
                    "harm_se": 0.01,
                }
            )
    return pl.DataFrame(rows, schema=EXPERIENCE)


def advised(rows: pl.DataFrame, question: Question = ASKED) -> tuple[Advice, list[Predictor]]:
    predictors = [fit_predictor(rows, target) for target in Target]
    return advise(*predictors, question), predictors


def page_of(rows: pl.DataFrame, question: Question = ASKED) -> str:
    advice, predictors = advised(rows, question)
    return plain_text(plan_page(rows, predictors, advice, advice.near[:4], "next.toml"))


@pytest.fixture(scope="module")
def planted() -> pl.DataFrame:
    return experience(1, slope=0.18)


def test_experience_of_nothing_has_skill_in_at_most_one_of_ten_draws() -> None:
    found = [fit_predictor(experience(seed, slope=0.0), target).has_skill for seed in range(5) for target in Target]
    assert sum(found) <= 1


def test_experience_of_nothing_predicts_its_mean_and_recommends_no_setting() -> None:
    rows = experience(0, slope=0.0)
    advice, (_, harm) = advised(rows)
    assert advice.any_setting
    assert len({one.harm.value for one in advice.ordered}) == 1
    assert harm.predict([advice.best.setting])[0].value == pytest.approx(rows["harm"].mean(), abs=0.01)
    page = page_of(rows)
    assert "Any setting" in page
    assert "Start with" not in page
    assert page.count("no skill beyond the mean") == 2


def test_planted_effect_of_replay_is_found_and_recommended(planted: pl.DataFrame) -> None:
    advice, (reliability, harm) = advised(planted)
    assert harm.has_skill
    assert not reliability.has_skill
    assert advice.best.setting.replayed == 1
    with_replay, without = harm.predict([Setting(40, 4, 3e-3, 8, replayed, SIZE) for replayed in (1, 0)])
    assert with_replay.upper < without.lower
    assert without.value == pytest.approx(0.2, abs=0.04)
    assert with_replay.value == pytest.approx(0.02, abs=0.04)


def test_intervals_of_studies_left_out_hold_most_values(planted: pl.DataFrame) -> None:
    for predictor in advised(planted)[1]:
        errors = predictor.process_left_out
        assert errors is not None
        assert errors.covered >= 0.9 * errors.rows


def test_a_study_that_differs_widens_every_interval(planted: pl.DataFrame) -> None:
    moved = planted.with_columns(pl.when(study="study0").then(pl.col("harm") + 0.5).otherwise(pl.col("harm")).alias("harm"))
    here, there = (fit_predictor(rows, Target.HARM).mean for rows in (planted, moved))
    assert there.between > 3 * here.between


@pytest.mark.parametrize("target", Target)
def test_intervals_widen_outside_what_was_measured(planted: pl.DataFrame, target: Target) -> None:
    predictor = fit_predictor(planted, target)
    _, deviation = predictor.scaled([Setting(facts, 4, 3e-3, 8, 1, SIZE) for facts in (80, 800, 8000)])
    assert deviation[0] < deviation[1] < deviation[2]


def test_question_outside_what_was_measured_is_named(planted: pl.DataFrame) -> None:
    assert "Outside what was measured" not in page_of(planted)
    page = page_of(planted, Question(4000, 0.02, 8e9, (64,)))
    assert "Outside what was measured: N, rank, the base model's size." in page


def test_one_study_alone_shows_no_skill(planted: pl.DataFrame) -> None:
    rows = planted.filter(study="study0")
    assert not any(predictor.has_skill for predictor in advised(rows)[1])
    assert "all trials are of one study" in " ".join(page_of(rows).split())


def test_predictions_stay_shares_whatever_is_asked(planted: pl.DataFrame) -> None:
    settings = [Setting(facts, rank, 1e-2, 32, 10, 1e12) for facts in (1, 10**9) for rank in (1, 4096)]
    for predictor in advised(planted)[1]:
        low = 0 if predictor.target is Target.RELIABILITY else -1
        assert all(low <= one.lower <= one.value <= one.upper <= 1 for one in predictor.predict(settings))


@pytest.mark.parametrize("rows", [experience(1, 0.18), experience(0, 0.0), shipped()], ids=["planted", "nothing", "shipped"])
def test_page_never_prints_a_prediction_without_its_interval(rows: pl.DataFrame) -> None:
    advice, predictors = advised(rows)
    page = plan_page(rows, predictors, advice, advice.near[:4], "next.toml")
    told = [sentence for sentence in page.answer if "reliability" in sentence and any(sign.isdigit() for sign in sentence)]
    tables = [block for section in page.sections for block in section.blocks if block.kind == "table"]
    cells = [
        cell
        for table in tables
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        if column.title in ("reliability (%)", "harm (points)", "error (points)", "in interval (%)")
    ]
    assert len(told) == 1
    assert told[0].count(" to ") == 2
    assert len(cells) >= 4 * 2
    assert all(" (" in cell and " to " in cell and cell.endswith(")") for cell in cells), cells


def test_page_is_at_most_80_columns_wide() -> None:
    assert max(map(len, page_of(shipped()).splitlines())) <= 80


def test_ranks_that_are_asked_for_are_the_only_ones(planted: pl.DataFrame) -> None:
    advice, _ = advised(planted, Question(40, 0.02, SIZE, (3, 5)))
    assert {one.setting.rank for one in (*advice.ordered, *advice.near)} == {3, 5}


def test_proposed_trials_form_a_grid_and_a_number_that_forms_none_is_refused(planted: pl.DataFrame) -> None:
    advice, predictors = advised(planted)
    chosen = propose(advice, predictors, 4)
    axes = [{getattr(one, name) for one in chosen} for name in ("rank", "learning_rate", "replayed")]
    assert len(set(chosen)) == 4 == np.prod([len(axis) for axis in axes])
    with pytest.raises(UserError, match="--next: 13 trials form no grid"):
        propose(advice, predictors, 13)


def test_picture_has_a_panel_for_each_rank_with_bands_around_its_line(planted: pl.DataFrame) -> None:
    advice, (reliability, _) = advised(planted)
    picture = packed_by_rank(reliability, advice)
    assert [panel.title for panel in picture.panels] == ["rank 1", "rank 2", "rank 4", "rank 8", "rank 16", "rank 32"]
    for panel in picture.panels:
        line = panel.lines[-1]
        assert all(low <= value <= high for low, value, high in zip(line.low, line.y, line.high, strict=True))  # type: ignore[operator]


def test_picture_of_a_single_fact_can_be_drawn(planted: pl.DataFrame) -> None:
    advice, (reliability, _) = advised(planted, Question(1, 0.02, SIZE))
    picture = packed_by_rank(reliability, advice)
    assert picture.x_labels == ("1", "2")


def test_trial_that_is_shipped_and_on_this_machine_counts_once() -> None:
    rows = shipped()
    assert len(together(rows.head(3), rows)) == len(rows)


def test_every_shipped_row_says_where_it_comes_from() -> None:
    rows = shipped()
    assert rows.select("study", "trial_id", "origin", "model", "parameters").null_count().sum_horizontal().item() == 0
    assert set(rows["source"]) == {"measured", "published"}
    assert all("commit" in origin for origin in rows.filter(source="measured")["origin"])
