"""Dumps that accompany the graph: redirects, links to Wikidata, an ontology.

They have the graph's format and are read with the same grammar, so that an entity has the same spelling in all of them. Unlike the graph,
they are searched for single relations: a line is parsed only if it contains one of these. Functions take the config field of the dump,
because a study may have four of them.
"""

import hashlib
import os
from collections.abc import Collection, Iterator

import fsspec
import polars as pl

from kp.errors import UserError
from kp.facts.dump.blocks import reading_blocks
from kp.facts.dump.files import find_files
from kp.facts.dump.statements import Triple, read_statement
from kp.store.files import digest_json

TRIPLES = {"subject": pl.String, "relation": pl.String, "object": pl.String}
_SPELLED = r'[^\x00-\x20<>"{}|^`\\%]+'  # an IRI that already has its canonical spelling: no escapes of either kind
_USUAL = rf"^<(?P<subject>{_SPELLED})> <(?P<relation>{_SPELLED})> <(?P<object>{_SPELLED})>(?: <[^<> ]+>)? \.$"


def triples_of(source: str, relations: Collection[str], field: str) -> Iterator[pl.DataFrame]:
    """Frames of the dump's triples of these relations: canonical IRIs in columns subject, relation and object, unordered.

    Other lines, including malformed ones, are skipped. Raises UserError naming the config field if the dump cannot be read.
    """
    for file in find_files(source, field):
        with reading_blocks(file, os.cpu_count() or 1, field) as blocks:
            for block in blocks:
                yield _triples(bytes(block), relations).filter(pl.col("relation").is_in(relations))


def companion_digest(source: str, field: str) -> str:
    """SHA-256 of the dump's stored file, or over its sorted files' digests; UserError naming the field if it cannot be read."""
    files = find_files(source, field)
    try:
        digests = [_digest(file.address) for file in files]
    except OSError as error:
        raise UserError(f"'{source}': cannot be read: {error.strerror or error}", field=field) from error
    return digests[0] if len(digests) == 1 else digest_json(sorted(digests))


def _triples(block: bytes, relations: Collection[str]) -> pl.DataFrame:
    """The statements of the lines that contain one of the relations; lines in the usual form are matched by one fast expression."""
    lines = pl.DataFrame({"line": block.split(b"\n")}, schema={"line": pl.Binary})
    lines = lines.filter(pl.any_horizontal(pl.col("line").bin.contains(f"<{relation}>".encode()) for relation in relations))
    told = lines.select(pl.col("line").cast(pl.String, strict=False).str.extract_groups(_USUAL)).unnest("line")
    usual = told["subject"].is_not_null()
    odd = [read_statement(line.removesuffix(b"\r")) for line in lines.filter(~usual)["line"]]
    read = [(triple.subject, triple.relation, triple.object) for triple in odd if isinstance(triple, Triple)]
    return pl.concat([told.filter(usual), pl.DataFrame(read, schema=TRIPLES, orient="row")])


def _digest(address: str) -> str:
    with fsspec.open(address, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
