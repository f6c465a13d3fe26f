"""The order in which actors measure: what is next to each other should share what an actor has at hand.

An actor that stays with an adapter keeps the shared prompts that it has read with it. But below its first adapted layer an adapter
computes what every other one computes there, so adapters that leave the lower layers alone are better asked the same questions one after
the other: what the lower layers make of a question is then at hand for all of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a chunk belongs: its model, the first layer that the model's adapter changes (0 without an adapter), its measurement's name,
    and the name of its part, which is the same for all models that are asked the same."""

    model: str
    first_layer: int
    measurement: str
    part: str


def asking_order(places: Sequence[Place], actors: int = 1) -> list[int]:
    """The indices of the places in the order of asking, from which whichever of the actors is free takes the next.

    Models that change the first layer come one after the other, each with all of its parts in the given order. Then those that change it
    first at the same layer come together, a few parts at a time, as many as there are actors: each of these parts for the first model,
    then each for the next. So an actor that keeps pace with the others gets the same part for one model after the other. Models,
    measurements and parts keep the order in which they first appear among these.
    """
    from_first = [index for index, place in enumerate(places) if not place.first_layer]
    models = _ranks(places[index].model for index in from_first)
    from_first.sort(key=lambda index: models[places[index].model])
    shared: dict[int, list[int]] = {}
    for index, place in enumerate(places):
        if place.first_layer:
            shared.setdefault(place.first_layer, []).append(index)
    return [*from_first, *(index for first_layer in sorted(shared) for index in _by_parts(places, shared[first_layer], actors))]


def _by_parts(places: Sequence[Place], indices: Sequence[int], actors: int) -> list[int]:
    models = _ranks(places[index].model for index in indices)
    measurements = _ranks(places[index].measurement for index in indices)
    names = _ranks(places[index].part for index in indices)
    parts = sorted({(measurements[places[index].measurement], names[places[index].part]) for index in indices})
    rank = {part: number for number, part in enumerate(parts)}

    def key(index: int) -> tuple[int, int, int]:
        place = places[index]
        part = rank[measurements[place.measurement], names[place.part]]
        return part // actors, models[place.model], part

    return sorted(indices, key=key)


def _ranks(names: Iterable[str]) -> dict[str, int]:
    return {name: rank for rank, name in enumerate(dict.fromkeys(names))}
