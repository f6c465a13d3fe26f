"""What a table of facts must fulfil before anything is measured on it.

Faults are found here, before the first generation, because each of them would silently make a number wrong. A fault of *form* (a missing or
empty field, an id that two facts share) means that the table is not what it claims to be, and stops the study. A fault of *content*
concerns one fact, and real data is full of them: an answer that its question contains is copied, not known; a question with two answers can
never be HighlyKnown; a repeated fact counts twice; a control character breaks a chat prompt; a page of text is no question. Such facts are
quarantined: left out, and stored in a separate table with the reason. So are single paraphrases, without which a fact can still be used. If
too many facts are unfit, the source is not what its user thinks, and the study stops.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice

import pyarrow as pa

from kp.errors import UserError
from kp.metrics.matching import normalise
from kp.schema import FACTS, QUARANTINED

MOST_PROBLEMS = 5
LONGEST_TEXT = 1000  # characters of a question or an answer; the longest question of TriviaQA has half of that
KEPT_OF_VALUE = 200  # characters of a faulty value that the quarantine table keeps
SHORT_ANSWER = 3  # an answer with fewer characters is compared case-sensitively: "As" is arsenic, "as" is a word
PARAPHRASES = "paraphrases"  # the column whose faults only remove that paraphrase
_QUOTED = re.compile(r" '.*", re.DOTALL)  # the quotation in a reason, which differs between facts
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # Unicode's class Cc, which never changes
_UNSAID = str.maketrans(dict.fromkeys(".,;:!?()[]\"'`´‘’“”„«»-‐‑–—…", " "))  # not +, # or *, which are parts of names


@dataclass(frozen=True)
class Problem:
    """One fault: its position and the beginning of the value."""

    row: int  # the first data row is 1
    column: str
    value: str
    fault: str

    def __str__(self) -> str:
        begin = self.value if len(self.value) <= 60 else self.value[:60] + "..."
        return f"row {self.row}, column '{self.column}': {self.fault}: {begin!r}"


def check_facts(table: pa.Table, origin: str, max_rejected_fraction: float = 1.0) -> tuple[pa.Table, pa.Table]:
    """The rows of a FACTS table that can be measured, in their order, and the faults of the others (QUARANTINED, by row).

    Of identical rows, the first fit one stays. Unfit paraphrases are removed from their facts, with faults in the column `paraphrases`.
    Raises UserError naming `origin` and up to five faults of form, each with its row (1 is the first), column and value; if no row is left;
    and if the share of unfit rows is above `max_rejected_fraction`, with the main reason.
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
    unfit += _repetitions(table, {problem.row for problem in unfit})
    rows = {problem.row for problem in unfit}
    if len(rows) == table.num_rows:
        raise UserError(f"{origin}: no fact can be measured\n{_listing(sorted(unfit, key=lambda problem: problem.row), origin)}")
    if len(rows) > max_rejected_fraction * table.num_rows + 1e-9:  # in floating point, 0.29 x 100 is a little below 29
        raise UserError(_too_many(unfit, table.num_rows, origin, max_rejected_fraction))
    fit = [row for row in range(1, table.num_rows + 1) if row not in rows]
    kept, dropped = _without_unfit_paraphrases(table.take([row - 1 for row in fit]), fit)
    problems = sorted([*unfit, *dropped], key=lambda problem: problem.row)
    return kept, _quarantined(table["fact_id"].to_pylist(), problems)


def rejected_rows(quarantined: pa.Table) -> list[int]:
    """The rejected rows of the source, in order, from QUARANTINED: not those that only lose a paraphrase."""
    pairs = zip(quarantined["row"].to_pylist(), quarantined["column"].to_pylist(), strict=True)
    return sorted({row for row, column in pairs if column != PARAPHRASES})


def reason_kind(reason: str) -> str:
    """A reason of QUARANTINED without its quotation, so that equal ones can be counted."""
    return _QUOTED.sub("", reason)


def question_key(question: str) -> str:
    """Equal for questions that differ only in case, blanks and punctuation. Articles and signs such as + stay: they can be names."""
    return " ".join(unicodedata.normalize("NFKC", question).casefold().translate(_UNSAID).split()) or question


def _too_many(unfit: list[Problem], rows: int, origin: str, max_rejected_fraction: float) -> str:
    bad = len({problem.row for problem in unfit})
    rows_of: dict[str, set[int]] = defaultdict(set)
    for problem in unfit:
        rows_of[reason_kind(problem.fault)].add(problem.row)
    reason, having = max(rows_of.items(), key=lambda item: len(item[1]))
    example = next(problem for problem in unfit if reason_kind(problem.fault) == reason)
    return (
        f"{origin}: {bad:,} of {rows:,} rows ({bad / rows:.1%}) cannot be measured, more than "
        f"facts.max_rejected_fraction = {max_rejected_fraction:g} "
        f"allows\n{origin}: the main reason, of {len(having):,} rows: {reason}; for example {example}\n"
        "Correct the source, or raise facts.max_rejected_fraction to continue without these rows."
    )


def _listing(problems: list[Problem], origin: str) -> str:
    lines = [f"{origin}: {problem}" for problem in problems[:MOST_PROBLEMS]]
    return "\n".join(lines + ([f"{origin}: more problems follow"] if len(problems) > MOST_PROBLEMS else []))


def _quarantined(ids: list[str], problems: Iterable[Problem]) -> pa.Table:
    """The problems as QUARANTINED; `ids` are those of all rows of the source."""
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
    """Whether the words of `answer` occur consecutively in `text`, ignoring case and punctuation; short answers are case-sensitive."""
    return _Wording(text).holds(answer)


def has_control_characters(text: str) -> bool:
    """Whether `text` has a control character, including line breaks and tabs."""
    return _CONTROL.search(text) is not None


@lru_cache(maxsize=4096)  # the answers of a fact are searched in each of its paraphrases
def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text)))


class _Wording:
    """A text that is split into words once, however many answers are searched in it."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _cased(self) -> str:
        return f" {_words(self._text)} "

    @cached_property
    def _folded(self) -> str:
        return self._cased.casefold()  # in this order on both sides: folded, "İ" becomes two characters, of which one is no word character

    def holds(self, answer: str) -> bool:
        """See stands_in."""
        words = _words(answer)
        if len(words.replace(" ", "")) >= SHORT_ANSWER:
            return f" {words.casefold()} " in self._folded
        return bool(words) and f" {words} " in self._cased


def _faults_of_form(table: pa.Table) -> Iterator[Problem]:
    first_of_id: dict[str, tuple[int, tuple[str, ...]]] = {}
    objects = table.column("object").to_pylist()
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
            fact = (texts["subject"], texts["relation"], objects[row - 1])
            first_row, first_fact = first_of_id.setdefault(identity, (row, fact))
            if fact != first_fact:
                yield Problem(row, "fact_id", identity, f"the same as in row {first_row}")


def _faults_of_content(table: pa.Table) -> Iterator[Problem]:
    conflicts = _conflicts(table)
    for row, texts, answers in _rows(table):
        question = texts["question"]
        for column, text in [*texts.items(), *(("answers", answer) for answer in answers)]:
            if has_control_characters(text):
                yield Problem(row, column, text, "holds a control character")
            if len(text) > LONGEST_TEXT:
                yield Problem(row, column, text, f"longer than {LONGEST_TEXT:,} characters")
        wording = _Wording(question if len(question) <= LONGEST_TEXT else "")
        for answer in answers:
            if wording.holds(answer):
                yield Problem(row, "answers", answer, f"stands in its question '{question[:60]}'")
        if row in conflicts:
            yield Problem(row, "question", question, conflicts[row])


def _conflicts(table: pa.Table) -> dict[int, str]:
    """The fault of each row whose question has another answer in another row."""
    asking: dict[str, dict[str, list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))  # key -> question -> row, answer
    for row, texts, answers in _rows(table):
        question, answer = texts["question"], normalise(answers[0]) or answers[0]
        asking[question_key(question)][question].append((row, answer))
    conflicts: dict[int, str] = {}
    for wordings in asking.values():
        if len({answer for rows in wordings.values() for _, answer in rows}) == 1:
            continue
        for rows in wordings.values():
            several = len({answer for _, answer in rows}) > 1
            fault = "stands in several rows" if several else "stands in several rows, but for case and punctuation,"
            conflicts.update((row, f"{fault} with different answers") for row, _ in rows)
    return conflicts


def _repetitions(table: pa.Table, unfit: set[int]) -> Iterator[Problem]:
    """The fit rows that repeat an earlier fit row."""
    facts, questions = set(), set()
    for row, texts, _ in _rows(table):
        if row in unfit:
            continue
        identity, asked = texts["fact_id"], question_key(texts["question"])
        if identity in facts:
            yield Problem(row, "fact_id", identity, "the same fact as in an earlier row")
        elif asked in questions:
            yield Problem(row, "question", texts["question"], "asked and answered alike in an earlier row")
        facts.add(identity)
        questions.add(asked)


def _without_unfit_paraphrases(facts: pa.Table, rows: list[int]) -> tuple[pa.Table, list[Problem]]:
    """The facts with the usable paraphrases, and the faults of the others; `rows` are the rows of the source."""
    problems, kept = [], []
    columns = (facts.column(name).to_pylist() for name in ("question", "answers", PARAPHRASES))
    for row, question, answers, paraphrases in zip(rows, *columns, strict=True):
        fit: list[str] = []
        for paraphrase in paraphrases or []:
            fault = _fault_of_paraphrase(paraphrase or "", answers, {question, *fit})
            if fault:
                problems.append(Problem(row, PARAPHRASES, paraphrase or "", fault))
            else:
                fit.append(paraphrase)
        kept.append(fit)
    column = FACTS.field(PARAPHRASES)
    place = facts.column_names.index(PARAPHRASES)
    return (facts.set_column(place, column, pa.array(kept, column.type)) if problems else facts), problems


def _fault_of_paraphrase(paraphrase: str, answers: list[str], others: set[str]) -> str | None:
    if not paraphrase.strip():
        return "a paraphrase is empty"
    if paraphrase in others:
        return "a paraphrase repeats the question or another one"
    if has_control_characters(paraphrase):
        return "a paraphrase holds a control character"
    if len(paraphrase) > LONGEST_TEXT:
        return f"a paraphrase is longer than {LONGEST_TEXT:,} characters"
    wording = _Wording(paraphrase)
    return "a paraphrase holds an answer" if any(wording.holds(answer) for answer in answers) else None


def _rows(table: pa.Table) -> Iterator[tuple[int, dict[str, str], list[str]]]:
    """Row number (from 1), the required texts by column, and the answers."""
    names = ("fact_id", "subject", "relation", "question")
    columns = [table.column(name).to_pylist() for name in (*names, "answers")]
    for row, (*texts, answers) in enumerate(zip(*columns, strict=True), start=1):
        yield row, dict(zip(names, texts, strict=True)), answers or []
