"""All measurements of adapters, in the order in which a model is measured; nothing else enumerates them."""

from kp.study.measurement import Measurement
from kp.study.measurements.answers import Answers
from kp.study.measurements.benchmarks import Benchmarks
from kp.study.measurements.drift import Drift
from kp.study.measurements.generality import Generality
from kp.study.measurements.harness import Harness
from kp.study.measurements.placebo import Placebo
from kp.study.measurements.reversal import Reversal
from kp.study.measurements.surprisal import SurprisalMeasurement

MEASUREMENTS: tuple[Measurement, ...] = (
    Answers(),
    Generality(),
    Reversal(),
    Benchmarks(),
    Harness(),
    SurprisalMeasurement(),
    Drift(),
    Placebo(),
)


def measurement_of(name: str) -> Measurement:
    """The measurement to which a step's name belongs."""
    (found,) = (one for one in MEASUREMENTS if name == one.name or name.startswith(f"{one.name}/"))
    return found
