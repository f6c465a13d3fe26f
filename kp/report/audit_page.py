"""What `kp audit` found, as a page: how far the categories depend on the matcher, on doubtful aliases and on common answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from kp.metrics.audit import PAIRS
from kp.report.document import Block, Document, Row, Section, Table, columns
from kp.report.notation import percent
from kp.vocabulary import Category, Matcher, ShotSet

ALIASES_SHOWN = 40
COMMON_SHOWN = 10  # relations in the opening tables
RISING = tuple(category.value for category in (Category.UNKNOWN, Category.MAYBE_KNOWN, Category.HIGHLY_KNOWN))


@dataclass(frozen=True)
class Subject:
    """What was measured."""

    study: str
    model: str
    facts: int
    matcher: Matcher

    def __str__(self) -> str:
        return f"Study {self.study} · {self.model} · {self.facts:,} facts · matcher {self.matcher}"


def audit_page(subject: Subject, tables: Mapping[str, pl.DataFrame]) -> Document:
    """The page; `tables` are by the name of their file: disagreement, matcher_transitions, false_positives, doubtful_aliases, refusals,
    majority, category_counts. The first section has the small tables that are also shown on the terminal."""
    short = (
        disagreement_block(tables["disagreement"]),
        _false_positives(tables["false_positives"].filter(pl.col("relation").is_null())),
        _alias_problems(tables["doubtful_aliases"]),
        _refused(tables["refusals"].filter(pl.col("prompt_index").is_null())),
        majority_block(tables["majority"], COMMON_SHOWN),
    )
    sections = (
        Section("short", "In short", _filled(*short)),
        Section("matchers", "Categories by matcher", _filled(_categories(tables["category_counts"]), _changes(tables))),
        Section("false", "False positives by relation", _filled(_false_by_relation(tables["false_positives"]))),
        Section("aliases", "Doubtful aliases", _filled(_aliases(tables["doubtful_aliases"]))),
        Section("refusals", "Refusals by prompt", _filled(_refused_by_prompt(tables["refusals"]))),
        Section("majority", "The majority baseline by relation", _filled(_majority(tables["majority"]))),
    )
    kept = tuple(section for section in sections if section.blocks)
    return Document("What the categories are worth", str(subject), tuple(_sentences(subject, tables)), None, kept)


def disagreement_block(disagreement: pl.DataFrame) -> Table:
    """Answers on which two matchers disagree, over all shot sets (DISAGREEMENT)."""
    rows = tuple(
        Row((f"{row['first']}, {row['second']}", f"{row['n']:,}", f"{row['first_only'] + row['second_only']:,}",
             percent(row["rate"], row["standard_error"]), f"{row['first_only']:,}", f"{row['second_only']:,}"))
        for row in disagreement.filter(pl.col("shot_set").is_null()).iter_rows(named=True)
    )  # fmt: skip
    caption = "Answers on which two matchers disagree, over all shot sets; ± is one standard error, clustered over facts."
    return Table(caption, columns("matchers", "answers", "differ", "% ± s.e.", "right by the first only", "by the second only"), rows)


def majority_block(majority: pl.DataFrame, shown: int) -> Table:
    """The `shown` relations where a constant answer gets most HighlyKnown facts right (MAJORITY); the last row is the sum."""
    found = majority.filter(pl.col("highly_known_constant") > 0).sort("highly_known_constant", "relation", descending=[True, False])
    rows = [_constant_row(row) for row in found.head(shown).iter_rows(named=True)]
    if rows:
        constant, known = int(majority["highly_known_constant"].sum()), int(majority["highly_known"].sum())
        facts, right = int(majority["facts"].sum()), int(majority["right_facts"].sum())
        given = percent(int(majority["given"].sum()) / int(majority["answers"].sum()))
        rows.append(Row((f"all {majority.height}", "", f"{right:,} of {facts:,}", given, f"{constant:,} of {known:,}"), reference=True))
    caption = "HighlyKnown facts that a model would get right by always giving the relation's most common object; S0."
    if found.height > shown:
        caption += f" The {shown} relations with most of them."
    return Table(caption, columns("relation", "most common object", "right for", "given (%)", "HighlyKnown", words=2), tuple(rows))


def _constant_row(row: Mapping[str, object]) -> Row:
    right, known = f"{row['right_facts']:,} of {row['facts']:,}", f"{row['highly_known_constant']:,} of {row['highly_known']:,}"
    return Row((_words(row["relation"]), str(row["object"]), right, percent(_number(row["given_rate"])), known))


def _sentences(subject: Subject, tables: Mapping[str, pl.DataFrame]) -> Iterator[str]:
    majority, false = tables["majority"], tables["false_positives"].filter(pl.col("relation").is_null())
    own = false.row(by_predicate=pl.col("matcher") == subject.matcher.value, named=True)
    exact = false.row(by_predicate=pl.col("matcher") == Matcher.EXACT.value, named=True)
    constant, known = int(majority["highly_known_constant"].sum()), int(majority["highly_known"].sum())
    yield f"Of {known:,} HighlyKnown facts, a model that gives one constant answer per relation would get {constant:,} right."
    yield (
        f"Compared with other facts of its relation, an answer is taken for theirs by {subject.matcher} in "
        f"{percent(own['rate'], own['standard_error'])} % of cases; in {percent(exact['rate'])} % it is exactly theirs."
    )
    doubtful = tables["doubtful_aliases"]
    facts = doubtful["fact_ids"].explode().drop_nulls().n_unique()
    yield f"{facts:,} of {subject.facts:,} facts have an alias that is ambiguous or dangerous."


def _false_positives(whole: pl.DataFrame) -> Table:
    rows = tuple(
        Row((row["matcher"], f"{row['n']:,}", f"{row['false_positives']:,}", percent(row["rate"], row["standard_error"])))
        for row in whole.iter_rows(named=True)
    )
    caption = (
        "Answers taken for a fact that was not asked: each is compared with other facts of its relation that share no alias with the one "
        "asked. Where exact finds one, the model did name that fact's object; the rest is the matcher's error."
    )
    return Table(caption, columns("matcher", "compared with", "taken for it", "% ± s.e."), rows)


def _false_by_relation(false: pl.DataFrame) -> Table:
    rows = []
    for (relation,), part in false.drop_nulls("relation").group_by("relation", maintain_order=True):
        cells = {row["matcher"]: percent(row["rate"], row["standard_error"]) for row in part.iter_rows(named=True)}
        rows.append(Row((_words(relation), f"{part['n'][0]:,}", *(cells[matcher.value] for matcher in Matcher))))
    head = columns("relation", "compared with", *(f"{matcher} (% ± s.e.)" for matcher in Matcher))
    return Table("Answers taken for another fact of their relation, by matcher.", head, tuple(rows))


def _alias_problems(doubtful: pl.DataFrame) -> Table:
    rows = []
    for (problem,), part in doubtful.sort("problem").group_by("problem", maintain_order=True):
        facts = part["fact_ids"].explode().n_unique()
        rows.append(Row((_words(problem), f"{part.height:,}", f"{facts:,}", ", ".join(part["alias"].head(4)))))
    caption = "Doubtful aliases: of several objects of a relation (ambiguous), or likely to be found in answers that do not mean them."
    return Table(caption, (*columns("problem", "aliases", "facts"), *columns("the most common")), tuple(rows))


def _aliases(doubtful: pl.DataFrame) -> Table:
    rows = tuple(
        Row((row["alias"], _words(row["relation"]), _words(row["problem"]), f"{row['objects']:,}", f"{row['facts']:,}"))
        for row in doubtful.head(ALIASES_SHOWN).iter_rows(named=True)
    )
    caption = f"{min(ALIASES_SHOWN, doubtful.height)} of {doubtful.height:,}, most facts first; all of them in doubtful_aliases.csv."
    return Table(caption, columns("alias", "relation", "problem", "objects", "facts", words=3), rows)


def _refused(refusals: pl.DataFrame) -> Table:
    rows = tuple(
        Row((row["shot_set"], f"{row['n']:,}", f"{row['refused']:,}", percent(row["rate"], row["standard_error"])))
        for row in refusals.iter_rows(named=True)
    )
    return Table("Answers that decline to answer.", columns("shot set", "answers", "refused", "% ± s.e."), rows)


def _refused_by_prompt(refusals: pl.DataFrame) -> Table:
    prompts = refusals["prompt_index"].drop_nulls().unique().sort().to_list()
    rows = []
    for (shot_set,), part in refusals.drop_nulls("prompt_index").group_by("shot_set", maintain_order=True):
        rates = dict(part.select("prompt_index", "rate").iter_rows())
        rows.append(Row((str(shot_set), *(percent(rates.get(prompt)) for prompt in prompts))))
    return Table(
        "Share of refusals under each prompt, in %.", columns("shot set", *(f"prompt {prompt}" for prompt in prompts)), tuple(rows)
    )


def _categories(counts: pl.DataFrame) -> Table:
    """Facts of each category, a row per shot set and matcher."""
    kinds = counts["category"].unique(maintain_order=True).to_list()
    rows = []
    for (shot_set, matcher), part in counts.group_by("shot_set", "matcher", maintain_order=True):
        found = dict(part.select("category", "facts").iter_rows())
        rows.append(Row((str(shot_set), str(matcher), *(f"{found[kind]:,}" for kind in kinds))))
    return Table("Facts of each category.", columns("shot set", "matcher", *kinds, words=2), tuple(rows))


def _changes(tables: Mapping[str, pl.DataFrame]) -> Table:
    on_s0 = tables["matcher_transitions"].filter(shot_set=ShotSet.S0.value)
    cells = {tuple(key): facts for *key, facts in on_s0.drop("shot_set").iter_rows()}
    rows = [
        Row((f"{first} to {second}", before, *(f"{cells.get((first.value, second.value, before, after), 0):,}" for after in RISING)))
        for first, second in PAIRS
        for before in RISING
    ]
    caption = "On S0, the category by one matcher (rows) and by another (columns): facts."
    return Table(caption, columns("matchers", "by the first", *RISING, words=2), tuple(rows) if cells else ())


def _majority(majority: pl.DataFrame) -> Table:
    rows = tuple(
        Row((
            _words(row["relation"]), row["object"], f"{row['facts']:,}", percent(row["dominance"]), percent(row["right_rate"]),
            percent(row["given_rate"], row["given_standard_error"]), f"{row['highly_known']:,}", f"{row['highly_known_constant']:,}",
        ))
        for row in majority.iter_rows(named=True)
    )  # fmt: skip
    caption = (
        "Each relation's most common object: the share of facts that have it, the share for which it is a right answer, the share of "
        "the model's answers on S0 that give it, the HighlyKnown facts, and the number of those for which it is right. If all objects "
        "differ, the first by name is shown."
    )
    head = columns(
        "relation",
        "most common object",
        "facts",
        "dominance (%)",
        "right for (%)",
        "given (%)",
        "HighlyKnown",
        "of these constant",
        words=2,
    )
    return Table(caption, head, rows)


def _filled(*blocks: Table) -> tuple[Block, ...]:
    return tuple(block for block in blocks if block.rows)


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _number(value: object) -> float | None:
    return None if value is None else float(str(value))
