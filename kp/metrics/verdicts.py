"""What a study can say about a harm, compared with a margin that is stated beforehand.

That a harm is not significant does not mean that there is none: a small study resolves little. So there are three verdicts, and the third
names the smallest harm that the study could have found. None of them says that an adapter is better than nothing: an effect whose interval
lies below 0 is "no harm beyond the margin" and no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kp.metrics.effects import Effect
from kp.metrics.intervals import CONFIDENCE, Estimate
from kp.metrics.paired_tests import holm
from kp.vocabulary import Verdict

MARGIN = 0.02
"""Two points: a harm below this is not worth speaking of, unless a study states another margin."""


@dataclass(frozen=True)
class Finding:
    """A verdict, and what it rests on."""

    verdict: Verdict
    harm: Estimate  # larger is worse
    margin: float  # a share: 0.02 is 2 points
    below_margin: bool  # the interval's upper limit lies below the margin; with harm shown, the harm is a small one

    @property
    def resolvable(self) -> float | None:
        """The smallest true harm that the study would have found with 80% power; None without an interval."""
        return self.harm.resolvable()


def harm_of(estimate: Estimate, effect: Effect) -> Estimate:
    """The estimate of an effect as a harm, so that larger is worse; raises ValueError if it is none (`Effect.harm_sign`)."""
    if effect.harm_sign == 0:
        raise ValueError(f"the effect '{effect}' is no harm")
    return estimate if effect.harm_sign > 0 else estimate.negated()


def judge(harm: Estimate, margin: float = MARGIN) -> Finding:
    """The verdict on one harm, by its 95% interval; not resolved if it has none. Raises ValueError unless the margin is above 0."""
    _validate(margin)
    limits = harm.limits()
    if limits is None:
        return Finding(Verdict.NOT_RESOLVED, harm, margin, below_margin=False)
    return _finding(harm, margin, shown=limits[0] > 0, below=limits[1] < margin)


def judge_grid(harms: Sequence[Estimate], margin: float = MARGIN) -> list[Finding]:
    """The verdicts on a grid of harms, in their order, with Holm's correction.

    The chance that any harm is shown which is none is at most 2.5%, and so is the chance that any is shown to be below the margin which is
    not. One harm alone has the verdict of `judge`.
    """
    _validate(margin)
    level = (1 - CONFIDENCE) / 2
    above, below = holm([harm.p_above(0.0) for harm in harms]), holm([harm.p_below(margin) for harm in harms])
    return [
        _finding(harm, margin, shown=p_above < level, below=p_below < level)
        for harm, p_above, p_below in zip(harms, above, below, strict=True)
    ]


def _finding(harm: Estimate, margin: float, *, shown: bool, below: bool) -> Finding:
    unproven = Verdict.WITHIN_MARGIN if below else Verdict.NOT_RESOLVED
    return Finding(Verdict.HARM_SHOWN if shown else unproven, harm, margin, below)


def _validate(margin: float) -> None:
    if not margin > 0:
        raise ValueError(f"margin = {margin:g}: expected a share above 0")
