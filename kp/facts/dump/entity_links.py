"""Links between entities: which titles redirect to an entity, and its Wikidata id.

Both are in dumps with a line for every page of an encyclopaedia. They are read frame by frame and joined with the entities that a study
asks about, so memory is proportional to the number of these. A redirect may lead to another redirect, whose line may be anywhere in the
file, so the file is read again until a whole pass finds no further title.
"""

import re
from collections.abc import Iterator

import polars as pl

from kp.errors import UserError
from kp.facts.dump.companions import triples_of

SAME_AS_FIELD = "facts.graph.same_as"
REDIRECTS_FIELD = "facts.graph.redirects"
SAME_AS = "http://www.w3.org/2002/07/owl#sameAs"
REDIRECTS = "http://dbpedia.org/ontology/wikiPageRedirects"
_WIKIDATA = re.compile(r"https?://(?:www\.wikidata\.org/(?:entity|wiki)|wikidata\.dbpedia\.org/resource)/(Q[1-9][0-9]*)")


def wikidata_id(iri: str) -> str | None:
    """The Q-id in an IRI of Wikidata, or of DBpedia's copy of it; None for any other IRI."""
    match = _WIKIDATA.fullmatch(iri)
    return match[1] if match else None


def redirecting_titles(source: str, wanted: pl.Series) -> dict[str, list[str]]:
    """Sorted IRIs that redirect to each of the `wanted` IRIs, directly or over others; cycles are followed once.

    Raises UserError naming facts.graph.redirects if there is no such dump, or no redirect in it.
    """
    names = pl.DataFrame({"title": wanted, "entity": wanted})  # every title found, and the wanted entities to which it leads
    while True:
        before = names.height
        for frame in _triples(source, REDIRECTS, REDIRECTS_FIELD):
            links = frame.select(pl.col("subject").alias("title"), "object")
            found = links.join(names, left_on="object", right_on="title").select("title", "entity").unique()
            if not found.is_empty():
                names = pl.concat([names, found.join(names, on=["title", "entity"], how="anti")])
        if names.height == before:
            others = names.filter(pl.col("title") != pl.col("entity")).sort("entity", "title")
            return dict(others.group_by("entity", maintain_order=True).agg("title").iter_rows())


def wikidata_links(source: str, wanted: pl.Series) -> pl.DataFrame:
    """The Wikidata ids of the `wanted` IRIs: columns entity and id (Q42), sorted, distinct; links count in either direction.

    Raises UserError naming facts.graph.same_as if there is no such dump, or no link to Wikidata in it.
    """
    found = [pl.DataFrame(schema={"entity": pl.String, "id": pl.String})]
    links = 0
    for frame in _triples(source, SAME_AS, SAME_AS_FIELD):
        for entity, other in (("subject", "object"), ("object", "subject")):
            ids = pl.col(other).str.extract(rf"\A{_WIKIDATA.pattern}\z").alias("id")
            linked = frame.select(pl.col(entity).alias("entity"), ids).drop_nulls("id")
            links += linked.height
            found.append(linked.join(wanted.to_frame("entity"), on="entity", how="semi"))
    if links == 0:
        raise UserError(f"'{source}' links nothing to a Wikidata id by owl:sameAs", field=SAME_AS_FIELD)
    return pl.concat(found).unique().sort("entity", "id")


def _triples(source: str, relation: str, field: str) -> Iterator[pl.DataFrame]:
    """The dump's triples of one relation; UserError naming the field if it has none."""
    count = 0
    for frame in triples_of(source, [relation], field):
        count += frame.height
        yield frame
    if count == 0:
        raise UserError(f"'{source}' has no line with <{relation}>", field=field)
