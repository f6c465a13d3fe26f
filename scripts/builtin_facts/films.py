"""Films out of bokeh_sampledata's movies.db, a snapshot of Wikidata under CC0 (releases before 2026.1 held other data).

Popularity is the number of reviews. A title that two films of the snapshot share carries its year; where the year is what is asked, such
films are left out.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from builtin_facts.countries import countries
from builtin_facts.sources import check_digest, curation, folder_of
from builtin_facts.triples import Triple, tidy

SHA256 = "1d9c6a02e488d0354b2309e16130c58820a91ac2ce417e814c5964f9579a65ac"
QUERY = "SELECT Title, Year, Director, Writer, Language, Country, Reviews FROM omdb JOIN tomatoes USING (ID) ORDER BY ID"
RARE = 5  # languages with fewer films than this are left out: dialects and slips stand among them
MOST_DIRECTORS, MOST_WRITERS, MOST_YEARS, MOST_LANGUAGES, MOST_COUNTRIES = 2500, 2500, 1500, 1500, 1000


@dataclass(frozen=True)
class Film:
    """One film, with a row's texts as the source has them."""

    title: str
    year: int
    director: str
    writer: str
    language: str
    country: str
    reviews: float
    shared_title: bool

    @property
    def subject(self) -> str:
        """The title, with the year where another film has the same."""
        return f"{self.title} ({self.year} film)" if self.shared_title else self.title


def triples() -> dict[str, list[Triple]]:
    """Triples by relation."""
    films = list(_films())
    return {
        "director_of_film": [_triple("director_of_film", film, film.director) for film in films if _one(film.director)],
        "screenwriter_of_film": [
            _triple("screenwriter_of_film", film, film.writer) for film in films if _one(film.writer) and film.writer != film.director
        ],
        "release_year_of_film": [_triple("release_year_of_film", film, str(film.year)) for film in films if not film.shared_title],
        "language_of_film": list(_languages(films)),
        "country_of_film": list(_countries(films)),
    }


def _films() -> Iterator[Film]:
    path = folder_of("bokeh_sampledata") / "_data" / "movies.db"
    check_digest(path, SHA256)
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = connection.execute(QUERY).fetchall()
    finally:
        connection.close()
    titles = Counter(tidy(row[0]).casefold() for row in rows)
    for title, year, director, writer, language, country, reviews in rows:
        name = tidy(title)
        if name and not name.endswith(("?", "!")):
            people = (tidy(director), tidy(writer))
            yield Film(name, year, *people, tidy(language), tidy(country), float(reviews or 0), titles[name.casefold()] > 1)


def _one(people: str) -> bool:
    """Whether a cell names one person by at least two words."""
    return "," not in people and " " in people


def _languages(films: list[Film]) -> Iterator[Triple]:
    same, aliases = curation()["film_languages"], curation()["film_language_aliases"]
    spoken = {film: same.get(film.language, film.language) for film in films if film.language and "," not in film.language}
    count = Counter(spoken.values())
    for film, language in spoken.items():
        if count[language] >= RARE and "American" not in language:
            yield _triple("language_of_film", film, language, tuple(aliases.get(language, [])))


def _countries(films: list[Film]) -> Iterator[Triple]:
    same = curation()["film_countries"]
    names = {country.name: country.aliases for country in countries().values()}
    names |= {name: tuple(aliases) for name, aliases in curation()["former_countries"].items()}
    for film in films:
        country = same.get(film.country, film.country)
        if country in names:
            yield _triple("country_of_film", film, country, names[country])


def _triple(relation: str, film: Film, object: str, aliases: tuple[str, ...] = ()) -> Triple:
    return Triple(relation, film.subject, object, aliases, film.reviews)
