"""Text as tokens that compare names: folded letters, numbers by their value, and what stood between them.

Two spellings of a name should give the same keys: without accents and case ("São Paulo", "Sao Paulo"), in Roman or Arabic numerals, with
digits grouped or not ("1,000"). What tells names apart stays: signs and decimals of numbers, "C" and "C++", the marks of scripts in which
they are vowels. Folding is anyascii's, numbers in words are text2num's, Roman numerals are roman's.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum, auto
from functools import lru_cache

import regex
import roman
from anyascii import anyascii
from text_to_num import alpha2digit

ARTICLES = frozenset({"a", "an", "the"})

_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ABBREVIATIONS = {"st": "saint", "mt": "mount", "ft": "fort"}
_NUMBER = r"\d{1,3}(?:[ \u00a0\u202f\u2009]\d{3})+(?!\d)|\d+(?:[.,'/\u2019]\d+)*"
_WORD = r"\p{L}[\p{L}\p{M}]*(?:['\u2019]\p{L}[\p{L}\p{M}]*)*(?:\+\+|\+(?!\w)|#)?"
# Scripts without blanks between words are read character by character, a base letter with its marks.
_DENSE = r"(?:[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Hangul}\u30fc])\p{M}*"
_EMOJI = r"\p{Regional_Indicator}|(?=\p{Extended_Pictographic})\P{ASCII}"
_TOKEN = regex.compile(rf"(?P<number>{_NUMBER})|(?P<dense>{_DENSE})|(?P<word>(?:(?!{_DENSE}){_WORD}))|(?P<emoji>{_EMOJI})")
_LOSES_MARKS = regex.compile(r"[\p{Latin}\p{Greek}\p{Cyrillic}\p{Arabic}\p{Hebrew}\p{Common}\p{Inherited}]")
_LETTERS_IN_DISGUISE = regex.compile(r"(?<=\p{L})[$!](?=\p{L})")  # Ke$ha, P!nk
_VOICED = "\u3099\u309a"  # kana with these marks are other kana
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u00b4`\uff07\u02bb\u2032", "'"))
_DASHES = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2212\ufe63", "-") | dict.fromkeys("\u2012\u2013\u2014\u2015", "\u2013") | {"\u2044": "/"}
)
_ARABIC = str.maketrans({"\u0640": None, "\u0629": "\u0647", "\u0649": "\u064a", "\u0671": "\u0627"})  # tatweel, ta marbuta, alef maqsura
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "Å": "Aa", "Ø": "Oe"})
_ORDINAL = regex.compile(r"\b(?:the )?(\d+)(?:st|nd|rd|th)\b", regex.IGNORECASE)
_SIGN_IN_WORDS = regex.compile(r"\b(?:minus|negative) (?=\d)", regex.IGNORECASE)
_YEAR_IN_WORDS = regex.compile(r"(?<![\d.,] ?)\b(1[1-9]|20) (\d\d)\b(?! ?[\d.,])")  # "nineteen eighty-four" comes as "19 84"
_SCALED = regex.compile(rf"(?<=\d )({'|'.join(_SCALES)})\b")
_SIGN = regex.compile(r"[\s(:=][-\u2013]\p{Sc}?$")  # not that of a range, or of "C-130"
_SIGN_AT_START = regex.compile(r"[-\u2013]\p{Sc}?$")
_ROMAN = regex.compile(r"(?<=\b\p{Lu}[\p{L}\p{M}']+ )[IVXLCDM]+\b(?!['.]\w)|\b[IVXLCDM]{2,}\b(?!')")
_CONTRACTED = regex.compile(r"'s$|'S$")


class Kind(Enum):
    """What a token is."""

    WORD = auto()
    NUMBER = auto()
    DENSE = auto()  # a character of a script without blanks, or a Korean syllable
    EMOJI = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a text, and how it stands there."""

    key: str  # what is compared
    raw: str
    before: str  # the text between the token before and this one
    kind: Kind
    possessive: bool = False  # ends in 's

    @property
    def glued(self) -> bool:
        """Whether nothing separates it from the token before."""
        return self.before == ""

    @property
    def capital(self) -> bool:
        """Whether it begins with a capital letter."""
        return self.raw[:1].isupper()


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as tokens, and what follows the last of them."""

    tokens: tuple[Token, ...]
    after: str
    transliterated: bool = False  # its words are no English ones: only a whole text can be compared

    def between(self, index: int) -> str:
        """What stands before the token at `index`; after the last token for their number."""
        return self.tokens[index].before if index < len(self.tokens) else self.after


def read(text: str) -> Reading:
    """The tokens of a text."""
    text = plain_characters(text)
    tokens: list[Token] = []
    end = 0
    for found in _TOKEN.finditer(text):
        before = text[end : found.start()]
        tokens += _numbers(found.group(), before, bool(tokens)) if found.lastgroup == "number" else [_token(found, before)]
        end = found.end()
    return Reading(tuple(_scaled(tokens)), text[end:])


def readings(text: str) -> Iterator[Reading]:
    """The ways to read a text: as it stands, with umlauts written out, in Latin letters, with numbers in words and Roman ones as digits."""
    yield from spellings(text)
    counted = with_digits(text)
    if counted is not None:
        yield counted


def spellings(text: str) -> Iterator[Reading]:
    """The ways to read a text without counting."""
    yield read(text)
    if text.isascii():
        return
    composed = unicodedata.normalize("NFC", text)
    if (spelled := composed.translate(_UMLAUTS)) != composed:
        yield read(spelled)
    if latin := transliterated(composed):
        yield replace(read(latin), transliterated=True)


def with_digits(text: str) -> Reading | None:
    """A text with numbers in words and Roman numerals as digits; None if it has none."""
    plain = plain_characters(text)
    digits = _ROMAN.sub(_arabic, plain)
    parts = _SCALED.split(digits)  # "3.5 million" is one number, and not 3.5 and 1000000
    parts[::2] = [alpha2digit(part, "en", 0) if part else part for part in parts[::2]]
    parts[::2] = [_YEAR_IN_WORDS.sub(r"\1\2", part) if part not in digits else part for part in parts[::2]]
    digits = _ORDINAL.sub(r"\1", _SIGN_IN_WORDS.sub("-", "".join(parts)))
    return None if digits == plain else read(digits)


def plain_characters(text: str) -> str:
    """NFKC, with one kind of apostrophe and of hyphen, and without invisible characters."""
    text = text.replace("&", " and ")
    if "$" in text or "!" in text:
        text = _LETTERS_IN_DISGUISE.sub(lambda found: {"$": "s", "!": "i"}[found.group()], text)
    if text.isascii():
        return text.replace("`", "'")
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES).replace("\u1fbf", "'"))
    return "".join(letter for letter in text.translate(_DASHES) if unicodedata.category(letter) != "Cf")


@lru_cache(maxsize=65536)
def fold(text: str) -> str:
    """Letters without case and accents; other scripts keep their letters, and the marks that are vowels there."""
    if text.isascii():
        return text.casefold()
    kept = []
    for letter in unicodedata.normalize("NFD", text.translate(_ARABIC)):
        if unicodedata.category(letter) == "Mn" and _LOSES_MARKS.match(letter) and letter not in _VOICED:
            continue
        kept.append(anyascii(letter) if regex.match(r"\p{Latin}", letter) else letter)
    return unicodedata.normalize("NFC", "".join(kept)).casefold().replace("ς", "σ")


def transliterated(text: str) -> str:
    """The text in Latin letters, folded; "" if it has none of another script."""
    if text.isascii():
        return ""
    latin = anyascii(unicodedata.normalize("NFC", text))
    return "" if regex.search(r"(?!\p{Latin})\p{L}", text) is None else latin


def joined(tokens: tuple[Token, ...] | list[Token]) -> str:
    """The keys of tokens in one word; adjacent numbers stay apart."""
    key = ""
    for token in tokens:
        key = join(key, token.key)
    return key


def join(key: str, more: str) -> str:
    """One key and the next: letters close up, so that "Spider-Man" is "Spiderman"; "3 5" is not 35."""
    return f"{key}_{more}" if key and key[-1].isdigit() and (more[:1].isdigit() or more[:1] == "-") else key + more


def _token(found: "regex.Match[str]", before: str) -> Token:
    raw = found.group()
    if found.lastgroup == "dense":
        return Token(fold(raw), raw, before, Kind.DENSE)
    if found.lastgroup == "emoji":
        return Token(raw, raw, before, Kind.EMOJI)
    key = fold(raw).replace("'", "")
    return Token(_ABBREVIATIONS.get(key, key), raw, before, Kind.WORD, _CONTRACTED.search(raw) is not None)


def _numbers(raw: str, before: str, following: bool) -> Iterator[Token]:
    """The numbers that a run of digits and separators is: mostly one."""
    negative = (_SIGN if following else _SIGN_AT_START).search(before) is not None
    for place, value in enumerate(_values(raw)):
        yield Token(f"-{value}" if negative and not place else value, raw, before if not place else ",", Kind.NUMBER)


def _values(raw: str) -> list[str]:
    if raw.isdecimal():
        return [_ascii_digits(raw)]
    raw = _ascii_digits(regex.sub(r"[\s']", "", raw))
    if "/" in raw:
        return [_fraction(raw)]
    commas, dots = raw.count(","), raw.count(".")
    if regex.fullmatch(r"\d+(?:,\d+)*\.\d+|\d+(?:\.\d+)*,\d+", raw) and commas and dots:
        decimal = max(raw.rfind(","), raw.rfind("."))
        return [_canonical(regex.sub(r"[,.]", "", raw[:decimal]) + "." + raw[decimal + 1 :])]
    if regex.fullmatch(r"\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})*,\d{3}|\d{1,3}(?:\.\d{3}){2,}", raw):
        return [regex.sub(r"[,.]", "", raw)]
    if commas + dots == 1:
        return [_canonical(raw.replace(",", "."))]
    return raw.split(",")  # a list, or something like a version


def _fraction(raw: str) -> str:
    """A half is 0.5; "9/11" and "25/12/1990" are no fractions, and the same with hyphens."""
    above, _, below = raw.partition("/")
    exact = below in ("2", "4", "5", "8", "10", "100") and above.isdecimal() and int(above) < int(below)
    return _canonical(str(Decimal(above) / Decimal(below))) if exact else raw.replace("/", "_")


def _ascii_digits(raw: str) -> str:
    return raw if raw.isascii() else "".join(str(unicodedata.digit(letter)) if letter.isdecimal() else letter for letter in raw)


def _canonical(number: str) -> str:
    return format(Decimal(number).normalize(), "f") if number.strip(".") else number


def _scaled(tokens: list[Token]) -> Iterator[Token]:
    """Multiplies a number by the scale after it ("3.5 million"), and gives one after "minus" its sign."""
    waiting: Token | None = None
    for token in tokens:
        scale = _SCALES.get(token.key)
        if waiting and scale and _is_plain(waiting.key):
            value = _canonical(str(Decimal(waiting.key) * scale))
            waiting = replace(waiting, key=value, raw=waiting.raw + token.before + token.raw)
            continue
        if waiting:
            yield waiting
        waiting = token if token.kind is Kind.NUMBER else None
        if waiting is None:
            yield token
    if waiting:
        yield waiting


def _is_plain(number: str) -> bool:
    return regex.fullmatch(r"-?\d+(?:\.\d+)?", number) is not None


def _arabic(found: "regex.Match[str]") -> str:
    try:
        return str(roman.fromRoman(found.group()))
    except roman.InvalidRomanNumeralError:
        return found.group()
