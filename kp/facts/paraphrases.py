"""From an instruct model's replies to paraphrases that a trial may train on.

A model asked for ten wordings returns many things: numbers, bullets and quotes around them, the question itself, duplicates, a sentence
about what it is going to do, a question about something else, or the answer. A training row with another meaning would count as a fact that
was not learned. So a line is kept only if it passes every rule below, and for every other line the reason is recorded. The rules do not
understand meaning: they check the subject's name and the form of a question, and leave the rest to the model.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from kp.config.derived import PARAPHRASER_FIELD
from kp.config.study import ParaphraseConfig
from kp.errors import UserError
from kp.facts.dump.entity_names import without_qualifier
from kp.facts.validation import LONGEST_TEXT, has_control_characters, stands_in
from kp.generation.protocol import FinishReason
from kp.metrics.matching import normalise
from kp.schema import PARAPHRASES
from kp.vocabulary import ParaphraseVerdict as Verdict

_PLACES = re.compile(r"\{(question|count|subject)\}")
_BULLET = re.compile(r"[-\u2010-\u2015+*\u2022\u2023\u2043\u25aa\u25cf\u25e6\u00b7>](?:\s+|(?=[^\W\d_]))")
_NUMBER = re.compile(r"[(\[]?\d{1,3}(?:[.):\]]+(?!\d)|\s*[-\u2010-\u2015]\s)\s*|\(?[A-Za-z]\)\s+")
_LABEL = re.compile(
    r"(?:(?:re-?phrased|paraphrased|re-?worded|alternative|another|new|original)\s+)?"
    r"(?:question|q|paraphrase|rephrasing|rewording|variation|variant|version|alternative|option|way)"
    r"\s*(?:#?\d{1,3}\s*(?:[.):]|[-\u2010-\u2015]\s)|:)\s*",
    re.IGNORECASE,
)
_QUOTES = (('"', '"'), ("'", "'"), ("`", "`"), ("\u201c", "\u201d"), ("\u2018", "\u2019"), ("\u00ab", "\u00bb"), ("\u201e", "\u201c"))
_QUESTION_MARKS = ("?", "\uff1f", "\u061f")
_REQUEST = re.compile(r"(?:please\s+)?(?:name|tell|state|give|identify|specify|provide|indicate)\s.*[^:]", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """A line of a reply without bullets, quotes and so on; `cut_off` if the reply reached its token limit within it."""

    text: str
    cut_off: bool = False


@dataclass(frozen=True)
class Paraphrase:
    """A line, the index of its reply among those to the fact, and its verdict."""

    reply_index: int
    text: str
    verdict: Verdict


@dataclass(frozen=True)
class FactsNeedingParaphrases:
    """The facts that have too few paraphrases (FACTS): those to ask for, and those whose question names no subject.

    For the latter it could not be checked whether a paraphrase still asks the same.
    """

    asked: pl.DataFrame
    unnamed: pl.DataFrame


def paraphrase_prompt(settings: ParaphraseConfig, fact: Mapping[str, Any]) -> str:
    """The prompt about a fact (a FACTS row), with its placeholders filled; other braces are unchanged."""
    filling = {"question": fact["question"], "count": str(settings.count), "subject": fact["subject"]}
    return _PLACES.sub(lambda place: filling[place[1]], settings.prompt)


def reply_seed(seed: int, fact_id: str) -> int:
    """The 64-bit seed of a fact's sampled replies: a hash of the study's seed and the fact, independent of what else is asked."""
    return int.from_bytes(hashlib.blake2b(f"paraphrases\n{seed}\n{fact_id}".encode(), digest_size=8).digest())


def named_subject(fact: Mapping[str, Any]) -> str | None:
    """The subject of a fact (a FACTS row) as its question names it, or None.

    In a source without subjects, the subject is the whole question, which names nothing.
    """
    subject, question = fact["subject"], fact["question"]
    names = (subject, without_qualifier(subject))
    return next((name for name in names if stands_in(name, question) and normalise(name) != normalise(question)), None)


def facts_needing_paraphrases(facts: pl.DataFrame, count: int) -> FactsNeedingParaphrases:
    """The facts in `facts` (FACTS) with fewer than `count` paraphrases; UserError if none of their questions names its subject."""
    short = facts.filter(pl.col("paraphrases").list.len() < count)
    named = pl.Series([named_subject(fact) is not None for fact in short.iter_rows(named=True)], dtype=pl.Boolean)
    if short.height and not named.any():
        first = short.row(0, named=True)
        raise UserError(
            f"no question names its fact's subject, such as '{first['question']}' (fact '{first['fact_id']}'), "
            "so whether a paraphrase still asks the same cannot be told: give the source a column 'subject'",
            field=PARAPHRASER_FIELD,
        )
    return FactsNeedingParaphrases(short.filter(named), short.filter(~named))


def lines_of(reply: str, finish_reason: FinishReason) -> list[Line]:
    """The non-blank lines of a reply, without bullets, numbers, labels ("Question:"), emphasis and quotes around the text."""
    raw = reply.split("\n")  # and nowhere else: any other separator within a line is a control character
    cut_off = len(raw) - 1 if finish_reason is FinishReason.LENGTH else None
    return [Line(_bare(line), place == cut_off) for place, line in enumerate(raw) if line.strip()]


def judge(
    fact: Mapping[str, Any], replies: Sequence[tuple[str, FinishReason]], count: int, elsewhere: Collection[str] = ()
) -> list[Paraphrase]:
    """The verdict on every line of the replies to a fact (a FACTS row whose question names its subject), in their order.

    Lines are kept until the fact has `count` paraphrases. `elsewhere` has the `normalise`d questions that would also be other facts'.
    """
    name = named_subject(fact)
    assert name is not None, f"fact '{fact['fact_id']}' was asked for and its question names no subject"
    had = {normalise(text) for text in fact["paraphrases"]}
    room = count - len(fact["paraphrases"])
    found = []
    for reply_index, (reply, finish_reason) in enumerate(replies):
        for line in lines_of(reply, finish_reason):
            verdict = _fault_of_form(line) or _fault_of_content(line.text, fact, name, had)
            key = normalise(line.text)
            if verdict is None and key in elsewhere:
                verdict = Verdict.OTHER_FACT
            if verdict is None:
                verdict = Verdict.KEPT if room > 0 else Verdict.SURPLUS
            if verdict is Verdict.KEPT:
                had.add(key)
                room -= 1
            found.append(Paraphrase(reply_index, line.text, verdict))
    return found


def n_missing(fact: Mapping[str, Any], replies: Sequence[tuple[str, FinishReason]], count: int) -> int:
    """How many of `count` paraphrases a fact still lacks, given these replies."""
    kept = sum(line.verdict is Verdict.KEPT for line in judge(fact, replies, count))
    return count - len(fact["paraphrases"]) - kept


def paraphrase_table(facts: pl.DataFrame, replies: pl.DataFrame, count: int) -> pl.DataFrame:
    """The sorted PARAPHRASES of a study: the verdict on every line of `replies` (PARAPHRASE_REPLIES) about some of its `facts` (FACTS).

    Two facts may have a wording in common ("Where is X from?": the town, or the country); then neither gets it.
    """
    by_id = {fact["fact_id"]: fact for fact in facts.iter_rows(named=True)}
    replies_to = {
        fact_id: [(text, FinishReason(reason)) for text, reason in zip(texts, reasons, strict=True)]
        for fact_id, texts, reasons in replies.sort("fact_id").select("fact_id", "replies", "finish_reasons").iter_rows()
    }
    elsewhere = _asked_by_several(by_id, replies_to, count)
    rows = [
        {
            "fact_id": fact_id,
            "paraphrase_index": place,
            "reply_index": line.reply_index,
            "text": line.text,
            "verdict": line.verdict.value,
        }
        for fact_id, given in replies_to.items()
        for place, line in enumerate(judge(by_id[fact_id], given, count, elsewhere))
    ]
    return pl.DataFrame(rows, schema=pl.DataFrame(PARAPHRASES.empty_table()).schema)


def with_paraphrases(facts: pl.DataFrame, paraphrases: pl.DataFrame) -> pl.DataFrame:
    """FACTS with the kept ones of PARAPHRASES after the paraphrases that each fact already has."""
    kept = paraphrases.filter(verdict=Verdict.KEPT.value).sort("fact_id", "paraphrase_index")
    added = kept.group_by("fact_id", maintain_order=True).agg(pl.col("text").alias("added"))
    joined = facts.join(added, on="fact_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col("paraphrases").list.concat(pl.col("added").fill_null([]))).select(facts.columns)


def verdict_counts(paraphrases: pl.DataFrame) -> dict[str, int]:
    """The number of lines of PARAPHRASES for each verdict that occurs, in the order of the rules."""
    counts = Counter(paraphrases["verdict"].to_list())
    return {verdict.value: counts[verdict.value] for verdict in Verdict if counts[verdict.value]}


def _asked_by_several(
    facts: Mapping[str, Mapping[str, Any]], replies_to: Mapping[str, Sequence[tuple[str, FinishReason]]], count: int
) -> set[str]:
    """The normalised questions that more than one fact would get if each were judged alone."""
    asked_by = {fact_id: {normalise(text) for text in (fact["question"], *fact["paraphrases"])} for fact_id, fact in facts.items()}
    for fact_id, replies in replies_to.items():
        fit = (line for line in judge(facts[fact_id], replies, count) if line.verdict in (Verdict.KEPT, Verdict.SURPLUS))
        asked_by[fact_id] |= {normalise(line.text) for line in fit}
    times = Counter(key for keys in asked_by.values() for key in keys)
    return {key for key, facts_asked in times.items() if facts_asked > 1}


def _fault_of_form(line: Line) -> Verdict | None:
    if not normalise(line.text):
        return Verdict.EMPTY
    if line.cut_off:
        return Verdict.CUT_OFF
    if has_control_characters(line.text):
        return Verdict.CONTROL_CHARACTER
    if len(line.text) > LONGEST_TEXT:
        return Verdict.TOO_LONG
    if not line.text.endswith(_QUESTION_MARKS) and not _REQUEST.fullmatch(line.text):
        return Verdict.NOT_A_QUESTION
    return None


def _fault_of_content(text: str, fact: Mapping[str, Any], name: str, had: Collection[str]) -> Verdict | None:
    key = normalise(text)
    if key == normalise(fact["question"]):
        return Verdict.COPY
    if key in had:
        return Verdict.DUPLICATE
    if not stands_in(name, text):
        return Verdict.SUBJECT_LOST
    if any(stands_in(answer, text) for answer in fact["answers"]):
        return Verdict.ANSWER_GIVEN
    return None


def _bare(line: str) -> str:
    """The text of a line; each kind of decoration is removed only once, because a question may itself begin with a number."""
    text = line.strip()
    for around in (_BULLET, _NUMBER, _LABEL):
        found = around.match(text)
        text = _plain(text[found.end() :] if found else text)
    return _unquoted(text)


def _plain(text: str) -> str:
    """Without Markdown emphasis, and without the comma that ends a list item."""
    return text.strip("*_ ").lstrip("#").rstrip(",;").strip("*_ ")


def _unquoted(text: str) -> str:
    """Without one pair of quotes around the whole text; quotes that are not a pair stay."""
    for opening, closing in _QUOTES:
        inside = text[1:-1]
        if len(text) > 1 and text[0] == opening and text[-1] == closing and opening not in inside and closing not in inside:
            return inside.strip()
    return text
