"""`kp` on a cluster whose GPUs are no more than a name: python -m tests.named_gpus_kp COMMAND ...

Actors reserve them as they do real ones, and compute on the CPU. Ray Train gives a worker that reserves a GPU to CUDA, so workers reserve a
SLOT instead, of which a node has as many as GPUs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from kp.cli import main
from kp.cluster import connection
from kp.cluster.sizing import Cluster
from kp.config.resources import ResourcesConfig
from kp.study import session

SLOT = "slot"


class NamedGpus(Cluster):
    """Divided by its GPUs, though nothing computes on them."""

    @property
    def actor_gpus(self) -> float:
        return 1.0

    def worker_resources(self) -> dict[str, float]:
        return {"CPU": 0.5, SLOT: 1}


@contextmanager
def connected(resources: ResourcesConfig, log_file: Path, note: Callable[[str], None]) -> Iterator[Cluster]:
    """The cluster, as kp joins it."""
    with connection.connected(resources, log_file, note) as found:
        assert found.use_gpu
        yield NamedGpus(**{field.name: getattr(found, field.name) for field in fields(found)} | {"use_gpu": False})


if __name__ == "__main__":
    from tests.named_gpus_kp import connected as as_others_import_it

    session.connected = as_others_import_it
    main()
