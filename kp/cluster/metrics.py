"""What a running study exports for Prometheus and dashboards, by way of Ray's metrics.

Every node of a Ray cluster offers them at its metrics port, under these names behind `ray_`. A process without Ray exports nothing, and
nothing that goes wrong here reaches a study: a number that nobody sees must not end what it counts.
"""

import logging
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_log = logging.getLogger(__name__)


class Metric(StrEnum):
    """The metrics, by their names."""

    PROMPTS = "kp_prompts_total"
    EPOCHS = "kp_epochs_total"
    EPOCH_SECONDS = "kp_epoch_seconds"
    TRAIN_LOSS = "kp_train_loss"
    UNKNOWN_ACCURACY = "kp_unknown_accuracy"
    RETRIES = "kp_trial_retries_total"
    RESTARTS = "kp_worker_group_restarts_total"


class _Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class _Described:
    kind: _Kind
    description: str
    tags: tuple[str, ...] = ("study", "stage")


_METRICS = {
    Metric.PROMPTS: _Described(_Kind.COUNTER, "Prompts answered by generators and evaluating actors."),
    Metric.EPOCHS: _Described(_Kind.COUNTER, "Epochs trained and committed."),
    Metric.EPOCH_SECONDS: _Described(_Kind.HISTOGRAM, "Seconds of an epoch, its evaluation included."),
    Metric.TRAIN_LOSS: _Described(_Kind.GAUGE, "Training loss of a trial's last epoch.", ("study", "stage", "trial")),
    Metric.UNKNOWN_ACCURACY: _Described(_Kind.GAUGE, "unknown_accuracy after a trial's last epoch.", ("study", "stage", "trial")),
    Metric.RETRIES: _Described(_Kind.COUNTER, "Trials that went back to the queue because their workers failed or were lost."),
    Metric.RESTARTS: _Described(_Kind.COUNTER, "Worker groups that were started again."),
}
_BOUNDARIES = [1.0, 5.0, 15.0, 60.0, 300.0, 1200.0, 3600.0]  # of histograms, in seconds

_made: dict[Metric, Any] = {}
_broken: set[Metric] = set()


def record(metric: Metric, value: float, **tags: str) -> None:
    """Count this much more, set a gauge to it, or add it to a histogram; never raises."""
    ray = sys.modules.get("ray")  # not imported for this
    if ray is None or metric in _broken or not ray.is_initialized():
        return
    try:
        _record(metric, value, tags)
    except Exception as error:
        _broken.add(metric)
        _log.warning("%s is exported no more: %s", metric, error)


def _record(metric: Metric, value: float, tags: dict[str, str]) -> None:
    from ray.util import metrics

    described = _METRICS[metric]
    if metric not in _made:
        made: dict[_Kind, Any] = {_Kind.COUNTER: metrics.Counter, _Kind.GAUGE: metrics.Gauge, _Kind.HISTOGRAM: metrics.Histogram}
        more = {"boundaries": _BOUNDARIES} if described.kind is _Kind.HISTOGRAM else {}
        _made[metric] = made[described.kind](metric.value, description=described.description, tag_keys=described.tags, **more)
    if described.kind is _Kind.COUNTER:
        if value > 0:  # Ray refuses to add nothing
            _made[metric].inc(value, tags=tags)
    elif described.kind is _Kind.GAUGE:
        _made[metric].set(value, tags=tags)
    else:
        _made[metric].observe(value, tags=tags)
