"""What waits for a place in a real Ray, and what its autoscaler says, are seen from the driver."""

import time
from pathlib import Path
from typing import Any

import pytest

from kp.cluster.demand import autoscaler_warnings, cluster_state

pytestmark = pytest.mark.usefixtures("local_ray")

SECONDS = 60.0
POLL_SECONDS = 0.2
WARNING = "Error: No available node types can fulfill resource request {'GPU': 4.0}."


def test_actor_without_a_place_is_a_pending_demand_until_it_is_given_up() -> None:
    import ray

    class Waiting:
        def there(self) -> bool:
            return True

    actor: Any = ray.remote(num_cpus=0, num_gpus=3)(Waiting).remote()
    waiting = actor.there.remote()
    deadline = time.monotonic() + SECONDS
    while not (state := cluster_state()) or ("GPU: 3", 1) not in state.pending:
        assert time.monotonic() < deadline, state
        time.sleep(POLL_SECONDS)
    ray.cancel(waiting)
    ray.kill(actor)
    assert (state.nodes, state.starting, state.gpus) == (1, 0, 0.0)


def test_event_of_the_autoscaler_is_a_warning() -> None:
    import ray
    from ray._private.event.event_logger import get_event_logger
    from ray._private.worker import global_worker
    from ray.core.generated.event_pb2 import Event

    assert ray.is_initialized()
    logs = Path(global_worker.node.get_logs_dir_path())
    get_event_logger(Event.SourceType.AUTOSCALER, str(logs)).info(WARNING)  # as Ray's monitor does
    deadline = time.monotonic() + SECONDS
    while WARNING not in autoscaler_warnings():
        assert time.monotonic() < deadline, autoscaler_warnings()
        time.sleep(POLL_SECONDS)
