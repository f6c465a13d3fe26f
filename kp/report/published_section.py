"""Where the source of the facts has categories: how those of this study agree with them."""

import polars as pl

from kp.metrics.published import confusion, summarise
from kp.report.document import Row, Section, Table, Text, columns
from kp.report.notation import share_with_interval
from kp.vocabulary import GREEDY_CATEGORIES, Category, Matcher


def published_section(table: pl.DataFrame | None, matcher: Matcher) -> Section:
    """PUBLISHED_AGREEMENT as a confusion table, with the agreement and kappa in words; without blocks if the source has none."""
    found = summarise(table) if table is not None else None
    if table is None or found is None:
        return Section("published_categories", "Published categories", ())
    counts = confusion(table)
    rows = tuple(
        Row((category.value, *(f"{int(count):,}" for count in line), share_with_interval(int(line[place]), int(line.sum()))))
        for place, (category, line) in enumerate(zip(GREEDY_CATEGORIES, counts, strict=True))
        if line.sum()
    )
    head = columns("published", *(f"here {category}" for category in GREEDY_CATEGORIES), "same here (%)")
    weak = int(table.filter(published=Category.WEAKLY_KNOWN.value)["facts"].sum())
    noted = f" {weak:,} published as WeaklyKnown count as Unknown, which they are to greedy answers." if weak else ""
    caption = (
        f"Facts by the category in their source and on S0 of this study (matcher “{matcher}”), with Wilson's 95% interval of the "
        f"share that is the same.{noted}"
    )
    why = "Another model or revision, other shots, another matcher and rounding each move categories: see the noise between shot sets."
    return Section("published_categories", "Published categories", (Text(f"{found.sentence()}. {why}"), Table(caption, head, rows)))
