"""The pages of `kp audit` and `kp noise` say what their tables say."""

from io import StringIO

import polars as pl
import pytest
from rich.console import Console

from kp.metrics.aliases import doubtful_aliases
from kp.metrics.audit import disagreement_table, false_positive_table, matcher_transitions, refusal_table
from kp.metrics.categories import categorise, category_counts
from kp.metrics.majority import majority_table
from kp.metrics.matching import match_all
from kp.metrics.noise import noise_shifts, noise_spread, noise_transitions
from kp.report.audit_page import Subject, audit_page
from kp.report.document import Document, Table
from kp.report.markdown import render_markdown
from kp.report.noise_page import noise_page
from kp.report.terminal import WIDTH, terminal_table
from kp.vocabulary import Matcher

FACTS = {"a": ("Rome", ["Rome", "Roma"]), "b": ("Oman", ["Oman"]), "c": ("Oman", ["Oman", "OM"]), "d": ("Peru", ["Peru", "Roma"])}
SUBJECT = Subject("made_up", "tiny", len(FACTS), Matcher.STRICT)


def answers(said: dict[str, str]) -> pl.DataFrame:
    """One answer a fact and shot set; a word for each of S0, S1, ..."""
    rows = []
    for key, words in said.items():
        for number, text in enumerate(words.split()):
            found = match_all(text, FACTS[key][1])
            verdicts = {"match_strict": found.strict, "match_exact": found.exact, "match_released": found.released}
            place = {"fact_id": key, "model_id": "m", "shot_set": f"S{number}", "prompt_index": 0}
            rows.append({**place, "answer": text, "refused": text == "unknown", **verdicts})
    return pl.DataFrame(rows)


@pytest.fixture(scope="module")
def audit() -> Document:
    facts = pl.DataFrame(
        [{"fact_id": key, "relation": "part_of", "object": name, "answers": aliases} for key, (name, aliases) in FACTS.items()]
    )
    asked = answers({"a": "Oman Rome", "b": "Oman Oman", "c": "Oman Womanly", "d": "unknown Peru"})
    categories = categorise(asked)
    return audit_page(
        SUBJECT,
        {
            "disagreement": disagreement_table(asked),
            "matcher_transitions": matcher_transitions(categories),
            "false_positives": false_positive_table(facts, asked, seed=0),
            "doubtful_aliases": doubtful_aliases(facts),
            "refusals": refusal_table(asked),
            "majority": majority_table(facts, asked, categories, Matcher.STRICT),
            "category_counts": category_counts(categories, ["shot_set", "matcher"]),
        },
    )


def noise(said: dict[str, str]) -> Document:
    categories = categorise(answers(said))
    shifts = noise_shifts(categories, Matcher.STRICT)
    tables = {
        "noise_shifts": shifts,
        "noise_spread": noise_spread(shifts),
        "noise_transitions": noise_transitions(categories, Matcher.STRICT),
    }
    return noise_page(SUBJECT, tables)


def test_audit_page_opens_with_what_a_constant_answer_gets(audit: Document) -> None:
    assert audit.answer[0] == "Of 2 HighlyKnown facts, a model that gives one constant answer per relation would get 2 right."
    assert audit.answer[2] == "3 of 4 facts have an alias that is ambiguous or dangerous."


def test_audit_page_has_every_section_with_its_numbers(audit: Document) -> None:
    page = render_markdown(audit)
    assert [section.anchor for section in audit.sections] == ["short", "matchers", "false", "aliases", "refusals", "majority"]
    assert "| strict, released | 8 | 1 | 12.5 ± 12.5 | 0 | 1 |" in page  # "Womanly"
    assert "| roma | part of | ambiguous | 2 | 2 |" in page
    assert "| om | part of | short | 1 | 1 |" in page
    assert "| part of | Oman | 4 | 50.0 | 50.0 | 75.0 ± 25.0 | 2 | 2 |" in page
    assert "| all 1 |  | 2 of 4 | 75.0 | 2 of 2 |" in page
    assert "| S0 | 4 | 1 | 25.0 ± 25.0 |" in page


def test_noise_page_of_one_draw_has_no_spread() -> None:
    page = render_markdown(noise({"a": "x Rome Oman", "b": "x Oman Oman", "c": "x no Oman", "d": "x Peru Peru"}))
    assert "1 of 4 facts fall in category (25.0 %; 33.3 % of the 3 at risk) and 1 of 4 facts rise in category" in page
    assert "One draw of the noise." in page
    assert "s.d." not in page


def test_noise_page_of_two_draws_has_their_mean_and_spread() -> None:
    page = render_markdown(noise({"a": "x Rome Oman no", "b": "x Oman Oman no", "c": "x Oman Oman no", "d": "x Peru Peru Peru"}))
    assert "Means over 2 draws of the noise." in page
    assert "| negative | all | 2 | 2 | 50.0 | 35.4 | 25.0 | 75.0 |" in page
    assert "| S1 → S3 | HighlyKnown | 3 | 0 | 1 |" in page


@pytest.mark.parametrize("page", ["audit", "noise"])
def test_terminal_tables_fit_eighty_columns_and_keep_every_cell(page: str, audit: Document) -> None:
    document = audit if page == "audit" else noise(dict.fromkeys(FACTS, "x Rome no no"))
    for block in document.sections[0].blocks:
        assert isinstance(block, Table)
        console = Console(width=WIDTH, record=True, file=StringIO())
        console.print(terminal_table(block))
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= WIDTH
        assert all(word in text for row in block.rows for cell in row.cells for word in cell.replace(",", " ").split())
