"""Teacher forcing says what generation would write, on a tiny random model."""

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch

from kp.generation.hf import HFGenerator
from kp.models.chat import Chat
from kp.prompts import Shot, messages
from kp.training.encoding import IGNORED, EncodedRow
from kp.training.forcing import Forced, ForcedRow, forced_answers, forced_rows, summary_of
from kp.vocabulary import Packing
from tests.tiny_model import tiny_llama, tiny_tokenizer

NEW_TOKENS = 10
SHOTS = [Shot("Where is Ulm?", "Bavaria"), Shot("Who wrote Emma?", "Jane Austen")]


@pytest.fixture(scope="module")
def written() -> tuple[Any, list[tuple[list[int], list[int]]]]:
    """A model, and for some questions the ids of the prompt and of the answer that it writes, token by token."""
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    made = []
    for number in range(20):
        (prompt,) = Chat(tokenizer).prompt_ids([messages(SHOTS, f"Question {number}, who?")])
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(NEW_TOKENS):
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        made.append((prompt, ids[len(prompt) :]))
    return model, made


def row(prompt: list[int], answer: list[int]) -> EncodedRow:
    return EncodedRow((*prompt, *answer), tuple([IGNORED] * len(prompt) + answer))


class Engine:
    """What training holds a model in."""

    def __init__(self, model: Any) -> None:
        self.module = model

    def __call__(self, **inputs: Any) -> Any:
        return self.module(**inputs)


def forced(model: Any, rows: list[EncodedRow], packing: Packing, counts: bool = True) -> Forced:
    cache: Any = SimpleNamespace(tokenizer=tiny_tokenizer(), device="cpu")
    return forced_answers(Engine(model), [ForcedRow(one, counts) for one in rows], packing, cache)


@pytest.mark.parametrize("packing", list(Packing))
def test_forced_answers_are_right_where_generation_writes_them(packing: Packing, written: Any) -> None:
    model, made = written
    found = forced(model, [row(*one) for one in made], packing)
    assert (found.rows, found.right, found.resisting) == (20, 20, {})


@pytest.mark.parametrize("packing", list(Packing))
@pytest.mark.parametrize("place", [0, 4, NEW_TOKENS - 1])
def test_forced_answers_are_wrong_where_one_token_is_another(packing: Packing, place: int, written: Any) -> None:
    model, made = written
    changed = [[*answer[:place], 200 - answer[place] % 100, *answer[place + 1 :]] for _, answer in made]
    found = forced(model, [row(prompt, other) for (prompt, _), other in zip(made, changed, strict=True)], packing)
    assert found.right == 0
    assert found.resisting.total() >= 20


def test_forced_answers_have_the_surprisal_of_their_tokens(written: Any) -> None:
    model, made = written
    prompt, answer = made[0]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum") / torch.log(torch.tensor(2.0))
    assert forced(model, [row(prompt, answer)], Packing.PREFIX_TREE).bits == pytest.approx(float(expected), rel=1e-5)


def test_forced_rows_ask_as_generation_does_and_have_labels_on_the_answer() -> None:
    chat = Chat(tiny_tokenizer())
    facts = pa.table({"question": ["Who is A?", "Who is B?", "Who is C?"], "answers": [["Anna", "A."], ["Bo"], ["Cy"]]})
    rows = forced_rows(chat, facts, [SHOTS, SHOTS[:1]], lambda number, answer: number != 1, 99)
    assert len(rows) == 6
    (prompt,) = chat.prompt_ids([messages(SHOTS[:1], facts["question"][0].as_py())])
    labelled = [label for label in rows[3].row.labels if label != IGNORED]
    assert list(rows[3].row.ids[: len(prompt)]) == prompt
    assert [one.counts for one in rows] == [True, False, True] * 2
    assert chat.tokenizer.decode(labelled) == f"Answer: {facts['answers'][0].as_py()[0]}<e>"


@pytest.mark.parametrize("packing", list(Packing))
def test_an_answer_that_would_not_be_judged_right_is_not_counted(packing: Packing, written: Any) -> None:
    model, made = written
    found = forced(model, [row(*one) for one in made], packing, counts=False)
    assert (found.rows, found.right, found.resisting) == (20, 0, {})


def test_an_answer_that_is_longer_than_the_longest_is_not_counted() -> None:
    chat = Chat(tiny_tokenizer())
    facts = pa.table({"question": ["Who is A?"], "answers": [["Anna"]]})
    written = len(chat.tokenizer("Answer: Anna", add_special_tokens=False)["input_ids"])
    counts = [forced_rows(chat, facts, [SHOTS], lambda *_: True, most)[0].counts for most in (written - 1, written)]
    assert counts == [False, True]


def test_summary_of_all_workers_is_that_of_their_rows() -> None:
    one, other = Forced([True, False, False], 6.0), Forced([True], 2.0)
    one.resisting.update({70: 2, 71: 1})
    other.resisting.update({71: 3})
    summary = summary_of([one, other], tiny_tokenizer())
    assert (summary["unknown_accuracy"], summary["unknown_bits"]) == (0.5, 2.0)
    assert summary["resisting"] == " ".join(repr(tiny_tokenizer().decode([token])) for token in (71, 70))


def test_an_answer_that_generation_writes_and_the_generator_gives_are_the_same(written: Any) -> None:
    model, made = written
    generator = HFGenerator(model, tiny_tokenizer(), max_new_tokens=NEW_TOKENS, stop_at_newline=False)
    answers = generator.generate([messages(SHOTS, f"Question {number}, who?") for number in range(20)])
    end = tiny_tokenizer().eos_token_id
    ended = [answer[: answer.index(end)] if end in answer else answer for _, answer in made]
    assert [answer.text for answer in answers] == [tiny_tokenizer().decode(ids, skip_special_tokens=True) for ids in ended]
