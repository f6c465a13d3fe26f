"""Records of all knobs, read off the sections of a study file."""

import tomllib
from pathlib import Path

import pytest

from kp.config.knobs import all_knobs, all_sections
from kp.config.toml import toml_value


def test_knobs_every_one_has_a_meaning() -> None:
    assert [name for name, knob in all_knobs().items() if not knob.meaning] == []
    assert [section.name for section in all_sections() if not section.meaning] == []


def test_knob_is_what_its_field_says() -> None:
    rank = all_knobs()["search.rank"]
    assert (rank.meaning, rank.type, rank.default, rank.required) == ("LoRA ranks.", "list of whole numbers", [8], False)
    assert rank.type_text == "list of whole numbers, above 0, at most 16384"
    assert rank.default_text == "[8]"


@pytest.mark.parametrize(
    ("name", "type_text", "default_text"),
    [
        ("name", "text, matching ^[A-Za-z0-9][A-Za-z0-9._-]*$", "none: a study must set it"),
        ("categorise.matcher", "one of strict, exact, released", '"strict"'),
        ("trackers.use", "list, each one of wandb, mlflow, tensorboard", "[]"),
        ("training.steps", "whole number, above 0", "absent"),
        ("training.lora_dropout", "number, at least 0, below 1", "0.1"),
        ("search.learning_rate_range", "list of 2 numbers", "absent"),
        ("search.arms", "list of tables", "[{}]"),
        ("evaluate.surprisal", "true or false", "true"),
    ],
)
def test_knob_type_and_default_in_words(name: str, type_text: str, default_text: str) -> None:
    knob = all_knobs()[name]
    assert (knob.type_text, knob.default_text) == (type_text, default_text)


def test_knob_inherited_stands_where_it_is_declared() -> None:
    knob = all_knobs()["search.eval_mode"]
    assert (knob.section, knob.declared_by) == ("search", "TrialSettings")
    assert "eval_mode: EvalMode" in Path(knob.file).read_text(encoding="utf-8").splitlines()[knob.line - 1]


def test_toml_text_of_every_default_is_read_as_that_default() -> None:
    for knob in all_knobs().values():
        if knob.default is not None:
            assert tomllib.loads(f"value = {toml_value(knob.default)}")["value"] == knob.default, knob.name
