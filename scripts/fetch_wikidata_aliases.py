"""Make a table of aliases (`id`, `alias`) for `facts.graph.aliases` out of Wikidata's English labels and aliases.

    python scripts/fetch_wikidata_aliases.py entities.txt --contact you@example.org --out aliases.parquet
    python scripts/fetch_wikidata_aliases.py pairs.parquet --column object --contact you@example.org --out aliases.parquet

Needs a network. The query service stops queries that run for a minute and turns away clients that ask too much at once, so entities are
asked about in batches, one after the other, and a batch that is turned away is asked again when the service says. Every finished batch is
appended to OUT.parts.jsonl, and a later start asks only about what is not in it; the table itself is written when nothing is missing.
"""

import argparse
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
import pyarrow as pa

from kp import __version__
from kp.errors import UserError
from kp.facts.dump.entity_links import wikidata_id
from kp.facts.dump.entity_names import label_of
from kp.schema import write_table

ENDPOINT = "https://query.wikidata.org/sparql"
ALIASES = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("alias", pa.string(), nullable=False)])
ANSWER_SECONDS = 90  # the service gives up after 60
ATTEMPTS = 6
FIRST_WAIT, LONGEST_WAIT = 5.0, 300.0  # seconds; doubled from one attempt to the next where the service does not say
AGAIN = frozenset((408, 429, 500, 502, 503, 504))
_DBPEDIA = re.compile(r"https?://dbpedia\.org/resource/.+")
_ID = re.compile(r"Q[1-9][0-9]*")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})

# "mul" holds what is the same in every language, and "en" then says nothing of its own.
QUERY = """SELECT DISTINCT ?key ?name ?place WHERE {{
  {items}
  {{ ?item rdfs:label ?name . BIND(IF(LANG(?name) = "en", 0, 1) AS ?place) }} UNION {{ ?item skos:altLabel ?name . BIND(2 AS ?place) }}
  FILTER(LANG(?name) IN ("en", "mul"))
}}"""
ITEMS_BY_ID = "VALUES ?item {{ {values} }} BIND(STRAFTER(STR(?item), '/entity/') AS ?key)"
ITEMS_BY_TITLE = """VALUES ?title {{ {values} }}
  ?article schema:name ?title ; schema:isPartOf <https://en.wikipedia.org/> ; schema:about ?item . BIND(STR(?title) AS ?key)"""


class FetchError(Exception):
    """The service could not be made to answer; the message says what it said last."""


@dataclass(frozen=True)
class Service:
    """A SPARQL endpoint, and how it is asked."""

    endpoint: str
    user_agent: str
    sleep: Callable[[float], object] = time.sleep

    def rows(self, query: str) -> list[dict[str, str]]:
        """The bindings of a SELECT query as texts; FetchError where ATTEMPTS of them, or one that cannot be mended, fail."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._ask(query)
            except urllib.error.HTTPError as error:
                cause, asked_wait = f"HTTP {error.code} {error.reason}", error.headers.get("Retry-After")
                if error.code not in AGAIN:
                    raise FetchError(f"{self.endpoint}: {cause}") from error
            except (OSError, http.client.HTTPException, json.JSONDecodeError, UnicodeDecodeError) as error:  # no, half or no JSON answer
                cause, asked_wait = f"{type(error).__name__}: {error}", None
            if attempt < ATTEMPTS:
                seconds = waiting_seconds(asked_wait, attempt)
                print(f"{cause}; asking again in {seconds:.0f} s", file=sys.stderr)
                self.sleep(seconds)
        raise FetchError(f"{self.endpoint}: {cause}, {ATTEMPTS} times in a row")

    def _ask(self, query: str) -> list[dict[str, str]]:
        headers = {"User-Agent": self.user_agent, "Accept": "application/sparql-results+json"}
        # Data makes it a POST: a query is longer than an address may be.
        request = urllib.request.Request(self.endpoint, urlencode({"query": query}).encode(), headers)
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            bindings = json.load(answer)["results"]["bindings"]
        return [{name: cell["value"] for name, cell in binding.items()} for binding in bindings]


def waiting_seconds(retry_after: str | None, attempt: int, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float:
    """How long to wait after failed attempt `attempt` (the first is 1): what a Retry-After header says, else twice as long each time."""
    if retry_after and retry_after.strip().isdecimal():
        return float(retry_after)
    if retry_after:
        try:
            return max(0.0, (parsedate_to_datetime(retry_after) - now()).total_seconds())
        except (ValueError, TypeError):  # neither seconds nor a date; TypeError: a date without a zone
            pass
    return min(FIRST_WAIT * 2.0 ** (attempt - 1), LONGEST_WAIT)


def read_entities(path: Path, column: str) -> list[str]:
    """The distinct entities of a parquet column, or of a text file with one a line, in order.

    UserError where the file cannot be read, or an entity is neither an IRI of DBpedia (English) or Wikidata nor a Q-id.
    """
    try:
        if path.suffix == ".parquet":
            texts = pl.read_parquet(path, columns=[column]).to_series().cast(pl.String).to_list()
        else:
            texts = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    entities = []
    for row, text in enumerate(texts, start=1):
        entity = (text or "").strip()
        if entity and not (_DBPEDIA.fullmatch(entity) or item_of(entity)):
            raise UserError(f"{path}: row {row}: {entity[:60]!r}: expected an IRI of DBpedia or Wikidata, or a Q-id")
        entities += [entity] if entity else []
    return list(dict.fromkeys(entities))


def item_of(entity: str) -> str | None:
    """The Q-id that an entity is given by, or None where it is given by a title."""
    return entity if _ID.fullmatch(entity) else wikidata_id(entity)


def key_of(entity: str) -> str:
    """What a row of an answer calls the entity: its Q-id, or its title."""
    return item_of(entity) or label_of(entity)


def query_for(entities: Sequence[str]) -> str:
    """SPARQL for English labels and aliases of entities that are all given by ids or all by titles."""
    if item_of(entities[0]):
        items = ITEMS_BY_ID.format(values=" ".join(f"wd:{key_of(entity)}" for entity in entities))
    else:
        items = ITEMS_BY_TITLE.format(values=" ".join(f'"{key_of(entity).translate(_ESCAPES)}"@en' for entity in entities))
    return QUERY.format(items=items)


def batches(entities: Sequence[str], size: int) -> Iterator[list[str]]:
    """The entities in batches of at most `size`, those that are given by ids first."""
    for kind in (True, False):
        alike = [entity for entity in entities if bool(item_of(entity)) is kind]
        for begin in range(0, len(alike), size):
            yield alike[begin : begin + size]


def names_by_key(rows: Sequence[dict[str, str]]) -> dict[str, list[str]]:
    """Names by what query_for calls their entity: the label first, the rest in alphabetical order."""
    names: dict[str, list[str]] = {}
    for _, name, key in sorted((int(row["place"]), row["name"], row["key"]) for row in rows):
        names.setdefault(key, []).append(name)
    return {key: list(dict.fromkeys(found)) for key, found in names.items()}


def read_parts(path: Path) -> dict[str, list[str]]:
    """Names by entity as finished batches left them; a last line that was cut short is cut off the file."""
    if not path.exists():
        return {}
    whole = path.read_bytes()
    kept = whole[: whole.rfind(b"\n") + 1]
    if len(kept) < len(whole):
        os.truncate(path, len(kept))
    parts = [json.loads(line) for line in kept.decode("utf-8").splitlines()]
    return {part["id"]: part["aliases"] for part in parts}


def append_parts(path: Path, names: dict[str, list[str]]) -> None:
    """Add a finished batch, on disk before this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": entity, "aliases": aliases}) + "\n" for entity, aliases in names.items())
        file.flush()
        os.fsync(file.fileno())


def fetch(entities: Sequence[str], service: Service, parts: Path, size: int) -> dict[str, list[str]]:
    """Names of all the entities: those in `parts`, and for the rest what the service says, which goes there batch by batch."""
    done = read_parts(parts)
    missing = [entity for entity in entities if entity not in done]
    asked = 0
    for batch in batches(missing, size):
        names = names_by_key(service.rows(query_for(batch)))
        found = {entity: names.get(key_of(entity), []) for entity in batch}
        append_parts(parts, found)
        done |= found
        asked += len(batch)
        print(f"{asked:,} of {len(missing):,} entities asked about", file=sys.stderr)
    return {entity: done[entity] for entity in entities}


def main(arguments: Sequence[str] | None = None, sleep: Callable[[float], object] = time.sleep) -> int:
    """Fetch, write the table, say what it holds; 1 where the service failed, 2 where the input is at fault."""
    options = _parser().parse_args(arguments)
    service = Service(options.endpoint, f"kp/{__version__} (fetch_wikidata_aliases; {options.contact})", sleep)
    parts = Path(f"{options.out}.parts.jsonl")
    try:
        names = fetch(read_entities(options.entities, options.column), service, parts, options.batch)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except FetchError as error:
        print(f"{error}\nWhat is done stands in {parts}; the same command asks for the rest.", file=sys.stderr)
        return 1
    rows = [{"id": entity, "alias": alias} for entity, aliases in names.items() for alias in aliases]
    write_table(pa.Table.from_pylist(rows, schema=ALIASES), ALIASES, options.out)
    print(f"{len(rows):,} names of {sum(map(bool, names.values())):,} of {len(names):,} entities: {options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Make a table of aliases out of Wikidata's English labels and aliases.")
    parser.add_argument("entities", type=Path, help="a text file with one IRI or Q-id a line, or a parquet file")
    parser.add_argument("--column", default="object", help="the column of a parquet file that holds them (default: object)")
    parser.add_argument("--out", type=Path, default=Path("aliases.parquet"), help="where the table goes")
    parser.add_argument("--contact", required=True, help="an address or page where Wikimedia can reach you, as its user-agent policy asks")
    parser.add_argument("--batch", type=_positive, default=200, help="entities asked about in one query")
    parser.add_argument("--endpoint", default=ENDPOINT, help="the SPARQL service")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: expected 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
