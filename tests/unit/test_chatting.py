"""What `kp chat` shows of two answers, and of the study's own facts."""

from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from kp.study.chatting import Exchange, KnownFact, KnownFacts, shown_exchange
from tests.conftest import REPOSITORY

RESULT = REPOSITORY / "results" / "quickstart"


def printed(exchange: Exchange, width: int) -> list[str]:
    console = Console(width=width, markup=False)
    with console.capture() as capture:
        console.print(shown_exchange(exchange, "0123abcd", width))
    return capture.get().splitlines()


@pytest.mark.parametrize(("width", "together"), [(80, True), (40, False)])
def test_answers_stand_side_by_side_unless_the_terminal_is_narrow(width: int, together: bool) -> None:
    lines = printed(Exchange("Who?", "Anna", "Berta", None), width)
    assert any("Anna" in line and "Berta" in line for line in lines) is together
    assert all(len(line) <= width for line in lines)


def test_answer_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in "".join(printed(Exchange("Who?", "\x1b[2J[bold]x", "", None), 80))


def test_fact_of_the_study_is_shown_with_answers_and_categories() -> None:
    told = " ".join(printed(Exchange("Who?", "", "", KnownFact(("Anna", "Ann"), "Unknown", None)), 80))
    assert "Anna / Ann (base Unknown, adapter not measured)" in told


def test_known_facts_are_found_by_their_question_in_any_case(tmp_path: Path) -> None:
    trial_id = pl.read_parquet(RESULT / "tables" / "trials.parquet")["trial_id"][0]
    fact = pl.read_parquet(RESULT / "tables" / "facts.parquet").row(0, named=True)
    (tmp_path / "report").symlink_to(RESULT)
    known = KnownFacts(tmp_path, trial_id)
    found = known.find(fact["question"].upper())
    assert found is not None
    assert found.answers == tuple(fact["answers"])
    assert found.before is not None
    assert known.find("What is nowhere?") is None
