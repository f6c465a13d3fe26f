"""What a study counts is offered by the metrics port of a node of its cluster."""

import time
import urllib.request
from typing import Any

import pytest

from kp.cluster.metrics import Metric, record
from kp.cluster.tally import Tally

SECONDS = 90.0  # Ray's processes pass on what they count every ten
POLL_SECONDS = 0.5


def worker() -> Any:
    """An actor that counts what generators and training workers do; its class is pickled by value, as Ray's workers know no tests."""
    import ray

    class Worker:
        def work(self, tally: Tally) -> None:
            with tally.counting("part") as count:
                for _ in range(5):
                    count(5)
            of_search = {"study": "exported", "stage": "search"}
            record(Metric.EPOCHS, 1, **of_search)
            record(Metric.EPOCHS, 1, **of_search)
            record(Metric.EPOCH_SECONDS, 12.0, **of_search)
            record(Metric.TRAIN_LOSS, 0.25, **of_search, trial="01234567")
            record(Metric.RETRIES, 1, **of_search)

    return ray.remote(num_cpus=0)(Worker).remote()


def exported(name: str) -> dict[str, float]:
    """The lines of the nodes' metrics that begin with this name and are of the study."""
    import ray

    found = {}
    for node in ray.nodes():
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(address, timeout=10) as page:
            lines = page.read().decode().splitlines()
        found |= {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(name) and "exported" in line}
    return found


def value(name: str, *words: str) -> float | None:
    return next((number for line, number in exported(name).items() if all(word in line for word in words)), None)


@pytest.mark.usefixtures("local_ray")
def test_what_a_study_counts_is_at_the_metrics_port_of_its_node() -> None:
    import ray

    counting = worker()
    ray.get(counting.work.remote(Tally("exported", "categorise")))
    deadline = time.monotonic() + SECONDS
    while value("ray_kp_prompts_total", 'stage="categorise"') is None or value("ray_kp_trial_retries_total") is None:
        assert time.monotonic() < deadline, exported("ray_kp")
        time.sleep(POLL_SECONDS)
    assert value("ray_kp_prompts_total", 'stage="categorise"') == 25
    assert value("ray_kp_epochs_total", 'stage="search"') == 2
    assert value("ray_kp_train_loss", 'trial="01234567"') == 0.25
    assert value("ray_kp_epoch_seconds_count") == 1
    assert value("ray_kp_trial_retries_total", 'stage="search"') == 1
    ray.kill(counting)
