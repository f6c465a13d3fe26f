"""The labels of entities, as far as a dump states them: rdfs:label and its like, in one language.

An entity of Wikidata is known by an id, which no question may contain; its name is a literal of the same dump. Literals are millions of
lines and only set aside otherwise, so labels are picked from those already recognised: by the number of their relation, then by how the
line ends, and only the few left are parsed.

The first label by RANKS is an entity's title, all others are aliases. A label without a language, or for all of them (`mul`), serves where
there is none in the language.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from kp.facts.dump.judging import Pieces
from kp.facts.dump.spans import Hashes, Text

RDFS_LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
SKOS = "http://www.w3.org/2004/02/skos/core#"
RANKS = {RDFS_LABEL: 0, f"{SKOS}prefLabel": 1, "http://schema.org/name": 2, "https://schema.org/name": 2}
ALIASES = (f"{SKOS}altLabel", "http://schema.org/alternateName", "https://schema.org/alternateName")
ALIAS = 200  # ranks from here on are those of aliases, which are no titles
NO_LABEL = 255
ALL_LANGUAGES = "mul"  # the code of labels that are the same in all languages
_OTHER_LANGUAGE = 10  # added to the rank of such a label, twice if it has no language
_LITERAL = r'^"((?:[^"\\]|\\.)*)"(?:@([A-Za-z]+(?:-[A-Za-z0-9]+)*)|\^\^<[^<>]*#(?:string|langString)>)?(?:\s*(?:<[^<>]*>|_:\S+))?\s*\.'
_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([tbnrf"\'\\]))')
_ESCAPED = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f"}

Ranks = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Labels:
    """Labels, unordered: hash and IRI of the entity, the rank of the label (lower is better), and its text."""

    subjects: Hashes
    ranks: Ranks
    subject_texts: pa.LargeBinaryArray
    texts: pa.LargeStringArray


def ranks_of(relations: Iterable[str]) -> Ranks:
    """The rank of each relation's labels; NO_LABEL if it states none."""
    return np.array([ALIAS if relation in ALIASES else RANKS.get(relation, NO_LABEL) for relation in relations], dtype=np.uint8)


def labels_among(text: Text, literals: Pieces, ranks: Ranks, language: str) -> Labels | None:
    """The labels among these lines, if any; `ranks` are those of the lines' relations, and an object's piece reaches to its line's end."""
    rows = np.flatnonzero(ranks != NO_LABEL)
    if not len(rows):
        return None
    lines = pl.from_arrow(text.pieces(*literals.take(rows).objects))
    assert isinstance(lines, pl.Series)
    lines = lines.cast(pl.String)
    fit = lines.to_frame("line").select(_may_be_label(language)).to_series().to_numpy()
    rows = rows[fit]
    found = literals.take(rows)
    parsed = _parsed(lines.filter(pl.Series(fit)), ranks[rows], language)
    kept = parsed["row"].to_numpy()
    starts, ends = (places[kept] for places in found.subjects)
    return _labels(text, starts, ends, parsed) if len(kept) else None


def labels_of_odd(statements: Sequence[tuple[str, str, str]], language: str) -> Labels | None:
    """The labels among statements (subject, relation, literal) that were read one by one."""
    ranks = ranks_of(relation for _, relation, _ in statements)
    rows = np.flatnonzero(ranks != NO_LABEL)
    if not len(rows):
        return None
    stating = [statements[row] for row in rows.tolist()]
    parsed = _parsed(pl.Series([f"{literal} ." for _, _, literal in stating], dtype=pl.String), ranks[rows], language)
    subjects = [stating[row][0].encode() for row in parsed["row"].to_list()]
    bounds = np.cumsum([0, *map(len, subjects)])
    return _labels(Text(bytearray(b"".join(subjects))), bounds[:-1], bounds[1:], parsed) if subjects else None


def _labels(text: Text, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], parsed: pl.DataFrame) -> Labels:
    texts = parsed["label"].to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.large_string())
    return Labels(text.hashes(starts, ends), parsed["rank"].to_numpy(), text.copied(starts, ends), texts)


def _may_be_label(language: str) -> pl.Expr:
    """Whether a line may have a label, by its end before the dot: no language or a fitting one, a datatype, or a graph."""
    tags = [f'"@{code.lower()}' for code in (language, ALL_LANGUAGES)]
    line = pl.col("line").str.strip_suffix(".").str.strip_chars_end(" \t")
    end = line.str.tail(max(map(len, tags))).str.to_lowercase()
    return pl.any_horizontal(*(end.str.ends_with(tag) for tag in ('"', ">", *tags)), line.str.contains("_:", literal=True))


def _parsed(lines: pl.Series, ranks: Ranks, language: str) -> pl.DataFrame:
    """Columns row, rank and label of the lines that have a label in one of the languages; `ranks` are those of their relations."""
    groups = lines.to_frame("line").select(pl.col("line").str.extract_groups(_LITERAL)).unnest("line")
    named = groups.rename({"1": "label", "2": "language"}).with_row_index("row").with_columns(pl.Series("rank", ranks))
    code = pl.col("language").str.to_lowercase()
    worse = (
        pl.when(code == language.lower()).then(0)
        .when(code == ALL_LANGUAGES).then(_OTHER_LANGUAGE)
        .when(code.is_null()).then(2 * _OTHER_LANGUAGE)
    )  # fmt: skip
    named = named.with_columns((pl.col("rank") + worse).cast(pl.UInt8).alias("rank")).drop_nulls(["label", "rank"])
    named = named.with_columns(_unescaped(named["label"]).str.replace_all(r"\s+", " ").str.strip_chars())
    return named.filter(pl.col("label") != "").select("row", "rank", "label")


def _unescaped(labels: pl.Series) -> pl.Series:
    escaped = labels.str.contains("\\", literal=True).arg_true()
    if not len(escaped):
        return labels
    plain = [_ESCAPE.sub(_character, label) for label in labels.gather(escaped)]
    return labels.scatter(escaped, pl.Series([text if _is_text(text) else "" for text in plain], dtype=pl.String))


def _character(escape: re.Match[str]) -> str:
    short, long, one = escape.groups()
    if one:
        return _ESCAPED.get(one, one)
    code = int(short or long, 16)
    return chr(code) if code <= 0x10FFFF else "\ud800"


def _is_text(text: str) -> bool:
    """Whether no escape stands for a surrogate, which no text may have."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
