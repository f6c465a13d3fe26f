"""What the stages of one run share: the study, its steps, where results are, the console, and the cluster once it is needed."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.answering import EngineSpec
from kp.cluster import Cluster, connected
from kp.config import StudyConfig
from kp.facts.tables import source_digest
from kp.graph import Graph, Identities, build_graph
from kp.layout import FACTS_FILE
from kp.models import resolve_model
from kp.progress import Display
from kp.prompts import ShotSets, load_shots, shot_sets, shots_digest
from kp.steps import Step, Store

LOG_FILE = "kp.log"

Tables = Mapping[str, tuple[pa.Table, pa.Schema]]  # file name -> table and its schema


def frame(table: pa.Table) -> pl.DataFrame:
    """An arrow table as a polars frame."""
    return pl.DataFrame(pl.from_arrow(table))


class Session(ExitStack):
    """One run of one study; as a context manager it leaves the cluster at the end."""

    def __init__(self, config: StudyConfig, root: Path) -> None:
        super().__init__()
        self.config = config
        self.store = Store(root)
        self.display = Display()
        self.model = resolve_model(config.model)
        self.shots = load_shots(config.categorise.shots)
        identities = Identities(self.model.revision, source_digest(config.facts.source), shots_digest(self.shots))
        self.graph: Graph = build_graph(config, identities)
        self.home = root / config.name  # made last: what is wrong with the input has shown by now
        self.home.mkdir(exist_ok=True)

    @cached_property
    def cluster(self) -> Cluster:
        """The Ray cluster, joined at the first need so that a finished study never starts one."""
        log = self.home / LOG_FILE
        self.display.line(f"starting Ray (what libraries say goes to {shown(log)})")
        self.enter_context(self.display.quiet(log))
        cluster = self.enter_context(connected(self.config.resources, log))
        self.display.line(f"cluster: {cluster}")
        return cluster

    @cached_property
    def engine(self) -> EngineSpec:
        """How every generating actor of this run makes its generator."""
        return self._engine(self.cluster.generator_threads)

    @cached_property
    def trial_engine(self) -> EngineSpec:
        """The same in a training worker, which has its own share of the cores."""
        return self._engine(self.cluster.worker_threads)

    def _engine(self, threads: int) -> EngineSpec:
        settings, batch = self.config.categorise, self.config.resources.generation_batch
        return EngineSpec(self.config.model, settings.max_new_tokens, settings.stop_at_newline, batch, threads, self.cluster.use_gpu)

    @cached_property
    def facts(self) -> pa.Table:
        """The measured facts (FACTS); only once the facts step is done."""
        return self.store.read(self.graph.facts, FACTS_FILE, schema.FACTS)

    @cached_property
    def shot_sets(self) -> ShotSets:
        """The three shot sets, with leaking shots replaced."""
        return shot_sets(self.shots, frame(self.facts))[0]

    def commit(self, step: Step, tables: Tables, began: float, details: dict[str, Any] | None = None) -> None:
        """Publish a step that consists of tables alone; `began` is time.monotonic() at its start."""

        def fill(folder: Path) -> None:
            for name, (table, table_schema) in tables.items():
                schema.write_table(table, table_schema, folder / name)

        self.store.commit(step, fill, seconds=time.monotonic() - began, details=details)

    def is_done(self, step: Step, what: str) -> bool:
        """Whether a step is done; says so when it is, and warns when its files were damaged."""
        if self.store.is_done(step):
            record = self.store.record(step) or {}
            self.display.line(f"{what}: already done ({step.fingerprint[:8]}, took {record['wall_seconds']:.0f} s), not redone")
            return True
        if self.store.damaged(step):
            self.display.line(f"{what}: the files of {step} are damaged and are made again")
        return False


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
