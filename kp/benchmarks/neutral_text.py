"""Text on which drift is measured: passages in several registers, written for kp, that state none of the facts a study packs.

It is the same for every model, so it is counted in words and not in tokens, and no passage is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import zip_longest

from kp.store.files import digest_json

_FOLDER = files("kp") / "data" / "neutral_text"


@dataclass(frozen=True)
class Passage:
    """A paragraph or two; `name` is unique and begins with the register."""

    name: str
    register: str
    text: str

    @property
    def words(self) -> int:
        """Its length."""
        return len(self.text.split())


@cache
def neutral_passages() -> tuple[Passage, ...]:
    """All passages, one of each register in turn, so that any first part of them has every register."""
    registers = sorted((file for file in _FOLDER.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name)
    columns = [_of_register(file.name.removesuffix(".txt"), file.read_text(encoding="utf-8")) for file in registers]
    return tuple(passage for row in zip_longest(*columns) for passage in row if passage is not None)


def first_passages(words: int) -> list[Passage]:
    """As many of the first passages as have this many words in all; at least one."""
    chosen: list[Passage] = []
    left = words
    for passage in neutral_passages():
        left -= passage.words
        if left < 0 and chosen:
            break
        chosen.append(passage)
    return chosen


def passages_digest(passages: Sequence[Passage]) -> str:
    """Identifies the passages by their names and texts."""
    return digest_json([[passage.name, passage.text] for passage in passages])


def _of_register(register: str, content: str) -> list[Passage]:
    """The passages of a file, which are separated by lines of three dashes."""
    texts = [text.strip() for text in content.split("\n---\n")]
    return [Passage(f"{register}-{number:02d}", register, text) for number, text in enumerate(texts, start=1)]
