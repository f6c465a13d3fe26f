"""What an entity is called.

A graph knows entities by IRI; an answer is right if it gives any name of the right one. Names come from the IRI itself, from titles that
redirect to it, from Wikidata's labels and aliases, and of states from kp's own list. They stay lists to the end: the study's authors joined
them by commas, which took "Washington, D.C." apart.

Too few names make a known fact look Unknown, too many make any answer look right, so what is no name is dropped: titles of lists and
disambiguation pages, words such as "the", and spellings that no matcher tells from one that is there.
"""

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

LONGEST_ALIAS = 100  # characters; longer ones are descriptions, and no model gives them back
_RESOURCE = re.compile(r"\Ahttps?://([\w-]+\.)*dbpedia\.org/resource/")
_NO_NAME = re.compile(r"\A(lists? of|index of|outline of|category:|template:|file:|portal:|wikipedia:)|\(disambiguation\)\Z", re.IGNORECASE)
_LANGUAGE = " language"
_WIKIDATA_ID = re.compile(r"^Q[1-9][0-9]*$")
_PREFIX_OF_WIKIDATA_ID = r"^(?:https?://www\.wikidata\.org/(?:entity|wiki)/|wd:)(Q[1-9][0-9]*)$"
_STOP_WORDS = frozenset(("a", "an", "and", "as", "at", "by", "for", "from", "in", "is", "it", "of", "on", "or", "the", "to", "with"))


def local_name(iri: str) -> str:
    """The part of an IRI that names the entity, as it is written there; the IRI itself where there is no such part.

    DBpedia's names may hold slashes ("AC/DC"); elsewhere the name follows the last "#" or "/".
    """
    within = _RESOURCE.match(iri)
    return (iri[within.end() :] if within else re.split("[/#]", iri)[-1]) or iri


def label_of(iri: str) -> str:
    """An entity's title as its IRI gives it: percent-decoded, underscores as blanks, with its qualifier; of Wikidata's the id.

    Escapes that are not UTF-8 stay as they are. Never empty for an IRI that is not.
    """
    name = local_name(iri)
    try:
        title = unquote(name, errors="strict")
    except UnicodeDecodeError:
        title = name
    return " ".join(title.replace("_", " ").split()) or name


def without_qualifier(label: str) -> str:
    """The label without a parenthesis that ends it after a blank ("Titanic (1997 film)"); unchanged where nothing else would be left."""
    if not label.endswith(")"):
        return label
    depth = 0
    for place in range(len(label) - 1, 0, -1):
        depth += {")": 1, "(": -1}.get(label[place], 0)
        if depth == 0:  # the parenthesis that the end closes opens here
            name = label[:place]
            return name.rstrip() if name.endswith(" ") and name.strip() else label
    return label


@dataclass(frozen=True)
class EntityNames:
    """The names of some entities; `redirects` (titles) and `aliases` are by IRI, each in the order in which they are given."""

    entities: frozenset[str]
    redirects: Mapping[str, Sequence[str]]
    aliases: Mapping[str, Sequence[str]]

    def answers(self, iri: str) -> list[str]:
        """All names of a loaded entity, the canonical one first, no two of which every matcher takes for the same; KeyError for others.

        The canonical name is the label without its qualifier; of an entity of Wikidata, whose IRI tells none, its first alias.
        """
        if iri not in self.entities:
            raise KeyError(iri)
        aliases = [" ".join(alias.split()) for alias in self.aliases.get(iri, ())]
        label = _label(iri, aliases)
        canonical = without_qualifier(label)
        # By what matchers see of a name: `strict` and `exact` the one, `released` the other ("U.S." and "US" differ in it alone).
        names = {(normalise(canonical), canonical.lower()): canonical}
        _add(names, _other_spellings(label, canonical))
        _add(names, _titles_unlike({plain for plain, _ in names}, self.redirects.get(iri, ()), canonical))
        _add(names, [*aliases, *country_names(label)])
        return list(names.values())


def load_names(settings: GraphConfig, entities: Collection[str]) -> EntityNames:
    """The names of these entity IRIs, spelled as the dump reader spells them, out of the files that `settings` names.

    Files are streamed, so memory goes with the number of entities. Raises UserError naming the field where a file is missing or unfit.
    """
    wanted = pl.Series("entity", sorted(set(entities)), dtype=pl.String)
    titles = redirecting_titles(settings.redirects, wanted) if settings.redirects else {}
    redirects = {entity: sorted(map(label_of, iris)) for entity, iris in titles.items()}
    return EntityNames(frozenset(wanted), redirects, _aliases_by_entity(settings, wanted) if settings.aliases else {})


def names_digest(settings: GraphConfig) -> dict[str, str]:
    """SHA-256 of what names come from: each file that `settings` names, by field, and kp's own names of states.

    Raises UserError naming the field where a file cannot be had.
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
    if normalise(canonical):  # of "! (album)" a matcher would see nothing but the qualifier
        yield label
    if canonical.endswith(_LANGUAGE):  # nobody asked for a language says "English language"
        yield canonical.removesuffix(_LANGUAGE)
    if canonical.isascii():
        return
    plain = "".join(character for character in unicodedata.normalize("NFKD", canonical) if not unicodedata.combining(character))
    if plain.isascii():  # in other scripts the marks are no accents but parts of letters
        yield plain


def _titles_unlike(known: set[str], titles: Iterable[str], canonical: str) -> Iterator[str]:
    """The redirecting titles that say something new, without their qualifiers; `known` are normalised names, and grows by theirs."""
    for title in titles:
        name = without_qualifier(title)
        plain = normalise(name)
        if plain in known or _NO_NAME.search(title) or (plain.isdecimal() and not normalise(canonical).isdecimal()):
            continue
        known.add(plain)
        yield name


def _aliases_by_entity(settings: GraphConfig, wanted: pl.Series) -> dict[str, list[str]]:
    """The aliases of each wanted entity in the table's order; UserError where it goes by ids that nothing links to the entities."""
    path = Path(settings.aliases or "")
    keys = _keys(wanted, wikidata_links(settings.same_as, wanted) if settings.same_as else None)
    found = [pl.DataFrame(schema={"row": pl.Int64, "entity": pl.String, "alias": pl.String})]
    read = by_wikidata_id = 0
    for rows in read_aliases(path):
        rows = rows.with_columns(pl.Series("id", map(_key, rows["id"]), dtype=pl.String).str.replace(_PREFIX_OF_WIKIDATA_ID, "$1"))
        read += rows.height
        by_wikidata_id += rows.filter(pl.col("id").str.contains(_WIKIDATA_ID.pattern)).height
        found.append(rows.join(keys, left_on="id", right_on="key", maintain_order="left").select("row", "entity", "alias"))
    # More than half: a table of page titles may well have one that is titled "Q1".
    if settings.same_as is None and 2 * by_wikidata_id > read and not all(map(wikidata_id, wanted)):
        raise UserError(f"needed, because {path} goes by Wikidata ids and the graph's entities do not", field=SAME_AS_FIELD)
    ordered = pl.concat(found).sort("entity", "row", maintain_order=True)
    return dict(ordered.group_by("entity", maintain_order=True).agg("alias").iter_rows())


def _keys(wanted: pl.Series, links: pl.DataFrame | None) -> pl.DataFrame:
    """Columns key and entity: all that a table of aliases may call a wanted entity by."""
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
    """One spelling of an IRI, local name or title for all that stand for the same: tables write blanks and letters in several ways."""
    return (unquote(name) if "%" in name else name).replace("_", " ")


def _digest(path: str, field: str) -> str:
    try:
        return digest_file(Path(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", field=field) from error
