"""If the source of the facts is a knowledge-graph dump, it is reduced to its graph; later draws use the graph and never read the dump."""

import shutil
import time
from dataclasses import asdict
from pathlib import Path

from kp.cluster.connection import on_this_node
from kp.config.identity import Reads
from kp.facts.dump.blocks import is_converted
from kp.facts.dump.files import find_files
from kp.facts.dump.reading import read_graph
from kp.store.bucket_folder import BucketFolder, local_path
from kp.store.hardware import process_hardware
from kp.store.steps import Step
from kp.study.dump_reading import GraphReading, read_graph_on_cluster
from kp.study.session import Session
from kp.study.stage import Command, Making, Planning, Stage, Work

LANGUAGE_FIELD = "facts.graph.language"


class Dump(Stage):
    """Its step is absent if the source of the facts is not a dump."""

    name = "dump"
    command = Command.FACTS
    version = 2
    reads = Reads((LANGUAGE_FIELD,))  # otherwise only its content
    before_plan = True

    def step(self, making: Making) -> Step | None:
        """Identified by the dump's content, and the language of its labels."""
        if making.identities.drawing is None:
            return None
        return Step(self.name, self.literals(making) | {"source": making.identities.facts})

    def plan(self, planning: Planning) -> Work | None:
        """One reading."""
        steps = self.steps(planning.graph)
        return Work(f"{planning.config.facts.source} read to its graph", steps) if steps else None

    def run(self, session: Session) -> None:
        """Read the dump, unless the facts drawn from it are already there."""
        step = session.graph.steps.get(self.name)
        if step is None or session.store.is_done(session.graph.steps["facts"]) or session.is_done(step, self.name):
            return
        began = time.monotonic()
        with session.store.working(step) as work:
            if session.is_done(step, self.name):  # by another driver, which had it until now
                return
            made = local_path(work) / "graph"
            shutil.rmtree(made, ignore_errors=True)  # of a run that was killed
            read = _read(session, made)
            counts = read.counts
            seconds = time.monotonic() - began

            def fill(folder: Path) -> None:
                for path in sorted(made.iterdir()):
                    path.rename(folder / path.name)

            session.store.commit(step, fill, seconds=seconds, details=asdict(counts), hardware=read.hardware)
        session.display.line(
            f"dump: {counts.distinct_triples:,} triples of {counts.entities:,} entities, {counts.pairs:,} single-valued pairs, "
            f"{counts.set_aside:,} lines set aside, {counts.unreadable:,} of them unreadable ({seconds:.0f} s)"
        )


def _read(session: Session, folder: Path) -> GraphReading:
    """One file is read here, many on the cluster; the graph is the same."""
    source, language = session.config.facts.source, session.config.facts.graph.language
    found = find_files(source)
    files, turtle = len(found), sum(map(is_converted, found))
    if turtle:
        session.display.line(f"dump: {turtle} of {files} files are Turtle with prefixes or longer statements, read by a slower parser")
    if files == 1:
        return GraphReading(read_graph(source, folder, language=language), [process_hardware()])
    place = on_this_node() if isinstance(session.store.place, BucketFolder) else "DEFAULT"  # without a folder that all nodes share
    return read_graph_on_cluster(source, folder, session.cluster.task_cpus(files), language, place)
