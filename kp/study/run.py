"""A study from its config to its report: which stages run, and in what order.

Ray is started only if something that needs it is left to do, so a second run of a finished study returns within seconds and says so.
"""

import contextlib
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from kp.cluster.address import cluster_address
from kp.cluster.stated import StatedCluster
from kp.config.derived import PARAPHRASER_FIELD, base_shot_sets, paraphraser, validate_pools
from kp.config.study import StudyConfig
from kp.errors import MissingSourceError
from kp.facts.replay import replay_identity, validate_replay_source
from kp.facts.shots import shots_identity
from kp.facts.sources import drawing_identity, source_identity
from kp.models.loading import describe_model, resolve_model
from kp.models.names import NAME_FIELD, NamedModel
from kp.progress import Display
from kp.search.proposals import Replay
from kp.store import files, roots
from kp.store.bucket_folder import BucketFolder
from kp.store.filenames import PROFILE_FILE
from kp.store.roots import open_store
from kp.study.building import proposed_graph
from kp.study.choosing_facts import validate_facts
from kp.study.cluster_price import cluster_lines, cluster_table
from kp.study.graph import Graph
from kp.study.identities import Identities, Missing, described_identities
from kp.study.machine_choices import keep_machine_choices
from kp.study.plan import make_plan, plan_table, planning_of, price_on, price_table, trial_table
from kp.study.probing import probed
from kp.study.profile import LEAVING, Profile
from kp.study.registry import STAGES
from kp.study.session import Session
from kp.study.stage import Command
from kp.study.task_data import described_task_data, keep_task_data, task_data_identities, validate_task_data
from kp.trackers.registry import validate_installed

TRIAL_FAILED = 3


def describe_study(config: StudyConfig, root: Path, until: Command = Command.REPORT, cluster: StatedCluster | None = None) -> int:
    """Print the plan of a study; fetches nothing, so missing models, facts or shots are only named.

    With `cluster`, also what the study takes on a cluster that is not there.
    """
    if until is not Command.FACTS:
        validate_pools(config)
    root = roots.results_root(root)
    display, store = Display(), open_store(root)
    store.recall(config.name)
    validate_installed(config.trackers)
    with contextlib.suppress(MissingSourceError):  # noted below, with what it is priced by
        validate_replay_source(config)
    study = probed(config, root, lambda line: display.line(f"note: {line}"), fetch=False, trains=_trains(until))
    config = study.config

    def revision_of(model: NamedModel, field: str) -> str:
        return study.identity(describe_model(model, field), field)

    def note(missing: Missing) -> None:
        display.line(f"note: {missing}")

    identities = described_identities(config, revision_of, note)
    task_data = described_task_data(config, root / config.name, lambda error: note(Missing(error)))
    identities = replace(identities, task_data=task_data)
    planning = planning_of(config, proposed_graph(config, identities, store).graph, store)
    display.console.print(plan_table(config, make_plan(planning), identities.model))
    display.console.print(price_table(planning))
    if cluster is not None:
        priced = price_on(planning, cluster)
        display.console.print(cluster_table(priced))
        for line in cluster_lines(priced):
            display.console.print(line, soft_wrap=True)
    display.console.print(trial_table(planning.graph, store))
    return 0


def _trains(until: Command) -> bool:
    return until not in (Command.FACTS, Command.CATEGORISE)


def open_session(config: StudyConfig, root: Path, until: Command = Command.REPORT) -> Session:
    """A run of this study up to a command's stages; raises UserError if one of its inputs is missing or unusable."""
    if until is not Command.FACTS:
        validate_pools(config)
    settled: list[str] = []
    store = open_store(root)
    if isinstance(store.place, BucketFolder):
        validate_task_data(config)
    store.recall(config.name)
    study = probed(config, root, settled.append, fetch=True, trains=_trains(until))
    asked, config = config, study.config
    # What a user wrote is read before a model is fetched, which can take an hour.
    validate_replay_source(config)
    shots = shots_identity(config.categorise.shots, base_shot_sets(config))
    facts, drawing, replay = source_identity(config.facts), drawing_identity(config.facts), replay_identity(config)
    if not store.has_study(config.name):
        validate_facts(config)
    model = resolve_model(config.model)
    rephrasing = paraphraser(config)
    writer = resolve_model(rephrasing, PARAPHRASER_FIELD) if rephrasing else None
    identities = Identities(
        study.identity(model.revision, NAME_FIELD),
        facts,
        shots,
        study.identity(writer.revision, PARAPHRASER_FIELD) if writer else None,
        drawing,
        replay,
        task_data_identities(config, root / config.name),
    )

    told = Replay()

    def propose(failed: Collection[str]) -> Graph:
        return proposed_graph(config, identities, store, failed, told).graph

    session = Session(config, root, model, writer, propose)
    keep_machine_choices(asked, config, session.folder.path)
    keep_task_data(identities.task_data, session.folder.path)
    session.folder.publish()
    for line in settled:
        session.display.line(f"note: {line}")
    return session


def run_study(config: StudyConfig, root: Path, until: Command, profile: Profile | None = None) -> int:
    """Run a study up to a command's stages; returns the exit code, TRIAL_FAILED if one did.

    With a `profile`, where the time went is printed, and kept in the study's folder.

    Raises UserError, at the end, if a trial failed of what a user can mend.
    """
    began = time.monotonic()
    results = roots.results_root(root)
    if until is not Command.FACTS and not open_store(results).has_study(config.name):
        cluster_address()  # before the models are probed: a study that has not begun needs Ray
    with open_session(config, results, until) as session:
        session.profile = profile or session.profile
        if until is not Command.FACTS and not session.store.is_done(session.graph.steps["categorise"]):
            cluster_address()  # before the facts are made, which can take long
        run_stages(session, until)
        session.profile.enter(LEAVING)
    if profile is not None:
        _show_profile(session, profile)
    session.display.line(f"finished in {time.monotonic() - began:.0f} s")
    for refusal in session.refusals[:1]:
        raise refusal
    return TRIAL_FAILED if session.failures else 0


def _show_profile(session: Session, profile: Profile) -> None:
    summary = profile.summary()
    files.write_json(session.folder.path / PROFILE_FILE, summary.record())
    session.display.console.print(summary.table())
    for line in summary.lines():
        session.display.line(line)
    session.folder.publish()


def run_stages(session: Session, until: Command) -> None:
    """Run all stages up to this command's; the plan is printed once the facts are chosen, because it counts them."""
    commands = list(Command)
    due = [stage for stage in STAGES if commands.index(stage.command) <= commands.index(until)]
    for stage in due:
        if stage.before_plan:
            session.profile.enter(stage.name)
            stage.run(session)
    session.profile.enter("plan")
    planning = planning_of(session.config, session.graph, session.store)
    session.display.console.print(plan_table(session.config, make_plan(planning), session.model.revision))
    for stage in due:
        if not stage.before_plan:
            session.profile.enter(stage.name)
            stage.run(session)


def run_stage(session: Session, name: str) -> None:
    """Run only one stage; the stages that it depends on must be done."""
    (stage,) = (stage for stage in STAGES if stage.name == name)
    stage.run(session)
