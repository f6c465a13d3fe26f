"""Other names of states.

A model that answers "the USA" where the graph says "United States" knows the fact, and so many relations have states as answers that this
must not depend on a user's table of aliases. The names are keyed by whole page titles: "Georgia (country)" is a state, "Georgia (U.S.
state)" is not, and a table keyed by "Georgia" would give the names of one to the other.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

COUNTRY_NAMES_FILE = files("kp.facts") / "data" / "country_names.toml"
_QUALIFIER = re.compile(r" \([^()]*\)\Z")


def country_names(title: str) -> tuple[str, ...]:
    """All other names of the state whose page has this title, in the file's order, without the title itself; () if it is no state."""
    plain = _QUALIFIER.sub("", title)
    return tuple(name for name in _names_by_title().get(title, ()) if name != plain)


def country_names_digest() -> str:
    """SHA-256 of the file with the names."""
    return hashlib.sha256(COUNTRY_NAMES_FILE.read_bytes()).hexdigest()


@cache
def _names_by_title() -> Mapping[str, tuple[str, ...]]:
    """Title -> every name of the state, read once per process."""
    states = tomllib.loads(COUNTRY_NAMES_FILE.read_text(encoding="utf-8"))["states"]
    names: dict[str, tuple[str, ...]] = {}
    for state in states:
        every = tuple(dict.fromkeys([*(_QUALIFIER.sub("", title) for title in state["titles"]), *state["names"]]))
        names |= dict.fromkeys(state["titles"], every)
    return MappingProxyType(names)
