"""Which labels of a dump are those of its entities and relations. They are found by partition, so that any number of labels fits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from kp.facts.dump.labels import ALIAS
from kp.facts.dump.schema import GRAPH_ALIASES
from kp.facts.dump.spans import Hashes, Text
from kp.facts.dump.spill import Partitions, read_batch, spilled

ALIASES_FILE = "aliases.parquet"
ENTITY_LABELS = pa.schema([pa.field("label", pa.large_string())])
# Wikidata states the label of a property for its entity, and not for the relation of that property.
WIKIDATA_RELATION, WIKIDATA_ENTITY = "http://www.wikidata.org/prop/direct/", "http://www.wikidata.org/entity/"


@dataclass(frozen=True)
class NamedEntities:
    """The names of one partition's entities."""

    labels: pa.RecordBatch  # ENTITY_LABELS, a row for each entity in its order
    aliases: pa.Table  # GRAPH_ALIASES


def named_entities(entities: pl.Series, folders: Iterable[Path], number: int) -> NamedEntities:
    """The label of each of these entities (sorted hashes), and the aliases of all; they are of partition `number` of what was spilled."""
    labels = _spilled_labels(folders, number, entities.to_numpy())
    if labels.is_empty():  # as in most dumps
        return NamedEntities(
            pa.record_batch([pa.nulls(len(entities), pa.large_string())], schema=ENTITY_LABELS), GRAPH_ALIASES.empty_table()
        )
    best = _best(labels)
    named = entities.to_frame("entity").join(best, on="entity", how="left", maintain_order="left")["name"]
    others = labels.join(best, on=["entity", "name"], how="anti").sort("iri", "rank", "name").select("iri", "name")
    column = named.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.large_string())
    aliases = others.rename({"iri": "entity", "name": "alias"}).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(GRAPH_ALIASES)
    return NamedEntities(pa.record_batch([column], schema=ENTITY_LABELS), aliases)


def relation_labels(relations: Iterable[str], folders: Sequence[Path], partitions: Partitions) -> list[str | None]:
    """The label of each relation, by its IRI or that of its entity."""
    iris = [WIKIDATA_ENTITY + iri.removeprefix(WIKIDATA_RELATION) if iri.startswith(WIKIDATA_RELATION) else iri for iri in relations]
    hashes = _hashes(iris)
    found: dict[int, str] = {}
    for number in np.unique(partitions.of(hashes)).tolist():
        found |= dict(_best(_spilled_labels(folders, number, hashes)).iter_rows())
    return [found.get(key) for key in hashes.tolist()]


def _spilled_labels(folders: Iterable[Path], number: int, entities: Hashes) -> pl.DataFrame:
    """The labels of these entities: columns entity (hash), rank, iri, name; distinct, and sorted so that an entity's best one is first."""
    schema = {"entity": pl.UInt64, "rank": pl.UInt8, "iri": pl.String, "name": pl.String}
    batches = [read_batch(path, number) for folder in folders for path in spilled(folder, "labels")]
    wanted = [batch.filter(pa.array(np.isin(batch.column("subjects").to_numpy(), entities))) for batch in batches]
    if not wanted:
        return pl.DataFrame(schema=schema)
    table = pl.DataFrame(pa.Table.from_batches(wanted).rename_columns(list(schema))).cast(schema)  # type: ignore[arg-type]
    return table.sort("entity", "rank", "name").unique(["entity", "name"], keep="first", maintain_order=True)


def _best(labels: pl.DataFrame) -> pl.DataFrame:
    """Columns entity and name: the first label of each entity that is no alias."""
    return labels.filter(pl.col("rank") < ALIAS).unique("entity", keep="first", maintain_order=True).select("entity", "name")


def _hashes(texts: Sequence[str]) -> Hashes:
    data = [text.encode() for text in texts]
    bounds = np.cumsum([0, *map(len, data)])
    return Text(bytearray(b"".join(data))).hashes(bounds[:-1], bounds[1:])
