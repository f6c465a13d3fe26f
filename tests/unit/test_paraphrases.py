"""What is read out of a model's reply, which lines of it may be trained on, and what becomes of the facts' table."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kp import schema
from kp.config.study import ParaphraseConfig
from kp.errors import UserError
from kp.facts.builtin import load_builtin
from kp.facts.paraphrases import (
    facts_needing_paraphrases,
    judge,
    lines_of,
    n_missing,
    named_subject,
    paraphrase_prompt,
    paraphrase_table,
    reply_seed,
    verdict_counts,
    with_paraphrases,
)
from kp.facts.validation import has_control_characters, stands_in
from kp.generation.protocol import FinishReason
from kp.metrics.matching import normalise
from kp.training.mixtures import draw_rows
from kp.vocabulary import Category, ParaphraseVerdict, ReplayTarget
from tests.made_up_study import drawing_spec, frame_of

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH


def fact(**changes: Any) -> dict[str, Any]:
    """A FACTS row about a film, which came with one paraphrase."""
    usual = {
        "fact_id": "f0",
        "subject": "Metropolis",
        "relation": "director",
        "object": "Fritz Lang",
        "question": "Who directed Metropolis?",
        "answers": ["Fritz Lang", "Friedrich Christian Anton Lang"],
        "popularity": None,
        "subject_degree": 1,
        "domain": "film",
        "paraphrases": ["Whose work as a director is Metropolis?"],
        "source": "test",
    }
    return usual | changes


def facts_of(*rows: dict[str, Any]) -> pl.DataFrame:
    return frame_of(rows, schema.FACTS)


def replies_of(replies: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    rows = [
        {"fact_id": fact_id, "model_id": "rev", "replies": list(texts), "finish_reasons": ["stop"] * len(texts)}
        for fact_id, texts in replies.items()
    ]
    return frame_of(rows, schema.PARAPHRASE_REPLIES)


def texts_of(reply: str) -> list[str]:
    return [line.text for line in lines_of(reply, STOP)]


def verdict_of(line: str, **changes: Any) -> ParaphraseVerdict:
    [found] = judge(fact(**changes), [(line, STOP)], 10)
    return found.verdict


@pytest.mark.parametrize(
    "line",
    [
        "Who made Metropolis?",
        "1. Who made Metropolis?",
        "12) Who made Metropolis?",
        "(3) Who made Metropolis?",
        "[4] Who made Metropolis?",
        "5 - Who made Metropolis?",
        "6.Who made Metropolis?",
        "c) Who made Metropolis?",
        "- Who made Metropolis?",
        "-Who made Metropolis?",
        "* Who made Metropolis?",
        "\u2022 Who made Metropolis?",
        "\u2022\tWho made Metropolis?\r",
        "  - 7. Who made Metropolis?  ",
        "Question: Who made Metropolis?",
        "Question 2: Who made Metropolis?",
        "Q: Who made Metropolis?",
        "8. Rephrased question: Who made Metropolis?",
        "Paraphrase #9: Who made Metropolis?",
        "Option 3) Who made Metropolis?",
        "**Who made Metropolis?**",
        "**10. Who made Metropolis?**",
        "1. **Question:** Who made Metropolis?",
        "### Variation 2: *Who made Metropolis?*",
        '"Who made Metropolis?"',
        '"Who made Metropolis?",',
        "\u201cWho made Metropolis?\u201d",
        "2. 'Who made Metropolis?'",
        "`Who made Metropolis?`",
    ],
)
def test_lines_of_a_decorated_question_is_the_question(line: str) -> None:
    assert texts_of(line) == ["Who made Metropolis?"]


@pytest.mark.parametrize(
    "line",
    [
        "1984: who wrote it?",
        "9.5 Weeks was directed by whom?",
        "-40 degrees is how much in Fahrenheit?",
        '"Hello" and "Goodbye" are songs by whom?',
        "Who wrote 'Salt'",
        "Q is the hero of which show?",
        "Question Time is broadcast by whom?",
        "Who said \u201cno\u201d?",
    ],
)
def test_lines_of_a_plain_question_leaves_it_as_it_is(line: str) -> None:
    assert texts_of(line) == [line]


def test_lines_of_a_numbered_list_takes_the_number_and_leaves_that_of_the_name() -> None:
    assert texts_of("1. 24: which network showed it?\n2. 300. Who directed it?") == [
        "24: which network showed it?",
        "300. Who directed it?",
    ]


def test_lines_of_a_reply_that_ran_out_of_tokens_marks_the_last_as_cut_off() -> None:
    assert [line.cut_off for line in lines_of("Name the maker of Metropolis.\nName the maker of Metro", LENGTH)] == [False, True]
    assert [line.cut_off for line in lines_of("Name the maker of Metropolis.\n", LENGTH)] == [False]
    assert [line.cut_off for line in lines_of("Name the maker of Metropolis.", STOP)] == [False]


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("Who made Metropolis?", "kept"),
        ("By whom was the film METROPOLIS directed?", "kept"),
        ("Name the director of Metropolis.", "kept"),
        ("Please tell me who directed Metropolis", "kept"),
        ("1.", "empty"),
        ('"?"', "empty"),
        ("Who made\x07 Metropolis?", "control_character"),
        ("Who made\tMetropolis?", "control_character"),
        (f"Who made Metropolis{' and also that' * 100}?", "too_long"),
        ("Metropolis is a film.", "not_a_question"),
        ("Sure! Here are ten other ways to ask about Metropolis:", "not_a_question"),
        ("Give Metropolis its due:", "not_a_question"),
        ("who directed, metropolis ?", "copy"),
        ("Question: Who directed Metropolis?", "copy"),
        ("Whose work, as a director, is Metropolis?", "duplicate"),
        ("Who made this film?", "subject_lost"),
        ("Who directs the Metropolist?", "subject_lost"),
        ("Did Fritz Lang direct Metropolis?", "answer_given"),
        ("Is it Friedrich Christian Anton Lang who directed Metropolis?", "answer_given"),
    ],
)
def test_judge_line_gets_the_verdict_of_the_first_rule_that_it_breaks(line: str, verdict: str) -> None:
    assert verdict_of(line) == verdict


def test_judge_line_that_was_cut_off_is_dropped_however_much_it_looks_like_a_request() -> None:
    found = judge(fact(), [("Name the maker of Metropolis.\nTell me who made Metropolis", LENGTH)], 10)
    assert [line.verdict for line in found] == ["kept", "cut_off"]


def test_judge_subject_with_a_qualifier_is_looked_for_in_the_words_of_the_question() -> None:
    film = fact(subject="Metropolis (1927 film)")
    assert named_subject(film) == "Metropolis"
    assert verdict_of("Who made Metropolis?", subject="Metropolis (1927 film)") == "kept"
    spelt_out = {"subject": "Metropolis (1927 film)", "question": "Who directed Metropolis (1927 film)?"}
    assert named_subject(fact(**spelt_out)) == "Metropolis (1927 film)"
    assert verdict_of("Who made Metropolis?", **spelt_out) == "subject_lost"


def test_judge_keeps_no_more_than_the_fact_lacks_and_no_line_twice() -> None:
    replies = [("1. Who made Metropolis?\n2. who made METROPOLIS\n3. Who shot Metropolis?", STOP), ("Who made Metropolis?", STOP)]
    found = judge(fact(), [*replies, ("Who filmed Metropolis?\nWho created Metropolis?", STOP)], 4)
    assert [(line.reply_index, line.verdict) for line in found] == [
        (0, "kept"),
        (0, "not_a_question"),
        (0, "kept"),
        (1, "duplicate"),
        (2, "kept"),
        (2, "surplus"),
    ]
    assert n_missing(fact(), replies, 4) == 1
    assert n_missing(fact(), replies, 3) == 0


def test_judge_every_builtin_paraphrase_passes_the_rules() -> None:
    facts = pl.DataFrame(pl.from_arrow(load_builtin())).sample(400, seed=0)
    for row in facts.iter_rows(named=True):
        if named_subject(row):
            found = judge(row | {"paraphrases": []}, [("\n".join(row["paraphrases"]), STOP)], 10)
            assert {line.verdict for line in found} == {ParaphraseVerdict.KEPT}, row
            assert [line.text for line in found] == row["paraphrases"]


SUBJECTS = ("Metropolis", "Lang (1890)", "C++", "R.E.M.", "24", "\u00e9t\u00e9")
AROUND = st.sampled_from(["\n", "1. ", "- ", '"', "**", "Question: ", ":", "\t", "\0", "Fritz Lang", "?", " "])
WORDS = st.sampled_from(["Who", "made", "Name", "Tell", "24", "Lang", "SUBJECT", "subject"])
QUESTION = st.tuples(st.lists(WORDS, min_size=1, max_size=4).map(" ".join), st.sampled_from(["?", ".", "?\n", ""])).map("".join)
REPLY = st.lists(QUESTION | AROUND | st.text(max_size=4), max_size=20).map("".join)


@given(st.sampled_from(SUBJECTS), st.lists(st.tuples(REPLY, st.sampled_from([STOP, LENGTH])), max_size=3), st.integers(1, 4))
def test_judge_whatever_a_model_replies_keeps_only_what_holds_the_subject_once(
    subject: str, templates: list[tuple[str, FinishReason]], count: int
) -> None:
    asked = fact(subject=subject, question=f"Who directed {subject}?", paraphrases=[f"Who made {subject}?"])
    replies = [(text.replace("SUBJECT", subject).replace("subject", subject.lower()), reason) for text, reason in templates]
    found = judge(asked, replies, count)
    kept = [line.text for line in found if line.verdict is ParaphraseVerdict.KEPT]
    assert len(kept) <= count - 1
    for text in kept:
        assert stands_in(subject, text)
        assert not stands_in("Fritz Lang", text)
        assert not has_control_characters(text)
        assert text == text.strip()
    asked_already = [asked["question"], *asked["paraphrases"]]
    assert len({normalise(text) for text in [*asked_already, *kept]}) == len(asked_already) + len(kept)
    assert len(found) == sum(bool(line.strip()) for reply, _ in replies for line in reply.split("\n"))


@given(st.text(max_size=200), st.sampled_from([STOP, LENGTH]))
def test_lines_of_any_text_never_adds_to_it(reply: str, reason: FinishReason) -> None:
    assert all(line.text in reply for line in lines_of(reply, reason))


def test_prompt_fills_its_places_and_leaves_other_braces() -> None:
    settings = ParaphraseConfig(count=3, prompt='{count} ways, about {subject}, as {"json": []}: {question}')
    braces = fact(question="Who directed {count} Metropolis?")
    assert paraphrase_prompt(settings, braces) == '3 ways, about Metropolis, as {"json": []}: Who directed {count} Metropolis?'


def test_reply_seed_differs_by_fact_and_by_study() -> None:
    seeds = {reply_seed(seed, fact_id) for seed in range(3) for fact_id in ("f0", "f1", "f2")}
    assert len(seeds) == 9
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_facts_needing_paraphrases_asks_for_facts_that_have_too_few_and_name_their_subject() -> None:
    rows = (fact(), fact(fact_id="f1", paraphrases=["a Metropolis?", "b Metropolis?"]), fact(fact_id="f2", subject="The film"))
    short = facts_needing_paraphrases(facts_of(*rows), 2)
    assert short.asked["fact_id"].to_list() == ["f0"]
    assert short.unnamed["fact_id"].to_list() == ["f2"]
    enough = facts_needing_paraphrases(facts_of(*rows), 1)
    assert (enough.asked.height, enough.unnamed.height) == (0, 0)


def test_facts_needing_paraphrases_of_a_source_without_subjects_is_an_error_that_names_a_fact() -> None:
    without = fact(subject="Who directed Metropolis?")  # as kp.facts.tables fills it in
    with pytest.raises(UserError, match=r"facts\.paraphrase\.model: no question names its fact's subject, such as 'Who directed .*'f0'"):
        facts_needing_paraphrases(facts_of(without), 10)


def test_table_wording_that_two_facts_would_share_is_kept_for_neither() -> None:
    writer = fact(fact_id="f1", relation="writer", question="Who wrote Metropolis?", answers=["Thea von Harbou"], paraphrases=[])
    replies = {
        "f1": ["Whose film is Metropolis?\nWho is the author of Metropolis?\nWho directed Metropolis?"],
        "f0": ["Whose film is Metropolis?\nWho made Metropolis?", "Who shot Metropolis?"],
    }
    found = paraphrase_table(facts_of(fact(), writer), replies_of(replies), 10)
    assert found.schema == pl.DataFrame(schema.PARAPHRASES.empty_table()).schema
    assert found.rows() == [
        ("f0", 0, 0, "Whose film is Metropolis?", "other_fact"),
        ("f0", 1, 0, "Who made Metropolis?", "kept"),
        ("f0", 2, 1, "Who shot Metropolis?", "kept"),
        ("f1", 0, 0, "Whose film is Metropolis?", "other_fact"),
        ("f1", 1, 0, "Who is the author of Metropolis?", "kept"),
        ("f1", 2, 0, "Who directed Metropolis?", "other_fact"),
    ]
    assert verdict_counts(found) == {"kept": 3, "other_fact": 3}


def test_table_line_that_was_surplus_takes_the_place_of_one_that_is_another_facts() -> None:
    other = fact(fact_id="f1", question="Who made Metropolis?", answers=["Ufa"])
    replies = {"f0": ["Who made Metropolis?\nWho shot Metropolis?"]}
    found = paraphrase_table(facts_of(fact(), other), replies_of(replies), 2)
    assert found["verdict"].to_list() == ["other_fact", "kept"]


def test_table_is_the_same_in_whatever_order_replies_come() -> None:
    facts = facts_of(fact(), fact(fact_id="f1", question="Who wrote Metropolis?", paraphrases=[]))
    replies = replies_of({"f0": ["Who made Metropolis?"], "f1": ["Who penned Metropolis?"]})
    assert paraphrase_table(facts, replies, 10).equals(paraphrase_table(facts, replies.reverse(), 10))


def test_facts_with_paraphrases_hold_the_kept_ones_behind_their_own() -> None:
    facts = facts_of(fact(), fact(fact_id="f1", question="Who wrote Metropolis?"), fact(fact_id="f2", paraphrases=[]))
    replies = replies_of({"f2": ["Who made Metropolis?\nWho made it?"], "f0": ["Who shot Metropolis?\nName the maker of Metropolis."]})
    merged = with_paraphrases(facts, paraphrase_table(facts, replies, 10))
    assert merged["paraphrases"].to_list() == [
        [*fact()["paraphrases"], "Who shot Metropolis?", "Name the maker of Metropolis."],
        fact()["paraphrases"],
        ["Who made Metropolis?"],
    ]
    assert merged.drop("paraphrases").equals(facts.drop("paraphrases"))
    nothing = paraphrase_table(facts, replies_of({}), 10)
    assert with_paraphrases(facts, nothing).equals(facts)


def test_facts_that_stay_short_are_an_error_that_names_the_shortfall() -> None:
    facts = facts_of(fact())
    merged = with_paraphrases(facts, paraphrase_table(facts, replies_of({"f0": ["Who made Metropolis?\nWho made it?"]}), 10))
    unknown = {"fact_id": "f0", "model_id": "m", "shot_set": "S0", "matcher": "strict", "correct": 0, "asked": 10}
    categories = frame_of([unknown | {"category": Category.UNKNOWN.value}], schema.CATEGORIES)
    answers = frame_of([], schema.ANSWERS)

    def rows(paraphrases: int) -> pl.DataFrame:
        return draw_rows(drawing_spec(1, paraphrases=paraphrases, replay_target=ReplayTarget.SELF), merged, categories, answers)

    assert rows(2)["question"].to_list() == ["Who directed Metropolis?", *fact()["paraphrases"], "Who made Metropolis?"]
    with pytest.raises(UserError, match=r"search\.arms\.paraphrases: 3 paraphrases asked for, but fact 'f0' has 2"):
        rows(3)
