"""A value on the command line is read by the type of its field, and one that does not fit is answered with what would."""

from pathlib import Path
from typing import Any

import pytest

from kp.config.field_types import expectation, field_type
from kp.config.study import StudyConfig, load_study
from kp.errors import UserError
from kp.vocabulary import ShotSet, Tracker


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text('name = "small"\n[training]\nlora_alpha = 16\n', encoding="utf-8")
    return path


def value_of(config: StudyConfig, dotted: str) -> Any:
    value: Any = config
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


TEXTS = {
    "a whole number": ("model.revision=7654321", "7654321"),
    "a number with an exponent": ("model.revision=3e8", "3e8"),
    "zeros in front": ("facts.graph.templates=007", "007"),
    "a switch": ("name=false", "false"),
    "a year": ("name=1999", "1999"),
    "a date": ("facts.source=2021-03-04", "2021-03-04"),
    "marks of TOML": ("facts.source=a b#c?[x]{y}.csv", "a b#c?[x]{y}.csv"),
    "an equals sign": ("facts.source=a=b.csv", "a=b.csv"),
    "double quotes": ('facts.source="a b.csv"', "a b.csv"),
    "single quotes": ("facts.source='a b.csv'", "a b.csv"),
    "one quote": ("facts.source='a b.csv", "'a b.csv"),
    "a line break": ("facts.source=a\nname = b", "a\nname = b"),
    "quotes and a line break": ('facts.source="a"\nname = "b"', '"a"\nname = "b"'),
    "nothing": ("model.revision=", ""),
    "a list": ("facts.source=[a,b]", "[a,b]"),
    "braces in a prompt": ("facts.paraphrase.prompt={question}", "{question}"),
}


@pytest.mark.parametrize(("override", "value"), TEXTS.values(), ids=TEXTS)
def test_override_of_a_text_is_taken_as_it_is_written(study: Path, override: str, value: str) -> None:
    assert value_of(load_study(study, [override]), override.partition("=")[0]) == value


LISTS: dict[str, tuple[str, tuple[object, ...]]] = {
    "texts without quotes": ("facts.relations=[river, lake]", ("river", "lake")),
    "texts without brackets": ("facts.relations=river,lake", ("river", "lake")),
    "one text": ("facts.relations=river", ("river",)),
    "numbers as texts": ("facts.relations=[10,2e5]", ("10", "2e5")),
    "quotes of both kinds": ("""facts.relations=["a, b", 'c, d',e]""", ("a, b", "c, d", "e")),
    "a comma at the end": ("facts.relations=[river,]", ("river",)),
    "no texts": ("facts.relations=[]", ()),
    "words": ("evaluate.shot_sets=[S1,S2]", (ShotSet.S1, ShotSet.S2)),
    "one word": ("trackers.use=wandb", (Tracker.WANDB,)),
    "one number": ("search.rank=16", (16,)),
    "numbers without brackets": ("search.rank=2,4", (2, 4)),
    "a number with an exponent": ("search.learning_rate=2e-3", (2e-3,)),
}


@pytest.mark.parametrize(("override", "value"), LISTS.values(), ids=LISTS)
def test_override_of_a_list_needs_neither_quotes_nor_brackets(study: Path, override: str, value: tuple[object, ...]) -> None:
    assert value_of(load_study(study, [override]), override.partition("=")[0]) == value


def test_override_of_a_list_of_sections_takes_one(study: Path) -> None:
    arms = load_study(study, ["search.arms={highly_known = 3}"]).search.arms
    assert [arm.highly_known for arm in arms] == [3]


UNFIT = {
    "text for a count": ("facts.count=lots", "facts.count", "a whole number, such as facts.count=8"),
    "a fraction for a count": ("facts.count=2.5", "facts.count", "a whole number, such as facts.count=8"),
    "text for a list of numbers": ("search.rank=big", "search.rank", "a list of whole numbers, such as 'search.rank=[8]'"),
    "a list that does not end": ("search.rank=[4,8", "search.rank", "a list of whole numbers"),
    "text in a list of numbers": ('search.rank=[4,"big"]', "search.rank.1", "a list of whole numbers"),
    "text for a number": ("report.margin=wide", "report.margin", "a number, such as report.margin=0.02"),
    "a word for a switch": ("evaluate.placebo=yes", "evaluate.placebo", "true or false, such as evaluate.placebo=true"),
    "an unknown word": ("model.dtype=16", "model.dtype", "one of bfloat16, float32, auto, such as model.dtype=bfloat16"),
    "a value for a section": ("facts=3", "facts", "a section; set one of its fields, such as facts.source=builtin"),
    "a text for sections": ("search.arms=x", "search.arms", "a list of sections, such as 'search.arms=[{highly_known = 8}]'"),
}


@pytest.mark.parametrize(("override", "field", "expected"), UNFIT.values(), ids=UNFIT)
def test_override_that_fits_no_type_is_told_what_would(study: Path, override: str, field: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_study(study, [override])
    assert str(caught.value).startswith(f"{study}: {field}: ")
    assert f"; expected {expected}" in str(caught.value)


@pytest.mark.parametrize(
    "override", ["search.rank=[16385]", "search.rank=[99999999999]", "facts.count=2147483648", "training.epochs=1e999"]
)
def test_override_beyond_what_is_possible_is_refused_by_its_field(study: Path, override: str) -> None:
    with pytest.raises(UserError, match=override.partition("=")[0]):
        load_study(study, [override])


def test_override_of_the_largest_rank_is_read(study: Path) -> None:
    assert load_study(study, ["search.rank=[16384]"]).search.rank == (16384,)


def dotted_fields(section: Any = StudyConfig, above: str = "") -> list[str]:
    found = []
    for name in section.model_fields:
        kind = field_type(StudyConfig, above + name)
        assert kind is not None
        found += [above + name, *(dotted_fields(kind.section, f"{above}{name}.") if kind.section else [])]
    return found


def faults_told(study: Path, override: str) -> str:
    """What is said of a study with this override, which may not go together with the rest of it."""
    try:
        load_study(study, [override])
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("dotted", dotted_fields())
def test_every_field_has_an_expectation_whose_example_has_its_type(study: Path, dotted: str) -> None:
    text = expectation(StudyConfig, dotted)
    assert text is not None
    example = text.partition("such as ")[2].strip("'")
    assert example.startswith(dotted)
    if ".arms." in dotted or ".tasks." in dotted:  # of one of a list, which an override cannot name
        return
    assert "; expected" not in faults_told(study, example)


def test_field_of_no_section_has_no_type() -> None:
    assert field_type(StudyConfig, "name.first") is None
    assert expectation(StudyConfig, "facts.nothing") is None
