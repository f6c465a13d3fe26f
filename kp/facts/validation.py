"""What a table of facts must fulfil before anything is measured on it.

Faults are found here, before the first generation, because each of them would silently make a number wrong. An id that two facts share
means that the table is not what it claims to be, and stops the study. Any other fault concerns one row, and real data is full of them: a
line that cannot be read; an empty question or answer; an answer that its question contains, which is copied, not known; a question with two
answers, which can never be HighlyKnown; a repeated fact, which counts twice; a control character, which breaks a chat prompt; a page of
text, which is no question. Such rows are quarantined: left out, and stored in a separate table with the reason. So are single paraphrases,
without which a fact can still be used. If too many rows are unfit, the source is not what its user thinks, and the study stops.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    column: str  # "" if it concerns the whole row
    value: str
    fault: str

    def __str__(self) -> str:
        begin = self.value if len(self.value) <= 60 else self.value[:60] + "..."
        column = f", column '{self.column}'" if self.column else ""
        return f"row {self.row}{column}: {self.fault}: {begin!r}"


def check_facts(
    table: pa.Table, origin: str, max_rejected_fraction: float = 1.0, rows: Sequence[int] | None = None, unread: Sequence[Problem] = ()
) -> tuple[pa.Table, pa.Table]:
    """The rows of a FACTS table that can be measured, in their order, and the faults of the others (QUARANTINED, by row).

    `rows` has the row of the source for each fact, 1 to n if absent, and `unread` the faults of those that could not become facts. Of
    identical rows, the first fit one stays. Unfit paraphrases are removed from their facts, with faults in the column `paraphrases`. Raises
    UserError naming `origin` and the rows with their columns and values if two facts share an id, if no row is left, and if the share of
    unfit rows is above `max_rejected_fraction`, with the main reason.
    """
    missing = [name for name in FACTS.names if name not in table.column_names]
    if missing:
        raise UserError(f"{origin}: column '{missing[0]}' is missing")
    facts = _Facts(table, rows or range(1, table.num_rows + 1))
    total = table.num_rows + len({problem.row for problem in unread})
    if not total:
        raise UserError(f"{origin}: no facts")
    shared = list(islice(_shared_ids(facts), MOST_PROBLEMS + 1))
    if shared:
        raise UserError(_listing(shared, origin))
    unfit = [*unread, *_empty_fields(facts)]
    unfit += _faults_of_content(facts.without(unfit))
    unfit += _repetitions(facts.without(unfit))
    unfit.sort(key=lambda problem: problem.row)
    bad = {problem.row for problem in unfit}
    if len(bad) == total or len(bad) > max_rejected_fraction * total + 1e-9:  # in floating point, 0.29 x 100 is a little below 29
        raise UserError(_too_many(unfit, total, origin, max_rejected_fraction))
    fit = facts.without(unfit)
    kept, dropped = _without_unfit_paraphrases(fit)
    problems = sorted([*unfit, *dropped], key=lambda problem: problem.row)
    return kept, _quarantined(dict(zip(facts.rows, table["fact_id"].to_pylist(), strict=True)), problems)


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
    above = bad > max_rejected_fraction * rows + 1e-9
    return (
        f"{origin}: {bad:,} of {rows:,} rows ({bad / rows:.1%}) cannot be measured"
        + (f", more than facts.max_rejected_fraction = {max_rejected_fraction:g} allows" if above else "")
        + f"; the main reason, of {len(having):,} rows ({listed_rows(having)}): {reason}; for example {example}. Correct the source"
        + (", or raise facts.max_rejected_fraction to continue without these rows" if bad < rows else "")
    )


def listed_rows(rows: Iterable[int]) -> str:
    """The first few of some row numbers, in order."""
    ordered = sorted(set(rows))
    return ", ".join(map(str, ordered[:MOST_PROBLEMS])) + (", ..." if len(ordered) > MOST_PROBLEMS else "")


def _listing(problems: list[Problem], origin: str) -> str:
    lines = [f"{origin}: {problem}" for problem in problems[:MOST_PROBLEMS]]
    return "\n".join(lines + ([f"{origin}: more problems follow"] if len(problems) > MOST_PROBLEMS else []))


def _quarantined(ids: Mapping[int, str], problems: Iterable[Problem]) -> pa.Table:
    """The problems as QUARANTINED; `ids` are those of the rows that became facts."""
    rows = [
        {
            "row": problem.row,
            "fact_id": ids.get(problem.row, ""),
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


@dataclass(frozen=True)
class _Facts:
    """Facts (FACTS) with the row of each in the source."""

    table: pa.Table
    rows: Sequence[int]

    def __iter__(self) -> Iterator[tuple[int, dict[str, str], list[str]]]:
        """Row number, the required texts by column, and the answers."""
        names = ("fact_id", "subject", "relation", "question")
        columns = [self.table.column(name).to_pylist() for name in (*names, "answers")]
        for row, *texts, answers in zip(self.rows, *columns, strict=True):
            yield row, dict(zip(names, texts, strict=True)), answers or []

    def without(self, problems: Iterable[Problem]) -> "_Facts":
        """The facts of the other rows."""
        bad = {problem.row for problem in problems}
        kept = [place for place, row in enumerate(self.rows) if row not in bad]
        return _Facts(self.table.take(pa.array(kept, pa.int64())), [self.rows[place] for place in kept])


def _shared_ids(facts: _Facts) -> Iterator[Problem]:
    """The rows whose id another fact has in an earlier row."""
    first_of_id: dict[str, tuple[int, tuple[str, ...]]] = {}
    for (row, texts, _), object_ in zip(facts, facts.table.column("object").to_pylist(), strict=True):
        fact = (texts["subject"], texts["relation"], object_)
        first_row, first_fact = first_of_id.setdefault(texts["fact_id"], (row, fact))
        if fact != first_fact:
            yield Problem(row, "fact_id", texts["fact_id"], f"the same as in row {first_row}")


def _empty_fields(facts: _Facts) -> Iterator[Problem]:
    for row, texts, answers in facts:
        for column, text in texts.items():
            if not (text or "").strip():
                yield Problem(row, column, text or "", "empty")
        if not answers:
            yield Problem(row, "answers", "", "empty")
        for answer in answers:
            if not (answer or "").strip():
                yield Problem(row, "answers", answer or "", "holds an empty answer or alias")


def _faults_of_content(facts: _Facts) -> Iterator[Problem]:
    conflicts = _conflicts(facts)
    for row, texts, answers in facts:
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


def _conflicts(facts: _Facts) -> dict[int, str]:
    """The fault of each row whose question has another answer in another row."""
    asking: dict[str, dict[str, list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))  # key -> question -> row, answer
    for row, texts, answers in facts:
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


def _repetitions(facts: _Facts) -> Iterator[Problem]:
    """The rows that repeat an earlier one."""
    ids, questions = set(), set()
    for row, texts, _ in facts:
        identity, asked = texts["fact_id"], question_key(texts["question"])
        if identity in ids:
            yield Problem(row, "fact_id", identity, "the same fact as in an earlier row")
        elif asked in questions:
            yield Problem(row, "question", texts["question"], "asked and answered alike in an earlier row")
        ids.add(identity)
        questions.add(asked)


def _without_unfit_paraphrases(facts: _Facts) -> tuple[pa.Table, list[Problem]]:
    """The facts with the usable paraphrases, and the faults of the others."""
    problems, kept = [], []
    columns = (facts.table.column(name).to_pylist() for name in ("question", "answers", PARAPHRASES))
    for row, question, answers, paraphrases in zip(facts.rows, *columns, strict=True):
        fit: list[str] = []
        for paraphrase in paraphrases or []:
            fault = _fault_of_paraphrase(paraphrase or "", answers, {question, *fit})
            if fault:
                problems.append(Problem(row, PARAPHRASES, paraphrase or "", fault))
            else:
                fit.append(paraphrase)
        kept.append(fit)
    column = FACTS.field(PARAPHRASES)
    place = facts.table.column_names.index(PARAPHRASES)
    return (facts.table.set_column(place, column, pa.array(kept, column.type)) if problems else facts.table), problems


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
