"""From what the sources say to facts that may be asked.

Every relation passes the same gates, in this order: clean text, no answer inside a wording of its question, one subject once, and no
answer so common that guessing it pays. Where facts must go, the most popular stay. Nothing is drawn at random, so the same sources give
the same facts.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kp.facts.fact import fact_id
from kp.facts.templates import template_book
from kp.facts.validation import stands_in

MOST_SHARE = 5  # an answer may be right for at most one fact in five of its relation
SAME_LETTERS = str.maketrans({"’": "'", "‘": "'", "ʻ": "'", "ʼ": "'", "`": "'", "“": '"', "”": '"'})


@dataclass(frozen=True)
class Triple:
    """One statement of a source; `score` orders its relation by popularity, and None leaves that to the entities' degree."""

    relation: str
    subject: str
    object: str
    aliases: tuple[str, ...] = ()
    score: float | None = None

    @property
    def answers(self) -> tuple[str, ...]:
        """Every right answer, canonical first."""
        return (self.object, *self.aliases)


def tidy(text: str | None) -> str:
    """Composed letters, plain apostrophes, single blanks."""
    return " ".join(unicodedata.normalize("NFC", text or "").translate(SAME_LETTERS).split())


def askable(text: str) -> bool:
    """Whether a text is Latin letters, digits and common marks, and no longer than a line."""
    if not re.search(r"\w", text) or len(text) > 60 or re.fullmatch(r"Q\d+", text):
        return False
    return all(_common(character) for character in text)


def gate(triples: Iterable[Triple], limit: int | None = None) -> list[Triple]:
    """The facts of one relation that may be asked, at most `limit`, spread evenly over popularity."""
    kept = _unambiguous(_without_leaks(_tidied(triples)))
    kept = guess_proof(kept)
    return guess_proof(_spread(kept, limit)) if limit else kept


def guess_proof(triples: list[Triple]) -> list[Triple]:
    """Drop the least popular facts of every answer that is right for more than a fifth of the relation's facts."""
    ordered = sorted(triples, key=_by_popularity)
    answers = [{answer.casefold() for answer in triple.answers} for triple in ordered]
    holders: dict[str, list[int]] = defaultdict(list)
    for place, texts in enumerate(answers):
        for text in texts:
            holders[text].append(place)
    kept = set(range(len(ordered)))
    while common := [text for text, places in holders.items() if len(places) * MOST_SHARE > len(kept)]:
        worst = max(common, key=lambda text: (len(holders[text]), text))
        place = holders[worst][-1]
        kept.remove(place)
        for text in answers[place]:
            holders[text].remove(place)
    return [ordered[place] for place in sorted(kept)]


def rows_of(triples: list[Triple]) -> list[dict[str, object]]:
    """Rows of the shipped file, sorted by relation and fact_id: with thirds of popularity and degrees over the whole set."""
    degree = Counter(entity for triple in triples for entity in {triple.subject, triple.object})
    by_relation: dict[str, list[Triple]] = defaultdict(list)
    for triple in triples:
        by_relation[triple.relation].append(triple)
    rows = []
    for relation in sorted(by_relation):
        scored = [_with_score(triple, degree) for triple in by_relation[relation]]
        for place, triple in enumerate(sorted(scored, key=_by_popularity)):
            third = ("head", "torso", "tail")[place * 3 // len(scored)]
            rows.append(_row(triple, third, degree[triple.subject]))
    return sorted(rows, key=lambda row: (row["relation"], fact_id(str(row["subject"]), str(row["relation"]), str(row["object"]))))


def _row(triple: Triple, popularity: str, degree: int) -> dict[str, object]:
    return {
        "relation": triple.relation,
        "subject": triple.subject,
        "object": triple.object,
        "aliases": list(triple.aliases),
        "popularity": popularity,
        "subject_degree": degree,
    }


def _with_score(triple: Triple, degree: Counter[str]) -> Triple:
    if triple.score is not None:
        return triple
    return replace(triple, score=float(degree[triple.subject] + degree[triple.object]))


def _by_popularity(triple: Triple) -> tuple[float, str]:
    return (-(triple.score or 0.0), fact_id(triple.subject, triple.relation, triple.object))


def _common(character: str) -> bool:
    if character.isalpha():
        return unicodedata.name(character, "").startswith("LATIN")
    return (character.isdecimal() and character.isascii()) or character in " .,:;'!?&-–/()+"


def _tidied(triples: Iterable[Triple]) -> list[Triple]:
    kept = []
    for triple in triples:
        subject, object_ = tidy(triple.subject), tidy(triple.object)
        names = dict.fromkeys(tidy(alias) for alias in triple.aliases)
        aliases = tuple(name for name in names if askable(name) and name.casefold() != object_.casefold())
        if askable(subject) and askable(object_):
            kept.append(replace(triple, subject=subject, object=object_, aliases=aliases))
    return kept


def _without_leaks(triples: list[Triple]) -> list[Triple]:
    """Without facts whose canonical answer stands in a wording of the question, and without aliases that do."""
    book = template_book()
    kept = []
    for triple in triples:
        wordings = [book.question(triple.relation, triple.subject), *book.paraphrases(triple.relation, triple.subject)]
        text = " | ".join(wordings).casefold()
        if not stands_in(triple.object.casefold(), text):
            kept.append(replace(triple, aliases=tuple(alias for alias in triple.aliases if not stands_in(alias.casefold(), text))))
    return kept


def _unambiguous(triples: list[Triple]) -> list[Triple]:
    subjects = Counter(triple.subject.casefold() for triple in triples)
    return [triple for triple in triples if subjects[triple.subject.casefold()] == 1]


def _spread(triples: list[Triple], limit: int) -> list[Triple]:
    """At most `limit` facts at even steps from the most to the least popular."""
    ordered = sorted(triples, key=_by_popularity)
    if len(ordered) <= limit:
        return ordered
    return [ordered[place * len(ordered) // limit] for place in range(limit)]
