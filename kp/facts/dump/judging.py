"""A block of lines classified by their form, with a fixed number of operations over all its bytes.

Lines in the usual form, `<s> <p> <o> .` or the quad `<s> <p> <o> <g> .` with IRIs in canonical spelling, are recognised with certainty; so
are comments, blank lines, and literals after two such IRIs. The graph of a quad is not read. All others are odd: kp.facts.dump.statements
decides about them, one by one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from kp.facts.dump.reasons import SetAside
from kp.facts.dump.spans import Positions, Text
from kp.facts.dump.statements import FROM_LITERAL, canonical

KEPT_OF_LINE = 200  # bytes of a line that are shown to people

Mask = npt.NDArray[np.bool_]
_OPEN, _SPACE, _NEWLINE, _HASH, _DOT, _UNDERSCORE, _QUOTE, _BACKTICK, _PERCENT = b'< \n#._"`%'
_BACKSLASH = ord("\\")
_AFTER_LITERAL = np.frombuffer(b"@^ .", dtype=np.uint8)
_BETWEEN = int.from_bytes(b"> <", "little")  # of two IRIs
_TO_LITERAL = int.from_bytes(b'> "', "little")
_END = int.from_bytes(b"> .\n", "little")
_AFTER_IRI_WITH_LITERAL = 2  # blanks between an IRI and another or a literal in a line with a literal
_TYPED_IN_GRAPH = re.compile(rb'"\^\^<[^<>" ]+> <[^<>" ]+> \.\Z')  # where there is one more: between a datatype and a graph
_THREE, _TWO, _EIGHT = np.uint32(0xFFFFFF), np.uint32(0xFFFF), np.uint32(8)


def _canonical_escapes() -> Mask:
    """Indexed by two bytes, little-endian: whether a percent sign and these bytes are the canonical spelling of an ASCII character."""
    table = np.zeros(1 << 16, dtype=bool)
    for code in range(0x80):
        escape = f"%{code:02X}"
        table[int.from_bytes(escape[1:].encode(), "little")] = canonical(escape) == escape
    return table


_FEW = 0.02  # share of lines that may be looked at one by one

CANONICAL_ESCAPE, ANY_ESCAPE = _canonical_escapes(), np.ones(1 << 16, dtype=bool)


@dataclass(frozen=True)
class Pieces:
    """The positions of subjects, relations and objects in a text: starts and ends of each."""

    subjects: tuple[Positions, Positions]
    relations: tuple[Positions, Positions]
    objects: tuple[Positions, Positions]

    def __len__(self) -> int:
        return len(self.subjects[0])

    def take(self, rows: Positions) -> "Pieces":
        return Pieces(*((starts[rows], ends[rows]) for starts, ends in (self.subjects, self.relations, self.objects)))


class JudgedLines:
    """The lines of a text, classified into those in the usual form, those that are certainly something else, and the odd ones."""

    def __init__(self, text: Text, escapes: Mask) -> None:
        """`escapes`, indexed by the two bytes after a percent sign, says whether an IRI of a line in the usual form may have them."""
        self.text, self._escapes = text, escapes
        gaps = np.flatnonzero(text.bytes <= _SPACE)
        last_gap = np.flatnonzero(text.bytes[gaps] == _NEWLINE)
        self.ends: Positions = gaps[last_gap]
        self.starts: Positions = np.concatenate(([0], self.ends[:-1] + 1)) if len(self.ends) else self.ends
        first_gap = np.concatenate(([0], last_gap[:-1] + 1)) if len(self.ends) else last_gap
        blanks = last_gap - first_gap
        triples, quads = (self._of_iris(blanks == terms, terms, gaps, first_gap) for terms in (3, 4))
        usual = triples | quads
        rest = np.flatnonzero(~usual)
        of_literal = self._like_literal(gaps, first_gap, last_gap, rest)
        forms = {3: np.flatnonzero(triples), 4: np.flatnonzero(quads), 2: of_literal}
        bad = self._forbidden(gaps, first_gap, forms)
        usual[np.searchsorted(self.ends, bad)] = False
        self._sort(gaps, first_gap, usual, of_literal, bad)

    def line(self, number: int) -> bytes:
        """One line without its end; the first is 0."""
        return self.text.bytes[self.starts[number] : self.ends[number]].tobytes()

    def begins(self, number: int) -> str:
        """The beginning of a line."""
        return self.text.begins(int(self.starts[number]), int(self.ends[number]), KEPT_OF_LINE)

    def _of_iris(self, lines: Mask, terms: int, gaps: Positions, first_gap: Positions) -> Mask:
        """Which of these lines, which have as many blanks as `terms`, are that many `<x>` and a dot, according to the characters next to
        the blanks; no x is empty.
        """
        if not lines.any():
            return lines
        at, start, words = first_gap[lines], self.starts[lines], self.text.words
        blanks = [gaps[at + term] for term in range(terms)]
        fit = (self.text.bytes[start] == _OPEN) & (blanks[0] - start > 2) & (words[blanks[-1] - 1] == _END)
        for blank, following in pairwise(blanks):
            fit &= (words[blank - 1] & _THREE == _BETWEEN) & (following - blank > 3)
        found = lines.copy()
        found[lines] = fit
        return found

    def _like_literal(self, gaps: Positions, first_gap: Positions, last_gap: Positions, lines: Positions) -> Positions:
        """Which of these lines have the form `<x> <x> "..."... .` according to the first two blanks and the end."""
        lines = lines[last_gap[lines] - first_gap[lines] > 2]
        start, end, at = self.starts[lines], self.ends[lines], first_gap[lines]
        first, second = gaps[at], gaps[at + 1]
        words = self.text.words
        alike = (
            (self.text.bytes[start] == _OPEN)
            & (words[first - 1] & _THREE == _BETWEEN)
            & (words[second - 1] & _THREE == _TO_LITERAL)
            & (self.text.bytes[end - 1] == _DOT)
            & (first - start > 2)
            & (second - first > 3)
        )
        lines = lines[alike]
        after_iri = self._after_iri(gaps, first_gap[lines], last_gap[lines] + 1)
        fit = after_iri == _AFTER_IRI_WITH_LITERAL
        for row in np.flatnonzero(after_iri == _AFTER_IRI_WITH_LITERAL + 1).tolist():
            fit[row] = _TYPED_IN_GRAPH.search(self.line(lines[row])) is not None
        return self._without_bad_literals(lines[fit], gaps[first_gap[lines[fit]] + 1] + 1)

    def _without_bad_literals(self, lines: Positions, begins: Positions) -> Positions:
        """The lines without those whose literal, which begins at `begins`, is none; only unusual ones are looked at one by one."""
        if not len(lines):
            return lines
        letters, ends = self.text.bytes, self.ends[lines]
        quotes, slashes = np.flatnonzero(letters == _QUOTE), np.flatnonzero(letters == _BACKSLASH)
        first = np.searchsorted(quotes, begins)
        closing = quotes[np.minimum(first + 1, len(quotes) - 1)]
        fit = (np.searchsorted(quotes, ends) - first == 2) & np.isin(letters[closing + 1], _AFTER_LITERAL)
        fit &= np.searchsorted(slashes, begins) == np.searchsorted(slashes, ends)
        for row in np.flatnonzero(~fit).tolist():
            literal = letters[begins[row] : ends[row]].tobytes().decode("utf-8", "surrogateescape")
            fit[row] = FROM_LITERAL.fullmatch(literal) is not None
        return lines[fit]

    def _after_iri(self, gaps: Positions, first: Positions, end: Positions) -> Positions:
        """How many blanks between an IRI and another or a literal each line has: more than usual where a second statement follows in it,
        because a line end was lost. The line's blanks are those from `first` up to `end`.
        """
        lengths = end - first
        before = np.cumsum(lengths) - lengths
        own = np.arange(lengths.sum()) + np.repeat(first - before, lengths)
        pairs = self.text.words[gaps[own] - 1] & _THREE
        found = (pairs == _BETWEEN) | (pairs == _TO_LITERAL)
        return np.add.reduceat(found, before, dtype=np.int64) if len(before) else before

    def _forbidden(self, gaps: Positions, first_gap: Positions, forms: Mapping[int, Positions]) -> Positions:
        """The positions of characters that no IRI in canonical spelling has, and the starts of lines that are not UTF-8.

        `forms` has the lines of each form by its number of IRIs. Angle brackets count only where no form has them.
        """
        letters = self.text.bytes
        scratch, found = np.bitwise_or(letters, 2), np.empty(len(letters), dtype=bool)
        places = [self._stray_brackets(np.equal(scratch, 0x3E), gaps, first_gap, forms)]
        _add(places, np.equal(scratch, 0x5E, out=found))  # \ ^
        np.subtract(letters, 0x7B, out=scratch)
        _add(places, np.less(scratch, 3, out=found))  # { | }
        for character in (_QUOTE, _BACKTICK):
            _add(places, np.equal(letters, character, out=found))
        percents = np.flatnonzero(np.equal(letters, _PERCENT, out=found))
        places.append(percents[~self._escapes[self.text.words[percents] >> _EIGHT & _TWO]])
        places.append(self._undecodable())
        return np.sort(np.concatenate(places))

    def _stray_brackets(self, is_bracket: Mask, gaps: Positions, first_gap: Positions, forms: Mapping[int, Positions]) -> Positions:
        usual, of_literal = np.concatenate([forms[3], forms[4]]), forms[2]
        if len(self.ends) - len(usual) < _FEW * len(usual) and not self._more_brackets_than_wanted(is_bracket, forms):
            # Literals are few: a line of them with too many brackets is marked at its start.
            quotes = gaps[first_gap[of_literal] + 1] + 1
            spans = zip(self.starts[of_literal].tolist(), quotes.tolist(), strict=True)
            return np.array([start for start, quote in spans if np.count_nonzero(is_bracket[start:quote]) > 4], dtype=np.int64)
        for closed, lines in forms.items():
            at = first_gap[lines]
            is_bracket[self.starts[lines]] = False
            for gap in range(closed):
                is_bracket[gaps[at + gap] - 1] = False
            for gap in range(closed - 1):
                is_bracket[gaps[at + gap] + 1] = False
        return np.flatnonzero(is_bracket)

    def _more_brackets_than_wanted(self, is_bracket: Mask, forms: Mapping[int, Positions]) -> bool:
        """Whether any line in the usual form has more than the two brackets of each IRI; only the sum is compared."""
        others = np.ones(len(self.ends), dtype=bool)
        for terms in (3, 4):
            others[forms[terms]] = False
        spans = zip(self.starts[others].tolist(), self.ends[others].tolist(), strict=True)
        elsewhere = sum(np.count_nonzero(is_bracket[start:end]) for start, end in spans)
        return bool(np.count_nonzero(is_bracket) > 6 * len(forms[3]) + 8 * len(forms[4]) + elsewhere)

    def _undecodable(self) -> Positions:
        """The starts of lines that are not UTF-8."""
        if self.text.is_utf8():
            return self.starts[:0]
        beyond_ascii = np.flatnonzero(self.text.bytes >= 0x80)
        lines = np.unique(np.searchsorted(self.ends, beyond_ascii))
        return self.starts[[line for line in lines.tolist() if not _decodes(self.line(line))]]

    def _sort(self, gaps: Positions, first_gap: Positions, usual: Mask, of_literal: Positions, bad: Positions) -> None:
        self.usual_lines = np.flatnonzero(usual)
        start, at = self.starts[self.usual_lines], first_gap[self.usual_lines]
        first, second, third = gaps[at], gaps[at + 1], gaps[at + 2]
        self.usual = Pieces((start + 1, first - 1), (first + 2, second - 1), (second + 2, third - 1))
        quote = gaps[first_gap[of_literal] + 1] + 1
        first_bad = np.searchsorted(bad, self.starts[of_literal])
        of_literal = of_literal[bad[np.minimum(first_bad, len(bad) - 1)] == quote] if len(bad) else of_literal[:0]
        start, at = self.starts[of_literal], first_gap[of_literal]
        first, second = gaps[at], gaps[at + 1]
        self.literals = Pieces((start + 1, first - 1), (first + 2, second - 1), (second + 1, self.ends[of_literal]))
        rest = ~usual
        rest[of_literal] = False
        others = np.flatnonzero(rest)
        comment, blank = self.text.bytes[self.starts[others]] == _HASH, self.starts[others] == self.ends[others]
        self.literal_lines = of_literal
        self.recognised = {SetAside.COMMENT: others[comment], SetAside.BLANK_LINE: others[blank]}
        self.odd = others[~(comment | blank)]


def _add(places: list[Positions], found: Mask) -> None:
    if found.any():
        places.append(np.flatnonzero(found))


def _decodes(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def ends_in_number(text: Text, starts: Positions, ends: Positions) -> Mask:
    """Which pieces end in two underscores and a number."""
    found = np.zeros(len(starts), dtype=bool)
    at = ends - 1
    rows = np.flatnonzero(_is_digit(text.bytes[at]))
    at = at[rows]
    while len(rows):
        at = at - 1
        underscored = text.bytes[at] == _UNDERSCORE
        done = rows[underscored]
        found[done] = (at[underscored] > starts[done]) & (text.bytes[at[underscored] - 1] == _UNDERSCORE)
        more = _is_digit(text.bytes[at]) & (at > starts[rows])
        rows, at = rows[more], at[more]
    return found


def _is_digit(letters: npt.NDArray[np.uint8]) -> Mask:
    return np.subtract(letters, ord("0")) < 10
