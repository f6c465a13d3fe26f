"""A dump of many files, read by a Ray cluster: a task a file.

Reading a file knows nothing of other files (see kp.facts.dump.reading), so nodes share only the folder to which they write, and what the
tasks return is small. Merging is done where this is called: it takes a fraction of the time, and its passes hand all their data on.
"""

import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.errors import UserError
from kp.facts.dump.files import DumpFile, find_files
from kp.facts.dump.merging import FileReading
from kp.facts.dump.reading import GraphCounts, finish, partitions_for, read_file
from kp.facts.dump.spill import Partitions
from kp.store.hardware import distinct_hardware, process_hardware


@dataclass(frozen=True)
class GraphReading:
    """What a dump was found to hold, and the machines of all processes that read it or merged."""

    counts: GraphCounts
    hardware: list[dict[str, Any]]


def read_graph_on_cluster(source: str, folder: Path, threads: int) -> GraphReading:
    """kp.facts.dump.reading.read_graph with the same outcome, on the cluster that was joined; `threads` cores read one file, and merge.

    `folder` must be on a file system that every node mounts, and `source` readable from every node. A task whose node dies is run again.
    """
    import ray

    assert ray.is_initialized(), "Ray would start a cluster by itself"
    files = find_files(source)
    folder = folder.resolve()  # a task runs in another working directory
    folder.mkdir(parents=True, exist_ok=True)
    partitions = partitions_for(files)
    with tempfile.TemporaryDirectory(prefix=".spill-", dir=folder) as name:
        spill = Path(name)
        task: Any = ray.remote(num_cpus=threads, max_retries=3)(_read)
        references = [task.remote(file, spill, partitions, threads) for file in files]
        try:
            done: list[_Reading] = ray.get(references)
        except ray.exceptions.RayTaskError as error:
            for reference in references:
                ray.cancel(reference, force=False)
            if isinstance(error.cause, UserError):
                raise error.cause from None  # without Ray's account of where it came from
            raise
        counts = finish([one.reading for one in done], folder, spill, partitions, threads)
        return GraphReading(counts, distinct_hardware([process_hardware(), *(one.hardware for one in done)]))


@dataclass(frozen=True)
class _Reading:
    """What a task returns: its file, and the machine that it ran on."""

    reading: FileReading
    hardware: dict[str, Any]


def _read(file: DumpFile, spill: Path, partitions: Partitions, threads: int) -> _Reading:
    """A folder of its own for each attempt: a node that was thought dead may still write into the first one's."""
    return _Reading(read_file(file, spill / uuid.uuid4().hex, partitions, threads), process_hardware())
