"""Where an answer ends, on a tokenizer of one token per byte."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from kp.generation.endings import Endings, end_tokens, newline_tokens
from kp.generation.protocol import FinishReason, Generation
from kp.models.chat import Chat

END = 0


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return _own_tokenizer()


def _own_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(["<e>", *alphabet])}, []))
    backend.add_special_tokens(["<e>"])
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<e>")


@pytest.fixture(scope="module")
def endings(tokenizer: PreTrainedTokenizerFast) -> Endings:
    return Endings(end_tokens(None, Chat(tokenizer)), newline_tokens(tokenizer))


ENDED = {
    "by the end of the sequence": ("Rome<e>", Generation("Rome", FinishReason.STOP, 5)),
    "by its first line": ("Rome\n", Generation("Rome", FinishReason.NEWLINE, 5)),
    "not by a label alone": ("Answer:\nRome\n", Generation("Answer:\nRome", FinishReason.NEWLINE, 13)),
    "not by a label in Markdown": ("**Answer**:\n\nRome\n", Generation("**Answer**:\n\nRome", FinishReason.NEWLINE, 18)),
    "not by blank lines before it": ("\n \nRome\n", Generation("\n \nRome", FinishReason.NEWLINE, 8)),
    "after a label by its length": ("Answer:\n", Generation("Answer:\n", FinishReason.LENGTH, 8)),
    "by its length": ("Rome is", Generation("Rome is", FinishReason.LENGTH, 7)),
}


@pytest.mark.parametrize(("text", "expected"), ENDED.values(), ids=ENDED)
def test_generation_ended(text: str, expected: Generation, endings: Endings, tokenizer: PreTrainedTokenizerFast) -> None:
    assert endings.generation(tokenizer, tokenizer(text).input_ids) == expected


def test_generation_running_past_its_first_line_keeps_all_lines(tokenizer: PreTrainedTokenizerFast) -> None:
    running_on = Endings(frozenset([END]), frozenset())
    assert running_on.generation(tokenizer, tokenizer("a\nb<e>").input_ids) == Generation("a\nb", FinishReason.STOP, 4)


@pytest.mark.parametrize(("configured", "expected"), [(None, {END}), (7, {END, 7}), ([7, 9], {END, 7, 9})])
def test_end_tokens_are_those_of_the_model_and_the_one_that_is_trained_to_end_an_answer(
    configured: int | list[int] | None, expected: set[int], tokenizer: PreTrainedTokenizerFast
) -> None:
    assert end_tokens(GenerationConfig(eos_token_id=configured), Chat(tokenizer)) == expected


def test_newline_tokens_are_those_whose_text_holds_one(tokenizer: PreTrainedTokenizerFast) -> None:
    (only,) = newline_tokens(tokenizer)
    assert tokenizer.decode([only]) == "\n"


def test_vocabulary_of_a_tokenizer_is_decoded_once_and_again_when_tokens_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    own = _own_tokenizer()
    other = _own_tokenizer()
    decoded: list[int] = []
    decode = PreTrainedTokenizerFast.batch_decode

    def counting(self: PreTrainedTokenizerFast, sequences: list[list[int]]) -> list[str]:
        decoded.append(len(sequences))
        return decode(self, sequences)  # type: ignore[return-value]

    monkeypatch.setattr(PreTrainedTokenizerFast, "batch_decode", counting)

    first = [newline_tokens(own) for _ in range(4)]
    assert (set(first), decoded) == ({newline_tokens(other)}, [len(other)] * 2)
    own.add_tokens(["<both\nlines>"])
    assert newline_tokens(own) == first[0] | {len(own) - 1}
    assert decoded[2:] == [len(own)]
