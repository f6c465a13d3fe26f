"""Whether a dump was read well enough to be trusted: what of it is no statement, and how many statements could not be read.

A reader that skips what it cannot read gives a small graph of a damaged dump, and pairs that only look single-valued. So unreadable lines
have the same limit as facts that cannot be measured, and are reported by what is wrong with them.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from kp.errors import UserError
from kp.facts.dump.files import FIELD
from kp.facts.dump.merging import SET_ASIDE_FILE
from kp.facts.dump.reading import COUNTS_FILE, GraphCounts
from kp.facts.dump.reasons import UNREADABLE, SetAside
from kp.facts.dump.schema import SET_ASIDE
from kp.schema import read_table

LIMIT_FIELD = "facts.max_rejected_fraction"
MOST_REASONS = 5  # in one message
MOST_EXAMPLES = 2  # of one reason
WORDING = {
    SetAside.COMMENT: "comments",
    SetAside.BLANK_LINE: "blank lines",
    SetAside.HELPER_NODE: "about helper nodes",
    SetAside.LITERAL: "with a literal as object",
    SetAside.BLANK_NODE: "about blank nodes",
    SetAside.NOT_UTF8: "not UTF-8",
    SetAside.TOO_LONG: "too long",
    SetAside.NO_DOT: "without the dot at the end",
    SetAside.INCOMPLETE: "incomplete: broken off, or with fewer than three terms",
    SetAside.BAD_IRI: "with an IRI that is not valid",
    SetAside.BAD_LITERAL: "with a literal that is not valid",
    SetAside.MORE_THAN_ONE: "with text after the statement",
    SetAside.TURTLE: "prefixed Turtle between lines of N-Triples",
    SetAside.MALFORMED: "no statement of any kind",
}


def unreadable_lines(folder: Path) -> list[str]:
    """One line for each reason why statements of this reduced graph's dump could not be read, the most frequent first, with examples."""
    return list(_listed(folder, UNREADABLE))


def validate_readable(folder: Path, source: str, max_rejected_fraction: float) -> None:
    """Raise UserError if the dump of this reduced graph has no triple, or a larger share of unreadable lines than allowed.

    Comments and blank lines do not count as lines. The message says which lines there are, with examples.
    """
    counts = graph_counts(folder)
    if counts.lines == 0:
        raise UserError(f"'{source}': is empty", field=FIELD)
    if counts.statements == 0:
        raise UserError(f"'{source}': has no statement, only {counts.lines:,} comments and blank lines", field=FIELD)
    if counts.unreadable > max_rejected_fraction * counts.statements + 1e-9:  # in floating point, 0.29 x 100 is a little below 29
        raise UserError(_too_many(folder, source, counts, max_rejected_fraction), field=FIELD)
    if counts.triples == 0:
        lines = "\n".join(_listed(folder, tuple(SetAside)))
        raise UserError(f"'{source}': none of its {counts.statements:,} lines is a triple between two entities:\n{lines}", field=FIELD)


def graph_counts(folder: Path) -> GraphCounts:
    """The counts of a reduced graph's dump."""
    return GraphCounts(**json.loads((folder / COUNTS_FILE).read_text(encoding="utf-8")))


def _too_many(folder: Path, source: str, counts: GraphCounts, most: float) -> str:
    reasons, share = "\n".join(unreadable_lines(folder)), counts.unreadable / counts.statements
    return (
        f"'{source}': {counts.unreadable:,} of {counts.statements:,} lines unreadable ({share:.1%}), more than "
        f"{LIMIT_FIELD} = {most:g} allows\n{reasons}\nCorrect the source, or raise {LIMIT_FIELD} to continue without these lines."
    )


def _listed(folder: Path, reasons: tuple[SetAside, ...]) -> Iterator[str]:
    found = pl.DataFrame(read_table(folder / SET_ASIDE_FILE, SET_ASIDE)).filter(pl.col("reason").is_in(list(reasons)))
    for row in found.head(MOST_REASONS).iter_rows(named=True):
        examples = "; ".join(_shown(example) for example in row["examples"][:MOST_EXAMPLES])
        yield f"  {row['lines']:,} lines {WORDING[SetAside(row['reason'])]}, for example {examples}"


def _shown(example: dict[str, object]) -> str:
    return f"{example['file']}, line {example['line']}: {example['begins']!r}"
