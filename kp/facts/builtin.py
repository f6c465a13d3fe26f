"""The facts that ship with kp, so that a first study needs neither a network nor a file.

The shipped parquet is compact: what the templates can render (questions, paraphrases, domains) and what follows from the triple (ids) is
not stored. scripts/build_builtin_facts.py makes it; NOTICE names its sources.
"""

import hashlib
from collections import Counter
from importlib.resources import as_file, files

import pyarrow as pa

from kp.facts.fact import fact_id
from kp.facts.templates import RELATIONS_FILE, template_book
from kp.schema import FACTS, read_table

SOURCE = "builtin"
BUILTIN_FILE = files("kp.facts") / "data" / "builtin.parquet"

COMPACT = pa.schema(
    [
        pa.field("relation", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("object", pa.string(), nullable=False),
        pa.field("aliases", pa.list_(pa.string()), nullable=False),  # other right answers and other names of the object
        pa.field("popularity", pa.string(), nullable=False),
        pa.field("subject_degree", pa.int64(), nullable=False),
    ]
)


def load_builtin() -> pa.Table:
    """The built-in facts in the FACTS schema, sorted by fact_id."""
    with as_file(BUILTIN_FILE) as path:
        compact = read_table(path, COMPACT)
    triples = compact.to_pylist()
    subjects = Counter((row["relation"], row["object"]) for row in triples)
    rendered = (_render(row, subjects[row["relation"], row["object"]]) for row in triples)
    return pa.Table.from_pylist(sorted(rendered, key=lambda row: str(row["fact_id"])), schema=FACTS)


def builtin_digest() -> str:
    """SHA-256 over the two files from which the built-in facts are rendered."""
    digest = hashlib.sha256()
    for file in (BUILTIN_FILE, RELATIONS_FILE):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _render(row: dict[str, object], subjects: int) -> dict[str, object]:
    """The row of FACTS of a triple whose object `subjects` subjects have in its relation; reversed, it has an answer only if that is 1."""
    book = template_book()
    subject, relation, object_ = str(row["subject"]), str(row["relation"]), str(row["object"])
    aliases = row["aliases"]
    assert isinstance(aliases, list)
    return {
        "fact_id": fact_id(subject, relation, object_),
        "subject": subject,
        "relation": relation,
        "object": object_,
        "question": book.question(relation, subject),
        "answers": [object_, *aliases],
        "popularity": row["popularity"],
        "subject_degree": row["subject_degree"],
        "domain": book.relations[relation].domain,
        "paraphrases": book.paraphrases(relation, subject),
        "source": SOURCE,
        "reversed_question": book.reversed_question(relation, object_) if subjects == 1 else None,
    }
