"""Whether an answer that mentions an object commits to it.

A careful reader takes an answer for what it asserts: not for an object that it denies, doubts, offers among others, or names on the way to
another one; nor for one whose name is part of a longer name. These are rules of English, for mentions that kp.metrics.names has found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import regex

from kp.metrics.names import Mention
from kp.metrics.tokens import ARTICLES, Kind, Reading, Token
from kp.metrics.words import (
    ABBREVIATED,
    ALL_BUT,
    CLAUSE,
    DENIALS,
    DENSE_JOINS,
    DIRECTIONS,
    JOINS,
    KINDS,
    KINDS_IN_NAMES,
    POLITIES,
    RETRACTIONS,
    STATEMENTS,
    TITLES,
    WORDS,
)

_DENIED_BEFORE = regex.compile(
    r"\b(?:no|non|rather than|instead of|other than|as opposed to|apart from|no longer|unlike|near|outside|than|versus|vs)$"
)
_NOT_DENIED = regex.compile(r"\bnot (?:only|just|surprisingly)\b|\bwithout (?:a )?doubt\b|\bnot sure but\b")
_DENIED_AFTER = regex.compile(
    r"(?:(?:is|was|are|were|would be|can|could|does|did|has) (?:\w+ly )?(?:not|never|incorrect|wrong|false)\b"
    r"|(?:isnt|wasnt|arent|werent|doesnt|cannot|nicht|falsch)\b)"
)
_DENSE_DENIED_BEFORE = regex.compile(r"(?:不是|并非|並非|非|ไม่ใช่|没有)$")
_DENSE_DENIED_AFTER = regex.compile(r"(?:では(?:ない|ありません|なく)|じゃ(?:ない|ありません)|(?:이|가)?\s*아[니닙]|不是)")
_DOUBTS = regex.compile(
    r"\b(?:whether|if|maybe|perhaps|possibly|(?:could|might|may) (?:\w+ly )?(?:be|have been)|unsure|uncertain|unclear|either|such as"
    r"|including|one of|between)\b"
)
_QUESTION = regex.compile(r"(?:is|was|are|were|does|did|do|could|would|what|which|who|where|when)\b")
_SENTENCE_END = regex.compile(r"[!?;。！？](?:\s|$|\W)|\.[\"')*]*\s")
_PARTICIPLE = regex.compile(r"(?!united)\w{3,}(?:ed|ing)")  # at the beginning of a sentence: "Starring Tom Hanks"
_SLASH, _NOTHING = regex.compile(r"\s*/\s*"), regex.compile(r"[\s,*_\"]*")
_PAUSE = regex.compile(r"[,;:(\u2013]")
_LIST = regex.compile(r"[,;/&+、·]")


@dataclass(frozen=True)
class Answer:
    """A reading of an answer with all that it mentions."""

    reading: Reading
    right: Sequence[Mention]  # of the object that is right
    others: Sequence[Mention]  # of other objects of the relation
    echoes: Sequence[Mention]  # of the question's subject
    extended: bool  # the name of some other object begins with the right one's

    def commits(self) -> bool:
        """Whether one of the mentions of the right object is what the answer asserts."""
        return any(_Claim(self, mention).holds() for mention in self.right if not self._echo(mention))

    def _echo(self, mention: Mention) -> bool:
        """Whether it only repeats the question's subject: "Guatemala City", or "Singapore is the capital of", where both have one name."""
        covering = [echo for echo in self.echoes if echo.covers(mention)]
        if not covering:
            return False
        longer = any(not mention.covers(echo) for echo in covering)
        again = any(other.start > mention.start for other in self.right)
        return longer or again or self._is_asked_about(mention)

    def _is_asked_about(self, mention: Mention) -> bool:
        """Whether a statement about it follows: "The capital of Singapore is"."""
        tokens = self.reading.tokens
        return mention.end < len(tokens) and tokens[mention.end].key in STATEMENTS

    @property
    def rivals(self) -> list[Mention]:
        """Mentions of other objects that are neither the question's subject nor part of the right object's name."""
        return [other for other in self.others if not any(echo.covers(other) for echo in self.echoes)]


class _Claim:
    """One mention of the right object, and what the answer says of it."""

    def __init__(self, answer: Answer, mention: Mention) -> None:
        self._answer, self._mention = answer, mention
        self._tokens, self._reading = answer.reading.tokens, answer.reading
        self._sentences = _sentence_starts(answer.reading)

    def holds(self) -> bool:
        mention = self._mention
        return not (
            self._inside_longer_name()
            or self._after_another_answer()
            or self._denied(mention)
            or self._doubted()
            or self._among_alternatives()
        )

    # --- the mention as part of a name ---

    def _inside_longer_name(self) -> bool:
        if all(token.kind is not Kind.WORD for token in self._tokens[self._mention.start : self._mention.end]):
            return self._inside_range()
        return self._continues_left() or self._continues_right() or self._of_something()

    def _continues_left(self) -> bool:
        start, before = self._mention.start, self._reading.between(self._mention.start)
        if start == 0:
            return False
        previous = self._tokens[start - 1]
        if previous.key in ARTICLES or previous.kind is not Kind.WORD:
            return False
        if before in ("-", "\u2013"):
            return True
        if not _blank(before):
            return False
        adverb = previous.key.endswith("ly") or (start - 1 in self._sentences and _PARTICIPLE.fullmatch(previous.key) is not None)
        named = previous.capital and previous.key not in WORDS | TITLES and not adverb
        return (named and self._proper) or previous.key in DIRECTIONS

    def _continues_right(self) -> bool:
        end, last = self._mention.end, self._tokens[self._mention.end - 1]
        if end == len(self._tokens):
            return False
        following, between = self._tokens[end], self._reading.between(end)
        if between in ("-", "\u2013"):
            return following.key not in KINDS
        if not _blank(between):
            return False
        if last.possessive and following.key not in WORDS:
            return True
        if following.kind is Kind.NUMBER:
            return self._proper and len(following.key) != len("1999")
        if following.key in KINDS:
            return self._answer.extended or (following.capital and following.key in KINDS_IN_NAMES)
        return self._proper and following.capital and following.key not in WORDS

    def _of_something(self) -> bool:
        """Whether it stands in "Bank of America": a name made of it, unless it is a polity's ("Republic of Ireland")."""
        start = self._before_articles(self._mention.start)
        if start < 2 or self._tokens[start - 1].key != "of":
            return False
        if not (_blank(self._reading.between(start)) and _blank(self._reading.between(start - 1))):
            return False
        head = self._tokens[start - 2]
        opens = start - 2 in self._sentences and self._mention.end != len(self._tokens)  # where any word has a capital letter
        return head.capital and not opens and head.key not in POLITIES | WORDS

    def _inside_range(self) -> bool:
        """Whether a number is one of two, or of another era: "5-10", "5 to 10", "5 BC"."""
        start, end = self._mention.start, self._mention.end
        if self._tokens[end - 1].kind is not Kind.NUMBER:
            return False
        year = len(self._tokens[end - 1].key) == len("1999")  # "December 25, 1990" is no list of numbers
        joints = ("-", "\u2013") if year else ("-", "\u2013", ",", ";")
        left = start and self._tokens[start - 1].kind is Kind.NUMBER and self._reading.between(start).strip() in joints
        right = end < len(self._tokens) and self._tokens[end].kind is Kind.NUMBER and self._reading.between(end).strip() in joints
        apart = end + 1 < len(self._tokens) and self._tokens[end].key in ("to", "or") and self._tokens[end + 1].kind is Kind.NUMBER
        behind = start > 1 and self._tokens[start - 1].key in ("to", "or") and self._tokens[start - 2].kind is Kind.NUMBER
        era = end < len(self._tokens) and self._tokens[end].key in ("bc", "bce")
        return bool(left or right or apart or behind or era)

    @property
    def _proper(self) -> bool:
        return self._tokens[self._mention.start].capital

    # --- what stands before and after ---

    def _after_another_answer(self) -> bool:
        """Whether the answer names another object first, or says something else before "Answer:"."""
        start = self._mention.start
        for rival in self._answer.rivals:
            if rival.end <= start and not self._denied(rival) and not self._contains(rival) and not self._superseded(rival):
                return True
        return any(self._bare_name(first, last) for first, last in pairwise(self._sentences) if last <= start)

    def _contains(self, rival: Mention) -> bool:
        """Whether the right object is said to hold the other one: "Georgia in the United States"."""
        between = [token.key for token in self._tokens[rival.end : self._mention.start] if token.key not in ARTICLES]
        within = bool(between) and between[-1] == "in" and not JOINS.intersection(between)
        return within and len(between) < 4 and "," not in self._reading.between(self._mention.start)

    def _superseded(self, rival: Mention) -> bool:
        """Whether the rival was right once: "It was Lyon, but now it is Paris"."""
        return "now" in (token.key for token in self._tokens[rival.end : self._mention.start])

    def _bare_name(self, first: int, last: int) -> bool:
        words = [token for token in self._tokens[first:last] if token.key not in ARTICLES]
        echoed = any(echo.start < last and first < echo.end for echo in (*self._answer.echoes, *self._answer.right))
        return not echoed and 0 < len(words) < 5 and all(word.capital and word.key not in WORDS | TITLES | {"sure"} for word in words)

    def _denied(self, mention: Mention) -> bool:
        before, after = self._clause_before(mention), self._text(mention.end, mention.end + 4)
        if _DENSE_DENIED_BEFORE.search(_dense(self._tokens[: mention.start])) or _DENSE_DENIED_AFTER.match(self._raw_after(mention)):
            return True
        if _DENIED_BEFORE.search(before):
            return True
        words = _NOT_DENIED.sub("", before).split()
        return any(word in DENIALS for word in words) or (
            _blank(self._reading.between(mention.end)) and _DENIED_AFTER.match(after) is not None
        )

    def _doubted(self) -> bool:
        first = max(place for place in self._sentences if place <= self._mention.start)
        before = self._text(first, self._mention.start)
        asked = "?" in self._reading.between(self._next_sentence()) and _QUESTION.match(before)
        return bool(asked) or _DOUBTS.search(before) is not None

    def _among_alternatives(self) -> bool:
        start, end = self._mention.start, self._mention.end
        others = [other for other in self._answer.rivals if other.start >= end and not self._repeats(other)]
        if others and (self._joined(end, others[0].start) or self._retracted(others[0])):
            return True
        before = self._before_articles(start)
        return self._unlisted(end, end + 1, after=True) or self._unlisted(before - 1, before - 2, after=False)

    def _repeats(self, rival: Mention) -> bool:
        """Whether a rival is only part of the name: "New York City, New York"."""
        name = [token.key for token in self._tokens[self._mention.start : self._mention.end]]
        return all(token.key in name for token in self._tokens[rival.start : rival.end])

    def _retracted(self, rival: Mention) -> bool:
        """Whether a later sentence begins with "No" or "Actually", and names another object."""
        starts = [place for place in self._sentences if self._mention.end <= place < rival.start]
        return any(self._tokens[place].key in RETRACTIONS for place in starts) and not self._denied(rival)

    def _joined(self, start: int, end: int) -> bool:
        """Whether nothing but "and", "or" and commas stands between two mentions."""
        words = [token.key for token in self._tokens[start:end] if token.key not in ARTICLES]
        separators = "".join(self._reading.between(place) for place in range(start, end + 1))
        apart = "(" in separators or "[" in separators or "." in separators
        if not words:
            return not apart and _LIST.search(separators) is not None
        return (not apart or "or" in words) and (all(word in JOINS for word in words) or "".join(words) in DENSE_JOINS)

    def _unlisted(self, joint: int, beyond: int, after: bool) -> bool:
        """Whether "or", "and" or a slash ties the mention to a name that is not the right object's."""
        place = self._mention.end if after else self._before_articles(self._mention.start)
        between = self._reading.between(place)
        if _SLASH.fullmatch(between):
            return not self._right_at(place if after else place - 1)
        if not 0 <= joint < len(self._tokens) or not _NOTHING.fullmatch(between):
            return False
        while after and beyond < len(self._tokens) and self._tokens[beyond].key in ARTICLES:
            beyond += 1
        if not 0 <= beyond < len(self._tokens) or self._right_at(beyond):
            return False
        return self._ties(self._tokens[joint].key, self._tokens[beyond], after)

    def _ties(self, word: str, other: Token, after: bool) -> bool:
        if other.key in WORDS or word == "or":
            return word == "or" and other.key not in WORDS
        statement = not after and self._text(self._mention.end, self._mention.end + 1) in STATEMENTS
        return word == "and" and self._proper and other.capital and not statement

    # --- places ---

    def _right_at(self, index: int) -> bool:
        return any(mention.start <= index < mention.end for mention in self._answer.right)

    def _before_articles(self, start: int) -> int:
        while start and self._tokens[start - 1].key in ARTICLES:
            start -= 1
        return start

    def _next_sentence(self) -> int:
        return next((place for place in self._sentences if place > self._mention.start), len(self._tokens))

    def _clause_before(self, mention: Mention) -> str:
        start = mention.start
        while start and start not in self._sentences and self._tokens[start - 1].key not in CLAUSE:
            if _PAUSE.search(self._reading.between(start)):
                break
            start -= 1
        if start > 1 and self._tokens[start - 1].key == "but" and self._tokens[start - 2].key in ALL_BUT:
            return "not"
        return self._text(start, mention.start)

    def _text(self, start: int, end: int) -> str:
        return " ".join(token.key for token in self._tokens[start:end] if token.key not in ARTICLES)

    def _raw_after(self, mention: Mention) -> str:
        return "".join(
            self._reading.between(place) + self._tokens[place].raw for place in range(mention.end, min(mention.end + 10, len(self._tokens)))
        )


def _blank(between: str) -> bool:
    """Whether nothing but blanks, quotation marks and Markdown stands there."""
    return between != "" and between.strip(" \t\u00a0*_\"'\u201c\u201d") == ""


def _dense(tokens: tuple[Token, ...]) -> str:
    return "".join(token.raw for token in tokens[-4:])


def _sentence_starts(reading: Reading) -> list[int]:
    """The indices at which sentences begin, the first one included."""
    tokens = reading.tokens
    return [0, *(place for place in range(1, len(tokens)) if _ends_sentence(tokens[place - 1], tokens[place].before))]


def _ends_sentence(last: Token, between: str) -> bool:
    if not _SENTENCE_END.search(between):
        return False
    initial = len(last.key) == 1 and last.kind is Kind.WORD and last.capital
    return "." not in between or not (initial or last.key in ABBREVIATED)
