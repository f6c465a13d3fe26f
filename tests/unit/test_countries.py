import tomllib

from kp.facts.countries import COUNTRY_NAMES_FILE, country_names
from kp.facts.dump.entity_names import without_qualifier
from kp.metrics.matching import normalise


def test_country_names_namesake_of_a_state_has_none() -> None:
    assert country_names("Georgia (country)") == ("Sakartvelo",)
    assert country_names("Georgia (U.S. state)") == ()
    assert country_names("Burma") == ("Myanmar",)


def test_country_names_no_name_belongs_to_two_states() -> None:
    states = tomllib.loads(COUNTRY_NAMES_FILE.read_text(encoding="utf-8"))["states"]
    owners: dict[str, str] = {}
    for state in states:
        for name in {normalise(without_qualifier(name)) for name in [*state["titles"], *state["names"]]}:
            assert owners.setdefault(name, state["titles"][0]) == state["titles"][0], name
