"""How chats become tokens, on templates of many families; the tokenizers have one token a byte."""

import datetime as clock
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from kp.errors import UserError
from kp.generation.endings import Endings, end_tokens
from kp.models.chat import Chat
from kp.prompts import SYSTEM, Shot, messages, training_messages
from tests.model_zoo import FAMILIES, Family, zoo_tokenizer

CHAT = messages([Shot("Where is Ulm?", "Bavaria, nearly"), Shot("Who wrote Emma?", "Jane Austen")], "Where is Lyon?")
ROW = training_messages("Where is Lyon?", "France")
WITH_TEMPLATE = [name for name, family in FAMILIES.items() if family.template]
PLAIN_CHATML = FAMILIES["chatml"]


def made(template: str, like: str = "chatml", special: tuple[str, ...] = ()) -> Chat:
    """A chat of another template with the tokens of a family."""
    family = FAMILIES[like]
    return Chat(zoo_tokenizer(Family(template, (*family.special, *special), family.eos, family.bos)))


@pytest.fixture(params=FAMILIES, name="family")
def _family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def test_prompt_holds_every_text_once_and_ends_where_the_answer_begins(family: Family) -> None:
    text = Chat(zoo_tokenizer(family)).prompt(CHAT)
    assert [text.count(message["content"]) for message in CHAT] == [1] * len(CHAT)
    assert text.endswith(family.prompt_end)


def test_prompt_ids_hold_no_end_and_no_second_beginning(family: Family) -> None:
    tokenizer = zoo_tokenizer(family)
    (ids,) = Chat(tokenizer).prompt_ids([CHAT])
    assert ids[-1] != tokenizer.eos_token_id
    assert ids.count(tokenizer.bos_token_id) == (family.bos is not None)


def test_row_ids_begin_with_the_prompt_and_end_with_the_turns_end(family: Family) -> None:
    tokenizer = zoo_tokenizer(family)
    chat = Chat(tokenizer)
    ids, prompt = chat.row_ids(ROW)
    assert ids[:prompt] == chat.prompt_ids([ROW[:-1]])[0]
    assert tokenizer.decode(ids[prompt:]).strip() == f"Answer: France{family.turn_end}"
    assert ids[-1] == chat.end_token == tokenizer.convert_tokens_to_ids(family.turn_end)


@pytest.mark.parametrize("name", [name for name in WITH_TEMPLATE if "system" not in name and "thought" not in name and "think" not in name])
def test_row_ids_are_those_of_the_whole_chat(name: str) -> None:
    tokenizer = zoo_tokenizer(FAMILIES[name])
    chat = Chat(tokenizer)
    asked = [{"role": "user", "content": ROW[1]["content"]}, ROW[-1]]  # some templates take a system's text only before the last question
    contents: Any = [one | {"content": [{"type": "text", "text": one["content"]}]} for one in asked] if chat.form.parts else asked
    whole = tokenizer.apply_chat_template(contents, chat_template=chat.form.source, tokenize=True, return_dict=False)
    ids, _ = chat.row_ids(asked)
    assert whole[: len(ids)] == ids
    assert set(whole[len(ids) :]) <= {*tokenizer("\n").input_ids, tokenizer.eos_token_id}


def test_row_ids_of_a_tokenizer_that_marks_the_first_word_are_those_of_the_whole_chat() -> None:
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = {token: number for number, token in enumerate([*special, *letters, "▁", "▁A", "An", "▁An"])}
    backend = Tokenizer(models.BPE(vocabulary, [("▁", "A"), ("A", "n"), ("▁A", "n")], unk_token="<unk>"))
    backend.add_special_tokens(special)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="first")
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}</s>{% else %}[INST]{{ m.content }}[/INST]"
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=template + "{% endif %}{% endfor %}"
    )
    whole = tokenizer.apply_chat_template(ROW, tokenize=True, return_dict=False)
    ids, prompt = Chat(tokenizer).row_ids(ROW)
    assert ids == whole
    assert tokenizer.convert_ids_to_tokens(ids[prompt]) == "An"  # not "▁An", as at the beginning of a text


@pytest.mark.parametrize(("template", "turn_end"), [(FAMILIES["two ends"].template, "<|done|>"), (PLAIN_CHATML.template, "<|e|>")])
def test_end_token_of_a_turn_ends_answers_and_is_no_part_of_them(template: str, turn_end: str) -> None:
    tokenizer = zoo_tokenizer(FAMILIES["two ends" if turn_end == "<|done|>" else "chatml"])
    chat = Chat(tokenizer)
    endings = Endings(end_tokens(None, chat), frozenset())
    made = endings.generation(tokenizer, tokenizer(f"Rome{turn_end}").input_ids)
    assert (made.text, made.finish_reason.value) == ("Rome", "stop")
    assert tokenizer.eos_token_id in endings.end_of_sequence


def test_end_token_of_a_turn_without_one_is_the_end_of_the_sequence() -> None:
    chat = made("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}")
    ids, _ = chat.row_ids(ROW)
    assert chat.form.turn_end is None
    assert chat.tokenizer.decode(ids).endswith("Answer: France<|text|>")


def test_prompt_of_a_template_with_a_clock_is_the_same_on_every_day(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Chat(zoo_tokenizer(FAMILIES["dated"]))

    class Later(clock.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Later":
            return cls(2041, 5, 6)

    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    after = Chat(zoo_tokenizer(FAMILIES["dated"]))
    assert after.prompt(CHAT) == before.prompt(CHAT)
    assert "Today: 26 Jul 2024" in after.prompt(CHAT)
    assert after.digest == before.digest
    assert any("26 July 2024" in note for note in after.form.notes())


def test_prompt_of_a_template_with_a_clock_keeps_the_blanks_of_the_template() -> None:
    dated = "\n  {% if strftime_now is defined %}\n{{ strftime_now('%Y') }}{% endif %}" + str(PLAIN_CHATML.template)
    assert made(dated).prompt(CHAT) == "\n2024" + made(str(PLAIN_CHATML.template)).prompt(CHAT)


def test_form_of_a_template_without_system_turns_sets_the_text_before_the_first_question() -> None:
    chat = Chat(zoo_tokenizer(FAMILIES["no system turn"]))
    assert f"<sot>user\n{SYSTEM}\n\n{CHAT[1]['content']}<eot>" in chat.prompt(CHAT)
    assert any("system" in note for note in chat.form.notes())


def test_form_of_a_template_that_leaves_system_turns_out_sets_the_text_before_the_first_question() -> None:
    silent = "{% for m in messages if m.role != 'system' %}<|s|>{{ m.role }}\n{{ m.content }}<|e|>{% endfor %}<|s|>assistant\n"
    assert f"<|s|>user\n{SYSTEM}\n\n{CHAT[1]['content']}<|e|>" in made(silent).prompt(CHAT)


THINKING = {
    "a switch of another name": ("{% if not thinking %}<think>\n</think>{% endif %}", "<think>\n</think>"),
    "a switch against": ("{% if no_think is defined and no_think %}[THINK][/THINK]{% endif %}", "[THINK][/THINK]"),
    "a switch that is off by default": ("{% if enable_thinking is defined and enable_thinking %}<think>\n{% endif %}", "assistant\n"),
    "an open thought of other tags": (
        "<|START_THINKING|>{# <|END_THINKING|> #}",
        "<|START_THINKING|>\n\n<|END_THINKING|>\n\n",
    ),
    "a thought left to the model": ("{% if false %}<reasoning></reasoning>{% endif %}", "<reasoning>\n\n</reasoning>\n\n"),
    "a template that only cuts thoughts off": ("{% set y = messages[0].content.split('</think>')[-1] %}", "<think>\n\n</think>\n\n"),
    "a switch that changes nothing": ("{% set x = enable_thinking %}<think>\n{# </think> #}", "<think>\n\n</think>\n\n"),
}


@pytest.mark.parametrize(("tail", "expected"), THINKING.values(), ids=THINKING)
def test_prompt_ends_without_an_open_thought(tail: str, expected: str) -> None:
    loop = "{% for m in messages %}<|s|>{{ m.role }}\n{{ m.content }}<|e|>{% endfor %}{% if add_generation_prompt %}<|s|>assistant\n"
    assert made(loop + tail + "{% endif %}").prompt(CHAT).endswith(expected)


def test_form_of_a_thought_that_nothing_closes_is_refused() -> None:
    loop = "{% for m in messages %}<|s|>{{ m.role }}\n{{ m.content }}<|e|>{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}"
    with pytest.raises(UserError, match=r"model\.name: its chat template opens a thought \(<think>\)"):
        made(loop)


def test_prompt_has_a_heading_and_an_empty_thought_where_the_template_shows_both() -> None:
    turns = "{% for m in messages %}<|s|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|e|>\n{% endfor %}"
    chat = made(turns)
    assert chat.prompt(CHAT).endswith("<|e|>\n<|s|>assistant\n<think>\n\n</think>\n\n")
    assert any("heading" in note for note in chat.form.notes())
    assert any("without a thought" in note for note in chat.form.notes())


def test_prompt_that_ends_with_a_blank_leaves_it_to_the_answer() -> None:
    spaced = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|e|>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    chat = made(spaced)
    ids, prompt = chat.row_ids(ROW)
    assert chat.prompt(CHAT).endswith("assistant:")
    assert ids[:prompt] == chat.prompt_ids([ROW[:-1]])[0]
    assert chat.tokenizer.decode(ids[prompt:]) == " Answer: France<|e|>"


@pytest.mark.parametrize("between", ["\n", " ", " \n\n", ""])
def test_row_has_the_blanks_that_the_template_sets_before_an_answer_and_not_into_a_prompt(between: str) -> None:
    turns = "{% for m in messages %}<|s|>{{ m.role }}:BETWEEN{{ m.content }}<|e|>{% endfor %}".replace("BETWEEN", between)
    chat = made(turns + "{% if add_generation_prompt %}<|s|>assistant:{% endif %}")
    ids, prompt = chat.row_ids(ROW)
    assert chat.prompt(CHAT).endswith("<|s|>assistant:")
    assert chat.tokenizer.decode(ids[prompt:]) == f"{between}Answer: France<|e|>"


def test_end_of_a_turn_that_only_the_next_question_shows_is_trained() -> None:
    open_ended = (
        "{% for m in messages %}<|s|>{{ m.role }}\n{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|s|>assistant\n{% endif %}"
    )
    assert made(open_ended).form.turn_end == "<|s|>"


def test_end_of_a_turn_is_no_added_token_of_blanks() -> None:
    tokenizer = zoo_tokenizer(PLAIN_CHATML)
    tokenizer.chat_template = str(PLAIN_CHATML.template).replace("<|e|>", "\n\n<|e|>")
    tokenizer.add_tokens(["\n\n"])
    assert Chat(tokenizer).form.turn_end == "\n\n<|e|>"


REFUSED = {
    "that writes lists of parts as they are": (
        "{% for m in messages %}{% if m.role == 'user' %}{% for p in m.content %}{{ p.text }}{% endfor %}{% else %}"
        "{{ m.content }}{% endif %}{% endfor %}",
        "",
    ),
    "that refuses": ("{{ raise_exception('no chats, please') }}", "no chats, please"),
    "that leaves answers out": ("{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}", "leaves out messages"),
    "that shows the last message alone": ("{{ messages[-1].content }}", "leaves out messages"),
    "that is no template": ("{% for m in messages %}", "refuses the prompt"),
}


@pytest.mark.parametrize(("template", "told"), REFUSED.values(), ids=REFUSED)
def test_form_of_a_template_is_refused(template: str, told: str) -> None:
    with pytest.raises(UserError, match=rf"model\.name: its chat template.*{told}"):
        made(template)


def test_prompt_that_a_template_changes_is_refused() -> None:
    cutting = "{% for m in messages %}<|s|>{{ m.role }}\n{{ m.content[:40] }}<|e|>{% endfor %}<|s|>assistant\n"
    chat = made(cutting)
    with pytest.raises(UserError, match="changes or leaves out a message: 'Question: Where"):
        chat.prompt(messages([], "Where" + " very" * 20 + " far is it?"))


def test_plain_lines_have_the_beginning_and_not_the_end_that_the_tokenizer_sets() -> None:
    tokenizer = zoo_tokenizer(FAMILIES["none"])
    chat = Chat(tokenizer)
    (ids,) = chat.prompt_ids([CHAT])
    assert tokenizer.decode(ids) == "<bos>" + "".join(f"{message['content']}\n" for message in CHAT)
    assert any("no chat template" in note for note in chat.form.notes())


def test_end_token_of_neither_template_nor_tokenizer_is_refused() -> None:
    tokenizer = zoo_tokenizer(FAMILIES["none"])
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="ends an answer"):
        Chat(tokenizer).row_ids(ROW)


def test_digest_changes_with_the_template() -> None:
    other = str(PLAIN_CHATML.template).replace("\n", " ")
    assert len({Chat(zoo_tokenizer(PLAIN_CHATML)).digest, made(other).digest}) == 2
