"""Facts from a study's source: built in, a file, or a data set on the Hub.

Every source gives the same FACTS table. Only columns and types are checked here; check_facts decides whether facts can be measured, so that
all sources meet one standard and its messages can name rows. A row whose cells cannot be read does not stop the reading: check_facts counts
it with the other rows that no study can use.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from kp.errors import UserError
from kp.facts import builtin, chats, hub, popqa, published, synthetic
from kp.facts.cells import CODE, MISSING, SEVERAL, CellError, as_answers, as_count, as_text, as_texts, is_list, stripped
from kp.facts.fact import fact_id
from kp.facts.popularity import BUCKETS, popularity_buckets
from kp.facts.rows import MOST_ROWS, Row, Rows, row_of_object
from kp.facts.table_files import read_rows
from kp.facts.text_files import reading
from kp.facts.validation import Problem
from kp.schema import FACTS
from kp.store.files import digest_file
from kp.vocabulary import UNSPECIFIED, Category

FIELD = "facts.source"  # the field of the source, in messages, unless the caller passes another
NO_PARAPHRASES = (False, "False", "false")  # values of `is_para` for which `para` is ignored
DEGREES = ("subject_degree", popqa.VIEWS)  # columns with a subject's popularity; the first one present is used
ANSWERS = ("answer", "answers", "object")
COLUMNS = {
    *("question", *ANSWERS, "aliases", "subject", "relation", "domain", "popularity", "paraphrases", "reversed_question", "fact_id"),
    *("is_para", "para"),
}
READ = COLUMNS.union(DEGREES, popqa.COLUMNS, chats.COLUMNS, (published.COLUMN,))  # all columns that mean something here
_CODE = re.compile("[A-Z]{2}")


@dataclass(frozen=True)
class SourceFacts:
    """The facts of a source (FACTS), its row of each, the rows that could not be read, and sentences on how it was read."""

    facts: pa.Table
    rows: tuple[int, ...] | None = None  # 1 to n
    unread: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    published: Mapping[str, Category] = field(default_factory=dict)  # by fact_id: the category that the source's authors found


def read_source(source: str, field: str = FIELD) -> SourceFacts:
    """The facts of `builtin`, a table that read_rows reads, or `hf:NAME[@REVISION][:[CONFIG/]SPLIT]`, in the source's order.

    Columns: question and answer or answers (without them, `object` is the answer); optionally relation, subject, object, aliases, domain,
    popularity, subject_degree, paraphrases, reversed_question and fact_id. PopQA's names are accepted (its page views are the
    subject_degree), and so are `is_para`, `para` and `Category` of the data sets of arXiv 2502.14502. Without popularity, it follows from
    thirds of the given degrees; without degrees, they are counted in the table, and popularity is null. Chats of one question and one
    answer are read too. Raises UserError naming the source and the column, or for `field`, the config field of the source; the facts
    themselves are not checked.
    """
    if source == builtin.SOURCE:
        return SourceFacts(builtin.load_builtin())
    read = _hub_rows(source, field) if source.startswith(hub.PREFIX) else read_rows(Path(source), field)
    return _as_facts(read, source, field)


def source_digest(source: str, field: str = FIELD) -> str:
    """Identity of a source's content: a SHA-256 of the file or of the built-in facts, or the Hub name with its resolved commit.

    For synthetic facts it is only the version of their generator; the study has the rest. Raises UserError for `field`, the config
    field of the source, if it cannot be read.
    """
    if source == builtin.SOURCE:
        return builtin.builtin_digest()
    if source == synthetic.SOURCE:
        return synthetic.IDENTITY
    if source.startswith(hub.PREFIX):
        return hub.identity(source, field)
    with reading(Path(source), field):
        return digest_file(Path(source))


def _hub_rows(source: str, field: str) -> Rows:
    return Rows(row_of_object(number, row) for number, row in enumerate(hub.load_rows(source, field), start=1))


def _as_facts(read: Rows, source: str, field: str) -> SourceFacts:
    rows, unread, present = _questions(read, source, field)
    names = set().union(*(row.cells.keys() for row in rows))
    for column in ("question", "answer"):
        if rows and names.isdisjoint(ANSWERS if column == "answer" else (column,)):
            others = " (or 'answers', or 'object')" if column == "answer" else ""
            raise UserError(f"{source}: column '{column}'{others} is missing; there are: {', '.join(sorted(present))}")
    _keep_codes(rows)
    facts: dict[int, dict[str, Any]] = {}
    for row in rows:
        try:
            facts[row.number] = _as_fact(row.cells, source)
        except CellError as error:
            unread.append(Problem(row.number, error.column, error.value, error.fault))
    _complete(list(facts.values()), names)
    notes = (*read.how_read(source, rows), *_on_separators(rows, source))
    found = published.categories_of({facts[row.number]["fact_id"]: row.cells for row in rows if row.number in facts})
    return SourceFacts(pa.Table.from_pylist(list(facts.values()), schema=FACTS), tuple(facts), tuple(unread), notes, found)


def _questions(read: Rows, source: str, field: str) -> tuple[list[Row], list[Problem], set[str]]:
    """The rows with the columns that mean something under kp's names, the faults of those that cannot be read, and all columns."""
    rows, unread, present = [], [], set[str]()
    for count, row in enumerate(read.rows, start=1):
        if count > MOST_ROWS:
            raise UserError(f"{source}: has more than {MOST_ROWS:,} rows, the most that are read of a table; leave some out", field=field)
        present.update(row.cells)
        cells = {popqa.COLUMNS.get(name, name): cell for name, cell in row.cells.items() if name in READ}
        try:
            if row.fault:
                unread.append(Problem(row.number, "", row.text, row.fault))
            else:
                rows.append(Row(row.number, chats.as_question(cells)))
        except CellError as error:
            unread.append(Problem(row.number, error.column, error.value, error.fault))
        except chats.ChatError as error:
            unread.append(Problem(row.number, "", str(row.cells), str(error)))
    return rows, unread, present


def _keep_codes(rows: Iterable[Row]) -> None:
    """Make "NA" an answer where most other answers of its column have two capital letters too: codes of countries, for example."""
    for column in ANSWERS:
        given = [row for row in rows if isinstance(row.cells.get(column), str) and stripped(row.cells[column])]
        others = [row for row in given if stripped(row.cells[column]) not in MISSING]
        if 2 * sum(_CODE.fullmatch(stripped(row.cells[column])) is not None for row in others) > len(others):
            for row in given:
                if stripped(row.cells[column]) == CODE:
                    row.cells[column] = [CODE]


def _on_separators(rows: Sequence[Row], source: str) -> list[str]:
    """What was made of cells that hold what often stands between several texts."""
    notes = []
    for column in (*SEVERAL, "answer"):
        texts = [cell for row in rows if isinstance(cell := row.cells.get(column), str) and ("|" in cell or ";" in cell)]
        plain = [text for text in texts if not is_list(text)]
        bars = sum("|" in text for text in plain)
        semicolons = sum(";" in text and "|" not in text for text in plain)
        if bars and column in SEVERAL:
            notes.append(f"{source}: {bars:,} cells of column '{column}' are split at '|'")
        elif bars:
            notes.append(f"{source}: {bars:,} cells of column '{column}' hold '|' and are one answer each; 'answers' would split them")
        if semicolons and column in SEVERAL:
            notes.append(f"{source}: {semicolons:,} cells of column '{column}' hold ';' and are one text each; '|' would split them")
    return notes


def _complete(facts: Sequence[dict[str, Any]], names: set[str]) -> None:
    """Add degrees if the source has none, otherwise popularity if it has none."""
    if names.isdisjoint(DEGREES):
        degree = Counter(entity for fact in facts for entity in {fact["subject"], fact["object"]})
        for fact in facts:
            fact["subject_degree"] = degree[fact["subject"]]
    elif "popularity" not in names:
        _set_popularity(facts)


def _set_popularity(facts: Iterable[dict[str, Any]]) -> None:
    """Assign subjects to buckets; two with the same name are distinguished by their degrees."""
    known = [fact for fact in facts if fact["subject_degree"] is not None]
    subjects = {(fact["subject"], fact["subject_degree"]) for fact in known}
    buckets = popularity_buckets(degree for _, degree in subjects)
    for fact in known:
        fact["popularity"] = buckets[fact["subject_degree"]]


def _as_fact(row: dict[str, Any], source: str) -> dict[str, Any]:
    """One row in the FACTS schema; what is missing gets its default. CellError for a cell that its column cannot have."""
    question = as_text(row.get("question"), "question")
    answers = as_answers(row)
    if not answers:
        _check_mark(row)
    else:
        answers = list(dict.fromkeys([*answers, *as_texts(row.get("aliases"), "aliases")]))
    object_ = next(iter([*as_texts(row.get("object"), "object"), *answers]), "")
    subject = as_text(row.get("subject"), "subject") or question
    relation = as_text(row.get("relation"), "relation") or UNSPECIFIED
    return {
        "fact_id": as_text(row.get("fact_id"), "fact_id") or fact_id(subject, relation, object_),
        "subject": subject,
        "relation": relation,
        "object": object_,
        "question": question,
        "answers": answers,
        "popularity": _popularity(row),
        "subject_degree": next((as_count(row[name], name) for name in DEGREES if name in row), None),
        "domain": _domain(row, relation),
        "paraphrases": _paraphrases(row),
        "source": source,
        "reversed_question": as_text(row.get("reversed_question"), "reversed_question") or None,
    }


def _check_mark(row: dict[str, Any]) -> None:
    """CellError if the answer is missing by a mark, which might have been meant as an answer."""
    for column in ANSWERS:
        cell = row.get(column)
        if isinstance(cell, str) and stripped(cell) in MISSING:
            meant = f' (if it is the answer, write ["{CODE}"])' if stripped(cell) == CODE else ""
            raise CellError(column, cell, f"stands for a missing value{meant}")


def _popularity(row: dict[str, Any]) -> str | None:
    value = as_text(row.get("popularity"), "popularity").casefold()
    if value and value not in BUCKETS:
        raise CellError("popularity", value, f"is none of {', '.join(BUCKETS)}")
    return value or None


def _domain(row: dict[str, Any], relation: str) -> str | None:
    if "domain" not in row and popqa.VIEWS in row:
        return popqa.DOMAINS.get(relation)
    return as_text(row.get("domain"), "domain") or None


def _paraphrases(row: dict[str, Any]) -> list[str]:
    if "paraphrases" in row:
        return as_texts(row["paraphrases"], "paraphrases")
    return [] if row.get("is_para") in NO_PARAPHRASES else as_texts(row.get("para"), "para")
