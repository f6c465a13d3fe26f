"""A seeded draw of questions in which every group of them has its turn."""

import random
from collections.abc import Sequence


def draw_in_turn(groups: Sequence[str | None], count: int, seed: int) -> list[int]:
    """Ascending indices of `count` questions; `groups` has each question's group, or None for one that is not to be drawn.

    The groups take turns in a shuffled order, each giving its questions in a shuffled order, so the draw of a smaller count is part of the
    draw of a larger one. `count` is at most the number of questions with a group.
    """
    generator = random.Random(seed)
    indices: dict[str, list[int]] = {group: [] for group in sorted({group for group in groups if group is not None})}
    for index, group in enumerate(groups):
        if group is not None:
            indices[group].append(index)
    turns = list(indices)
    generator.shuffle(turns)
    for group in turns:
        generator.shuffle(indices[group])
    order = sorted((round_, turn, index) for turn, group in enumerate(turns) for round_, index in enumerate(indices[group]))
    return sorted(index for _, _, index in order[:count])
