"""Which candidates become facts: the rules that compare subjects with each other, and the same number from each bucket.

A question names its subject without the qualifier ("Titanic"), unless another subject of the relation has the same name; then by its whole
title ("Titanic (1997 film)"). Other subjects are those of all single-valued pairs of the relation, including pairs that are dropped.

Texts stay in the graph's file until it is known which are needed: a candidate is a row of numbers here, so that a relation with millions of
pairs fits into memory.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from kp.facts.dump.cleaning import RULES, Rule, answers_stand_in, broken_rule
from kp.facts.dump.random_keys import Hashes, draw_key, random_keys, text_hashes
from kp.facts.dump.titles import are_ids, names_of, titles_of
from kp.facts.popularity import BUCKETS
from kp.facts.templates import SUBJECT, TemplateBook
from kp.facts.validation import question_key

BATCH_PAIRS = 1 << 23  # candidates in memory at once, of some 60 bytes each
NAMED = ("subject", "object", "subject_label", "object_label")
_BUCKET = ("relation", "popularity")
_UNSAID = r"[.,;:!?()\[\]\"'`\-]"  # the ASCII characters that question_key drops


def batches(pairs: dict[str, int]) -> Iterator[list[str]]:
    """Relations in batches whose pairs fit into memory together; `pairs` has the number of pairs of each relation."""
    batch: list[str] = []
    held = 0
    for relation, count in sorted(pairs.items()):
        if batch and held + count > BATCH_PAIRS:
            yield batch
            batch, held = [], 0
        batch.append(relation)
        held += count
    if batch:
        yield batch


def judged_candidates(file: pq.ParquetFile, relations: Sequence[str], book: TemplateBook, seed: int) -> pl.DataFrame:
    """All single-valued pairs of these relations in the graph's file, with the verdict of the rules.

    Columns: relation, popularity; group and row, the pair's position in the file; random_key; whole_title, whether the question needs the
    qualifier; rule, the index in RULES of the rule that drops the pair, null for none.
    """
    columns = pl.Enum(sorted(relations))
    parts = [_judged_alone(file, group, columns, book, seed) for group in range(file.num_row_groups)]
    return _judged_together(pl.concat(parts))


def _judged_alone(file: pq.ParquetFile, group: int, relations: pl.Enum, book: TemplateBook, seed: int) -> pl.DataFrame:
    """The rules about single pairs applied to a row group, and hashes; only `subject` and `random_key` are stable across processes."""
    pairs = _of_relations(file, group, relations)
    texts = with_titles(pairs)
    codes = pairs["relation"].to_physical().to_numpy()
    subject = text_hashes(pairs["subject"].to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string()))
    draws, asked = (_by_relation(relations, of, codes) for of in (seed, 0))
    qualified = texts["name"] != texts["label"]
    name_key = pl.Series(asked_alike(texts["name"]).hash().to_numpy() ^ asked)
    whole = texts.with_columns(asked=asked).filter(qualified)
    title_key = pl.Series(asked_alike(whole["label"]).hash().to_numpy() ^ whole["asked"].to_numpy())
    in_title = answers_stand_in(whole["object_name"], questions_of(whole["relation"], whole["label"], book))
    rows = qualified.arg_true()
    judged = {
        "subject": pl.Series(subject),
        "random_key": pl.Series(random_keys(subject, draws)),
        "object": pairs["object"].hash(),
        "name_key": name_key,
        "title_key": name_key.clone().scatter(rows, title_key),
        "qualified": qualified,
        "alone": broken_rule(texts),
        "in_name": answers_stand_in(texts["object_name"], questions_of(texts["relation"], texts["name"], book)),
        "in_title": pl.repeat(False, texts.height, dtype=pl.Boolean, eager=True).scatter(rows, in_title),
    }
    return pairs.select("relation", "popularity", "group", "row").with_columns(values.alias(name) for name, values in judged.items())


def _by_relation(relations: pl.Enum, seed: int, codes: npt.NDArray[np.generic]) -> Hashes:
    """The key of each row's relation."""
    return np.array([draw_key(seed, name) for name in relations.categories.to_list()], dtype=np.uint64)[codes]


def _of_relations(file: pq.ParquetFile, group: int, relations: pl.Enum) -> pl.DataFrame:
    """The pairs of one row group with these relations, and their positions."""
    names = pl.Series(relations.categories.to_list())
    pairs = pl.DataFrame(file.read_row_group(group, columns=[*NAMED, "relation", "popularity", "subject_degree"]))
    return (
        pairs.with_row_index("row")
        .filter(pl.col("relation").is_in(names.implode()))
        .with_columns(
            pl.col("relation").cast(relations), pl.col("popularity").cast(pl.Enum(BUCKETS)), pl.lit(group, dtype=pl.UInt32).alias("group")
        )
    )


def with_titles(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs with label and name of the subject, object_label and object_name of the object, and whether each has no name but an id.

    A label that the dump states, in the columns subject_label and object_label, takes the place of that from the IRI.
    """
    for column, prefix in (("subject", ""), ("object", "object_")):
        labels = titles_of(pairs[column], pairs[f"{column}_label"])
        unnamed = pairs[f"{column}_label"].is_null() & are_ids(pairs[column])
        pairs = pairs.with_columns(
            unnamed.alias(f"{column}_unnamed"), labels.alias(f"{prefix}label"), names_of(labels).alias(f"{prefix}name")
        )
    return pairs


def asked_alike(titles: pl.Series) -> pl.Series:
    """The same text for titles whose questions differ only in case, blanks and punctuation: kp.facts.validation.question_key of each."""
    keys = titles.str.to_lowercase().str.replace_all(_UNSAID, " ").str.replace_all(" {2,}", " ").str.strip_chars(" ")
    keys = titles.zip_with(keys == "", keys)
    foreign = (titles.str.len_bytes() > titles.str.len_chars()).arg_true()
    return keys.scatter(foreign, pl.Series(map(question_key, titles.gather(foreign)), dtype=pl.String)) if len(foreign) else keys


def phrases_of(titles: pl.Series, book: TemplateBook) -> pl.Series:
    """The phrase for each subject within a sentence."""
    article = titles.is_in(pl.Series(sorted(book.definite_article), dtype=pl.String).implode())
    return titles.zip_with(~article, "the " + titles)


def questions_of(relations: pl.Series, titles: pl.Series, book: TemplateBook) -> pl.Series:
    """The question of each pair."""
    names = relations.unique(maintain_order=True).cast(pl.String).to_list()
    templates = [book.question(name, SUBJECT) for name in names]
    return rendered(relations.cast(pl.Enum(names)).to_physical(), phrases_of(titles, book), templates)


def rendered(numbers: pl.Series, phrases: pl.Series, templates: Sequence[str]) -> pl.Series:
    """Each phrase inserted into the template with its number."""
    pieces = [template.split(SUBJECT) for template in templates]
    texts = pl.repeat("", len(phrases), dtype=pl.String, eager=True)
    for place in range(max(map(len, pieces), default=0)):
        piece = pl.Series([some[place] if place < len(some) else "" for some in pieces], dtype=pl.String).gather(numbers)
        if place:
            follows = pl.Series([place < len(some) for some in pieces], dtype=pl.Boolean).gather(numbers)
            piece = (phrases + piece).zip_with(follows, piece)
        texts = texts + piece
    return texts


def _judged_together(candidates: pl.DataFrame) -> pl.DataFrame:
    whole = pl.col("qualified") & pl.col("name_key").is_duplicated()
    candidates = candidates.with_columns(whole.alias("whole_title")).with_columns(
        pl.when("whole_title").then("title_key").otherwise("name_key").alias("question")
    )
    alike = candidates.filter(pl.col("question").is_duplicated())
    several = alike.group_by("question").agg(
        (pl.col("object").n_unique() > 1).alias("differ"),
        pl.col("subject").sort_by(pl.col("alone").is_not_null(), "subject").first().alias("kept"),
    )
    candidates = candidates.join(several, on="question", how="left", maintain_order="left")
    rule = pl.coalesce(
        "alone",
        pl.when("differ").then(_place(Rule.SAME_QUESTION)),
        pl.when(pl.col("kept") != pl.col("subject")).then(_place(Rule.SAME_FACT)),
        pl.when(pl.when("whole_title").then("in_title").otherwise("in_name")).then(_place(Rule.ANSWER_IN_QUESTION)),
    )
    return candidates.select("relation", "popularity", "group", "row", "subject", "random_key", "whole_title", rule.alias("rule"))


def _place(rule: Rule) -> pl.Expr:
    return pl.lit(RULES.index(rule), dtype=pl.UInt8)


def equal_buckets(candidates: pl.DataFrame, per_bucket: int | None) -> pl.DataFrame:
    """The candidates that no rule drops, cut to the same number in each bucket of a relation: its smallest bucket's, or `per_bucket`."""
    kept = candidates.filter(pl.col("rule").is_null())
    sizes = kept.group_by(_BUCKET).len().group_by("relation").agg(pl.col("len").min().alias("smallest"), pl.len().alias("buckets"))
    most = pl.min_horizontal("smallest", pl.lit(per_bucket, dtype=pl.UInt32)).alias("most")  # a null does not count
    sizes = sizes.filter(pl.col("buckets") == len(BUCKETS)).select("relation", most)
    drawn = kept.join(sizes, on="relation").filter(pl.col("random_key").rank("ordinal").over(_BUCKET) <= pl.col("most"))
    return drawn.select("relation", "popularity", "group", "row", "whole_title")


def dropped_by_rule(candidates: pl.DataFrame) -> pl.DataFrame:
    """The number of candidates that each rule drops from each relation, and the position of one of them."""
    dropped = candidates.filter(pl.col("rule").is_not_null()).group_by("relation", "rule")
    return dropped.agg(pl.len().alias("candidates"), pl.col("group", "row", "whole_title").sort_by("subject").first())


def texts_of(file: pq.ParquetFile, rows: pl.DataFrame) -> pl.DataFrame:
    """The pairs at the positions in `rows` (columns group, row, whole_title and others) with titles; `title` is the one in the question."""
    columns = {**dict.fromkeys(NAMED, pl.String), "subject_degree": pl.Int64}
    parts = [pl.concat([rows.clear(), pl.DataFrame(schema=columns)], how="horizontal")]
    for (group,), places in rows.sort("group", "row").partition_by("group", as_dict=True).items():
        pairs = pl.DataFrame(file.read_row_group(group, columns=list(columns)))
        parts.append(pl.concat([places, pairs[places["row"]]], how="horizontal"))
    texts = with_titles(pl.concat(parts))
    title = pl.when("whole_title").then("label").otherwise("name").alias("title")
    return texts.with_columns(title, pl.col("relation").cast(pl.String)).drop("group", "row", "whole_title")
