"""`kp doctor`: the cluster, node by node, compared with what a study needs; nothing is computed."""

from functools import partial
from pathlib import Path

from rich.table import Table

from kp.cluster.connection import connected
from kp.cluster.preflight import Probe, preflight, root_of
from kp.config.study import StudyConfig
from kp.models.shapes import model_folder
from kp.progress import Display
from kp.store import roots
from kp.store.roots import open_store
from kp.study.model_check import model_fault, model_need

LOG = "doctor.log"


def diagnose(config: StudyConfig, root: Path) -> int:
    """Print what every node has and what is wrong with it; returns 2 if a study cannot run there, otherwise 0.

    Raises UserError if no cluster answers, or if it has less than `resources` asks for.
    """
    display, results = Display(), roots.results_root(root)
    log, place = results / LOG, open_store(results).place
    with display.quiet(log), connected(config.resources, log, display.line) as cluster:
        folder = model_folder(config.model)
        need = model_need(config, config.model, folder, cluster.use_gpu) if folder else None
        probes, findings = preflight(place, partial(model_fault, need), cluster.accelerator_type) if need else preflight(place)
        if need is None:
            display.line(f"note: model.name: {config.model.name} is not here yet, so the nodes were not compared with it")
        display.line(f"cluster: {cluster}; each generator has {cluster.generator_threads} threads, each worker {cluster.worker_threads}")
        display.console.print(_table(probes))
        for finding in findings:
            display.line(f"{'error' if finding.is_fatal else 'note'}: {finding.field}: {finding.message}")
        if not findings:
            display.line(f"nothing is wrong: {len(probes)} of {len(probes)} nodes share {root_of(place)} and have the same packages")
    return 2 if any(finding.is_fatal for finding in findings) else 0


def _table(probes: list[Probe]) -> Table:
    table = Table(title="nodes", title_justify="left")
    for name in ("node", "kp", "torch", "results folder", "temporary"):
        table.add_column(name, overflow="fold")
    for probe in sorted(probes, key=lambda one: one.node):
        room = "a bucket" if probe.free is None else f"{probe.free / 2**30:.0f} GiB free"
        folder = "not the same" if probe.folder_fault else room
        table.add_row(probe.node, probe.packages["kp"], probe.packages["torch"], folder, f"{probe.free_here / 2**30:.0f} GiB free")
    return table
