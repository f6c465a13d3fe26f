"""When an answer counts as right.

A category, and with it every number of a study, depends on one yes or no per answer, so the verdicts of three matchers are stored. `strict`
finds an alias inside the first line of an answer, but only as whole words. `exact` requires that the line is the alias and nothing else.
`released` does what the paper's released code does, faults included, so that its numbers can be compared: it looks for the alias anywhere
in the lower-cased raw text, also inside other words, in later lines and in the prefix "answer: ".
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from kp.vocabulary import Matcher

_ANSWER_PREFIX = re.compile(r"\A\s*(?:answer\s*:\s*)+", re.IGNORECASE)
_INITIALISM = re.compile(r"\b[^\W\d_](?:\.[^\W\d_]\b)+(?:\.(?!\w))?")
_DIGIT_GROUPS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_NO_APOSTROPHES: dict[int, str | None] = dict.fromkeys(map(ord, "'\u2018\u2019\u02bc\u00b4`"))
_ARTICLES = frozenset({"a", "an", "the"})
_SHORTEST_INSIDE = 3  # characters; a shorter alias must be the whole answer, or "us" would be found in "tell us"


@dataclass(frozen=True)
class Matches:
    """What each matcher says of one answer."""

    strict: bool
    exact: bool
    released: bool


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
    lines = (line.strip() for line in _ANSWER_PREFIX.sub("", answer).splitlines())
    return next((line for line in lines if line), "")


def normalise(text: str) -> str:
    """NFKC, casefolded, without punctuation and articles, single spaces.

    Apostrophes, the dots of initialisms ("U.S.A.") and the commas of digit groups ("1,000") are removed; all other punctuation and symbols
    become spaces. An article stays if nothing else is left ("A" is an answer). The result is a fixed point of this function.
    """
    # Apostrophes go first (NFKC decomposes one of them), and NFKC is repeated wherever the text has changed since.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.translate(_NO_APOSTROPHES)).casefold())
    words = _DIGIT_GROUPS.sub("", _INITIALISM.sub(_without_dots, folded)).translate(_PUNCTUATION).split()
    return unicodedata.normalize("NFKC", " ".join([word for word in words if word not in _ARTICLES] or words))


def match_all(answer: str, aliases: Sequence[str]) -> Matches:
    """Apply all three matchers to one raw answer; `aliases` are the right answers, the canonical one included."""
    said = normalise(first_line(answer))
    wanted = [_normalise_alias(alias) for alias in aliases]
    return Matches(
        strict=any(_holds(said, alias) for alias in wanted),
        exact=any(alias != "" and alias == said for alias in wanted),
        released=_released(answer, aliases),
    )


def matches(answer: str, aliases: Sequence[str], matcher: Matcher) -> bool:
    """Whether one raw answer is right according to one matcher."""
    found = match_all(answer, aliases)
    return {Matcher.STRICT: found.strict, Matcher.EXACT: found.exact, Matcher.RELEASED: found.released}[matcher]


def _holds(said: str, alias: str) -> bool:
    if len(alias) < _SHORTEST_INSIDE:
        return alias != "" and alias == said
    return f" {alias} " in f" {said} "


def _released(answer: str, aliases: Sequence[str]) -> bool:
    # The released data has lower-case aliases, so they are lowered here; an empty alias is found in any text, as in that code.
    lowered = answer.lower()
    return any(alias.lower() in lowered for alias in aliases)


def _without_dots(initialism: re.Match[str]) -> str:
    return initialism.group().replace(".", "")


@lru_cache(maxsize=65536)  # the ten answers to a question are compared with the same aliases
def _normalise_alias(alias: str) -> str:
    return normalise(alias)
