"""The names of entities.

A graph identifies entities by IRI; an answer is right if it gives any name of the right one. Names come from the labels in the dump or from
the IRI itself, from titles that redirect to it, from Wikidata's labels and aliases, and for states from kp's own list. They are always
lists: the paper's authors joined them with commas, which split "Washington, D.C.".

With too few names a known fact looks Unknown, with too many any answer looks right. So what is no name is dropped: titles of lists and
disambiguation pages, words such as "the", and spellings that no matcher can distinguish from another one.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from kp.config.study import GraphConfig
from kp.errors import UserError
from kp.facts.alias_table import FIELD as ALIASES_FIELD
from kp.facts.alias_table import read_aliases
from kp.facts.countries import country_names, country_names_digest
from kp.facts.dump.companions import companion_digest
from kp.facts.dump.entity_links import REDIRECTS_FIELD, SAME_AS_FIELD, redirecting_titles, wikidata_id, wikidata_links
from kp.facts.validation import has_control_characters
from kp.metrics.matching import normalise
from kp.store.files import digest_file

LONGEST_ALIAS = 100  # characters; longer ones are descriptions, which no model gives as an answer
_RESOURCE = re.compile(r"\Ahttps?://([\w-]+\.)*dbpedia\.org/resource/")
_NO_NAME = re.compile(r"\A(lists? of|index of|outline of|category:|template:|file:|portal:|wikipedia:)|\(disambiguation\)\Z", re.IGNORECASE)
_LANGUAGE = " language"
_YAGO = re.compile(r"\Ahttps?://yago-knowledge\.org/resource/")
_YAGO_ESCAPE = re.compile(r"_u([0-9A-Fa-f]{4})_")
_YAGO_ID = re.compile(r"_Q[1-9][0-9]*\Z")
# IRIs that have an id and no name: of Wikidata and other wikibases, of YAGO where it has nothing but Wikidata's, of Freebase.
ID = (
    r"(?:/entity/|^https?://www\.wikidata\.org/wiki/|^https?://wikidata\.dbpedia\.org/resource/|^https?://yago-knowledge\.org/resource/_?)"
    r"[QPL][1-9][0-9]*$|^https?://rdf\.freebase\.com/ns/[mg]\.[0-9a-z_]+$"
)
_ID = re.compile(ID)
_WIKIDATA_ID = re.compile(r"^Q[1-9][0-9]*$")
_PREFIX_OF_WIKIDATA_ID = r"^(?:https?://www\.wikidata\.org/(?:entity|wiki)/|wd:)(Q[1-9][0-9]*)$"
_STOP_WORDS = frozenset(("a", "an", "and", "as", "at", "by", "for", "from", "in", "is", "it", "of", "on", "or", "the", "to", "with"))


def local_name(iri: str) -> str:
    """The part of an IRI that names the entity, unchanged; the IRI itself if there is no such part.

    DBpedia's names may contain slashes ("AC/DC"); elsewhere the name follows the last "#" or "/".
    """
    within = _RESOURCE.match(iri)
    return (iri[within.end() :] if within else re.split("[/#]", iri)[-1]) or iri


def label_of(iri: str) -> str:
    """An entity's title from its IRI: percent-decoded, underscores as blanks, with its qualifier; the id for one of Wikidata.

    Escapes that are not UTF-8 are unchanged. YAGO has escapes of its own, and Wikidata's id after names that are not unique. Never empty
    for a non-empty IRI.
    """
    name = local_name(iri)
    if _YAGO.match(iri):
        name = _YAGO_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), _YAGO_ID.sub("", name)) or name
    try:
        title = unquote(name, errors="strict")
    except UnicodeDecodeError:
        title = name
    return " ".join(title.replace("_", " ").split()) or name


def is_id(iri: str) -> bool:
    """Whether an IRI identifies its entity by an id, so that no name can be made of it."""
    return _ID.search(iri) is not None


def without_qualifier(label: str) -> str:
    """The label without a final parenthesis after a blank ("Titanic (1997 film)"); unchanged if nothing else would be left."""
    if not label.endswith(")"):
        return label
    depth = 0
    for place in range(len(label) - 1, 0, -1):
        depth += {")": 1, "(": -1}.get(label[place], 0)
        if depth == 0:  # here opens the parenthesis that closes at the end
            name = label[:place]
            return name.rstrip() if name.endswith(" ") and name.strip() else label
    return label


@dataclass(frozen=True)
class StatedNames:
    """What the dump itself calls some entities, by IRI: their titles, and their aliases in order."""

    labels: Mapping[str, str]
    aliases: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class EntityNames:
    """The names of some entities; `redirects` (titles) and `aliases` are by IRI, each in the given order.

    `labels` are the titles of the entities that need not be called by their IRIs.
    """

    entities: frozenset[str]
    redirects: Mapping[str, Sequence[str]]
    aliases: Mapping[str, Sequence[str]]
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def answers(self, iri: str) -> list[str]:
        """All names of a loaded entity, the canonical one first, without names that no matcher distinguishes; KeyError for others.

        The canonical name is the label without its qualifier; for an entity of Wikidata without a label, the first alias.
        """
        if iri not in self.entities:
            raise KeyError(iri)
        aliases = [" ".join(alias.split()) for alias in self.aliases.get(iri, ())]
        label = self.labels.get(iri) or _label(iri, aliases)
        canonical = without_qualifier(label)
        # Names as matchers see them: `strict` and `exact` the one, `released` the other (only there "U.S." and "US" differ).
        names = {(normalise(canonical), canonical.lower()): canonical}
        _add(names, _other_spellings(label, canonical))
        _add(names, _titles_unlike({plain for plain, _ in names}, self.redirects.get(iri, ()), canonical))
        _add(names, [*aliases, *country_names(label)])
        return list(names.values())


def load_names(settings: GraphConfig, entities: Collection[str], stated: StatedNames | None = None) -> EntityNames:
    """The names of these entity IRIs (in canonical spelling), from the files in `settings` and as `stated` by the dump.

    Files are streamed, so memory is proportional to the number of entities. Raises UserError naming the field if a file is missing or
    unfit.
    """
    wanted = pl.Series("entity", sorted(set(entities)), dtype=pl.String)
    titles = redirecting_titles(settings.redirects, wanted) if settings.redirects else {}
    redirects = {entity: sorted(map(label_of, iris)) for entity, iris in titles.items()}
    listed = _aliases_by_entity(settings, wanted) if settings.aliases else {}
    if stated is None:
        return EntityNames(frozenset(wanted), redirects, listed)
    aliases = {entity: [*stated.aliases.get(entity, ()), *listed.get(entity, ())] for entity in wanted}
    return EntityNames(frozenset(wanted), redirects, aliases, stated.labels)


def names_digest(settings: GraphConfig) -> dict[str, str]:
    """SHA-256 of the sources of names: each file in `settings`, by field, and kp's own names of states.

    Raises UserError naming the field if a file is not available.
    """
    digests = {"country_names": country_names_digest()}
    if settings.aliases:
        digests["aliases"] = _digest(settings.aliases, ALIASES_FIELD)
    for field, source in ((SAME_AS_FIELD, settings.same_as), (REDIRECTS_FIELD, settings.redirects)):
        if source:
            digests[field.rpartition(".")[2]] = companion_digest(source, field)
    return digests


def _add(names: dict[tuple[str, str], str], more: Iterable[str]) -> None:
    for alias in more:
        plain = normalise(alias)
        if _is_name(alias, plain):
            names.setdefault((plain, alias.lower()), alias)


def _is_name(alias: str, plain: str) -> bool:
    """Whether an alias, normalised to `plain`, can stand for an entity."""
    words = plain.split()
    return bool(words) and not _STOP_WORDS.issuperset(words) and len(alias) <= LONGEST_ALIAS and not has_control_characters(alias)


def _label(iri: str, aliases: Iterable[str]) -> str:
    named = (alias for alias in aliases if _is_name(alias, normalise(alias))) if wikidata_id(iri) else iter(())
    return next(named, label_of(iri))


def _other_spellings(label: str, canonical: str) -> Iterator[str]:
    if normalise(canonical):  # of "! (album)" a matcher would see only the qualifier
        yield label
    if canonical.endswith(_LANGUAGE):  # as an answer, a language is "English" and not "English language"
        yield canonical.removesuffix(_LANGUAGE)
    if canonical.isascii():
        return
    plain = "".join(character for character in unicodedata.normalize("NFKD", canonical) if not unicodedata.combining(character))
    if plain.isascii():  # in other scripts the marks are not accents but parts of letters
        yield plain


def _titles_unlike(known: set[str], titles: Iterable[str], canonical: str) -> Iterator[str]:
    """The redirecting titles with a new name, without their qualifiers; `known` has normalised names, to which theirs are added."""
    for title in titles:
        name = without_qualifier(title)
        plain = normalise(name)
        if plain in known or _NO_NAME.search(title) or (plain.isdecimal() and not normalise(canonical).isdecimal()):
            continue
        known.add(plain)
        yield name


def _aliases_by_entity(settings: GraphConfig, wanted: pl.Series) -> dict[str, list[str]]:
    """The aliases of each wanted entity in the table's order; UserError if its ids are not linked to the entities."""
    path = Path(settings.aliases or "")
    keys = _keys(wanted, wikidata_links(settings.same_as, wanted) if settings.same_as else None)
    found = [pl.DataFrame(schema={"row": pl.Int64, "entity": pl.String, "alias": pl.String})]
    read = by_wikidata_id = 0
    for rows in read_aliases(path):
        rows = rows.with_columns(pl.Series("id", map(_key, rows["id"]), dtype=pl.String).str.replace(_PREFIX_OF_WIKIDATA_ID, "$1"))
        read += rows.height
        by_wikidata_id += rows.filter(pl.col("id").str.contains(_WIKIDATA_ID.pattern)).height
        found.append(rows.join(keys, left_on="id", right_on="key", maintain_order="left").select("row", "entity", "alias"))
    # More than half, because a table of page titles may have one titled "Q1".
    if settings.same_as is None and 2 * by_wikidata_id > read and not all(map(wikidata_id, wanted)):
        raise UserError(f"needed, because {path} goes by Wikidata ids and the graph's entities do not", field=SAME_AS_FIELD)
    ordered = pl.concat(found).sort("entity", "row", maintain_order=True)
    return dict(ordered.group_by("entity", maintain_order=True).agg("alias").iter_rows())


def _keys(wanted: pl.Series, links: pl.DataFrame | None) -> pl.DataFrame:
    """Columns key and entity: every key that a table of aliases may use for a wanted entity."""
    pairs = []
    for iri in wanted:
        item = wikidata_id(iri)
        title = _key(local_name(iri))
        # A page titled "Q1" is not Wikidata's Q1, so a title that looks like an id is no key.
        second = [item] if item else [] if _WIKIDATA_ID.match(title) else [title]
        pairs += [(key, iri) for key in dict.fromkeys([_key(iri), *second])]
    keys = pl.DataFrame(pairs, schema={"key": pl.String, "entity": pl.String}, orient="row")
    return keys if links is None else pl.concat([keys, links.select(pl.col("id").alias("key"), "entity")]).unique()


def _key(name: str) -> str:
    """The same key for all spellings of an IRI, local name or title: tables write blanks and letters in several ways."""
    return (unquote(name) if "%" in name else name).replace("_", " ")


def _digest(path: str, field: str) -> str:
    try:
        return digest_file(Path(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", field=field) from error
