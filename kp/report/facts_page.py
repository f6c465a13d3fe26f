"""What `kp facts --describe` shows: counts of the chosen facts in every respect that can spoil a study."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from kp.facts.description import Measure
from kp.facts.popularity import BUCKETS
from kp.report.document import Block, Document, Figure, Row, Section, Table, columns
from kp.report.figure_data import Histogram, Histograms, Series, StackedBars
from kp.report.notation import MISSING, counted, measured, percent

RELATIONS_SHOWN = 15  # in the opening tables
RELATIONS_DRAWN = 40
LONGEST_BAR = 30  # characters
LONGEST_EXAMPLE = 40  # characters
HEIGHTS = "▁▂▃▄▅▆▇█"
NO_POPULARITY = "no_popularity"
TITLES = {
    Measure.ALIASES: "aliases of a fact",
    Measure.QUESTION_CHARACTERS: "characters of a question",
    Measure.QUESTION_WORDS: "words of a question",
    Measure.ANSWER_CHARACTERS: "characters of an answer",
    Measure.ANSWER_WORDS: "words of an answer",
}
BUCKET_COLOURS = {
    "head": ("#0b4f7c", "#ffffff"),
    "torso": ("#4c9ecb", "#10212b"),
    "tail": ("#b9dcee", "#10212b"),
    NO_POPULARITY: ("#d9d6cf", "#2b2a27"),
}


@dataclass(frozen=True)
class Chosen:
    """Which facts are described."""

    study: str
    source: str
    facts: int

    def __str__(self) -> str:
        return f"Study {self.study} · {self.facts:,} facts · source {self.source}"


def facts_page(chosen: Chosen, tables: Mapping[str, pl.DataFrame]) -> Document:
    """The page; `tables` are by the name of their file: relations, buckets, measures, histograms, rejected. The first section has the
    small tables that are also shown on the terminal."""
    relations, histograms = tables["relations"], tables["histograms"]
    short = (
        _relations_in_short(relations),
        _buckets(tables["buckets"]),
        _measures(tables["measures"], histograms),
        _rejected(tables["rejected"]),
    )
    sections = (
        Section("short", "In short", tuple(block for block in short if block.rows)),
        Section("relations", "Relations", (_relations_figure(relations), _relations(relations))),
        Section("lengths", "Aliases and lengths", (_lengths_figure(), *_bars(histograms))),
    )
    return Document("The facts of the study", str(chosen), tuple(_sentences(chosen, tables)), None, sections)


def facts_pictures(tables: Mapping[str, pl.DataFrame]) -> dict[str, StackedBars | Histograms]:
    """The page's pictures by the name of their file."""
    return {"relations": _relation_bars(tables["relations"]), "lengths": _length_bars(tables["histograms"], tables["buckets"])}


def _sentences(chosen: Chosen, tables: Mapping[str, pl.DataFrame]) -> Iterator[str]:
    relations, rejected = tables["relations"], tables["rejected"]
    yield f"{_number(chosen.facts, 'fact')} over {_number(relations.height, 'relation')}."
    for row in _one_sided(relations).head(1).iter_rows(named=True):
        yield (
            f"The most one-sided relation is {_words(row['relation'])}: '{row['most_common_object']}' answers "
            f"{row['most_common_facts']:,} of {row['facts']:,} facts ({percent(row['dominance'])} %)."
        )
    yield f"Without paraphrases: {_number(int(relations['without_paraphrases'].sum()), 'fact')}."
    if rejected.height:
        yield f"Most of what was rejected: {rejected['reason'][0]} ({_number(rejected['rows'][0], 'row')} of the source)."


def _one_sided(relations: pl.DataFrame) -> pl.DataFrame:
    """Relations in which an object occurs more than once, the most dominated first."""
    return relations.filter(pl.col("most_common_facts") > 1).sort("dominance", "relation", descending=[True, False])


def _relations_in_short(relations: pl.DataFrame) -> Table:
    rows = [_short_row(row) for row in relations.head(RELATIONS_SHOWN).iter_rows(named=True)]
    if relations.height > 1:
        sums = {name: int(relations[name].sum()) for name in ("facts", *BUCKETS, "without_paraphrases")}
        cells = (f"all {relations.height}", "", "", f"{sums['facts']:,}", _shares(sums), "", f"{sums['without_paraphrases']:,}")
        rows.append(Row(cells, reference=True))
    caption = "Facts by relation, with the object that most of them have."
    if relations.height > RELATIONS_SHOWN:
        caption += f" The {RELATIONS_SHOWN} largest; all of them in facts.md."
    head = columns("relation", "most common object", "%", "facts", "head/\ntorso/\ntail", "objects", "no\npara-\nphrase", words=2)
    return Table(caption, head, tuple(rows))


def _short_row(row: Mapping[str, object]) -> Row:
    common = str(row["most_common_object"]) if row["most_common_facts"] != 1 else "(all differ)"
    cells = (f"{row['facts']:,}", _shares(row), f"{row['objects']:,}", f"{row['without_paraphrases']:,}")
    return Row((_words(row["relation"]), common, percent(_float(row["dominance"])), *cells))


def _shares(row: Mapping[str, object]) -> str:
    numbers = [int(str(row[bucket])) for bucket in BUCKETS]
    return "/".join(f"{number:,}" for number in numbers) if any(numbers) else MISSING


def _buckets(buckets: pl.DataFrame) -> Table:
    total = int(buckets["facts"].sum())
    rows = tuple(
        Row((
            row["popularity"] or "not known", f"{row['facts']:,}", percent(row["facts"] / total), f"{row['subjects']:,}",
            counted(row["least_degree"]), counted(row["median_degree"]), counted(row["greatest_degree"]),
        ))
        for row in buckets.iter_rows(named=True)
    )  # fmt: skip
    caption = "Facts by popularity of their subject; its degree is the number of its triples, or its page views if the source gives these."
    return Table(caption, columns("popularity", "facts", "%", "subjects", "least degree", "median", "greatest"), rows)


def _measures(measures: pl.DataFrame, histograms: pl.DataFrame) -> Table:
    rows = tuple(
        Row((
            TITLES[Measure(row["measure"])], counted(row["least"]), counted(row["median"]), measured(row["mean"]),
            counted(row["greatest"]), _sparkline(_bins(histograms, Measure(row["measure"]))["facts"].to_list()),
        ))
        for row in measures.iter_rows(named=True)
    )  # fmt: skip
    caption = "How many aliases facts have in addition to the canonical answer, and how long questions and canonical answers are."
    return Table(caption, (*columns("", "least", "median", "mean", "greatest"), *columns("histogram")), rows)


def _rejected(rejected: pl.DataFrame) -> Table:
    rows = tuple(
        Row((row["reason"], f"{row['rows']:,}", f"{row['faults']:,}", f"{row['example_row']:,}", _cut(row["example"])))
        for row in rejected.iter_rows(named=True)
    )
    caption = "Rows of the source that are rejected or lose a paraphrase, by reason; all of them in quarantined.parquet of the facts step."
    head = (*columns("reason", "rows", "faults", "first row"), *columns("with"))
    return Table(caption, head, rows)


def _relations(relations: pl.DataFrame) -> Table:
    rows = tuple(
        Row((
            _words(row["relation"]), row["domain"] or MISSING, row["most_common_object"], percent(row["dominance"]), f"{row['facts']:,}",
            *(f"{row[name]:,}" for name in (*BUCKETS, NO_POPULARITY, "objects", "without_paraphrases")),
        ))
        for row in relations.iter_rows(named=True)
    )  # fmt: skip
    head = columns(
        "relation", "domain", "most common object", "of the facts (%)", "facts", *BUCKETS, "not known", "objects", "no paraphrase", words=3
    )
    caption = "Facts of each relation, by popularity of their subject; its distinct objects, and the one that most facts have."
    return Table(caption, head, rows)


def _relations_figure(relations: pl.DataFrame) -> Figure:
    caption = "Facts of each relation by popularity of their subject."
    if relations.height > RELATIONS_DRAWN:
        caption += f" The {RELATIONS_DRAWN} relations with most facts of {relations.height}."
    return Figure("relations", caption)


def _relation_bars(relations: pl.DataFrame) -> StackedBars:
    drawn = relations.head(RELATIONS_DRAWN)
    series = []
    for bucket, (colour, text_colour) in BUCKET_COLOURS.items():
        counts = drawn[bucket].to_list()
        if any(counts):
            name = "popularity not known" if bucket == NO_POPULARITY else bucket
            texts = tuple(f"{count:,}" if count else "" for count in counts)
            series.append(Series(name, colour, text_colour, tuple(map(float, counts)), texts))
    return StackedBars("facts", tuple(map(_words, drawn["relation"])), tuple(series))


def _lengths_figure() -> Figure:
    return Figure("lengths", "How many aliases facts have, how long questions and canonical answers are, and how popular subjects are.")


def _length_bars(histograms: pl.DataFrame, buckets: pl.DataFrame) -> Histograms:
    panels = []
    for measure in Measure:
        bins = _bins(histograms, measure)
        panels.append(Histogram(TITLES[measure], tuple(_labels(bins)), tuple(bins["facts"])))
    names = tuple(name or "not known" for name in buckets["popularity"])
    panels.append(Histogram("popularity of the subject", names, tuple(buckets["facts"])))
    return Histograms("facts", tuple(panels))


def _bars(histograms: pl.DataFrame) -> Iterator[Block]:
    """Each histogram as a table with bars of characters."""
    for measure in Measure:
        bins = _bins(histograms, measure)
        total, highest = int(bins["facts"].sum()), int(str(bins["facts"].max()))
        rows = tuple(
            Row((label, f"{facts:,}", percent(facts / total), "█" * round(LONGEST_BAR * facts / highest)))
            for label, facts in zip(_labels(bins), bins["facts"], strict=True)
        )
        head = (*columns(TITLES[measure].partition(" ")[0], "facts", "%", words=0), *columns(""))
        yield Table(f"{TITLES[measure].capitalize()}.", head, rows)


def _bins(histograms: pl.DataFrame, measure: Measure) -> pl.DataFrame:
    return histograms.filter(measure=measure.value)


def _labels(bins: pl.DataFrame) -> list[str]:
    """`3`, `3–4`, and `20+` if the last bin is wider than the others."""
    pairs = list(bins.select("least", "greatest").iter_rows())
    labels = [str(least) if least == greatest else f"{least}–{greatest}" for least, greatest in pairs]
    if len(pairs) > 1 and pairs[-1][1] - pairs[-1][0] > pairs[0][1] - pairs[0][0]:
        labels[-1] = f"{pairs[-1][0]}+"
    return labels


def _sparkline(counts: list[int]) -> str:
    highest = max(counts)
    return "".join(HEIGHTS[max(0, -(-len(HEIGHTS) * count // highest) - 1)] if count else " " for count in counts)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_EXAMPLE else f"{text[:LONGEST_EXAMPLE]}..."


def _number(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _float(value: object) -> float:
    return float(str(value))
