"""The order in which actors measure models: an adapter at once, or the same questions at once where the lower layers are shared."""

from hypothesis import given
from hypothesis import strategies as st

from kp.inference.evaluation_order import Place, asking_order

MEASUREMENTS = {"answers/S1": ["S1-0", "S1-8"], "benchmarks": ["mmlu-0"]}


def places(models: dict[str, int]) -> list[Place]:
    """All parts of all measurements of these models, given by their first layers."""
    return [
        Place(model, first, measurement, part)
        for model, first in models.items()
        for measurement, parts in MEASUREMENTS.items()
        for part in parts
    ]


def asked(models: dict[str, int]) -> list[str]:
    made = places(models)
    return [f"{made[index].model} {made[index].part}" for index in asking_order(made)]


def test_models_that_change_the_first_layer_are_asked_one_after_the_other() -> None:
    assert asked({"base": 0, "a": 0}) == ["base S1-0", "base S1-8", "base mmlu-0", "a S1-0", "a S1-8", "a mmlu-0"]


def test_models_that_share_their_lower_layers_are_asked_the_same_part_together() -> None:
    assert asked({"a": 22, "b": 22}) == ["a S1-0", "b S1-0", "a S1-8", "b S1-8", "a mmlu-0", "b mmlu-0"]


def test_models_of_each_first_layer_are_together_and_those_that_share_nothing_come_first() -> None:
    order = [name.split()[0] for name in asked({"a": 22, "b": 15, "c": 0, "d": 22, "e": 15})]
    assert order == ["c"] * 3 + ["b", "e"] * 3 + ["a", "d"] * 3


def test_models_that_share_their_lower_layers_keep_as_many_parts_in_turn_as_there_are_actors() -> None:
    made = places({"a": 22, "b": 22, "c": 22})
    order = [f"{made[index].model} {made[index].part}" for index in asking_order(made, actors=2)]
    assert order[:6] == ["a S1-0", "a S1-8", "b S1-0", "b S1-8", "c S1-0", "c S1-8"]
    assert order[6:] == ["a mmlu-0", "b mmlu-0", "c mmlu-0"]
    assert asking_order(places({"a": 0, "b": 0}), actors=2) == asking_order(places({"a": 0, "b": 0}))


def test_parts_that_a_model_lacks_leave_the_order_of_the_others_alone() -> None:
    made = [place for place in places({"a": 22, "b": 22}) if (place.model, place.part) != ("b", "S1-8")]
    order = [f"{made[index].model} {made[index].part}" for index in asking_order(made)]
    assert order == ["a S1-0", "b S1-0", "a S1-8", "a mmlu-0", "b mmlu-0"]


def test_parts_keep_the_order_of_their_model_although_another_has_fewer_measurements() -> None:
    made = [place for place in places({"base": 0, "a": 0}) if place.model != "base" or place.measurement == "benchmarks"]
    assert [made[index].part for index in asking_order(made)] == ["mmlu-0", "S1-0", "S1-8", "mmlu-0"]


@given(st.lists(st.sampled_from([0, 0, 15, 22]), max_size=6), st.integers(1, 4))
def test_every_place_is_asked_once(first_layers: list[int], actors: int) -> None:
    made = places({f"model {number}": first for number, first in enumerate(first_layers)})
    assert sorted(asking_order(made, actors)) == list(range(len(made)))
