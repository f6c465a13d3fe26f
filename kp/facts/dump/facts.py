"""Facts from a reduced graph, by the head-to-tail method (Sun et al. 2023) as used in arXiv 2502.14502.

Every relation with a template gives as many facts about popular subjects as about obscure ones, or its results could not be compared over
the buckets. Random draws depend on the seed and on the content of the pairs, not on their positions: neither the order of a dump's lines
nor that of its files changes a fact.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from kp.config.study import GraphConfig
from kp.errors import UserError
from kp.facts.dump.choosing import batches, dropped_by_rule, equal_buckets, judged_candidates, phrases_of, questions_of, rendered, texts_of
from kp.facts.dump.cleaning import RULES, Rule
from kp.facts.dump.entity_names import EntityNames, StatedNames, load_names
from kp.facts.dump.files import FIELD
from kp.facts.dump.merging import PAIRS_FILE, RELATIONS_FILE
from kp.facts.dump.naming import ALIASES_FILE
from kp.facts.dump.ontology import Ontology, load_ontology
from kp.facts.dump.schema import DROPPED_CANDIDATES, GRAPH_RELATIONS, GRAPH_REPORT
from kp.facts.fact import fact_id
from kp.facts.popularity import BUCKETS
from kp.facts.templates import SUBJECT, TemplateBook, graph_book
from kp.facts.validation import stands_in
from kp.schema import FACTS, read_table

CHUNK = 100_000  # facts in one chunk of the table


@dataclass(frozen=True)
class GraphFacts:
    """The facts of a graph, with reports on its relations and on the dropped pairs."""

    facts: pa.Table  # FACTS, sorted by fact_id
    relations: pa.Table  # GRAPH_REPORT, all relations of the graph by decreasing number of triples
    dropped: pa.Table  # DROPPED_CANDIDATES

    def untemplated(self, most: int) -> list[tuple[str, int]]:
        """The largest relations without a template, each with its number of triples; an id is followed by its label, if the dump has it."""
        columns = ("relation", "label", "triples", "has_template")
        rows = zip(*(self.relations[name].to_pylist() for name in columns), strict=True)
        named = [(f"{name} ({label})" if label else name, triples) for name, label, triples, has_template in rows if not has_template]
        return named[:most]

    def dropped_by(self, rule: Rule) -> int:
        """The number of candidates that a rule dropped."""
        return sum(row["candidates"] for row in self.dropped.to_pylist() if row["rule"] == rule)


@dataclass(frozen=True)
class _Chosen:
    """The chosen pairs with their texts; the candidates of each relation; what each rule dropped, by relation, with an example."""

    pairs: pl.DataFrame
    candidates: dict[str, int]
    dropped_by_rule: pl.DataFrame


def facts_of_graph(folder: Path, settings: GraphConfig, seed: int, source: str) -> GraphFacts:
    """Draw facts from the reduced graph that read_graph wrote to `folder`; `source` is the facts' column of that name.

    A fact's subject is the name in its question, and its object the first answer, so its id can be computed from the row as for any source;
    the rules make sure that ids are unique. Answers are the object's names, except aliases that the question contains. A relation without a
    candidate in each of the three buckets gives no facts. Raises UserError naming the field of a file in `settings` that cannot be used.
    """
    book = graph_book(Path(settings.templates) if settings.templates else None)
    ontology = load_ontology(settings.ontology) if settings.ontology else None
    relations = pl.DataFrame(read_table(folder / RELATIONS_FILE, GRAPH_RELATIONS))
    chosen = _choose(folder, relations, book, settings, seed)
    names = load_names(settings, chosen.pairs["object"].unique().to_list(), _stated(folder, chosen.pairs))
    facts = _facts(chosen.pairs, names, book, ontology).with_columns(pl.lit(source).alias("source"))
    return GraphFacts(
        _chunked(facts.select(FACTS.names).sort("fact_id")), _report(relations, chosen, book), _dropped(chosen.dropped_by_rule, book)
    )


def _choose(folder: Path, relations: pl.DataFrame, book: TemplateBook, settings: GraphConfig, seed: int) -> _Chosen:
    with_template = relations.filter(pl.col("relation").is_in(list(book.relations)), pl.col("pairs") > 0)
    pairs, dropped = [], []
    candidates: dict[str, int] = {}
    with pq.ParquetFile(folder / PAIRS_FILE) as file:
        for batch in batches(dict(with_template.select("relation", "pairs").iter_rows())):
            judged = judged_candidates(file, batch, book, seed)
            pairs.append(texts_of(file, equal_buckets(judged, settings.per_bucket)))
            dropped.append(texts_of(file, dropped_by_rule(judged)))
            counts = judged.filter(pl.col("rule").is_null()).group_by("relation").len()
            candidates.update(counts.select(pl.col("relation").cast(pl.String), "len").iter_rows())
    if not pairs:
        raise UserError("no relation in it has both a template and a single-valued pair; facts.graph.templates adds templates", field=FIELD)
    return _Chosen(pl.concat(pairs), candidates, pl.concat(dropped))


def _stated(folder: Path, pairs: pl.DataFrame) -> StatedNames:
    """What the dump calls the objects of these pairs."""
    objects = pairs.select("object", "object_label").unique("object")
    found = [pl.DataFrame(schema={"entity": pl.String, "alias": pl.String})]
    with pq.ParquetFile(folder / ALIASES_FILE) as file:
        for group in range(file.num_row_groups):
            rows = pl.DataFrame(file.read_row_group(group))
            found.append(rows.join(objects, left_on="entity", right_on="object", how="semi", maintain_order="left"))
    aliases = pl.concat(found).group_by("entity", maintain_order=True).agg("alias")
    return StatedNames(dict(objects.iter_rows()), dict(aliases.iter_rows()))


def _facts(pairs: pl.DataFrame, names: EntityNames, book: TemplateBook, ontology: Ontology | None) -> pl.DataFrame:
    parts = [
        _of_relation(relation, of_relation, names, book, ontology)
        for (relation,), of_relation in pairs.sort("relation", "subject").partition_by("relation", as_dict=True).items()
    ]
    return pl.concat(parts) if parts else pl.DataFrame(FACTS.empty_table())


def _of_relation(relation: str, pairs: pl.DataFrame, names: EntityNames, book: TemplateBook, ontology: Ontology | None) -> pl.DataFrame:
    titles, domain = pairs["title"], (ontology.domain(relation) if ontology else None) or book.relations[relation].domain
    questions = questions_of(pairs["relation"], titles, book)
    phrases, only = phrases_of(titles, book), pl.repeat(0, pairs.height, dtype=pl.UInt32, eager=True)
    paraphrases = [
        rendered(only, phrases, [template]).alias(str(number)) for number, template in enumerate(book.paraphrases(relation, SUBJECT))
    ]
    answers = list(_answers(pairs["object"], questions, names))
    ids = [fact_id(title, relation, names_[0]) for title, names_ in zip(titles, answers, strict=True)]
    return pl.DataFrame(
        {
            "fact_id": pa.array(ids, pa.string()),
            "subject": titles,
            "relation": pairs["relation"],
            "object": pa.array([names_[0] for names_ in answers], pa.string()),
            "question": questions,
            "answers": pa.array(answers, pa.list_(pa.string())),
            "popularity": pairs["popularity"].cast(pl.String),
            "subject_degree": pairs["subject_degree"],
            "domain": pl.repeat(domain, pairs.height, dtype=pl.String, eager=True),
            "paraphrases": pl.DataFrame(paraphrases).select(pl.concat_list(pl.all()).alias("paraphrases")).to_series(),
            "reversed_question": pa.array([book.reversed_question(relation, names_[0]) for names_ in answers], pa.string()),
        }
    )


def _answers(objects: pl.Series, questions: pl.Series, names: EntityNames) -> Iterator[list[str]]:
    names_of: dict[str, list[str]] = {}
    for iri, question in zip(objects, questions, strict=True):
        canonical, *aliases = names_of.get(iri) or names_of.setdefault(iri, names.answers(iri))
        yield [canonical, *(alias for alias in aliases if not stands_in(alias, question))]


def _chunked(facts: pl.DataFrame) -> pa.Table:
    """As FACTS, in chunks whose texts stay below the limit of 2 GB for one arrow string array."""
    chunks = [chunk.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(FACTS) for chunk in facts.iter_slices(CHUNK)]
    return pa.concat_tables(chunks) if chunks else FACTS.empty_table()


def _report(relations: pl.DataFrame, chosen: _Chosen, book: TemplateBook) -> pa.Table:
    sizes = [(pl.col("popularity") == bucket).sum().cast(pl.Int64).alias(bucket) for bucket in BUCKETS]
    buckets = chosen.pairs.group_by("relation").agg(sizes)
    candidates = pl.DataFrame(list(chosen.candidates.items()), schema={"relation": pl.String, "candidates": pl.Int64}, orient="row")
    report = relations.join(candidates, on="relation", how="left").join(buckets, on="relation", how="left").fill_null(0)
    report = report.with_columns(pl.col("relation").is_in(list(book.relations)).alias("has_template"))
    ordered = report.sort(["triples", "iri"], descending=[True, False])
    return ordered.select(GRAPH_REPORT.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(GRAPH_REPORT)


def _dropped(dropped_by_rule: pl.DataFrame, book: TemplateBook) -> pa.Table:
    rules = pl.Series([rule.value for rule in RULES], dtype=pl.String).gather(dropped_by_rule["rule"])
    examples = questions_of(dropped_by_rule["relation"], dropped_by_rule["title"], book) + " -> " + dropped_by_rule["object_name"]
    table = dropped_by_rule.with_columns(rules.alias("rule"), examples.alias("example")).sort("relation", "rule")
    return table.select(DROPPED_CANDIDATES.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(DROPPED_CANDIDATES)
