"""What a table of facts must fulfil before anything is measured on it.

Faults are found here, before the first generation, because each of them would make a number wrong without a sign: an answer that stands
in its question is copied, not known; a question with two answers can never be highly known; a control character breaks a chat prompt.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from kp.errors import UserError
from kp.schema import FACTS

MOST_PROBLEMS = 5
SHORT_ANSWER = 3  # below this many characters an answer is compared with its case: "As" is arsenic, "as" is a word


@dataclass(frozen=True)
class Problem:
    """One fault: where it stands and how the value begins."""

    row: int  # the first data row is 1
    column: str
    value: str
    fault: str

    def __str__(self) -> str:
        begin = self.value if len(self.value) <= 60 else self.value[:60] + "..."
        return f"row {self.row}, column '{self.column}': {self.fault}: {begin!r}"


def check_facts(table: pa.Table, origin: str) -> None:
    """Raise UserError naming `origin` and up to five faults of a FACTS table, each with its row (1 is the first), column and value."""
    missing = [name for name in FACTS.names if name not in table.column_names]
    if missing:
        raise UserError(f"{origin}: column '{missing[0]}' is missing")
    if table.num_rows == 0:
        raise UserError(f"{origin}: no facts")
    found = list(islice(_problems(table), MOST_PROBLEMS + 1))
    if found:
        lines = [f"{origin}: {problem}" for problem in found[:MOST_PROBLEMS]]
        more = [f"{origin}: more problems follow"] if len(found) > MOST_PROBLEMS else []
        raise UserError("\n".join(lines + more))


def stands_in(answer: str, text: str) -> bool:
    """Whether the words of `answer` occur in a row within `text`, whatever the case and punctuation; short answers keep their case."""
    answer_words = _words(answer)
    if len(answer_words.replace(" ", "")) >= SHORT_ANSWER:
        answer_words, text = answer_words.casefold(), text.casefold()
    return bool(answer_words) and f" {answer_words} " in f" {_words(text)} "


def has_control_characters(text: str) -> bool:
    """Whether a character of `text` is a control character, a line break or a tab among them."""
    return any(unicodedata.category(character) == "Cc" for character in text)


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text)))


def _problems(table: pa.Table) -> Iterator[Problem]:
    rows_of_id: dict[str, int] = {}
    answer_of_question: dict[str, tuple[int, str]] = {}
    columns = [table.column(name).to_pylist() for name in ("fact_id", "subject", "relation", "question", "answers")]
    for row, (identity, subject, relation, question, answers) in enumerate(zip(*columns, strict=True), start=1):
        yield from _problems_of_text(row, {"fact_id": identity, "subject": subject, "relation": relation, "question": question})
        yield from _problems_of_answers(row, question or "", answers or [])
        if identity:
            if identity in rows_of_id:
                yield Problem(row, "fact_id", identity, f"the same as in row {rows_of_id[identity]}")
            rows_of_id.setdefault(identity, row)
        if question and answers:
            first, answer = answer_of_question.setdefault(question, (row, answers[0]))
            if answer != answers[0]:
                yield Problem(row, "question", question, f"stands in row {first} with another answer")


def _problems_of_text(row: int, texts: dict[str, str | None]) -> Iterator[Problem]:
    for column, text in texts.items():
        if not (text or "").strip():
            yield Problem(row, column, text or "", "empty")
        elif has_control_characters(text or ""):
            yield Problem(row, column, text or "", "holds a control character")


def _problems_of_answers(row: int, question: str, answers: list[str | None]) -> Iterator[Problem]:
    if not answers:
        yield Problem(row, "answers", "", "empty")
    for answer in answers:
        if not (answer or "").strip():
            yield Problem(row, "answers", answer or "", "empty")
        elif has_control_characters(answer or ""):
            yield Problem(row, "answers", answer or "", "holds a control character")
        elif stands_in(answer or "", question):
            yield Problem(row, "answers", answer or "", f"stands in its question {question[:60]!r}")
