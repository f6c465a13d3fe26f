"""Where a text names an object: its names, prepared once, and the mentions of them in an answer.

Names are compared letter by letter without the blanks, hyphens and dots between them ("J. R. R. Tolkien" is "JRR Tolkien"), but only from
one boundary of words to another. What that is depends on the script: Chinese and Japanese write none, Korean and Arabic have affixes.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import regex

from kp.metrics.tokens import ARTICLES, Kind, Reading, Token, join, joined, readings, transliterated
from kp.metrics.words import NOUNS_AFTER, UNITS, WORDS

_QUALIFIER = regex.compile(r"(?<=\S)\s*[(\[][^()\[\]]*[)\]]\s*$")
_LONG_ENOUGH = 6  # letters of a name that may be written in two words, though it is one
_MOST_TOKENS = 24

# What may follow a name in a script without blanks, or stand before it: particles, forms of "to be", kinds of places.
_DENSE_BEFORE = regex.compile(
    r"(?:是|为|為|叫|在|于|於|的|和|与|與|即|乃|名|称|自|到|说|說|用|使|案|:|或|หรือ|และ|คือ|ที่|เป็น|ใน|ประเทศ|จังหวัด|กรุง|เมือง)$"
)
_DENSE_AFTER = regex.compile(
    r"(?:市|省|国|國|县|縣|州|都|府|県|町|村|区|區|です|だ|で|は|が|の|に|を|と|も|へ|や|よ|ね|か|である|でした|是|的|和|与|與|在|吗|吧|呢|也|位于|了|"
    r"ครับ|ค่ะ|เป็น|คือ|ใน|หรือ|และ)"
)
_KOREAN_AFTER = regex.compile(
    r"(?:특별시|광역시|시|도|군)?(?:은|는|이|가|을|를|에|에서|의|로|으로|와|과|도|만|이다|다|입니다|이에요|예요|이야|야|였다|이었다|였습니다|이었습니다|이라고|라고)?"
    r"(?:\p{P}|\s|$|요$|한다|합니다|불린다|불립니다)"
)
_ARABIC = regex.compile(r"\p{Arabic}")
_SYMBOL_BEFORE, _SYMBOL_AFTER = regex.compile(r"(\p{Sc})\s?$"), regex.compile(r"\s?(\p{Sc})")
_HANGUL, _HIRAGANA, _KATAKANA, _THAI = (regex.compile(rf"\p{{{name}}}") for name in ("Hangul", "Hiragana", "Katakana", "Thai"))


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write a name: where its words end, and, of a name that could be another word, how it is spelled."""

    splits: frozenset[int]  # lengths of the key after each word but the last
    spelled: str | None  # must be written like this within a sentence; None for any case
    article: bool  # belongs to the name
    currency: str = ""  # the symbol that its number has


@dataclass(frozen=True, slots=True)
class Mention:
    """Tokens [start, end) of a reading that name an object."""

    start: int
    end: int

    def covers(self, other: "Mention") -> bool:
        """Whether the other lies within this one."""
        return self.start <= other.start and other.end <= self.end


class Names:
    """Names of one object or of many, by key."""

    def __init__(self, names: Iterable[str]) -> None:
        self.forms: dict[str, tuple[Form, ...]] = {}
        for name in names:
            for key, form in _forms(name):
                held = self.forms.get(key, ())
                if form not in held:
                    self.forms[key] = (*held, form)
        self.longest = max(map(len, self.forms), default=0)

    def __contains__(self, key: str) -> bool:
        return key in self.forms


@lru_cache(maxsize=65536)
def _forms(name: str) -> tuple[tuple[str, Form], ...]:
    """The keys of a name with their forms: as it is, and without the qualifier that it has in brackets."""
    spellings = {name, _QUALIFIER.sub("", name), transliterated(name)} - {""}
    found = [made for spelling in sorted(spellings) for reading in readings(spelling) for made in _of_reading(reading)]
    return tuple(dict.fromkeys(found))


def _of_reading(reading: Reading) -> Iterator[tuple[str, Form]]:
    tokens = reading.tokens
    words = [token for token in tokens if token.key not in ARTICLES] or list(tokens)
    if not words:
        return
    key, splits = "", set()
    for place, token in enumerate(words):
        if place and token.key:
            splits.add(len(key))
        key = join(key, token.key)
    raw = "".join(token.raw for token in words)
    delicate = (
        key.isascii() and not key.isdigit() and (len(key) < 3 or key in WORDS or (len(key) == 3 and raw.isupper() and len(words) == 1))
    )
    article = tokens[0].key in ARTICLES and len(words) < len(tokens)
    form = Form(frozenset(splits), raw if delicate else None, article and key in WORDS, _currency(reading, 0, len(tokens)))
    yield key, form
    if _ARABIC.match(key) and key.startswith("ال"):
        yield key[2:], form


class Mentions:
    """The longest mentions of names in a reading, from left to right."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._tokens = reading.tokens
        content = [index for index, token in enumerate(self._tokens) if token.key not in ARTICLES]
        self._first, self._last = (content[0], content[-1]) if content else (0, -1)

    def whole(self, mention: Mention) -> bool:
        """Whether the text is this mention and nothing else."""
        return mention.start <= self._first and self._last < mention.end

    def of(self, names: Names, but: Collection[str] = frozenset()) -> list[Mention]:
        """Every mention of one of the names, `but` those with these keys, that lies in no longer one."""
        if self._last < 0:  # "The The"
            return [Mention(0, len(self._tokens))] if joined(self._tokens) in names else []
        found: list[Mention] = []
        for start in range(len(self._tokens)) if names.forms else ():
            mention = self._longest(start, names, but)
            if mention and not (found and found[-1].covers(mention)):
                found.append(mention)
        return found

    def _longest(self, start: int, names: Names, but: Collection[str]) -> Mention | None:
        token, best = self._tokens[start], None
        if not self._begins(start) or (token.key in ARTICLES and token.key not in names):
            return None
        for beginning in _beginnings(token):
            key = ""
            for end in range(start + 1, min(len(self._tokens), start + _MOST_TOKENS) + 1):
                last = self._tokens[end - 1]
                if last.key in ARTICLES and end - 1 > start:
                    continue
                bare, key = _bare(last, key, beginning if end - 1 == start else last.key)
                if len(bare) > names.longest:
                    break
                if any(one not in but and self._named(start, end, one, names) for one in {key, bare}):
                    best = Mention(start, end) if best is None or end > best.end else best
        return best

    def _named(self, start: int, end: int, key: str, names: Names) -> bool:
        forms = names.forms.get(key)
        return bool(forms and self._ends(start, end)) and any(self._fits(start, end, form) for form in forms or ())

    def _fits(self, start: int, end: int, form: Form) -> bool:
        mention = Mention(start, end)
        if not self._split_alike(start, end, form):
            return False
        if form.currency and _currency(self._reading, start, end) not in ("", form.currency):
            return False  # 500 dollars are not 500 euros
        if form.spelled is None or self.whole(mention):
            return True
        raw = "".join(token.raw for token in self._tokens[start:end])
        after = self._reading.between(end)
        if self._tokens[end - 1].possessive:
            raw = raw[:-2]
        if raw != form.spelled and not (form.spelled.islower() and not raw.islower()):
            return False  # names are written in small letters in some sources, and name the same: "us" is the US, not "us"
        if raw.islower() and raw in WORDS:
            return False
        if form.spelled.casefold() not in WORDS:
            return True
        if form.article:
            return start > 0 and self._tokens[start - 1].key in ARTICLES
        if end < len(self._tokens) and self._tokens[end].key in NOUNS_AFTER and after.isspace():
            return True
        closed = end == len(self._tokens) or regex.match(r"\s*[.,;:!?)(\"'*]", after) is not None
        shouted = len(raw) > 1 and raw.isupper()  # "US" is not "us"
        return (closed and (start > 0 or "(" in after)) or (shouted and start > 0 and self._tokens[start - 1].key in ARTICLES)

    def _split_alike(self, start: int, end: int, form: Form) -> bool:
        """Whether blanks stand only where the name's words end; initials may have any, and so may a long name in capitals."""
        key, words = "", self._tokens[start:end]
        for place, token in enumerate(words):
            if place and token.key not in ARTICLES and token.before.isspace() and len(key) not in form.splits:
                initials = len(token.key) == 1 or (len(words[place - 1].key) == 1 and words[place - 1].capital)
                dense = token.kind is not Kind.WORD or words[place - 1].kind is not Kind.WORD
                if not (initials and token.capital) and not dense and not self._capitals(words):
                    return False
            key = key if token.key in ARTICLES else join(key, token.key)
        return True

    @staticmethod
    def _capitals(words: tuple[Token, ...]) -> bool:
        return all(word.capital for word in words) and sum(len(word.key) for word in words) >= _LONG_ENOUGH

    def _begins(self, index: int) -> bool:
        token = self._tokens[index]
        if index == 0 or not token.glued:
            return True
        before = self._tokens[index - 1]
        if token.kind is Kind.EMOJI or before.kind is Kind.EMOJI:
            return not (token.kind is before.kind is Kind.EMOJI)
        if token.kind is not Kind.DENSE or before.kind is not Kind.DENSE:
            return token.kind is not before.kind and Kind.DENSE in (token.kind, before.kind)
        if _HANGUL.match(token.key) and _HANGUL.match(before.key):
            return False
        text = "".join(one.key for one in self._tokens[max(0, index - 4) : index])
        return _another_script(before.key, token.key) or _DENSE_BEFORE.search(text) is not None

    def _ends(self, start: int, end: int) -> bool:
        if end == len(self._tokens) or not self._tokens[end].glued:
            return True
        last, following = self._tokens[end - 1], self._tokens[end]
        if last.kind is Kind.EMOJI or following.kind is Kind.EMOJI:
            return last.kind is not following.kind
        if last.kind is Kind.NUMBER and following.key in UNITS:
            return True
        if last.kind is not Kind.DENSE or following.kind is not Kind.DENSE:
            return last.kind is not following.kind and Kind.DENSE in (last.kind, following.kind)
        rest = "".join(
            one.raw if one.glued or place == 0 else one.before + one.raw for place, one in enumerate(self._tokens[end : end + 8])
        )
        if _HANGUL.match(last.key) and _HANGUL.match(following.key):
            return _KOREAN_AFTER.match(rest) is not None
        if _THAI.match(last.key) and _THAI.match(following.key) and end - start > 3:
            return True
        if _another_script(last.key, following.key):
            return True
        return end - start > 1 and _DENSE_AFTER.match(rest) is not None  # of one letter and another any word may be made


def _currency(reading: Reading, start: int, end: int) -> str:
    """The currency symbol that stands at the tokens [start, end): before the first, or after the last of them; "" if none does."""
    found = _SYMBOL_BEFORE.search(reading.between(start)) or _SYMBOL_AFTER.match(reading.between(end))
    return found.group(1) if found else ""


def _beginnings(token: Token) -> tuple[str, ...]:
    """The key of a name's first token: in Arabic without the article and the words of one letter that are written with it, too."""
    key = token.key
    if not _ARABIC.match(key) or len(key) < 4:
        return (key,)
    bare = [key, key[1:] if key[0] in "وفبلك" else key, key[2:] if key.startswith("لل") else key]
    return tuple(dict.fromkeys([*bare, *(one[2:] for one in bare if one.startswith("ال"))]))


def _bare(token: Token, before: str, key: str) -> tuple[str, str]:
    """The name so far without the possessive of its last token, and with it."""
    full = join(before, key)
    return (full[:-1] if token.possessive and full.endswith("s") else full), full


def _another_script(one: str, other: str) -> bool:
    return any(bool(script.match(one)) != bool(script.match(other)) for script in (_HIRAGANA, _KATAKANA, _THAI, _HANGUL))
