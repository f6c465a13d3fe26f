"""A model card says what the report says of the trial, in a form that the Hub reads."""

from dataclasses import replace

import polars as pl
import pytest
from huggingface_hub import ModelCard

from kp.errors import UserError
from kp.report.model_card import CardBase, facts_digest, model_card
from kp.report.summary import summary_table
from kp.report.tables import ReportTables
from kp.vocabulary import Role
from tests.made_up_study import context, study

BASE = CardBase("some-model", hub_id="org/some-model", revision="0" * 40, license="apache-2.0")
REPO = "me/facts"


@pytest.fixture(scope="module")
def tables() -> ReportTables:
    return study()


def measured_trial(tables: ReportTables) -> str:
    return str(summary_table(tables).filter(pl.col("knowledge_loss").is_not_null())["trial_id"][0])


def test_metadata_is_read_back_by_the_hubs_own_reader(tables: ReportTables) -> None:
    data = ModelCard(model_card(tables, context(), measured_trial(tables), BASE, REPO)).data.to_dict()
    assert data["base_model"] == "org/some-model"
    assert data["library_name"] == "peft"
    assert "license" not in data  # the owner's to choose


def test_metadata_names_no_base_that_only_one_machine_has(tables: ReportTables) -> None:
    card = model_card(tables, context(), measured_trial(tables), CardBase("folder"), REPO)
    assert "base_model" not in ModelCard(card).data.to_dict()


def test_every_measured_trial_has_a_card_with_its_facts(tables: ReportTables) -> None:
    for trial_id, rows in tables.training_rows.items():
        card = model_card(tables, context(), trial_id, BASE, REPO)
        assert facts_digest(rows.filter(role=Role.UNKNOWN.value)["fact_id"]) in card
        assert f"`{trial_id}`" in card


def test_digest_of_facts_depends_on_the_set_alone() -> None:
    assert facts_digest(["b", "a", "a"]) == facts_digest(["a", "b"]) != facts_digest(["ab"])


def test_text_of_a_study_cannot_break_the_cards_tables(tables: ReportTables) -> None:
    card = model_card(tables, replace(context(), kp_version="1 | 2\n3"), measured_trial(tables), BASE, REPO)
    assert "| kp | 1 \\| 2<br>3 |" in card


def test_trial_that_the_report_does_not_know_is_refused(tables: ReportTables) -> None:
    with pytest.raises(UserError, match="has no trial nobody"):
        model_card(tables, context(), "nobody", BASE, REPO)
