"""Prompts that are read before they are answered, and by another thread than the one that answers."""

import threading

import pytest

from kp.errors import UserError
from kp.generation.prompt_reader import PromptReader
from kp.models.chat import Chat
from tests.unit.test_generation import NEW_TOKENS, _generator, _model, _prompts, _tokenizer


def test_prompts_read_before_have_the_answers_of_prompts_that_were_not() -> None:
    generator, prompts = _generator(_model()), _prompts()

    read = generator.read(prompts)

    assert generator.read(read) == read
    assert generator.generate(read) == generator.generate(prompts)
    mixed = [known if number % 3 else prompt for number, (known, prompt) in enumerate(zip(read, prompts, strict=True))]
    assert generator.generate(mixed) == generator.generate(prompts)
    assert generator.sample(read, 2, 0.9, range(len(read))) == generator.sample(prompts, 2, 0.9, range(len(prompts)))


def test_prompts_of_a_group_share_what_every_question_behind_its_messages_begins_with() -> None:
    prompts = _prompts()

    read = PromptReader(Chat(_tokenizer()), NEW_TOKENS, None).read(prompts)

    tokenizer = _tokenizer()
    assert len({id(one.beginning) for one in read}) == 3
    for prompt, one in zip(prompts, read, strict=True):
        assert tokenizer.decode(list(one.beginning)).endswith("<u>Question: ")
        assert tokenizer.decode(one.own) == prompt[-1]["content"].removeprefix("Question: ") + "<e><a>"
        assert tokenizer.decode(one.draft) == "Answer:"


def test_prompt_too_long_for_the_model_is_refused_when_it_is_read() -> None:
    reader = PromptReader(Chat(_tokenizer()), NEW_TOKENS, 40)
    with pytest.raises(UserError, match="exceed the 40 positions"):
        reader.read(_prompts(3))


def test_prompts_read_by_another_thread_while_answers_are_made_are_the_same() -> None:
    generator, prompts = _generator(_model()), _prompts()
    read, answers = generator.read(prompts), generator.generate(prompts)
    found: list[bool] = []
    stop = threading.Event()

    def reading() -> None:
        while not stop.is_set():
            found.append(generator.read(prompts) == read)

    thread = threading.Thread(target=reading)
    thread.start()
    again = [generator.generate(prompts) for _ in range(3)]
    stop.set()
    thread.join()

    assert again == [answers] * 3
    assert len(found) > 3
    assert all(found)
