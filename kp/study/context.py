"""The circumstances of a study, which a report shows and no conclusion rests on."""

import time

from kp import __version__
from kp.report.tables import ReportContext
from kp.store.hardware import hardware
from kp.store.steps import busy_seconds, package_versions
from kp.study.session import Session


def report_context(session: Session) -> ReportContext:
    """The circumstances of a study, out of its steps' records: the same for a study that was interrupted and one that was not,
    but for times and places."""
    machine = hardware()
    return ReportContext(
        study=session.config.name,
        config=session.config.model_dump(mode="json"),
        model_name=session.model.name,
        model_revision=session.model.revision,
        versions=package_versions(),
        hardware=f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Python {machine['python']}",
        wall_seconds=_wall_seconds(session),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        kp_version=__version__,
    )


def _wall_seconds(session: Session) -> dict[str, float]:
    """Seconds in which each stage's steps were at work, in the order of the stages; none for what the study does not ask for."""
    by_stage = {name: list(filter(None, map(session.store.record, steps))) for name, steps in session.graph.by_stage.items()}
    return {name: busy_seconds(records) for name, records in by_stage.items() if records}
