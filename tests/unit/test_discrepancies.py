"""The list of discrepancies, held to the presets that it describes."""

from pathlib import Path
from typing import Any

import pytest

from kp.config.study import StudyConfig, load_study
from kp.report.discrepancies import DISCREPANCIES, Side, switched_on
from kp.report.discrepancies_section import discrepancies_section
from kp.report.document import Table, Text

STUDIES = Path(__file__).parents[2] / "ray_jobs" / "studies"
DECIDED = [point for point in DISCREPANCIES if point.field]


def resolved(name: str, *overrides: str) -> dict[str, Any]:
    plain: dict[str, Any] = load_study(STUDIES / f"{name}.toml", list(overrides)).model_dump(mode="json")
    return plain


def here(config: dict[str, Any]) -> dict[int, str]:
    """The last column of the section's table, by number."""
    table = discrepancies_section(config).blocks[1]
    assert isinstance(table, Table)
    return {int(row.cells[0].partition(".")[0]): row.cells[-1] for row in table.rows}


def test_numbers_are_unique_and_rise() -> None:
    numbers = [point.number for point in DISCREPANCIES]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("point", DECIDED, ids=lambda point: point.point)
def test_field_that_decides_exists(point: Any) -> None:
    section, name = point.field.split(".")
    assert name in type(getattr(load_study(STUDIES / "paper.toml"), section)).model_fields
    assert section in StudyConfig.model_fields


@pytest.mark.parametrize("name", ["released", "rigorous"])
@pytest.mark.parametrize("point", DECIDED, ids=lambda point: point.point)
def test_preset_takes_its_own_side_wherever_a_field_decides(point: Any, name: str) -> None:
    side = Side(name)
    ruled = {of for of, _ in point.rules}
    apart = {("rigorous", 13)}  # sampling costs 16 times as much
    if side in ruled and (name, point.number) not in apart:
        assert side in point.sides(resolved(name))


def test_released_is_the_only_preset_on_the_codes_side_of_matcher_draw_and_batch() -> None:
    assert {1, 2, 4, 6, 7, 9, 14, 22} <= set(switched_on(resolved("released")))
    assert switched_on(resolved("rigorous")) == []
    assert set(switched_on(resolved("paper"))) == {9}  # the paper is silent on the loss, and paper.toml says so


def test_override_moves_a_point_to_another_side() -> None:
    config = resolved("released", "training.batch_size=16", "search.draw=stratified")
    assert {1, 4}.isdisjoint(switched_on(config))
    assert here(config)[1] == "training.batch_size = 16: paper, rigorous"


def test_value_of_nobody_is_a_choice_of_its_own() -> None:
    assert here(resolved("paper", "training.batch_size=4"))[1] == "training.batch_size = 4: a choice of its own"


def test_section_names_the_points_on_which_the_code_is_followed() -> None:
    lead = discrepancies_section(resolved("released")).blocks[0]
    assert isinstance(lead, Text)
    assert "on points 1, 2, 4, 6" in lead.text


def test_study_of_other_facts_has_no_such_section() -> None:
    assert discrepancies_section(resolved("quickstart")).blocks == ()
