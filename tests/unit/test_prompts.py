"""Prompts: what is shown to a model, the built-in shots, and how little is needed for both."""

import subprocess
import sys

import pytest

from kp.metrics.matching import normalise
from kp.prompts import Shot, builtin_prompts, builtin_shots, cut_prompts, messages, training_messages
from kp.vocabulary import ShotSet


def test_messages_with_shots_alternate_and_leave_the_answer_open() -> None:
    chat = messages([Shot("Who?", "Ada"), Shot("Where?", "Oslo")], "When?")
    assert [turn["role"] for turn in chat] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert chat[0]["content"] == "Answer the following question."
    assert [turn["content"] for turn in chat[1:]] == [
        "Question: Who?",
        "Answer: Ada",
        "Question: Where?",
        "Answer: Oslo",
        "Question: When?",
    ]


def test_training_messages_hold_no_shots_and_the_target() -> None:
    assert training_messages("When?", "1912") == [
        {"role": "system", "content": "Answer the following question."},
        {"role": "user", "content": "Question: When?"},
        {"role": "assistant", "content": "Answer: 1912"},
    ]


def test_builtin_shots_are_unique_short_and_enough_for_twelve_spares() -> None:
    shots = builtin_shots()
    assert len(shots) == 132
    assert len({normalise(shot.question) for shot in shots}) == 132
    assert len({normalise(shot.answer) for shot in shots}) == 132
    assert all(1 <= len(shot.answer.split()) <= 4 and shot.question.endswith("?") for shot in shots)
    assert all(text == text.strip() for shot in shots for text in (shot.question, shot.answer))


def test_builtin_prompts_of_three_sets_are_the_first_120_shots_in_order() -> None:
    prompts = [builtin_prompts(shot_set) for shot_set in (ShotSet.S0, ShotSet.S1, ShotSet.S2)]
    assert all(len(of_set) == 10 and all(len(prompt) == 4 for prompt in of_set) for of_set in prompts)
    assert [shot for of_set in prompts for prompt in of_set for shot in prompt] == builtin_shots()[:120]


def test_builtin_prompts_of_a_set_they_do_not_reach_to_is_an_error() -> None:
    with pytest.raises(ValueError, match="12 shots, a shot set has 40"):
        builtin_prompts(ShotSet.S3)


def test_cut_prompts_wrong_number_of_shots_is_an_error() -> None:
    with pytest.raises(ValueError, match="41 shots"):
        cut_prompts(builtin_shots()[:41])


def test_prompts_need_nothing_but_the_standard_library() -> None:
    program = (
        "import sys; from kp.prompts import builtin_prompts; import kp.errors, kp.metrics.matching; from kp.vocabulary import ShotSet; "
        "assert len(builtin_prompts(ShotSet.S0)) == 10; "
        "print(*sorted({'polars', 'pyarrow', 'pydantic', 'numpy', 'ray', 'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
