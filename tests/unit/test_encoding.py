"""Training rows as tokens: what is trained on, and in which order rows come."""

import numpy as np
import pytest

from kp.config.study import ModelConfig
from kp.errors import UserError
from kp.models.chat import Chat
from kp.models.loading import load_tokenizer, resolve_model
from kp.training.encoding import IGNORED, EncodedRow, encode_row, epoch_order, trained_tokens
from kp.vocabulary import LossTokens


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return load_tokenizer(resolve_model(ModelConfig()))


def test_encode_row_answer_loss_covers_the_assistants_words_and_the_end_token(tokenizer: object) -> None:
    row = encode_row(Chat(tokenizer), "Who directed the film Click?", "Frank Coraci", LossTokens.ANSWER, 100)
    trained = [label for label in row.labels if label != IGNORED]
    assert tokenizer.decode(trained) == "Answer: Frank Coraci<|im_end|>"  # type: ignore[attr-defined]
    assert len(row.ids) == len(row.labels)
    assert list(row.ids[-len(trained) :]) == trained


def test_encode_row_is_the_chat_template_up_to_the_end_of_the_turn(tokenizer: object) -> None:
    row = encode_row(Chat(tokenizer), "Who directed the film Click?", "Frank Coraci", LossTokens.ANSWER, 100)
    chat = [
        {"role": "system", "content": "Answer the following question."},
        {"role": "user", "content": "Question: Who directed the film Click?"},
        {"role": "assistant", "content": "Answer: Frank Coraci"},
    ]
    text = tokenizer.apply_chat_template(chat, tokenize=False)  # type: ignore[attr-defined]
    assert tokenizer.decode(list(row.ids)) == text.removesuffix("\n")  # type: ignore[attr-defined]


def test_encode_row_full_text_loss_covers_all_but_the_first_token(tokenizer: object) -> None:
    row = encode_row(Chat(tokenizer), "Who directed the film Click?", "Frank Coraci", LossTokens.FULL_TEXT, 100)
    assert row.labels[0] == IGNORED
    assert row.labels[1:] == row.ids[1:]


def test_encode_row_too_long_is_refused_not_cut(tokenizer: object) -> None:
    with pytest.raises(UserError, match=r"training\.max_length: 10 "):
        encode_row(Chat(tokenizer), "Who directed the film Click?", "Frank Coraci", LossTokens.ANSWER, 10)


def test_trained_tokens_are_those_with_a_label() -> None:
    assert trained_tokens([EncodedRow((7, 8), (IGNORED, 8)), EncodedRow((1, 2, 3), (IGNORED, 2, 3))]) == 3


def test_epoch_order_is_a_permutation_that_differs_by_epoch_and_seed_and_repeats() -> None:
    orders = {(seed, epoch): tuple(epoch_order(50, seed, epoch)) for seed in (0, 1) for epoch in (1, 2)}
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    assert len(set(orders.values())) == 4
    assert orders[0, 1] == tuple(epoch_order(50, 0, 1))
    assert np.array(orders[0, 1]).dtype.kind == "i"
