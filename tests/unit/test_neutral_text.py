"""The neutral text: every register from the start, whole passages, and none that states a fact that kp asks."""

import pytest

from kp.benchmarks.neutral_text import first_passages, neutral_passages, passages_digest
from kp.config.study import EvaluateConfig
from kp.facts.builtin import load_builtin
from kp.schema import frame


def test_passages_are_told_apart_and_none_is_empty_or_long() -> None:
    passages = neutral_passages()
    assert len({passage.name for passage in passages}) == len({passage.text for passage in passages}) == len(passages)
    assert all(30 <= passage.words <= 300 for passage in passages)
    assert len({passage.register for passage in passages}) >= 10


def test_study_can_ask_for_no_more_words_than_there_are() -> None:
    most = EvaluateConfig.model_fields["drift_words"].metadata[-1].le
    assert sum(passage.words for passage in neutral_passages()) >= most


@pytest.mark.parametrize("words", [1, 400, 1500, 12000])
def test_first_passages_are_whole_and_as_many_as_fit(words: int) -> None:
    chosen = first_passages(words)
    taken = sum(passage.words for passage in chosen)
    assert chosen == list(neutral_passages()[: len(chosen)])
    assert taken <= words or len(chosen) == 1
    assert taken + neutral_passages()[len(chosen)].words > words


def test_few_words_already_have_every_register() -> None:
    assert {passage.register for passage in first_passages(1500)} == {passage.register for passage in neutral_passages()}


def test_digest_changes_with_the_passages() -> None:
    assert passages_digest(first_passages(400)) != passages_digest(first_passages(800))


def test_no_passage_has_subject_and_object_of_a_built_in_fact() -> None:
    facts = frame(load_builtin()).select("subject", "object").unique().to_dicts()
    for passage in neutral_passages():
        padded = f" {' '.join(''.join(c if c.isalnum() else ' ' for c in passage.text.casefold()).split())} "
        found = [fact for fact in facts if f" {fact['subject'].casefold()} " in padded and f" {fact['object'].casefold()} " in padded]
        assert found == []
