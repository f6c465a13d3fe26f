"""A study is a graph of steps; a step is a frozen value, and its folder is done when its record says so.

A step's identity is the hash of its literals and of the identities of its inputs: never of paths, resources or time. So the same study
on another machine, or a study that shares a part with an earlier one, finds the work that is already done. A folder without a valid
record does not exist for any reader; a record is valid when it names this step and every file it lists has the listed size and digest.
"""

import importlib.metadata
import math
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from kp import schema
from kp.store import files, leases
from kp.store.bucket_folder import Fetchable, WorkFolder, local_path
from kp.store.code_version import code_version, own_version
from kp.store.hardware import distinct_hardware, process_hardware
from kp.store.study_folder import StudyFolder

PACKAGES = ("ray", "torch", "transformers", "peft", "deepspeed", "datasets", "pyarrow", "polars", "lm_eval")
RECORD = "record.json"


@dataclass(frozen=True)
class Step:
    """One piece of work: `kind` and `literals` (plain JSON) say what is done, `inputs` with what."""

    kind: str
    literals: dict[str, Any] = field(hash=False)
    inputs: tuple["Step", ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """The step's identity, 16 hex digits."""
        inputs = [step.fingerprint for step in self.inputs]
        return files.digest_json({"kind": self.kind, "literals": self.literals, "inputs": inputs})[:16]

    def __str__(self) -> str:
        return f"{self.kind}-{self.fingerprint}"


class HeldLease(Protocol):
    """A lease of this process on unfinished work."""

    def check(self) -> None:
        """Raise UserError if another process has taken it over."""
        ...


class Store:
    """All steps under one results root: finished ones in `store/`, unfinished ones in `work/`.

    Nothing else knows where they are: a step's content is read with `read`, `file` and `fetch`, and published with `commit`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._valid: dict[str, dict[str, Any]] = {}
        self._leases: dict[str, HeldLease] = {}  # of steps in work, by fingerprint

    def _inside(self, *names: str) -> Path:
        """A path below the results root; UserError if a link on the way leads out of it."""
        return files.confined(self._root.joinpath(*names), self._root)

    def _folder(self, step: Step) -> Path:
        return self._inside("store", step.kind, step.fingerprint)

    @property
    def place(self) -> WorkFolder:
        """Where results are, for those who ask whether every node sees it."""
        return self._root

    def work(self, step: Step) -> WorkFolder:
        """The folder from which an unfinished step will resume; it may not exist yet."""
        return self._shared("work", step.kind, step.fingerprint)

    def works(self, kind: str) -> dict[str, Path]:
        """All folders from which steps of one kind will resume, by the steps' fingerprints; for a results root that is a folder."""
        return {path.name: path for path in sorted((self._root / "work" / kind).glob("*"))}

    def _shared(self, *names: str) -> WorkFolder:
        """A folder below the results root that every node sees."""
        return self._inside(*names)

    def forget_work(self, step: Step) -> None:
        """Delete what a step has kept for resuming."""
        self._forget(self.work(step))

    def _forget(self, folder: WorkFolder) -> None:
        shutil.rmtree(local_path(folder), ignore_errors=True)

    def _lease(self, folder: WorkFolder, what: str) -> AbstractContextManager[HeldLease]:
        return leases.lease(local_path(folder), what)

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """An empty folder for what a library writes within this context and no other node must read; removed after it."""
        folder = self._inside("work", name, uuid.uuid4().hex)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def working_on(self, what: str, study: str) -> Iterator[WorkFolder]:
        """A folder for unfinished work of several steps of a study, leased to this process; removed unless the block raises."""
        folder = self._shared("work", what, study)
        with self._lease(folder, f"{what} of {study}") as held:
            yield folder
            held.check()
        self._forget(folder)

    def study(self, name: str) -> StudyFolder:
        """The folder of the study with this name."""
        return StudyFolder(self._inside(name), self._root)

    def link(self, study: StudyFolder, name: str, step: Step, part: str = "") -> Path | str:
        """Show a step's files, or one folder of it, as `name` (which may be a/b) in a study's folder; returns where a user finds them."""
        return study.link(name, self.file(step, part) if part else self.fetch(step))

    def has_study(self, name: str) -> bool:
        """Whether a study of this name was ever run here."""
        return (self._root / name).is_dir()

    def recall(self, name: str) -> None:
        """Make what a study settled when it began readable below the results root; in a folder it is."""

    def record(self, step: Step) -> dict[str, Any] | None:
        """The step's record, or None if the step is not done or its files are damaged."""
        if step.fingerprint not in self._valid:
            found = _valid_record(self._folder(step), step)
            if found is None:
                return None
            self._valid[step.fingerprint] = found
        return self._valid[step.fingerprint]

    def is_done(self, step: Step) -> bool:
        """Whether the step has a valid record."""
        return self.record(step) is not None

    def read(self, step: Step, name: str, table_schema: pa.Schema) -> pa.Table:
        """A table of a finished step."""
        return schema.read_table(self.file(step, name), table_schema)

    def fetch(self, step: Step) -> Path:
        """A folder with all files of a finished step; read-only."""
        assert self.is_done(step), f"{step} was read before it was done"
        return self._folder(step)

    def file(self, step: Step, name: str) -> Path:
        """One file or folder of a finished step; read-only."""
        return self.fetch(step) / name

    def fetchable(self, step: Step, name: str) -> Fetchable:
        """A folder of a finished step, for a process on another node, which calls `here` with it."""
        return self.file(step, name)

    @contextmanager
    def working(self, step: Step) -> Iterator[WorkFolder]:
        """The step's work folder, leased to this process; removed once the step is done."""
        folder = self.work(step)
        with self._lease(folder, str(step)) as held:
            self._leases[step.fingerprint] = held
            try:
                yield folder
            finally:
                del self._leases[step.fingerprint]
            done = self.is_done(step)
        if done:
            self.forget_work(step)

    def commit(
        self,
        step: Step,
        fill: Callable[[Path], object],
        *,
        seconds: float,
        details: dict[str, Any] | None = None,
        hardware: Iterable[Mapping[str, Any]] | None = None,
    ) -> None:
        """Publish a step: `fill` writes its files into an empty folder, the record is written last, the folder is renamed into place.

        `hardware` is reported by the processes that did the work (`process_hardware`); None if this process did it. Raises UserError if
        another process has taken over the lease on the step's work.
        """
        if step.fingerprint in self._leases:
            self._leases[step.fingerprint].check()
        worked = [process_hardware()] if hardware is None else distinct_hardware(hardware)
        with files.staging(self._folder(step)) as staged:
            fill(staged)
            files.follow_umask(staged)
            self._publish(step, staged, _make_record(step, staged, seconds, details or {}, worked))

    def _publish(self, step: Step, staged: Path, record: dict[str, Any]) -> None:
        """Make a filled folder that of the step; its record comes last."""
        final = self._folder(step)
        files.write_json(staged / RECORD, record)
        if final.exists():
            if self.is_done(step):
                return  # another driver was first; its files are the same by identity
            self._set_aside(final)
        staged.rename(final)

    def damaged(self, step: Step) -> bool:
        """Whether the step's folder exists but cannot be trusted."""
        return self._folder(step).exists() and not self.is_done(step)

    def _set_aside(self, folder: Path) -> None:
        trash = self._inside("damaged", f"{folder.parent.name}-{folder.name}-{time.time_ns()}")
        trash.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(trash)


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a number."""
    return {**{name: importlib.metadata.version(name) for name in PACKAGES}, "kp": own_version()}


def busy_seconds(records: Iterable[dict[str, Any]]) -> float:
    """Seconds in which at least one of these steps was running; time of concurrent steps is not counted twice."""
    times = ((datetime.fromisoformat(record["started"]), datetime.fromisoformat(record["finished"])) for record in records)
    return covered_seconds((start.timestamp(), end.timestamp()) for start, end in times)


def covered_seconds(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that at least one of these spans (start, end) covers."""
    covered, until = 0.0, -math.inf
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _make_record(step: Step, folder: Path, seconds: float, details: dict[str, Any], hardware: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "kind": step.kind,
        "fingerprint": step.fingerprint,
        "literals": step.literals,
        "inputs": {str(source): source.fingerprint for source in step.inputs},
        "files": files.described(folder),
        "packages": package_versions(),
        "code": code_version(),
        "hardware": hardware,
        "wall_seconds": round(seconds, 2),
        "started": _utc(time.time() - seconds),
        "finished": _utc(time.time()),
        "details": details,
    }


def _valid_record(folder: Path, step: Step) -> dict[str, Any] | None:
    record = files.read_json(folder / RECORD)
    if not isinstance(record, dict) or record.get("fingerprint") != step.fingerprint:
        return None
    return record if files.is_intact(folder, record["files"]) else None
