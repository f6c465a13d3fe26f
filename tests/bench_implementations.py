"""Implementations of `kp bench train` that go wrong, in a module that processes load at once."""

from kp.bench.train_line import Line
from kp.bench.train_trial import TrainEpoch, TrainStart
from kp.errors import UserError
from kp.training.job import TrialJob

START = TrainStart("digest", 1, "revision", "cpu")


def refuses(job: TrialJob, line: Line) -> None:
    """As where the model is not found."""
    raise UserError("there is none", field="model.name")


def breaks_in_its_second_epoch(job: TrialJob, line: Line) -> None:
    """As where there is a bug."""
    line.ready(START)
    line.wait()
    line.report(TrainEpoch(1.0, 8, 80, 90, (2.0,)))
    line.wait()
    raise ValueError("a bug")


def ends_after_one_epoch(job: TrialJob, line: Line) -> str:
    """As it should be, with one epoch."""
    line.ready(START)
    line.wait()
    line.report(TrainEpoch(1.0, 8, 80, 90, (2.0,)))
    line.finish()
    return "the end"


def stops_early(job: TrialJob, line: Line) -> str:
    """As where a trial ends before the benchmark does."""
    line.ready(START)
    line.wait()
    return "nothing"
