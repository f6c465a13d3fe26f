"""The circumstances of a study, which a report shows and on which no conclusion rests."""

import time
from typing import Any

from kp import __version__
from kp.report.tables import ReportContext
from kp.store.code_version import code_version
from kp.store.hardware import distinct_hardware
from kp.store.steps import busy_seconds, package_versions
from kp.study.session import Session


def report_context(session: Session) -> ReportContext:
    """The circumstances of a study, from its steps' records: except for times and places, the same for an interrupted study and an
    uninterrupted one."""
    return ReportContext(
        study=session.config.name,
        config=session.config.model_dump(mode="json"),
        model_name=session.model.name,
        model_revision=session.model.revision,
        versions=package_versions(),
        hardware=_hardware(session),
        wall_seconds=_wall_seconds(session),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        kp_version=code_text(__version__, code_version()),
    )


def _hardware(session: Session) -> str:
    """The machines that did the work of the study's steps, one line per kind."""
    records = filter(None, (session.store.record(step) for steps in session.graph.by_stage.values() for step in steps))
    machines = distinct_hardware(machine for record in records for machine in record["hardware"])
    return "; ".join(map(machine_text, machines))


def machine_text(machine: dict[str, Any]) -> str:
    """A machine of a record in one line, with the number of hosts if there were several."""
    gpus = f", {' and '.join(sorted(set(machine['gpus'])))}" if machine["gpus"] else ""
    hosts = f" ({len(machine['hosts'])} hosts)" if len(machine["hosts"]) > 1 else ""
    return f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB{gpus}, Python {machine['python']}{hosts}"


def code_text(version: str, code: dict[str, Any]) -> str:
    """Version and commit of kp in one line."""
    if code["commit"] is None:
        return f"{version}, {code['source']}"
    return f"{version}, commit {code['commit'][:12]}{', with changes that are not committed' if code['dirty'] else ''}"


def _wall_seconds(session: Session) -> dict[str, float]:
    """The working seconds of each stage's steps, in the order of the stages; without stages that the study does not request."""
    by_stage = {name: list(filter(None, map(session.store.record, steps))) for name, steps in session.graph.by_stage.items()}
    return {name: busy_seconds(records) for name, records in by_stage.items() if records}
