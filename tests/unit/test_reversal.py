"""Reversed questions: which facts have one, whom a trial is asked, and what an adapter that changes nothing scores."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from kp import schema
from kp.config.study import EvaluateConfig
from kp.errors import UserError
from kp.facts.builtin import load_builtin
from kp.facts.tables import read_source
from kp.facts.templates import dbpedia_book
from kp.metrics.matching import AnswerKeys
from kp.metrics.reversal import asked_of, reversal_table, reversible
from kp.report.document import Table
from kp.report.locality_section import locality_section
from kp.report.summary import summary_table
from kp.vocabulary import Matcher
from tests.made_up_study import frame_of, study

DIRECTED = {"Rain": "Ana Cole", "Snow": "Bo Dahl", "Hail": "Bo Dahl", "Ida Fox": "Ida Fox the Elder", "Sleet": "Cy Eng"}


def facts() -> pl.DataFrame:
    """Films of directors, of whom one made two and one is named in the title, and a fact of another relation without a reverse."""
    rows = [
        {"fact_id": f"f{number}", "subject": film, "relation": "director_of_film", "object": who, "question": f"Who directed {film}?",
         "answers": [who], "paraphrases": ["?"], "source": "s", "reversed_question": f"Which film did {who} direct?"}
        for number, (film, who) in enumerate(DIRECTED.items())
    ]  # fmt: skip
    rows.append({**rows[0], "fact_id": "g", "relation": "year", "object": "1990", "answers": ["1990"], "reversed_question": None})
    return frame_of(rows, schema.FACTS)


def test_facts_whose_object_is_alone_and_whose_question_holds_no_answer_can_be_reversed() -> None:
    found = reversible(facts())
    assert found["fact_id"].to_list() == ["f0", "f4"]
    row = found.row(0, named=True)
    assert (row["subject"], row["object"], row["answers"]) == ("Ana Cole", "Rain", ["Rain"])
    assert (row["question"], row["paraphrases"]) == ("Which film did Ana Cole direct?", [])
    assert found.columns == schema.FACTS.names


def test_objects_are_alone_as_the_matchers_read_them() -> None:
    twice = facts().with_columns(object=pl.when(fact_id="f4").then(pl.lit("ANA COLE.")).otherwise("object"))
    assert reversible(twice)["fact_id"].to_list() == []


def test_trial_is_asked_its_packed_facts_and_as_many_untaught_unknown_ones() -> None:
    many = pl.concat([facts().head(1).with_columns(fact_id=pl.lit(f"m{number}"), object=pl.lit(f"Name {number}")) for number in range(40)])
    questions = reversible(many)
    packed, replayed = [f"m{number}" for number in range(6)], [f"m{number}" for number in range(6, 20)]
    unknown = [f"m{number}" for number in range(36)]
    found = set(asked_of(questions, packed, [*packed, *replayed], unknown, seed=0)["fact_id"])
    assert set(packed) < found
    assert len(found) == 12
    assert found - set(packed) <= set(unknown[20:])
    assert found == set(asked_of(questions.reverse(), packed, [*packed, *replayed], unknown, seed=0)["fact_id"])
    assert found != set(asked_of(questions, packed, [*packed, *replayed], unknown, seed=1)["fact_id"])


def answers(right: dict[str, int]) -> pl.DataFrame:
    """Ten answers to each fact, of which so many are right."""
    rows = [
        {"fact_id": fact_id, "model_id": "m", "shot_set": "S1", "prompt_index": prompt, "answer": "x", "finish_reason": "stop",
         "match_strict": prompt < count, "match_exact": False, "match_released": False, "refused": False}
        for fact_id, count in right.items() for prompt in range(10)
    ]  # fmt: skip
    return frame_of(rows, schema.ANSWERS)


def test_adapter_is_compared_with_the_base_on_the_same_questions() -> None:
    base, adapter = answers({"f0": 1, "f4": 0, "f1": 10}), answers({"f0": 7, "f4": 2})
    found = {row["facts"]: row for row in reversal_table("t", base, adapter, facts(), ["f0"], Matcher.STRICT).iter_rows(named=True)}
    assert (found["packed"]["adapter"], found["packed"]["base"], found["packed"]["n"]) == (0.7, 0.1, 1)
    assert found["packed"]["value"] == pytest.approx(0.6)
    assert (found["untaught"]["adapter"], found["untaught"]["base"]) == (0.2, 0.0)


def test_adapter_that_changes_no_answer_has_exactly_no_difference() -> None:
    same = {f"f{number}": number for number in range(5)}
    table = reversal_table("t", answers(same), answers(same), facts(), ["f0", "f1", "f2"], Matcher.STRICT)
    assert table["facts"].to_list() == ["packed", "untaught"]
    assert table.select("value").to_series().to_list() == [0.0, 0.0]
    assert all(row["lower"] <= 0 <= row["upper"] for row in table.drop_nulls("lower").iter_rows(named=True))


def test_answers_to_reversed_questions_are_judged_among_the_subjects() -> None:
    questions = reversible(facts()).to_arrow().cast(schema.FACTS)
    key = AnswerKeys.of_table(questions).of_facts(questions)[0]
    assert key.judge("Rain").strict
    assert not key.judge("Sleet").strict
    assert not key.judge("Rain or Sleet").strict


def test_built_in_facts_are_reversed_only_where_one_subject_has_the_object() -> None:
    built_in = pl.DataFrame(load_builtin())
    reversed_ = built_in.filter(pl.col("reversed_question").is_not_null())
    assert {"capital_of_country", "director_of_film", "symbol_of_element"} <= set(reversed_["relation"])
    assert "official_language_of_country" not in set(reversed_["relation"])
    sizes = built_in.group_by("relation", "object").len()
    assert reversed_.join(sizes, on=["relation", "object"])["len"].to_list() == [1] * len(reversed_)
    bahamas = reversed_.filter(relation="country_of_capital", object="Bahamas")
    assert bahamas["reversed_question"].to_list() == ["Which city is the capital of the Bahamas?"]
    assert len(reversible(built_in)) > 0.9 * len(reversed_)


def test_table_of_facts_can_have_reversed_questions(tmp_path: Path) -> None:
    file = tmp_path / "facts.csv"
    file.write_text("question,answer,reversed_question\nWho runs Acme?,Ann,What does Ann run?\nWho runs Bcme?,Ben,\n", encoding="utf-8")
    assert read_source(str(file)).facts["reversed_question"].to_pylist() == ["What does Ann run?", None]


def test_reversed_template_without_its_object_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "more.toml"
    file.write_text('[relations.boss]\ndomain = "d"\nquestion = "Who runs {subject}?"\nparaphrases = ["{subject}: run by whom?"]\n'
                    'reversed = "What does {subject} run?"\n', encoding="utf-8")  # fmt: skip
    with pytest.raises(UserError, match=r"relation 'boss', key 'reversed': .* must hold \{object\} exactly once"):
        dbpedia_book(file)


def test_reversed_questions_need_shot_sets() -> None:
    with pytest.raises(ValueError, match="reversed_questions"):
        EvaluateConfig.model_validate({"shot_sets": [], "held_out_paraphrases": 0})


def test_report_has_a_row_a_trial_with_packed_and_untaught_facts() -> None:
    tables = study()
    summary = summary_table(tables)
    trial = summary["trial_id"][0]
    measured = reversal_table(trial, answers({"f0": 1, "f4": 0}), answers({"f0": 7, "f4": 2}), facts(), ["f0"], Matcher.STRICT)
    (table,) = locality_section(replace(tables, locality=None, reversal=measured), summary).blocks
    assert isinstance(table, Table)
    assert [row.cells[0] for row in table.rows] == [summary["label"][0]]
    assert table.rows[0].cells[1].startswith("70.0")
    assert locality_section(replace(tables, locality=None, reversal=measured.clear()), summary).blocks == ()
