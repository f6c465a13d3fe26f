"""`kp pack`, from the tables to the adapter: three studies that share one store, so that every step is made once.

The survey asks the base which facts it knows. The search trains and measures the trials. The last one measures the chosen trial at several
scales. Killed at any moment, the same command continues: what it writes itself follows from finished steps.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from kp import schema
from kp.config.study import StudyConfig
from kp.config.toml import toml_text
from kp.errors import UserError
from kp.facts.builtin import load_builtin
from kp.metrics.categories import of_matcher
from kp.packing.choice import Told, affordable_trials, chosen_scale, ranked_trials, told_at
from kp.packing.outputs import write_outputs
from kp.packing.page import statement
from kp.packing.request import PackRequest, PackTables, read_tables, validate_request
from kp.packing.roles import Roles, assign_roles, replay_wanted, surveyed_facts, without
from kp.packing.study_file import TARGET, Document, config_of, pack_document, scaled_document, survey_document
from kp.progress import Display
from kp.prompts import PROMPTS_PER_SET
from kp.schema import frame
from kp.store import roots
from kp.store.filenames import CATEGORIES_FILE, PARTS_FILE
from kp.study.loaded import LoadedStudy
from kp.study.run import TRIAL_FAILED, describe_study, open_session, run_stages
from kp.study.session import Session
from kp.study.stage import Command
from kp.study.trial_jobs import base_classes
from kp.training.spec import TrialSpec
from kp.vocabulary import Category, Part, ShotSet

SURVEY_FILE, FACTS_FILE, REPLAY_FILE, STUDY_FILE, SCALED_FILE = (
    "survey.parquet",
    "facts.parquet",
    "replay.parquet",
    "pack.toml",
    "scaled.toml",
)
TRIAL_SECONDS = 15.0  # of a trial that are no training: loading, checkpoints
FOUND_NOTHING = 0  # a statement that nothing was found is a result as well


@dataclass(frozen=True)
class Searched:
    """A finished search: its file's content, what it has in tables, and its trials by id."""

    document: Document
    study: LoadedStudy
    specs: Mapping[str, TrialSpec]
    failed: bool


def pack(request: PackRequest, *, dry_run: bool = False) -> int:
    """Pack the facts, or print what that takes; returns the exit code.

    Raises UserError for input that cannot be used, before a model is loaded where it can be seen before.
    """
    began = time.monotonic()
    validate_request(request)
    tables = read_tables(request)
    surveyed = surveyed_facts(frame(load_builtin()), tables.facts, tables.keep, request.controls)
    if dry_run:
        return _describe(request, tables, surveyed)
    display, results = Display(), roots.results_root(request.results)
    request.folder.mkdir(parents=True, exist_ok=True)
    roles = _survey(request, tables, surveyed, results)
    display.line(
        f"pack: {len(roles.taught):,} facts to teach, {len(roles.already_known):,} known already, {len(roles.controls):,} control facts, "
        f"{len(roles.replayed):,} to replay"
    )
    for question in roles.already_known["question"]:
        display.line(f"pack: known already and not trained: {question}")
    searched, roles = _search(request, tables, roles, results, began)
    told, scaled = _measure_scales(request, searched, results)
    write_outputs(request, roles, searched.document, searched.study, scaled, told, searched.specs[told.trial_id])
    for sentence in statement(told, len(roles.taught)):
        display.line(f"pack: {sentence}")
    display.line(f"pack: {request.folder / 'pack.md'} has it fact by fact; finished in {time.monotonic() - began:.0f} s")
    return TRIAL_FAILED if searched.failed else FOUND_NOTHING


def _describe(request: PackRequest, tables: PackTables, surveyed: pl.DataFrame) -> int:
    sources: dict[str, str | None] = {"facts": str(request.facts), "replay": "builtin"}
    document = pack_document(request, len(tables.facts), _longest_answer(tables.facts), sources)
    kept = request.controls if tables.keep is None else len(tables.keep)
    document["facts"]["count"] = len(tables.facts) + kept
    if "replay_source" in document["search"]:
        document["search"]["replay_count"] = replay_wanted(len(tables.facts))
    Display().line(
        f"pack: asks the base {len(tables.facts):,} facts and which of {len(surveyed):,} others it knows, then runs this study as if it "
        f"knew none of the first and {kept:,} of the others, then measures the chosen trial at further scales"
    )
    return describe_study(config_of(document, request.folder / STUDY_FILE), request.results)


def _survey(request: PackRequest, tables: PackTables, surveyed: pl.DataFrame, results: Path) -> Roles:
    """Ask the base which facts it knows, and give every fact its role."""
    asked = _write(surveyed, request.folder / SURVEY_FILE)
    longest = max(_longest_answer(tables.facts), _longest_answer(surveyed))
    document = pack_document(request, len(tables.facts), longest, {"facts": str(request.facts), "replay": str(asked)})
    config = config_of(survey_document(document, request.facts, asked), request.folder / SURVEY_FILE)
    with open_session(config, results, Command.CATEGORISE) as session:
        run_stages(session, Command.CATEGORISE)
        of_facts, of_surveyed = (_classes(session, name) for name in ("categorise", "replay_categorise"))
        source = frame(session.facts)
    return assign_roles(source, of_facts, surveyed, of_surveyed, tables.keep, request.controls)


def _classes(session: Session, name: str) -> pl.DataFrame:
    """The base's CATEGORIES on S0 by the study's matcher, from the step of this stage."""
    categories = frame(session.store.read(session.graph.steps[name], CATEGORIES_FILE, schema.CATEGORIES))
    return of_matcher(categories.filter(shot_set=ShotSet.S0.value), session.config.categorise.matcher)


def _search(request: PackRequest, tables: PackTables, roles: Roles, results: Path, began: float) -> tuple[Searched, Roles]:
    """Run the search; control facts that its own measurement does not find known are left out before anything is trained."""
    trials = request.trials
    longest = max(map(_longest_answer, (tables.facts, roles.controls)))
    while True:
        facts, replayed = _write(roles.studied(), request.folder / FACTS_FILE), None
        if len(roles.replayed):
            replayed = str(_write(roles.replayed, request.folder / REPLAY_FILE))
        document = pack_document(request, len(roles.taught), longest, {"facts": str(facts), "replay": replayed})
        document["search"]["trials"] = min(trials, document["search"]["trials"])
        config = _save(document, request.folder / STUDY_FILE)
        with open_session(config, results) as session:
            run_stages(session, Command.CATEGORISE)
            strangers = _strangers(session, roles)
            if strangers:
                roles = without(roles, strangers)
                continue
            fitting = _fitting(request, session, began)
            if fitting < document["search"]["trials"]:
                session.display.line(f"pack: {fitting} of {document['search']['trials']} trials fit into --hours {request.hours:g}")
                trials = fitting
                continue
            run_stages(session, Command.REPORT)
            for refusal in session.refusals[:1]:
                raise refusal
            specs = {trial.trial_id: trial.spec for trial in session.graph.trials}
            return Searched(document, LoadedStudy(session.folder.path), specs, bool(session.failures)), roles


def _strangers(session: Session, roles: Roles) -> list[str]:
    """Ids of control facts that would be trained on, because the study finds them Unknown or keeps them in its pool."""
    pool = frame(session.store.read(session.graph.steps["parts"], PARTS_FILE, schema.PARTS)).filter(part=Part.POOL.value)
    unknown = base_classes(session).filter(category=Category.UNKNOWN.value)
    return roles.controls.join(pool, on="fact_id", how="semi").join(unknown, on="fact_id", how="semi")["fact_id"].to_list()


def _fitting(request: PackRequest, session: Session, began: float) -> int:
    """The trials that fit into the hours, at the pace at which the base was asked; raises UserError if none does."""
    config = session.config
    wanted = config.search.trials or 1
    if request.hours is None:
        return wanted
    record = session.store.record(session.graph.steps["categorise"]) or {}
    facts, sets = len(session.facts), len(config.evaluate.shot_sets)
    prompt = record["wall_seconds"] / (3 * PROMPTS_PER_SET * facts)
    asking = prompt * facts * PROMPTS_PER_SET * sets
    rows = max(trial.spec.rows_in_all for trial in session.graph.trials)
    each, last = asking + prompt * rows + TRIAL_SECONDS, 2 * asking
    fitting = affordable_trials(request.hours, time.monotonic() - began, each, last)
    if not fitting:
        raise UserError(
            f"{request.hours:g} hours are too few: one trial takes about {each / 60:.1f} minutes here, the last measurement "
            f"{last / 60:.1f}, and {(time.monotonic() - began) / 60:.1f} are spent",
            field="--hours",
        )
    return min(wanted, fitting)


def _measure_scales(request: PackRequest, searched: Searched, results: Path) -> tuple[Told, LoadedStudy]:
    """Measure the best trial at several scales, and choose one."""
    ranked = ranked_trials(searched.study.trials, TARGET)
    if not ranked:
        raise UserError("no trial finished, so there is no adapter; the report lists why each ended", field="search")
    spec = searched.specs[ranked[0]["trial_id"]]
    document = scaled_document(searched.document, spec, searched.document.get("seed", 0))
    config = _save(document, request.folder / SCALED_FILE)
    with open_session(config, results) as session:
        run_stages(session, Command.REPORT)
        (trial,) = session.graph.trials
        study = LoadedStudy(session.folder.path)
    curve = study.scale_curve
    scale = chosen_scale(curve, trial.trial_id, TARGET)
    return told_at(curve, trial.trial_id, scale, TARGET, config.report.margin), study


def _longest_answer(facts: pl.DataFrame) -> int:
    """Characters of the longest canonical answer."""
    longest = facts["answers"].list.first().str.len_chars().max()
    assert isinstance(longest, int), "a table of facts is never empty"
    return longest


def _write(facts: pl.DataFrame, path: Path) -> Path:
    """FACTS as a table that a study reads; a file that is there with the same facts stays."""
    schema.write_table(facts.to_arrow(), schema.FACTS, path)
    return path


def _save(document: Document, path: Path) -> StudyConfig:
    """The study of a document, written as a file that `kp study` runs."""
    config = config_of(document, path)
    path.write_text(f"# Written by kp pack; kp study {path} runs it.\n\n{toml_text(document)}", encoding="utf-8")
    return config
