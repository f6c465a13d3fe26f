"""The next trials: the grid of the asked size whose results would say most about the leading settings.

Worth is by how much a grid's trials lessen the predicted variances of reliability and harm of the LEADING best settings, summed, each
target in units of its own variance. What a trial would show is not needed for that: a Gaussian process knows its variances beforehand
(Cohn, Neural Networks 9, 1996: choosing what lessens the variance of predictions). Settings may lie one usual value beyond what was
measured. Of all grids, only those with the most settings in the better half count, so that few trials are spent where no answer is
expected.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from kp.advice.prediction import Predictor
from kp.advice.process import Array
from kp.advice.recommending import Advice
from kp.advice.targets import Setting, points
from kp.config.toml import toml_value
from kp.errors import UserError

LEADING = 12
MOST = 16


def propose(advice: Advice, predictors: Sequence[Predictor], trials: int) -> list[Setting]:
    """`trials` settings of equal exposures that form a grid of ranks, learning rates and mixes; UserError if no grid has that many."""
    exposures = advice.best.setting.exposures
    settings = [one.setting for one in advice.near if one.setting.exposures == exposures]
    grids = list(_grids(settings, trials))
    if not grids:
        raise UserError(f"{trials} trials form no grid of the ranks, learning rates and mixes near what was measured", field="--next")
    better = set(settings[: max(len(settings) // 2, 1)])
    inside = [sum(one in better for one in grid) for grid in grids]
    grids = [grid for grid, count in zip(grids, inside, strict=True) if count == max(inside)]
    every = list(dict.fromkeys([*settings[:LEADING], *itertools.chain.from_iterable(grids)]))
    place = {one: number for number, one in enumerate(every)}
    covariances = [_covariance(predictor, every) for predictor in predictors]
    leading = [place[one] for one in settings[:LEADING]]
    worth = [_worth(covariances, leading, [place[one] for one in grid]) for grid in grids]
    return list(grids[int(np.argmax(worth))])


def _covariance(predictor: Predictor, settings: list[Setting]) -> tuple[Array, float]:
    """Of the settings in one new study [n, n], and the variance of a trial of its own, in units of the target's variance."""
    process = predictor.process
    scale = process.signal**2 + process.between**2
    _, covariance = process.joint(points(settings))
    return (covariance + process.between**2) / scale, process.noise**2 / scale + 1e-9


def _worth(covariances: list[tuple[Array, float]], leading: list[int], grid: list[int]) -> float:
    """By how much the trials of a grid lessen the summed variances of the leading settings."""
    lessened = 0.0
    for covariance, noise in covariances:
        seen = covariance[np.ix_(grid, grid)] + noise * np.eye(len(grid))
        cross = covariance[np.ix_(leading, grid)]
        lessened += float(np.sum(cross * np.linalg.solve(seen, cross.T).T))
    return lessened


def _grids(settings: list[Setting], trials: int) -> Iterator[tuple[Setting, ...]]:
    """Products of ranks, learning rates and mixes with this number of trials."""
    known = {(one.rank, one.learning_rate, one.replayed): one for one in settings}
    values = [sorted({key[place] for key in known}) for place in range(3)]
    for counts in itertools.product(*(range(1, len(each) + 1) for each in values)):
        if int(np.prod(counts)) != trials:
            continue
        for chosen in itertools.product(*(itertools.combinations(each, count) for each, count in zip(values, counts, strict=True))):
            yield tuple(known[key] for key in itertools.product(*chosen))  # type: ignore[index]


def study_file(settings: Sequence[Setting], model: str, tolerance: float, name: str = "next") -> str:
    """A study of these trials in TOML, of built-in facts; the comments say what to replace for others."""
    first = settings[0]
    rates, ranks = sorted({one.learning_rate for one in settings}), sorted({one.rank for one in settings})
    mixes = sorted({one.replayed for one in settings})
    arms = ", ".join(f"{{ highly_known = {count} }}" if count else "{}" for count in mixes)
    replay = f'replay_source = "builtin"\nreplay_count = {max(200, 10 * first.facts * mixes[-1])}\n' if mixes[-1] else ""
    return f"""# The trials that kp plan proposes next for {first.facts:,} facts. To pack your own, name their table in facts.source.

name = "{name}"

[model]
name = {toml_value(model)}

[facts]
source = "builtin"
count = {max(60, 6 * first.facts)} # half are control facts, and a third or so of the rest are Unknown to a small model
control_share = 0.5

[search]
unknown = [{first.facts}]
arms = [{arms}]
rank = {ranks}
learning_rate = {rates}
eval_mode = "teacher_forced"
{replay}
[training]
epochs = {first.exposures}
batch_size = {BATCH_SIZE}
lora_alpha_per_rank = 1
lora_dropout = 0.0

[report]
margin = {tolerance}
"""


BATCH_SIZE = 8
"""That of the proposed study, as of results/replay."""
