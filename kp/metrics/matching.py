"""When an answer counts as right.

A category, and with it every number of a study, depends on one yes or no per answer, so the verdicts of three matchers are stored. `strict`
says what a careful reader would say: the first line of the answer names this object and commits to it. `exact` requires that the line is
the name and nothing else. `released` does what the paper's released code does, faults included, so that its numbers can be compared: it
looks for a name anywhere in the lower-cased raw text, also inside other words, in later lines and in the prefix "answer: ".

What names are is in kp.metrics.names, how they are spelled in kp.metrics.tokens, what an answer commits to in kp.metrics.commitment.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from kp.metrics.commitment import Answer
from kp.metrics.dates import dates_of, with_dates_as
from kp.metrics.names import Mention, Mentions, Names
from kp.metrics.refusals import is_refusal
from kp.metrics.tokens import ARTICLES, Reading, joined, readings, spellings
from kp.prompts import ANSWER_LABEL
from kp.vocabulary import UNSPECIFIED, Matcher

if TYPE_CHECKING:
    import pyarrow as pa

_INITIALISM = re.compile(r"\b[^\W\d_](?:\.[^\W\d_]\b)+(?:\.(?!\w))?")
_DIGIT_GROUPS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_NO_APOSTROPHES: dict[int, str | None] = dict.fromkeys(map(ord, "'\u2018\u2019\u02bc\u00b4`"))


@dataclass(frozen=True)
class Matches:
    """What each matcher says of one answer."""

    strict: bool
    exact: bool
    released: bool

    def by(self, matcher: Matcher) -> bool:
        """The verdict of one of them."""
        return {Matcher.STRICT: self.strict, Matcher.EXACT: self.exact, Matcher.RELEASED: self.released}[matcher]


class _Punctuation(dict[int, str | None]):
    """A str.translate table that looks up each character's Unicode class once: separators become spaces, invisible characters go."""

    def __missing__(self, code: int) -> str | None:
        kind = unicodedata.category(chr(code))
        separates = kind[0] in "PSZ" or kind == "Cc"
        self[code] = " " if separates else "" if kind == "Cf" else chr(code)
        return self[code]


_PUNCTUATION = _Punctuation(_NO_APOSTROPHES)


def first_line(answer: str) -> str:
    """The first line that is not empty, without a leading "Answer:" (repeated, in any case); "" if there is none."""
    return next(iter(ANSWER_LABEL.sub("", answer).splitlines()), "").strip()


def normalise(text: str) -> str:
    """NFKC, casefolded, without punctuation and articles, single spaces.

    Apostrophes, the dots of initialisms ("U.S.A.") and the commas of digit groups ("1,000") are removed; all other punctuation and symbols
    become spaces. An article stays if nothing else is left ("A" is an answer). The result is a fixed point of this function.
    """
    # Apostrophes go first (NFKC decomposes one of them), and NFKC is repeated wherever the text has changed since.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.translate(_NO_APOSTROPHES)).casefold())
    words = _DIGIT_GROUPS.sub("", _INITIALISM.sub(_without_dots, folded)).translate(_PUNCTUATION).split()
    return unicodedata.normalize("NFKC", " ".join([word for word in words if word not in ARTICLES] or words))


class Objects:
    """The objects of a relation by their names, so that an answer that names another one is told from one that names the right one."""

    def __init__(self, objects: Iterable[Sequence[str]]) -> None:
        """`objects` has the names of each, the canonical one first."""
        groups = list(dict.fromkeys(tuple(names) for names in objects if names))
        self.names = Names(name for names in groups for name in names)
        self._keys = [frozenset(Names(names).forms) for names in groups]
        self._canonical = [frozenset(Names(names[:1]).forms) for names in groups]
        self._owners: dict[str, set[int]] = {}
        for number, keys in enumerate(self._keys):
            for key in keys:
                self._owners.setdefault(key, set()).add(number)
        self._longer: dict[str, set[str]] = {}  # a name's first words -> the name
        for key, forms in self.names.forms.items():
            for beginning in {key[:split] for form in forms for split in form.splits}:
                self._longer.setdefault(beginning, set()).add(key)

    @classmethod
    def of_relation(cls, relation: str, objects: Iterable[Sequence[str]]) -> "Objects":
        """Those of a relation; none where the source names no relation, so that objects of any kind come together."""
        return cls([] if relation == UNSPECIFIED else objects)

    def same_as(self, right: Names, canonical: str) -> set[str]:
        """The keys of the names in `right`, and of what else these objects are called: an answer with one of them names no other object."""
        first = set(Names([canonical]).forms)
        found = set(right.forms)
        for number in {number for key in right.forms for number in self._owners.get(key, ())}:
            if first & self._keys[number] or self._canonical[number] & set(right.forms):
                found |= self._keys[number]
        return found

    def extend(self, right: Names, same: set[str]) -> bool:
        """Whether another object's name is a right one and more words."""
        return any(self._longer.get(key, set()) - same for key in right.forms)


NO_OBJECTS = Objects([])


class AnswerKey:
    """The right answers to one question, prepared to judge many answers."""

    def __init__(self, aliases: Sequence[str], objects: Objects = NO_OBJECTS, subject: str = "") -> None:
        """`aliases` are the right answers, the canonical one first; `objects` are those of the relation; `subject` is the question's."""
        self._aliases = tuple(aliases)
        self._lowered = tuple(alias.lower() for alias in aliases)
        self._right = Names(aliases)
        self._counts = any(letter.isdigit() for key in self._right.forms for letter in key)  # only then may a number in words be right
        self._objects = objects.names
        self._no_others = objects.same_as(self._right, aliases[0]) if aliases else set()
        self._extended = objects.extend(self._right, self._no_others)
        self._subject = Names([subject] if subject else [])
        self._dates = tuple(alias for alias in aliases if dates_of(alias))

    def judge(self, answer: str) -> Matches:
        """Apply all three matchers to one raw answer."""
        strict, exact = self._judge_line(first_line(answer))
        lowered = answer.lower()
        # The released data has lower-case aliases, so they are lowered here; an empty alias is found in any text, as in that code.
        return Matches(strict=strict, exact=exact, released=any(alias in lowered for alias in self._lowered))

    def _judge_line(self, line: str) -> tuple[bool, bool]:
        for name in self._dates:
            line = with_dates_as(name, line)
        strict = False
        for reading, letters in _read(line, self._counts):
            if not any(key in letters or key in ARTICLES for key in self._right.forms):
                continue  # most wrong answers need no more
            found = Mentions(reading).of(self._right)
            if any(Mentions(reading).whole(mention) for mention in found):
                return True, True
            strict = strict or (bool(found) and not reading.transliterated and self._commits(reading, found))
        return strict and not self._refused(line), False

    def _commits(self, reading: Reading, found: list[Mention]) -> bool:
        mentions = Mentions(reading)
        others = [one for one in mentions.of(self._objects, self._no_others) if not any(right.covers(one) for right in found)]
        right = [one for one in found if not any(other.covers(one) for other in others)]
        return Answer(reading, right, others, mentions.of(self._subject), self._extended).commits()

    @staticmethod
    def _refused(line: str) -> bool:
        return is_refusal(line) and not re.search(r"\b(?:but|however)\b", line)


class AnswerKeys:
    """The answer keys of a table of facts: the objects of a relation are those of all facts that have it."""

    def __init__(self, facts: Iterable[Mapping[str, object]]) -> None:
        """`facts` have `relation` and `answers` (FACTS)."""
        groups: dict[str, list[Sequence[str]]] = {}
        for fact in facts:
            groups.setdefault(str(fact["relation"]), []).append(fact["answers"])  # type: ignore[arg-type]
        self._objects = {relation: Objects.of_relation(relation, names) for relation, names in groups.items()}
        self._keys: dict[tuple[str, ...], AnswerKey] = {}

    @classmethod
    def of_table(cls, facts: "pa.Table") -> "AnswerKeys":
        """Those of a table with the columns `relation` and `answers` (FACTS)."""
        return cls(facts.select(["relation", "answers"]).to_pylist())

    def of_facts(self, facts: "pa.Table") -> list[AnswerKey]:
        """The keys of these facts (FACTS), in their order."""
        return [self.of(*fact) for fact in zip(*(facts[name].to_pylist() for name in ("relation", "subject", "answers")), strict=True)]

    def of(self, relation: str, subject: str, answers: Sequence[str]) -> AnswerKey:
        """The key of one fact, prepared when it is first asked for."""
        key = (relation, subject, *answers)
        if key not in self._keys:
            self._keys[key] = AnswerKey(answers, self._objects.get(relation, NO_OBJECTS), subject)
        return self._keys[key]


@lru_cache(maxsize=4096)  # an audit compares the same answer with many facts
def _read(line: str, counting: bool) -> list[tuple[Reading, str]]:
    """The readings of a line, each with its letters in one word."""
    return [(reading, _letters(reading)) for reading in (readings(line) if counting else spellings(line))]


def _letters(reading: Reading) -> str:
    return joined([token for token in reading.tokens if token.key not in ARTICLES]) or joined(reading.tokens)


def match_all(answer: str, aliases: Sequence[str], others: Sequence[str] = (), subject: str = "") -> Matches:
    """Apply all three matchers to one raw answer.

    `aliases` are the right answers, the canonical one first; `others` name other objects of the relation, `subject` is the question's.
    """
    return _prepared(tuple(aliases), tuple(others), subject).judge(answer)


def matches(answer: str, aliases: Sequence[str], matcher: Matcher) -> bool:
    """Whether one raw answer is right according to one matcher."""
    return match_all(answer, aliases).by(matcher)


@lru_cache(maxsize=65536)  # the ten answers to a question are compared with the same aliases
def _prepared(aliases: tuple[str, ...], others: tuple[str, ...], subject: str) -> AnswerKey:
    return AnswerKey(aliases, Objects([name] for name in others), subject)


def _without_dots(initialism: re.Match[str]) -> str:
    return initialism.group().replace(".", "")
