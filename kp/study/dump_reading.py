"""A dump of many files, read by a Ray cluster: one task per file.

Files are read independently (see kp.facts.dump.reading), so nodes share only the folder to which they write, and tasks return little.
Merging is done by the caller: it takes a fraction of the time, and every pass needs all data of the one before.
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
    """The counts of a dump, and the machines of all processes that read or merged it."""

    counts: GraphCounts
    hardware: list[dict[str, Any]]


def read_graph_on_cluster(source: str, folder: Path, threads: int, language: str = "en", place: Any = "DEFAULT") -> GraphReading:
    """Like kp.facts.dump.reading.read_graph with the same result, on the joined cluster; `threads` cores read one file, and merge.

    `folder` must be on a file system that every node mounts on which `place`, a scheduling strategy of Ray's, runs tasks, and `source`
    readable from there. A task whose node dies is run again.
    """
    import ray

    assert ray.is_initialized(), "Ray would start a cluster by itself"
    files = find_files(source)
    folder = folder.resolve()  # a task runs in another working directory
    folder.mkdir(parents=True, exist_ok=True)
    partitions = partitions_for(files)
    with tempfile.TemporaryDirectory(prefix=".spill-", dir=folder) as name:
        spill = Path(name)
        task: Any = ray.remote(num_cpus=threads, max_retries=3, scheduling_strategy=place)(_read)
        references = [task.remote(file, spill, partitions, threads, language) for file in files]
        try:
            done: list[_Reading] = ray.get(references)
        except ray.exceptions.RayTaskError as error:
            for reference in references:
                ray.cancel(reference, force=False)
            if isinstance(error.cause, UserError):
                raise error.cause from None  # without Ray's traceback
            raise
        counts = finish([one.reading for one in done], folder, spill, partitions, threads)
        return GraphReading(counts, distinct_hardware([process_hardware(), *(one.hardware for one in done)]))


@dataclass(frozen=True)
class _Reading:
    """The result of a task: its file's reading, and the machine on which it ran."""

    reading: FileReading
    hardware: dict[str, Any]


def _read(file: DumpFile, spill: Path, partitions: Partitions, threads: int, language: str) -> _Reading:
    """Each attempt has its own folder: a node that was thought dead may still write into that of the first attempt."""
    return _Reading(read_file(file, spill / uuid.uuid4().hex, partitions, threads, language), process_hardware())
