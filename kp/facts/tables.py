"""Facts from a study's source: built in, a file, or a data set on the Hub.

Every source gives the same FACTS table. Only columns and types are checked here; check_facts decides whether facts can be measured, so that
all sources meet one standard and its messages can name rows.
"""

import csv
import hashlib
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kp.errors import MissingSourceError, UserError
from kp.facts import builtin, hub, popqa, synthetic
from kp.facts.cells import as_answers, as_count, as_list, as_text
from kp.facts.fact import fact_id
from kp.facts.jsonl import read_jsonl
from kp.facts.popularity import BUCKETS, popularity_buckets
from kp.schema import FACTS
from kp.vocabulary import UNSPECIFIED

FIELD = "facts.source"  # the field of the source, in messages, unless the caller passes another
NO_PARAPHRASES = (False, "False", "false")  # values of `is_para` for which `para` is ignored
DEGREES = ("subject_degree", popqa.VIEWS)  # columns with a subject's popularity; the first one present is used


def read_source(source: str, field: str = FIELD) -> pa.Table:
    """The facts of `builtin`, a .csv/.jsonl/.parquet path, or `hf:NAME[@REVISION][:[CONFIG/]SPLIT]`, as FACTS in the source's order.

    Columns: question and answer or answers (without them, `object` is the answer); optionally relation, subject, object, aliases, domain,
    popularity, subject_degree, paraphrases and fact_id. PopQA's names are accepted (its page views are the subject_degree), and so are
    `is_para` and `para` of the data sets of arXiv 2502.14502. Without popularity, it follows from thirds of the given degrees; without
    degrees, they are counted in the table, and popularity is null. Raises UserError naming the source and the column or the row, or for
    `field`, the config field of the source; the facts themselves are not checked.
    """
    if source == builtin.SOURCE:
        return builtin.load_builtin()
    rows = list(hub.load_rows(source, field)) if source.startswith(hub.PREFIX) else _read_file(Path(source), field)
    return _as_facts(rows, source)


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
    return hashlib.sha256(_bytes(Path(source), field)).hexdigest()


def _bytes(path: Path, field: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MissingSourceError(f"{path}: cannot be read: {error.strerror}", field=field) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", field=field) from error


def _text(path: Path, field: str) -> str:
    try:
        return _bytes(path, field).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}", field=field) from error


def _read_file(path: Path, field: str) -> list[dict[str, Any]]:
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise UserError(f"'{path}': expected 'builtin', hf:NAME, or a path that ends in {', '.join(readers)}", field=field)
    return readers[path.suffix](path, field)


def _read_csv(path: Path, field: str) -> list[dict[str, Any]]:
    lines = csv.reader(io.StringIO(_text(path, field), newline=""), strict=True)
    try:
        header, *body = [line for line in lines if line]
    except csv.Error as error:
        raise UserError(f"{path}: line {lines.line_num}: not valid CSV: {error}") from error
    except ValueError as error:
        raise UserError(f"{path}: the file is empty") from error
    repeated = [name for name, times in Counter(header).items() if times > 1]
    if repeated:
        raise UserError(f"{path}: column '{repeated[0]}' stands in the header twice")
    for row, line in enumerate(body, start=1):
        if len(line) != len(header):
            raise UserError(f"{path}: row {row}: {len(line)} fields, the header has {len(header)}")
    return [dict(zip(header, line, strict=True)) for line in body]


def _read_jsonl(path: Path, field: str) -> list[dict[str, Any]]:
    return list(read_jsonl(path, field))


def _read_parquet(path: Path, field: str) -> list[dict[str, Any]]:
    try:
        return pq.read_table(pa.BufferReader(_bytes(path, field))).to_pylist()
    except pa.ArrowException as error:
        raise UserError(f"{path}: not a readable parquet file: {error}") from error


def _as_facts(rows: list[dict[str, Any]], source: str) -> pa.Table:
    rows = [{popqa.COLUMNS.get(name, name): cell for name, cell in row.items()} for row in rows]
    names = set().union(*(row.keys() for row in rows))
    if rows and "question" not in names:
        raise UserError(f"{source}: column 'question' is missing; there are: {', '.join(sorted(names))}")
    if rows and not names & {"answer", "answers", "object"}:
        raise UserError(f"{source}: column 'answer' (or 'answers', or 'object') is missing; there are: {', '.join(sorted(names))}")
    facts = [_as_fact(row, f"{source}: row {number}", source) for number, row in enumerate(rows, start=1)]
    if names.isdisjoint(DEGREES):
        degree = Counter(entity for fact in facts for entity in {fact["subject"], fact["object"]})
        for fact in facts:
            fact["subject_degree"] = degree[fact["subject"]]
    elif "popularity" not in names:
        _set_popularity(facts)
    return pa.Table.from_pylist(facts, schema=FACTS)


def _set_popularity(facts: list[dict[str, Any]]) -> None:
    """Assign subjects to buckets; two with the same name are distinguished by their degrees."""
    known = [fact for fact in facts if fact["subject_degree"] is not None]
    subjects = {(fact["subject"], fact["subject_degree"]) for fact in known}
    buckets = popularity_buckets(degree for _, degree in subjects)
    for fact in known:
        fact["popularity"] = buckets[fact["subject_degree"]]


def _as_fact(row: dict[str, Any], where: str, source: str) -> dict[str, Any]:
    """One row in the FACTS schema; a missing column gets its default, an empty one stays empty."""
    question = as_text(row.get("question"), where, "question")
    object_ = as_text(row.get("object"), where, "object")
    given = as_answers(row, where) if "answers" in row or "answer" in row else [object_] if object_ else []
    answers = list(dict.fromkeys([*given, *as_list(row.get("aliases"), where, "aliases")]))
    object_ = object_ or (answers[0] if answers else "")
    subject = as_text(row["subject"], where, "subject") if "subject" in row else question
    relation = as_text(row["relation"], where, "relation") if "relation" in row else UNSPECIFIED
    return {
        "fact_id": as_text(row.get("fact_id"), where, "fact_id") or fact_id(subject, relation, object_),
        "subject": subject,
        "relation": relation,
        "object": object_,
        "question": question,
        "answers": answers,
        "popularity": _popularity(row, where),
        "subject_degree": next((as_count(row[name], where, name) for name in DEGREES if name in row), None),
        "domain": _domain(row, where, relation),
        "paraphrases": _paraphrases(row, where),
        "source": source,
    }


def _popularity(row: dict[str, Any], where: str) -> str | None:
    value = as_text(row.get("popularity"), where, "popularity")
    if value and value not in BUCKETS:
        raise UserError(f"{where}: column 'popularity' is {value!r}, expected one of {', '.join(BUCKETS)}")
    return value or None


def _domain(row: dict[str, Any], where: str, relation: str) -> str | None:
    if "domain" not in row and popqa.VIEWS in row:
        return popqa.DOMAINS.get(relation)
    return as_text(row.get("domain"), where, "domain") or None


def _paraphrases(row: dict[str, Any], where: str) -> list[str]:
    if "paraphrases" in row:
        return as_list(row["paraphrases"], where, "paraphrases")
    return [] if row.get("is_para") in NO_PARAPHRASES else as_list(row.get("para"), where, "para")
