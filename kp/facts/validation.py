"""What a table of facts must fulfil before anything is measured on it.

Faults are found here, before the first generation, because each of them would make a number wrong without a sign. A fault of *form* (a
field that is missing or empty, an id that comes twice) means that the table is not what it claims to be, and stops the study. A fault of
*content* belongs to one fact, and real data is full of them: an answer that stands in its question is copied, not known; a question with
two answers can never be highly known; a control character breaks a chat prompt; a page of text is no question. Such facts are
quarantined: left out, and kept in a table of their own with the reason.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from kp.errors import UserError
from kp.schema import FACTS, QUARANTINED

MOST_PROBLEMS = 5
LONGEST_TEXT = 1000  # characters of a question or an answer; the longest question of TriviaQA has half as many
KEPT_OF_VALUE = 200  # characters of a faulty value that the quarantine table keeps
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


def check_facts(table: pa.Table, origin: str) -> tuple[pa.Table, pa.Table]:
    """The rows of a FACTS table that can be measured, in their order, and the faults of those that cannot (QUARANTINED).

    Raises UserError naming `origin` and up to five faults of form, each with its row (1 is the first), column and value, and where
    no row is left.
    """
    missing = [name for name in FACTS.names if name not in table.column_names]
    if missing:
        raise UserError(f"{origin}: column '{missing[0]}' is missing")
    if table.num_rows == 0:
        raise UserError(f"{origin}: no facts")
    found = list(islice(_faults_of_form(table), MOST_PROBLEMS + 1))
    if found:
        raise UserError(_listing(found, origin))
    unfit = list(_faults_of_content(table))
    rows = {problem.row for problem in unfit}
    if len(rows) == table.num_rows:
        raise UserError(f"{origin}: no fact can be measured\n{_listing(unfit, origin)}")
    kept = table.take([row - 1 for row in range(1, table.num_rows + 1) if row not in rows])
    return kept, _quarantined(table, unfit)


def _listing(problems: list[Problem], origin: str) -> str:
    lines = [f"{origin}: {problem}" for problem in problems[:MOST_PROBLEMS]]
    return "\n".join(lines + ([f"{origin}: more problems follow"] if len(problems) > MOST_PROBLEMS else []))


def _quarantined(table: pa.Table, problems: list[Problem]) -> pa.Table:
    ids = table.column("fact_id").to_pylist()
    rows = [
        {
            "row": problem.row,
            "fact_id": ids[problem.row - 1],
            "column": problem.column,
            "reason": problem.fault,
            "value": problem.value[:KEPT_OF_VALUE],
        }
        for problem in problems
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINED)


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


def _faults_of_form(table: pa.Table) -> Iterator[Problem]:
    rows_of_id: dict[str, int] = {}
    for row, texts, answers in _rows(table):
        for column, text in texts.items():
            if not (text or "").strip():
                yield Problem(row, column, text or "", "empty")
        if not answers:
            yield Problem(row, "answers", "", "empty")
        for answer in answers:
            if not (answer or "").strip():
                yield Problem(row, "answers", answer or "", "holds an empty answer or alias")
        identity = texts["fact_id"]
        if identity:
            if identity in rows_of_id:
                yield Problem(row, "fact_id", identity, f"the same as in row {rows_of_id[identity]}")
            rows_of_id.setdefault(identity, row)


def _faults_of_content(table: pa.Table) -> Iterator[Problem]:
    answers_of: dict[str, set[str]] = {}
    for _, texts, answers in _rows(table):
        answers_of.setdefault(texts["question"], set()).add(answers[0])
    for row, texts, answers in _rows(table):
        question = texts["question"]
        for column, text in [*texts.items(), *(("answers", answer) for answer in answers)]:
            if has_control_characters(text):
                yield Problem(row, column, text, "holds a control character")
            if len(text) > LONGEST_TEXT:
                yield Problem(row, column, text, f"longer than {LONGEST_TEXT:,} characters")
        for answer in answers:
            if len(question) <= LONGEST_TEXT and stands_in(answer, question):
                yield Problem(row, "answers", answer, f"stands in its question {question[:60]!r}")
        if len(answers_of[question]) > 1:
            yield Problem(row, "question", question, "stands in several rows with different answers")


def _rows(table: pa.Table) -> Iterator[tuple[int, dict[str, str], list[str]]]:
    """Row number from 1, the texts that must be there by column, and the answers."""
    names = ("fact_id", "subject", "relation", "question")
    columns = [table.column(name).to_pylist() for name in (*names, "answers")]
    for row, (*texts, answers) in enumerate(zip(*columns, strict=True), start=1):
        yield row, dict(zip(names, texts, strict=True)), answers or []
