"""The entities of a synthetic dump: names, kinds and fame, each a function of the entity's number alone.

Numbers are in alphabetical order of the first word of the name, so a range of numbers is a range of the sorted file. Fame (the rank for
Zipf's law) is a fixed permutation of the numbers, so famous entities are spread over the alphabet. Kinds follow from the rank, so each kind
has its famous ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Integers = NDArray[np.int64]

SLOTS = 20  # consecutive ranks over which the kinds are distributed
_PERMUTATION = 2_654_435_761  # a prime beyond any number of entities, so it has an inverse
_STRIDE = 1_327  # coprime to the number of last names
_MIX = 0x9E37_79B9_7F4A_7C15  # Fibonacci hashing: the golden ratio in 64 bits


class Kind(StrEnum):
    """What an entity is; determines how its name is built and which relations it has."""

    PERSON = "person"
    WORK = "work"
    PLACE = "place"
    ORGANISATION = "organisation"
    TOPIC = "topic"


@dataclass(frozen=True)
class _Naming:
    slots: int  # of SLOTS
    middles: tuple[str, ...]  # between the first word and the last name; one is chosen
    endings: tuple[str, ...]


_YEARS = range(1931, 2021)
_INITIALS = tuple(f"_{letter}._" for letter in "ABCDEFGHJLMPRSTW")
_PEOPLE = ("footballer", "actor", "politician", "musician", "cricketer", "American_football")
_STATES = ("Ohio", "Texas", "Iowa", "Ontario", "Bavaria")

_NAMING = {
    Kind.PERSON: _Naming(
        8,
        ("_",) * 50 + _INITIALS + ("_van_", "_de_la_", "_%22Duke%22_"),
        ("",) * 70 + tuple(f"_({what})" for what in _PEOPLE) + tuple(f"_(footballer,_born_{year})" for year in range(1970, 2000, 5)),
    ),
    Kind.WORK: _Naming(
        5,
        ("_", "_", "_and_the_", "_of_", "'s_", ":_"),
        ("",) * 90 + ("%3F", "%3F_(film)", "!", "_(album)", "_(novel)", "_(song)", "_(TV_series)") + tuple(f"_({y}_film)" for y in _YEARS),
    ),
    Kind.PLACE: _Naming(3, ("_", "_", "-"), ("",) * 6 + ("_County", "_District", "_Airport") + tuple(f",_{state}" for state in _STATES)),
    Kind.ORGANISATION: _Naming(3, ("_", "_&_", "_", "_"), ("", "", "_Records", "_F.C.", "_University", "_TV", "_S.A.")),
    Kind.TOPIC: _Naming(1, ("_", "-"), ("", "", "_music", "_language", "_(genus)", "_Party")),
}
_NAMESAKE = 15  # one in this many entities has the name of the one before it
_NAMESAKE_ENDINGS = ("_(band)", "_(play)", "_(village)", "_(ship)", "_(surname)")
KINDS = tuple(_NAMING)
KIND_OF_SLOT = np.repeat(np.arange(len(KINDS)), [naming.slots for naming in _NAMING.values()])
FIRST_SLOT = np.array([0, *accumulate(naming.slots for naming in _NAMING.values())])  # of each kind, then SLOTS


def _words(*lines: str) -> list[str]:
    return [word for line in lines for word in line.split()]


_BEGINNINGS = _words(
    "Al An Ar Bel Ber Bran Cal Car Cor Dal Dar Del El Em Er Fal Far Fen Gar Gil Hal Har Hel Jar Jor Kal Kel Lan Lor Mar Mel Nor Per Quin",
    "Ros San Tor Val Wes Zel Šar",
)
_CODAS = _words("a den ella ford gan ian ina is land lene lin man mond nard ney ric rina son stin ton tha vin wyn y")
FIRST_WORDS = sorted((begin + coda for begin, coda in product(_BEGINNINGS, _CODAS)), key=str.encode)

_STEMS = _words(
    "Ack Ash Bald Bar Beck Black Brad Bran Bright Brook Burn Cald Camp Carl Chan Clay Clif Cole Cran Croft Dale Dan Dray Dun East Edge Ell",
    "Fair Farn Fitz Fleet Ford Gals Glen Gold Grant Graves Green Had Ham Hart Hawk Hazel Hel Hol Horn Kings Kirk Kowal Lang Lath Leigh",
    "Lind Lock Long Mac Mal Marl Mays Mill Mor Nash New North Oak Over Park Pem Pres Quill Rad Raven Red Ridge Rock Row Rus Sand Scar Sel",
    "Shel Sher Stan Stock Strat Sut Thorn Tren Under Wade Wal Ward Wat West Whit Wil Wood Øst",
)
_ENDS = _words(
    "ard bank beck berg borough bourne bridge brook burn bury by castle cliff combe cott court croft dale den dorf er ett field ford gate",
    "grove ham hard hill holm house hurst ing ington kirk land leigh ley low man mere mond more ner nor over park pool port ridge sen shaw",
    "side son stead stone thorpe ton vale ville wall ward way well wick win wood worth yard ález",
)
_LAST_NAMES = [stem + end for end, stem in product(_ENDS, _STEMS)]


class Entities:
    """`count` entities, numbered from 0."""

    def __init__(self, count: int) -> None:
        """`count` is SLOTS or more, so that there is one of each kind."""
        self.count = count
        self._offset = count // 3
        self._inverse = pow(_PERMUTATION, -1, count)

    def start_of_word(self, word: int) -> int:
        """The first entity whose name begins with the first word of this number, or with a later one."""
        return -(-word * self.count // len(FIRST_WORDS))

    def at_rank(self, ranks: Integers) -> Integers:
        """The entities of these ranks of fame; 0 is the most famous."""
        return (ranks * _PERMUTATION + self._offset) % self.count

    def ranks(self, entities: Integers) -> Integers:
        """The ranks of fame of these entities; the inverse of `at_rank`."""
        return (entities - self._offset) % self.count * self._inverse % self.count

    def kinds(self, entities: Integers) -> Integers:
        """Indices in KINDS."""
        return np.asarray(KIND_OF_SLOT[self.ranks(entities) % SLOTS], dtype=np.int64)

    def names(self, entities: Integers) -> pa.Array:
        """Local names as in an IRI, all different; some differ only in the qualifier."""
        chance = _mixed(entities)
        namesakes = (chance % _NAMESAKE == 0) & (self._words_and_places(entities)[1] > 0)  # of one with the same first word
        own = _of_kind("endings", self.kinds(entities), chance >> 16)
        endings = pc.if_else(pa.array(namesakes), _chosen(_NAMESAKE_ENDINGS, chance // _NAMESAKE % len(_NAMESAKE_ENDINGS)), own)
        return pc.binary_join_element_wise(self._titles(entities - namesakes), endings, "")

    def _titles(self, entities: Integers) -> pa.Array:
        """Names without their endings, all different."""
        words, places = self._words_and_places(entities)
        again, lasts = np.divmod(places, len(_LAST_NAMES))
        parts = (
            _chosen(FIRST_WORDS, words),
            _of_kind("middles", self.kinds(entities), _mixed(entities) & 0xFFFF),
            _chosen(_LAST_NAMES, (lasts * _STRIDE + words * 59) % len(_LAST_NAMES)),
            _chosen(["", *(f"-{stem}" for stem in _STEMS)], again % (len(_STEMS) + 1)),
        )
        return pc.binary_join_element_wise(*parts, "")

    def _words_and_places(self, entities: Integers) -> tuple[Integers, Integers]:
        """Their first words, and their index among the entities with the same first word."""
        words = entities * len(FIRST_WORDS) // self.count
        return words, entities - -(-words * self.count // len(FIRST_WORDS))


def _mixed(entities: Integers) -> Integers:
    """32 pseudo-random bits that depend only on the number."""
    return ((entities.astype(np.uint64) * np.uint64(_MIX)) >> np.uint64(32)).astype(np.int64)


def _of_kind(part: str, kinds: Integers, chance: Integers) -> pa.Array:
    choices = [getattr(naming, part) for naming in _NAMING.values()]
    sizes = np.array([len(choice) for choice in choices])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return _chosen([text for choice in choices for text in choice], starts[kinds] + chance % sizes[kinds])


def _chosen(texts: Sequence[str], places: Integers) -> pa.Array:
    return pa.array(texts).take(pa.array(places))
